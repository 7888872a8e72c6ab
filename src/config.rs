//! The sites file: which bundles go to which sites, when, and how.
//!
//! ```text
//!  text ──document::yaml──► tree ──written──► sections as they stand ──resolve──► Config: sites with all that holds for them
//! ```
//!
//! `written` has the keys, each once; every mistake in a file is reported with its line, column and correction, not only the first.
//! `resolve` lets sites inherit (defaults, then groups in their order, then the site itself) and gives commands what they
//! use. `newest` and `bundles` choose the files of a pattern, `paths` checks that files and variables exist, `shard` chooses the
//! sites of one worker, and `trust` checks who may write a file that names commands. Nothing here talks to a site.

mod bundles;
mod keys;
mod newest;
mod paths;
mod registry_source;
mod resolve;
#[cfg(test)]
mod schema;
mod shard;
mod show;
mod sites;
#[cfg(test)]
mod tests;
mod trust;
mod values;
mod written;

use std::path::{Path, PathBuf};

use crate::document::{self, Finding, Findings, Severity, yaml};
use crate::small_file;

pub(crate) use bundles::{BundleFiles, BundlePath, Candidate, NoBundle, SETTLED_AFTER_SECONDS};
use paths::Variable;
pub(crate) use registry_source::RegistrySource;
pub(crate) use shard::Shard;
pub(crate) use sites::{Config, PasswordSource, Site, SiteCredentials, SourceSettings, StageSettings, Wave};
pub(crate) use values::{IfRunning, listen_address};

/// A sites file that was read: what it says, if nothing is wrong, and what is wrong with it.
#[derive(Debug)]
pub(crate) struct ParsedSitesFile {
    /// What it says. None where an error is among the findings.
    pub config: Option<Config>,
    /// What is wrong, by line.
    pub findings: Vec<Finding>,
}

/// A sites file that cannot be read at all.
#[derive(Debug, thiserror::Error)]
#[error("{}: {}", path.display(), crate::error::system_words(error))]
pub(crate) struct UnreadableSitesFile {
    path: PathBuf,
    error: std::io::Error,
}

/// Reads a sites file, and looks whether others may write it.
///
/// # Errors
/// The operating system refuses, the file is too long, or it is not UTF-8.
pub(crate) fn read(path: &Path) -> Result<ParsedSitesFile, UnreadableSitesFile> {
    let unreadable = |error| UnreadableSitesFile { path: path.to_owned(), error };
    let text = small_file::read_text(path, document::MAX_BYTES).map_err(unreadable)?;
    let mut reading = parse(path, &text);
    if let Some(command) = reading.config.as_ref().and_then(Config::command) {
        let mut findings = Findings::new(path);
        trust::check(path, command, &mut findings);
        reading.findings.extend(findings.sorted());
        reading.forget_wrong();
    }
    Ok(reading)
}

/// Reads the text of the file at `path`, whose folder relative paths in it begin at. Pure.
pub(crate) fn parse(path: &Path, text: &str) -> ParsedSitesFile {
    let mut findings = Findings::new(path);
    let folder = path.parent().unwrap_or(Path::new(""));
    let config = match yaml::read(text) {
        Ok(documents) => match documents.as_slice() {
            [root] => {
                keys::section(root, &mut findings).map(|file| resolve::resolve(&file, folder, &mut findings))
            }
            [] => {
                findings.error("empty", document::Position::START, ("the file says nothing", "version: 1"));
                None
            }
            [_, second, ..] => {
                let words = ("a second document begins here", "one document is a sites file: remove the ---");
                findings.error("second-document", second.at, words);
                None
            }
        },
        Err(error) => {
            findings.unreadable("not-yaml", error);
            None
        }
    };
    let mut reading = ParsedSitesFile { config, findings: findings.sorted() };
    reading.forget_wrong();
    reading
}

impl ParsedSitesFile {
    /// Looks whether what the file names is on this machine: what is not there are warnings among the findings.
    pub(crate) fn look(&mut self, path: &Path, variable: Variable<'_>) {
        if let Some(config) = &self.config {
            let mut findings = Findings::new(path);
            paths::check(config, variable, &mut findings);
            self.findings.extend(findings.sorted());
        }
    }

    /// What is wrong in one place may be wrong in another: nothing of such a file is used.
    fn forget_wrong(&mut self) {
        if self.findings.iter().any(|finding| finding.severity == Severity::Error) {
            self.config = None;
        }
    }
}
