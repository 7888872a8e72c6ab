//! Reports as pages that a browser, or a printer, shows: one file each, which needs no network and no script.
//!
//! In: the documents that are written as JSON. Out: text. Pure. Pages are bounded: what a page leaves out, it names.

mod evidence;
mod heat_map;
mod history;
mod link;
mod overview;
mod plots;
mod run;
mod site;
mod words;

#[cfg(test)]
mod tests;

use askama::Template;

use super::Failure;
use super::document::{Document, HistoryDocument, LinkDocument, RunEntry};

/// The report of a run. `past` are the runs before it, the latest first.
///
/// # Errors
/// The page cannot be put together, which is a bug.
pub(crate) fn run_page(document: &Document, past: &[RunEntry]) -> Result<String, Failure> {
    rendered(&run::RunPage::new(document, past))
}

/// Past runs, and how they went on.
///
/// # Errors
/// The page cannot be put together, which is a bug.
pub(crate) fn history_page(document: &HistoryDocument) -> Result<String, Failure> {
    rendered(&history::HistoryPage::new(document))
}

/// Links as they were measured.
///
/// # Errors
/// The page cannot be put together, which is a bug.
pub(crate) fn link_page(document: &LinkDocument) -> Result<String, Failure> {
    rendered(&link::LinkPage::new(document))
}

fn rendered(page: &impl Template) -> Result<String, Failure> {
    page.render().map_err(|error| Failure::internal(format!("the page of the report: {error}")))
}
