//! Files that `--report` names: a JSON document, or a page for a browser where the name ends with `.html`.

use std::path::PathBuf;

use serde::Serialize;

use super::atomic_file::{Replaces, WholeFile};
use crate::report::document::{LinkDocument, RunEntry};
use crate::report::{Document, Failure, html};

/// A file for the report.
#[derive(Debug)]
pub(super) struct ReportFile {
    file: WholeFile,
    is_page: bool,
}

/// The files of a flag, before the run: a wrong path costs nothing then.
///
/// # Errors
/// One cannot be written, or is named twice.
pub(super) fn check(paths: &[PathBuf]) -> Result<Vec<ReportFile>, Failure> {
    if let Some(twice) =
        paths.iter().enumerate().find_map(|(at, path)| paths[..at].iter().find(|it| *it == path))
    {
        return Err(Failure::usage(format!("--report {} is given twice", twice.display()))
            .hint("name each file once: FILE.json for programs, FILE.html for people"));
    }
    let file = |path: &PathBuf| {
        let ending = path.extension().unwrap_or_default().to_ascii_lowercase();
        let is_page = ending == "html" || ending == "htm";
        Ok(ReportFile { file: WholeFile::check("--report", path.clone(), Replaces::Reports)?, is_page })
    };
    paths.iter().map(file).collect()
}

impl ReportFile {
    /// Whether it shows earlier runs.
    pub(super) fn tells_of_past(&self) -> bool {
        self.is_page
    }

    /// Writes the report; `past` are the earlier runs, the latest first.
    pub(super) fn write(&self, document: &Document, past: &[RunEntry]) -> Result<(), Failure> {
        self.write_either(document, || html::run_page(document, past))
    }

    /// Writes what was measured of links.
    pub(super) fn write_links(&self, document: &LinkDocument) -> Result<(), Failure> {
        self.write_either(document, || html::link_page(document))
    }

    fn write_either(
        &self,
        document: &impl Serialize,
        page: impl FnOnce() -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        if self.is_page { self.file.write(page()?.as_bytes()) } else { self.file.write_json(document) }
    }
}
