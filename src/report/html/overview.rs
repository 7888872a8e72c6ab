//! All mirrors of a run in one table, the worst first.

use super::words::{StateView, left_out, rate, seconds};
use crate::report::Outcome;
use crate::report::alike::{Alike, alike};
use crate::report::outcome::OutcomeState;
use crate::units::ByteCount;

/// Rows of the table.
const MAX_ROWS: usize = 1000;

/// A mirror in the table.
#[derive(Debug)]
pub(super) struct OverviewRow {
    /// Where more is said of it, if the page has that.
    pub(super) anchor: Option<String>,
    pub(super) name: String,
    pub(super) state: StateView,
    pub(super) images: String,
    pub(super) sent: String,
    pub(super) rate: String,
    pub(super) time: String,
    /// Why it is not complete, if it is not.
    pub(super) why: Option<String>,
}

/// The mirrors, the worst first.
pub(super) fn worst_first(mirrors: &[Outcome]) -> Vec<&Outcome> {
    let mut sorted: Vec<&Outcome> = mirrors.iter().collect();
    sorted.sort_by(|a, b| {
        let rank = |outcome: &Outcome| match outcome.state {
            OutcomeState::Deferred => 2,
            _ if outcome.is_complete() => 3,
            _ if outcome.error.is_some() => 0,
            _ => 1,
        };
        let failed = |outcome: &Outcome| outcome.images_failed.len();
        let by_rank = rank(a).cmp(&rank(b)).then(failed(b).cmp(&failed(a)));
        by_rank.then(b.elapsed_seconds.total_cmp(&a.elapsed_seconds)).then(a.name.cmp(&b.name))
    });
    sorted
}

/// The rows, and what is said of those that are not there. The first `detailed` have a section each.
pub(super) fn rows(sorted: &[&Outcome], detailed: usize) -> (Vec<OverviewRow>, Option<String>) {
    let shown = sorted.iter().take(MAX_ROWS).enumerate();
    let rows: Vec<OverviewRow> =
        shown.map(|(at, outcome)| row(outcome, (at < detailed).then(|| anchor(at)))).collect();
    let left = left_out(sorted.len(), rows.len(), "mirror");
    (rows, left)
}

/// The name of the section of a mirror.
pub(super) fn anchor(at: usize) -> String {
    format!("mirror-{}", at + 1)
}

fn row(outcome: &Outcome, anchor: Option<String>) -> OverviewRow {
    let whole = outcome.error.as_ref().map(|failure| failure.message.clone());
    let images = || alike(&outcome.images_failed).first().map(Alike::in_words);
    OverviewRow {
        anchor,
        name: outcome.name.clone(),
        state: StateView::of(outcome),
        images: format!("{}/{}", outcome.images_complete, outcome.images),
        sent: ByteCount(outcome.bytes_sent).to_string(),
        rate: rate(outcome.bytes_sent, outcome.elapsed_seconds),
        time: seconds(outcome.elapsed_seconds),
        why: whole.or_else(images),
    }
}
