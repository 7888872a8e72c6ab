//! The files that a run takes for the bundles of the sites file, and what is said of those that it passes over.

use std::path::Path;

use super::time_limit::TimeLimit;
use crate::bundle::Opener;
use crate::cli::output::Output;
use crate::cli::registry_source::{PulledSources, SourceRegistry};
use crate::cli::sites_file::files_of;
use crate::config::{BundleFiles, BundlePath, Candidate, Config};
use crate::engine::fleet::{BundleChoice, BundleFile, FleetBundles};
use crate::report::{Class, Document, Failure};
use crate::units::Rate;

/// Looks for the files, and warns of those that are passed over.
pub(super) fn find(
    config: &Config,
    output: &Output,
    document: &mut Document,
) -> Result<FleetBundles, Failure> {
    let (mut choices, mut passed_over) = (Vec::new(), Vec::new());
    for (bundle, files) in config.bundles.iter().zip(files_of(config)?) {
        files.warnings.iter().for_each(|warning| output.warn(warning));
        files.passed_over.iter().for_each(|warning| output.alarm(warning));
        document.notes.extend(files.warnings.iter().chain(&files.passed_over).cloned());
        passed_over.extend_from_slice(&files.passed_over);
        choices.push(choice(bundle, files));
    }
    Ok(FleetBundles::new(choices, passed_over))
}

/// Pulls the bundles that lie in registries into the stage.
///
/// # Errors
/// There is no stage, a source cannot be asked, or an image of it does not come in time.
pub(super) fn pull(
    config: &Config,
    opener: &Opener,
    bandwidth: Option<Rate>,
    limit: &TimeLimit<'_>,
    output: &Output,
) -> Result<PulledSources, Failure> {
    if config.sources.is_empty() {
        return Ok(PulledSources::default());
    }
    if opener.stage.is_none() {
        return Err(Failure::new(Class::Io, "a registry is pulled into the stage, and that cannot be used")
            .hint("mend what is said of the stage above"));
    }
    let sources = SourceRegistry::of_file(config, bandwidth, output)?;
    let display = output.display();
    let listeners = display.listeners();
    let pulling = PulledSources::pull(&sources, opener, limit.cancel, &listeners, output);
    limit.within("the bundles were pulled from their registries", pulling)?
}

fn choice(bundle: &BundlePath, files: BundleFiles) -> BundleChoice {
    let all = |files: Vec<Candidate>| {
        files.into_iter().map(|file| BundleFile { path: file.path, sum: file.sum }).collect()
    };
    let bundle = bundle.clone();
    let is_earlier =
        move |taken: &Path, had: &Path| bundle.has_stood_for(had).then(|| bundle.is_below(taken, had));
    BundleChoice { taken: all(files.taken), fallbacks: all(files.instead), is_earlier: Box::new(is_earlier) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_within_one_pattern_alone() {
        let text = "version: 1\nbundles: [{path: '/s/b_*.tar', newest: true}]\nsites: [{name: a, registry: 'https://r.example'}]\n";
        let bundle = crate::config::parse(Path::new("f.yaml"), text).config.unwrap().bundles.remove(0);
        let none = Vec::new;
        let files =
            BundleFiles { taken: none(), instead: none(), warnings: Vec::new(), passed_over: Vec::new() };
        let choice = choice(&bundle, files);
        let is_earlier = |had: &str| (choice.is_earlier)(Path::new("/s/b_1.9.0.tar"), Path::new(had));
        for (had, earlier) in [
            ("/s/b_1.10.0.tar", Some(true)),
            ("/s/b_1.8.0.tar", Some(false)),
            ("/s/b_1.9.tar", Some(false)),
            ("/elsewhere/b_1.10.0.tar", None),
            ("/s/c_1.10.0.tar", None),
        ] {
            assert_eq!(is_earlier(had), earlier, "{had}");
        }
    }
}
