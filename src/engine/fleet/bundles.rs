//! The files of the bundles that a fleet gets: those that are taken, and those that come in their place.

use std::path::{Path, PathBuf};

use crate::bundle::{Input, Opener};
use crate::engine::{ExpectedSum, MirrorSettings};
use crate::oci::Digest;
use crate::report::document::BundleEntry;
use crate::report::{Class, Failure};
use crate::state::State;

/// What to do where a newer file was passed over.
pub(crate) const PASSED_OVER_HINT: &str = "let the newer file arrive whole, for this user to read, with the right .sha256 beside it; or take it away";

/// A file that may be taken for a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BundleFile {
    /// The file.
    pub path: PathBuf,
    /// The sum that it must have, if that is known.
    pub sum: Option<Digest>,
}

/// Whether the first file is of an earlier version than the second; none where the second is no file of the bundle.
pub(crate) type IsEarlier = Box<dyn Fn(&Path, &Path) -> Option<bool> + Send + Sync>;

/// The files of one bundle.
pub(crate) struct BundleChoice {
    /// Those that are pushed.
    pub taken: Vec<BundleFile>,
    /// Those that come, one after the other, in the place of one whose sum proves wrong.
    pub fallbacks: Vec<BundleFile>,
    /// How their versions compare.
    pub is_earlier: IsEarlier,
}

/// The files of all bundles.
pub(crate) struct FleetBundles {
    bundles: Vec<BundleChoice>,
    /// Newer files that could not be taken.
    passed_over: Vec<String>,
    /// What was pulled from registries.
    pulled: Vec<Input>,
}

impl FleetBundles {
    /// Bundles, and why newer files of them were passed over.
    pub(crate) fn new(bundles: Vec<BundleChoice>, passed_over: Vec<String>) -> Self {
        Self { bundles, passed_over, pulled: Vec::new() }
    }

    /// The same with bundles that were pulled from registries.
    #[must_use]
    pub(crate) fn with_pulled(self, pulled: impl Iterator<Item = Input>) -> Self {
        Self { pulled: pulled.collect(), ..self }
    }

    /// Newer files that could not be taken, each with the reason.
    pub(super) fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    /// The mirrors that are to get what is taken, and the names of those that stay as they are, each with the reason: they have
    /// something newer.
    pub(super) fn keep_newer(
        &self,
        mirrors: Vec<MirrorSettings>,
        state: &State,
    ) -> (Vec<MirrorSettings>, Vec<(String, Failure)>) {
        let places: Vec<String> = mirrors.iter().map(|mirror| mirror.target.lock_key()).collect();
        let (mut fed, mut kept) = (Vec::new(), Vec::new());
        for (mirror, given) in mirrors.into_iter().zip(state.files_given(&places)) {
            match self.older_than(&given) {
                Some(why) => kept.push((mirror.name, why)),
                None => fed.push(mirror),
            }
        }
        (fed, kept)
    }

    /// Why a mirror stays as it is that was given these files, the latest first: what is taken is older than what it has.
    fn older_than(&self, given: &[String]) -> Option<Failure> {
        let older = |bundle: &BundleChoice| {
            let taken = &bundle.taken.first()?.path;
            // What it was given last counts, also after a rollback.
            let is_earlier = |had| (bundle.is_earlier)(taken, Path::new(had)).map(|earlier| (had, earlier));
            let (had, earlier) = given.iter().find_map(is_earlier)?;
            earlier.then(|| (taken.display().to_string(), had))
        };
        let (taken, had) = self.bundles.iter().find_map(older)?;
        let message = format!("it has {had}, and {taken} is older: nothing was moved back");
        let hint = format!("{PASSED_OVER_HINT}. To go back, use `layercast rollback`");
        Some(
            Failure::new(Class::PassedOver, message)
                .hint(hint)
                .cause("what could be taken is older than what it has"),
        )
    }

    fn taken(&self) -> impl Iterator<Item = &BundleFile> {
        self.bundles.iter().flat_map(|bundle| &bundle.taken)
    }

    /// The files that are taken.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.taken().map(|file| file.path.as_path())
    }

    /// The same as inputs of a push.
    pub(super) fn inputs(&self) -> Vec<Input> {
        self.paths().map(|path| Input::Path(path.to_owned())).chain(self.pulled.iter().cloned()).collect()
    }

    /// The sums that files must have, where they are known.
    pub(super) fn sums(&self) -> Vec<ExpectedSum> {
        let expected = |file: &BundleFile| Some(ExpectedSum { path: file.path.clone(), sum: file.sum? });
        self.taken().filter_map(expected).collect()
    }

    /// What the report says of them.
    pub(super) fn entries(&self, opener: &Opener) -> Vec<BundleEntry> {
        let entry = |file: &BundleFile| {
            let sum = file.sum.or_else(|| opener.known_sum(&file.path));
            BundleEntry { path: file.path.display().to_string(), sha256: sum.map(|sum| sum.hex()) }
        };
        let of_registry = |input: &Input| BundleEntry { path: input.to_string(), sha256: None };
        self.taken().map(entry).chain(self.pulled.iter().map(of_registry)).collect()
    }

    /// Takes the next file instead of one whose sum is wrong; returns the warning, if there is another file.
    pub(super) fn replace(&mut self, wrong: &Path) -> Option<String> {
        let is_wrong = |bundle: &&mut BundleChoice| bundle.taken.iter().any(|file| file.path == wrong);
        let bundle = self.bundles.iter_mut().find(is_wrong)?;
        if bundle.fallbacks.is_empty() {
            return None;
        }
        let next = bundle.fallbacks.remove(0);
        let warning = format!(
            "{}: its sum is not what the file beside it says; {} is taken instead",
            wrong.display(),
            next.path.display()
        );
        bundle.taken = vec![next];
        self.passed_over.push(warning.clone());
        Some(warning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(names: &[&str], is_earlier: IsEarlier) -> BundleChoice {
        let files = |names: &[&str]| {
            names.iter().map(|name| BundleFile { path: name.into(), sum: None }).collect::<Vec<_>>()
        };
        BundleChoice { taken: files(&names[..1]), fallbacks: files(&names[1..]), is_earlier }
    }

    #[test]
    fn in_the_place_of_a_file_whose_sum_is_wrong_comes_the_next_one() {
        let all = vec![
            bundle(&["/x"], Box::new(|_, _| None)),
            bundle(&["/b3", "/b2", "/b1"], Box::new(|_, _| None)),
        ];
        let mut bundles = FleetBundles::new(all, Vec::new());
        let warning = bundles.replace(Path::new("/b3")).unwrap();
        assert!(warning.contains("/b3: its sum") && warning.contains("/b2 is taken instead"), "{warning}");
        assert_eq!(bundles.paths().collect::<Vec<_>>(), [Path::new("/x"), Path::new("/b2")]);
        assert!(bundles.replace(Path::new("/b2")).is_some());
        assert!(bundles.replace(Path::new("/b1")).is_none(), "there is no other one");
        assert!(bundles.replace(Path::new("/x")).is_none());
        assert_eq!(bundles.passed_over().len(), 2);
    }

    #[test]
    fn what_a_mirror_was_given_last_counts() {
        let is_earlier = |taken: &Path, had: &Path| had.starts_with("/s").then(|| taken < had);
        let bundles = FleetBundles::new(vec![bundle(&["/s/b2"], Box::new(is_earlier))], Vec::new());
        let keeps = |given: &[&str]| {
            let given: Vec<String> = given.iter().map(|&path| path.to_owned()).collect();
            bundles.older_than(&given).map(|failure| failure.message)
        };
        assert_eq!(keeps(&["/s/b3"]).unwrap(), "it has /s/b3, and /s/b2 is older: nothing was moved back");
        assert!(keeps(&["/elsewhere/b9", "/s/b3"]).is_some(), "a file of another bundle says nothing");
        // The last of these was rolled back.
        for given in [&[][..], &["/s/b1"], &["/s/b2"], &["/elsewhere/b9"], &["/s/b1", "/s/b3"]] {
            assert_eq!(keeps(given), None, "{given:?}");
        }
    }
}
