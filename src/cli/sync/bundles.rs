//! The files that a run takes for the bundles of the sites file.

use std::path::Path;

use crate::bundle::{Input, Opener};
use crate::cli::output::Output;
use crate::cli::sites_file::files_of;
use crate::config::{BundleFiles, Candidate, Config};
use crate::engine::ExpectedSum;
use crate::report::document::BundleEntry;
use crate::report::{Document, Failure};

/// The files of each bundle: those that are taken, and those that come in their place where a sum is wrong.
pub(super) struct TakenBundles(Vec<BundleFiles>);

impl TakenBundles {
    /// Looks for the files, and warns of those that are passed over.
    pub(super) fn find(config: &Config, output: &Output, document: &mut Document) -> Result<Self, Failure> {
        let bundles = files_of(config)?;
        for warning in bundles.iter().flat_map(|files| &files.warnings) {
            output.warn(warning);
            document.notes.push(warning.clone());
        }
        Ok(Self(bundles))
    }

    fn taken(&self) -> impl Iterator<Item = &Candidate> {
        self.0.iter().flat_map(|files| &files.taken)
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.taken().map(|file| file.path.as_path())
    }

    pub(super) fn inputs(&self) -> Vec<Input> {
        self.paths().map(|path| Input::Path(path.to_owned())).collect()
    }

    /// The sums that files must have, where a file beside them has one.
    pub(super) fn sums(&self) -> Vec<ExpectedSum> {
        let expected = |file: &Candidate| Some(ExpectedSum { path: file.path.clone(), sum: file.sum? });
        self.taken().filter_map(expected).collect()
    }

    /// What the report says of them.
    pub(super) fn entries(&self, opener: &Opener) -> Vec<BundleEntry> {
        let entry = |file: &Candidate| {
            let sum = file.sum.or_else(|| opener.known_sum(&file.path));
            BundleEntry { path: file.path.display().to_string(), sha256: sum.map(|sum| sum.hex()) }
        };
        self.taken().map(entry).collect()
    }

    /// Takes the next file instead of one whose sum is wrong; returns the warning, if there is another file.
    pub(super) fn replace(&mut self, wrong: &Path) -> Option<String> {
        let files = self.0.iter_mut().find(|files| files.taken.iter().any(|file| file.path == wrong))?;
        if files.instead.is_empty() {
            return None;
        }
        let instead = files.instead.remove(0);
        let warning = format!(
            "{}: its sum is not what the file beside it says; {} is taken instead",
            wrong.display(),
            instead.path.display()
        );
        files.taken = vec![instead];
        Some(warning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_the_place_of_a_file_whose_sum_is_wrong_comes_the_next_one() {
        let file = |name: &str| Candidate { path: name.into(), sum: None };
        let other = BundleFiles { taken: vec![file("x")], instead: Vec::new(), warnings: Vec::new() };
        let newest =
            BundleFiles { taken: vec![file("c")], instead: vec![file("b"), file("a")], warnings: Vec::new() };
        let mut bundles = TakenBundles(vec![other, newest]);
        let warning = bundles.replace(Path::new("c")).unwrap();
        assert!(warning.contains("c: its sum") && warning.contains("b is taken instead"), "{warning}");
        assert_eq!(bundles.paths().collect::<Vec<_>>(), [Path::new("x"), Path::new("b")]);
        assert!(bundles.replace(Path::new("b")).is_some());
        assert!(bundles.replace(Path::new("a")).is_none(), "there is no other one");
        assert!(bundles.replace(Path::new("x")).is_none());
    }
}
