//! The files that a run takes for the bundles of the sites file.

use std::path::Path;

use crate::bundle::{Input, Opener};
use crate::cli::output::Output;
use crate::cli::sites_file::{PASSED_OVER_HINT, expected_sum, files_of};
use crate::config::{BundleFiles, BundlePath, Candidate, Config};
use crate::engine::ExpectedSum;
use crate::report::document::BundleEntry;
use crate::report::{Class, Document, Failure};

/// The files of each bundle: those that are taken, and those that come in their place where a sum is wrong.
pub(super) struct TakenBundles {
    bundles: Vec<(BundlePath, BundleFiles)>,
    /// Newer files that could not be taken.
    passed_over: Vec<String>,
}

impl TakenBundles {
    /// Looks for the files, and warns of those that are passed over.
    pub(super) fn find(config: &Config, output: &Output, document: &mut Document) -> Result<Self, Failure> {
        let mut passed_over = Vec::new();
        let mut files = files_of(config)?;
        for files in &mut files {
            files.warnings.iter().for_each(|warning| output.warn(warning));
            files.passed_over.iter().for_each(|warning| output.alarm(warning));
            document.notes.extend(files.warnings.iter().chain(&files.passed_over).cloned());
            passed_over.append(&mut files.passed_over);
        }
        Ok(Self { bundles: config.bundles.iter().cloned().zip(files).collect(), passed_over })
    }

    /// Newer files that could not be taken, each with the reason.
    pub(super) fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    /// Why a site stays as it is that was given these files, the latest first: what is taken is older than what it has.
    pub(super) fn older_than(&self, given: &[String]) -> Option<Failure> {
        let older = |(bundle, files): &(BundlePath, BundleFiles)| {
            let taken = files.taken.first()?;
            // What it was given last counts, also after a rollback.
            let had = given.iter().find(|had| bundle.has_stood_for(Path::new(had)))?;
            bundle.is_below(&taken.path, Path::new(had)).then(|| (taken.path.display().to_string(), had))
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

    fn taken(&self) -> impl Iterator<Item = &Candidate> {
        self.bundles.iter().flat_map(|(_, files)| &files.taken)
    }

    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.taken().map(|file| file.path.as_path())
    }

    pub(super) fn inputs(&self) -> Vec<Input> {
        self.paths().map(|path| Input::Path(path.to_owned())).collect()
    }

    /// The sums that files must have, where a file beside them has one.
    pub(super) fn sums(&self) -> Vec<ExpectedSum> {
        self.taken().filter_map(expected_sum).collect()
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
        let is_wrong =
            |(_, files): &&mut (BundlePath, BundleFiles)| files.taken.iter().any(|file| file.path == wrong);
        let (_, files) = self.bundles.iter_mut().find(is_wrong)?;
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
        self.passed_over.push(warning.clone());
        Some(warning)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(all: Vec<(&str, Vec<&str>)>) -> TakenBundles {
        let candidates = |names: &[&str]| {
            names.iter().map(|name| Candidate { path: name.into(), sum: None }).collect::<Vec<_>>()
        };
        let bundles = all.into_iter().map(|(path, names)| {
            let text = format!("version: 1\nbundles: [{{path: '{path}', newest: true}}]\nsites: [{{name: a, registry: 'https://r.example'}}]\n");
            let bundle = crate::config::parse(Path::new("f.yaml"), &text).config.unwrap().bundles.remove(0);
            let (taken, instead) = (candidates(&names[..1]), candidates(&names[1..]));
            (bundle, BundleFiles { taken, instead, warnings: Vec::new(), passed_over: Vec::new() })
        });
        TakenBundles { bundles: bundles.collect(), passed_over: Vec::new() }
    }

    #[test]
    fn in_the_place_of_a_file_whose_sum_is_wrong_comes_the_next_one() {
        let mut bundles = taken(vec![("/x", vec!["/x"]), ("/b*", vec!["/b3", "/b2", "/b1"])]);
        let warning = bundles.replace(Path::new("/b3")).unwrap();
        assert!(warning.contains("/b3: its sum") && warning.contains("/b2 is taken instead"), "{warning}");
        assert_eq!(bundles.paths().collect::<Vec<_>>(), [Path::new("/x"), Path::new("/b2")]);
        assert!(bundles.replace(Path::new("/b2")).is_some());
        assert!(bundles.replace(Path::new("/b1")).is_none(), "there is no other one");
        assert!(bundles.replace(Path::new("/x")).is_none());
        assert_eq!(bundles.passed_over().len(), 2);
    }

    #[test]
    fn a_site_stays_at_what_it_was_given_last() {
        let bundles = taken(vec![("/x", vec!["/x"]), ("/s/b_*.tar", vec!["/s/b_1.9.0.tar"])]);
        let stays = |given: &[&str]| {
            let given: Vec<String> = given.iter().map(|&path| path.to_owned()).collect();
            bundles.older_than(&given).map(|failure| failure.message)
        };
        assert!(stays(&["/s/b_1.10.0.tar"]).unwrap().contains("b_1.9.0.tar is older"));
        for given in [
            &[][..],
            &["/s/b_1.8.0.tar"],
            &["/s/b_1.9.tar"],
            &["/elsewhere/b_1.10.0.tar", "/s/c_1.10.0.tar", "/y"],
            // It was rolled back.
            &["/s/b_1.8.0.tar", "/s/b_1.10.0.tar"],
        ] {
            assert_eq!(stays(given), None, "{given:?}");
        }
    }
}
