//! Names of images: `host/path:tag@digest`, by the grammar of
//! [distribution/reference](https://github.com/distribution/reference/blob/v0.6.0/reference.go) and the
//! [distribution-spec](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pulling-manifests).
//!
//! A [`Repository`] and a [`Tag`] are valid by construction, so they can go into a URL as they are.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{BundleError, Fault};
use crate::oci::Digest;

/// A repository path without its host, as `library/busybox`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Repository(String);

/// A tag.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Tag(String);

/// A full name. Docker's short forms are made long: `busybox` is `docker.io/library/busybox`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    /// `gcr.io`, `localhost:5000`, …
    pub host: String,
    /// The path on that host.
    pub repository: Repository,
    /// The tag, if it has one.
    pub tag: Option<Tag>,
    /// The digest, if it has one.
    pub digest: Option<Digest>,
}

/// Names are written as text, and read by their grammar.
macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl TryFrom<String> for $name {
            type Error = BundleError;

            fn try_from(text: String) -> Result<Self, BundleError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.to_string()
            }
        }
    )*};
}
as_text!(Repository, Tag, Reference);

/// The host that names without one belong to.
pub(crate) const DEFAULT_HOST: &str = "docker.io";

fn bad(what: &str, text: &str, why: &str) -> BundleError {
    BundleError::new(Fault::BadReference, format!("{text:?} is not a valid {what}: {why}"))
}

impl Repository {
    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// This repository below a namespace (`ns` + `a/b` → `ns/a/b`).
    ///
    /// # Errors
    /// [`Fault::BadReference`] when the two together are too long.
    pub(crate) fn below(&self, namespace: Option<&Self>) -> Result<Self, BundleError> {
        match namespace {
            Some(_) => self.text_below(namespace).parse(),
            None => Ok(self.clone()),
        }
    }

    /// The text of [`Repository::below`], even where it is too long.
    pub(crate) fn text_below(&self, namespace: Option<&Self>) -> String {
        namespace.map_or_else(|| self.to_string(), |namespace| format!("{namespace}/{self}"))
    }
}

impl FromStr for Repository {
    type Err = BundleError;

    fn from_str(text: &str) -> Result<Self, BundleError> {
        if text.len() > 255 {
            return Err(bad("repository", text, "longer than 255 characters"));
        }
        for component in text.split('/') {
            check_component(component).map_err(|why| bad("repository", text, why))?;
        }
        Ok(Self(text.to_owned()))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn check_component(component: &str) -> Result<(), &'static str> {
    let bytes = component.as_bytes();
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return Err("a part of the path is empty");
    };
    if bytes.iter().any(u8::is_ascii_uppercase) {
        return Err("registries take no upper case");
    }
    if let Some(c) =
        component.chars().find(|&c| !(c.is_ascii() && (plain(c as u8) || matches!(c, '.' | '_' | '-'))))
    {
        return Err(if c.is_control() {
            "it holds a control character"
        } else {
            "it holds a character that is not allowed"
        });
    }
    if !plain(first) || !plain(last) {
        return Err("a part of the path begins or ends with a separator");
    }
    let mut runs = bytes.split(|&c| plain(c)).filter(|run| !run.is_empty());
    if !runs.all(|run| matches!(run, b"." | b"_" | b"__") || run.iter().all(|&c| c == b'-')) {
        return Err("separators stand together that may not");
    }
    Ok(())
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Tag {
    /// The text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = BundleError;

    /// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
    fn from_str(text: &str) -> Result<Self, BundleError> {
        let word = |c: u8| c.is_ascii_alphanumeric() || c == b'_';
        let why = match text.as_bytes() {
            [] => "it is empty",
            bytes if bytes.len() > 128 => "longer than 128 characters",
            [first, ..] if !word(*first) => "it must begin with a letter, a digit or an underscore",
            bytes if bytes.contains(&b'+') => "registries take no `+` in a tag",
            bytes if !bytes.iter().all(|&c| word(c) || matches!(c, b'.' | b'-')) => {
                "it holds a character that is not allowed"
            }
            _ => return Ok(Self(text.to_owned())),
        };
        Err(bad("tag", text, why))
    }
}

impl Tag {
    /// The tag that Helm makes of a version with a `+`, which registries do not take: a `_` stands for it.
    fn without_plus(text: &str) -> Option<Self> {
        text.contains('+').then(|| text.replace('+', "_").parse().ok()).flatten()
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name, or a tag alone, whose tag is valid when a `_` stands for each `+` in it, as Helm writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mended {
    /// A whole name.
    Name(Reference),
    /// A tag alone.
    Tag(Tag),
}

impl Mended {
    /// Mends a text that is not valid; none where a `+` in the tag is not all that is wrong with it.
    pub(crate) fn of(text: &str) -> Option<Self> {
        if !text.contains(['/', ':', '@']) {
            return Tag::without_plus(text).map(Self::Tag);
        }
        let (name, digest) = text.split_once('@').map_or((text, None), |(name, digest)| (name, Some(digest)));
        let (path, tag) = name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
        let digest = digest.map(|digest| format!("@{digest}")).unwrap_or_default();
        format!("{path}:{}{digest}", Tag::without_plus(tag)?).parse().ok().map(Self::Name)
    }
}

impl Reference {
    /// A name that must say its host itself; anything else (a bare tag, `busybox`) is not one.
    pub(crate) fn parse_full(text: &str) -> Option<Self> {
        let (first, _) = text.split_once('/')?;
        is_host(first).then(|| text.parse().ok()).flatten()
    }
}

/// Docker's rule: the first part is a host if it has a dot or a port, or is `localhost`.
fn is_host(first: &str) -> bool {
    first.contains(['.', ':']) || first == "localhost"
}

impl FromStr for Reference {
    type Err = BundleError;

    fn from_str(text: &str) -> Result<Self, BundleError> {
        let why =
            |e: &BundleError| BundleError::new(Fault::BadReference, format!("image name {text:?}: {e}"));
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|e| why(&e))?)),
            None => (text, None),
        };
        let (host, path) = match rest.split_once('/') {
            Some((first, path)) if is_host(first) => (first, path),
            _ => (DEFAULT_HOST, rest),
        };
        let (path, tag) = match path.rsplit_once(':') {
            Some((path, tag)) if !tag.contains('/') => (path, Some(tag.parse().map_err(|e| why(&e))?)),
            _ => (path, None),
        };
        check_host(host).map_err(|problem| bad("image name", text, problem))?;
        let host = if host == "index.docker.io" { DEFAULT_HOST } else { host };
        let repository: Repository = if host == DEFAULT_HOST && !path.contains('/') {
            format!("library/{path}").parse().map_err(|e| why(&e))?
        } else {
            path.parse().map_err(|e| why(&e))?
        };
        Ok(Self { host: host.to_owned(), repository, tag, digest })
    }
}

fn check_host(host: &str) -> Result<(), &'static str> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => {
            if port.is_empty() || port.len() > 5 || !port.bytes().all(|c| c.is_ascii_digit()) {
                return Err("the port is not a number");
            }
            name
        }
        _ => host,
    };
    if let Some(address) = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')) {
        return address
            .parse::<std::net::Ipv6Addr>()
            .map(drop)
            .map_err(|_| "the host is not an IPv6 address");
    }
    let label = |l: &str| {
        !l.is_empty()
            && !l.starts_with('-')
            && !l.ends_with('-')
            && l.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-')
    };
    if name.split('.').all(label) { Ok(()) } else { Err("the host is not a host name") }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_made_long() {
        for (short, long) in [
            ("busybox", "docker.io/library/busybox"),
            ("busybox:1.0", "docker.io/library/busybox:1.0"),
            ("a/b:c", "docker.io/a/b:c"),
            ("localhost:5000/a:1", "localhost:5000/a:1"),
            (
                "gcr.io/kubernetes-e2e-test-images/nautilus:1.0",
                "gcr.io/kubernetes-e2e-test-images/nautilus:1.0",
            ),
            ("[::1]:5000/a", "[::1]:5000/a"),
            ("index.docker.io/library/x", "docker.io/library/x"),
            ("a__b/c-----d.e:T_1", "docker.io/a__b/c-----d.e:T_1"),
        ] {
            assert_eq!(short.parse::<Reference>().unwrap().to_string(), long);
        }
    }

    #[test]
    fn what_is_not_a_name() {
        for text in [
            "gcr.io/Upper/case:1",
            "gcr.io/../../etc/passwd:1",
            "gcr.io/a//b:1",
            "gcr.io/a:",
            "gcr.io/a/:1",
            "gcr.io/a?x=1:2",
            "gcr.io/a%2fb:1",
            "gcr.io/a\u{1b}[31m:1",
            "gcr.io/a:..",
            "gcr.io/a._b:1",
            "ho st.io/a:1",
            "gcr.io:x/a:1",
            "gcr.io/a@sha256:00",
            "",
        ] {
            assert_eq!(text.parse::<Reference>().unwrap_err().fault(), Fault::BadReference, "{text}");
        }
        assert!(format!("gcr.io/a:{}", "t".repeat(129)).parse::<Reference>().is_err());
        assert!(format!("gcr.io/{}", "a".repeat(300)).parse::<Reference>().is_err());
    }

    #[test]
    fn a_plus_in_a_tag_becomes_an_underscore_and_nothing_else_is_mended() {
        let name = |text: &str| Some(Mended::Name(text.parse().unwrap()));
        assert_eq!(Mended::of("1.2.3+build.5"), Some(Mended::Tag("1.2.3_build.5".parse().unwrap())));
        assert_eq!(Mended::of("gcr.io/c/app:1+2+3"), name("gcr.io/c/app:1_2_3"));
        let digest = format!("@sha256:{}", "0".repeat(64));
        assert_eq!(Mended::of(&format!("app:1+x{digest}")), name(&format!("app:1_x{digest}")));
        for text in
            ["gcr.io/c/a+b:1", "gcr.io/C/app:1+2", "gcr.io/c/app:1", "app+x", "+x:1", "gcr.io/c:1+2/x"]
        {
            let is_tag = text == "app+x";
            assert_eq!(Mended::of(text).is_some(), is_tag, "{text}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_is_stable(text in ".{0,60}|[a-z./:@_-]{0,40}") {
            if let Ok(name) = text.parse::<Reference>() {
                let again: Reference = name.to_string().parse().unwrap();
                prop_assert_eq!(again, name);
            }
        }
    }
}
