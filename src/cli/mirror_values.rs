//! Values of flags that are for all mirrors of a run, or for one: `VALUE`, or `MIRROR=VALUE` with the name of a mirror as it
//! was given.

use std::path::Path;

use crate::document::nearest;
use crate::registry::Target;
use crate::report::Failure;

/// The mirrors of a run. They tell the name of a mirror before a value from a value with `=` in it, as file names may have.
pub(super) struct MirrorNames<'a>(pub(super) &'a [Target]);

impl MirrorNames<'_> {
    /// The `values` for `target`: its own, or those for all mirrors if it has none.
    pub(super) fn values<'v>(&self, values: &'v [String], target: &Target) -> Vec<&'v str> {
        let split = values.iter().map(|value| self.split(value));
        let (own, for_all): (Vec<_>, Vec<_>) = split.partition(|(name, _)| name.is_some());
        let own: Vec<&str> = own
            .into_iter()
            .filter(|(name, _)| name.is_some_and(|name| is_name_of(name, target)))
            .map(|(_, value)| value)
            .collect();
        if own.is_empty() { for_all.into_iter().map(|(_, value)| value).collect() } else { own }
    }

    /// The last of [`values`](Self::values), which counts.
    pub(super) fn value<'v>(&self, values: &'v [String], target: &Target) -> Option<&'v str> {
        self.values(values, target).pop()
    }

    /// The mirror that a value is for by its looks, although no such mirror was given. Only for values that are never file
    /// names; a user name has no colon (RFC 7617), and one with a dot before a `=` is taken for a mistyped mirror.
    pub(super) fn unknown<'v>(&self, value: &'v str) -> Option<&'v str> {
        let (name, _) = value.split_once('=')?;
        let is_host = name.contains([':', '.']) && name.parse::<Target>().is_ok();
        (is_host && self.split(value).0.is_none()).then_some(name)
    }

    /// Whether one of them is for `target` alone.
    pub(super) fn has_own(&self, values: &[String], target: &Target) -> bool {
        let names = values.iter().filter_map(|value| self.split(value).0);
        names.into_iter().any(|name| is_name_of(name, target))
    }

    /// Checks values that are names of files against the mirrors: a mistyped mirror must not pass for a file that is missing.
    ///
    /// # Errors
    /// A value is for no mirror of this run.
    pub(super) fn check_files(&self, flag: &str, values: &[String]) -> Result<(), Failure> {
        for value in values.iter().filter(|value| self.split(value).0.is_none() && !Path::new(value).exists())
        {
            if let Some((name, file)) = value.split_once('=')
                && (self.unknown(value).is_some() || Path::new(file).exists())
            {
                return Err(self.is_no_mirror(flag, name));
            }
        }
        Ok(())
    }

    /// The mirror of this name.
    ///
    /// # Errors
    /// There is none, with the one that may have been meant.
    pub(super) fn named(&self, flag: &str, name: &str) -> Result<&Target, Failure> {
        self.0.iter().find(|target| is_name_of(name, target)).ok_or_else(|| self.is_no_mirror(flag, name))
    }

    /// Nobody of that name was given.
    pub(super) fn is_no_mirror(&self, flag: &str, name: &str) -> Failure {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        let nearest = nearest(name, &names.iter().map(String::as_str).collect::<Vec<_>>());
        let failure = Failure::usage(format!("{flag}: {name} is none of the mirrors of this run"));
        failure.hint(match nearest {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("name a mirror as it was given ({}), or leave the name out", names.join(", ")),
        })
    }

    fn split<'v>(&self, value: &'v str) -> (Option<&'v str>, &'v str) {
        match value.split_once('=') {
            Some((name, rest)) if self.0.iter().any(|target| is_name_of(name, target)) => (Some(name), rest),
            _ => (None, value),
        }
    }
}

/// Whether a text names a mirror: as a whole or by its host alone.
fn is_name_of(name: &str, target: &Target) -> bool {
    let bare = name.split_once("://").map_or(name, |(_, rest)| rest).trim_end_matches('/');
    bare.eq_ignore_ascii_case(&target.to_string()) || bare.eq_ignore_ascii_case(&target.endpoint.authority())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_has_its_own_values_or_those_of_all() {
        let targets: Vec<Target> =
            ["a.example:5000/team", "b.example"].iter().map(|text| text.parse().unwrap()).collect();
        let mirrors = MirrorNames(&targets);
        let values = |list: &[&str], of: usize| {
            let list: Vec<String> = list.iter().map(|&value| value.to_owned()).collect();
            mirrors.values(&list, &targets[of]).join(" ")
        };
        let list = ["all.crt", "a.example:5000=a.crt", "https://b.example/=b=1.crt", "c.example=c.crt"];
        assert_eq!(values(&list, 0), "a.crt");
        assert_eq!(values(&list, 1), "b=1.crt");
        assert_eq!(values(&["all.crt", "a.example:5000/team=a.crt"], 1), "all.crt");
        assert_eq!(values(&["x=y.crt", "more.crt"], 0), "x=y.crt more.crt");
    }

    #[test]
    fn a_mistyped_mirror_is_no_file() {
        let targets: Vec<Target> =
            ["mirror.example:5000", "other"].iter().map(|text| text.parse().unwrap()).collect();
        let mirrors = MirrorNames(&targets);
        let folder = tempfile::tempdir().unwrap();
        let (file, odd) = (folder.path().join("ca.crt"), folder.path().join("a.b=c"));
        std::fs::write(&file, "").unwrap();
        std::fs::write(&odd, "").unwrap();
        let (file, odd) = (file.display().to_string(), odd.display().to_string());
        let check = |value: &str| mirrors.check_files("--cacert", &[value.to_owned()]);
        for good in [&file, &odd, &format!("other={file}"), "mirror.example:5000=missing.crt", "missing.crt"]
        {
            assert!(check(good).is_ok(), "{good}");
        }
        for (bad, name) in
            [("mirror.example:500=missing.crt", "mirror.example:500"), (&format!("othr={file}"), "othr")]
        {
            let failure = check(bad).unwrap_err();
            assert_eq!(failure.message, format!("--cacert: {name} is none of the mirrors of this run"));
            assert!(failure.hint.unwrap().starts_with("did you mean"), "{bad}");
        }
    }

    #[test]
    fn a_mistyped_mirror_is_no_user_name() {
        let targets: Vec<Target> = vec!["a.example:5000/team".parse().unwrap()];
        let mirrors = MirrorNames(&targets);
        assert_eq!(mirrors.unknown("a.example:5001=pusher"), Some("a.example:5001"));
        assert_eq!(mirrors.unknown("a.example:5000/other=pusher"), Some("a.example:5000/other"));
        assert_eq!(mirrors.unknown("b.example=pusher"), Some("b.example"));
        for good in ["a.example:5000=pusher", "a.example:5000/team=x", "pusher", "first.last", "robot$a=b"] {
            assert_eq!(mirrors.unknown(good), None, "{good}");
        }
    }
}
