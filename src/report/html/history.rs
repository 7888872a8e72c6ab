//! The page of past runs.

use std::collections::BTreeMap;

use askama::Template;

use super::plots::{ColumnPlot, Measured};
use super::words::{StateView, left_out, minute, seconds};
use crate::exit::Exit;
use crate::report::document::{HistoryDocument, RunEntry, SiteEntry};
use crate::units::ByteCount;

/// Mirrors of the table.
const MAX_SITES: usize = 1000;

/// The page of past runs.
#[derive(Debug, Template)]
#[template(path = "history.html")]
pub(super) struct HistoryPage {
    version: &'static str,
    heading: String,
    plots_of_runs: Vec<ColumnPlot>,
    rows: Vec<RunRow>,
    sites: Vec<SiteRow>,
    sites_left_out: Option<String>,
}

/// A run.
#[derive(Debug)]
struct RunRow {
    number: i64,
    begun: String,
    state: StateView,
    complete: String,
    sent: String,
    time: String,
    bundle: String,
    why: Option<String>,
}

/// A mirror in the course of the runs.
#[derive(Debug)]
struct SiteRow {
    name: String,
    state: StateView,
    complete: String,
    sent: String,
    longest: String,
    /// The last failure there.
    why: Option<String>,
}

impl HistoryPage {
    pub(super) fn new(document: &HistoryDocument) -> Self {
        let runs = &document.runs;
        let of_runs = |amount: fn(&RunEntry) -> f64, shown: fn(f64) -> String| -> Vec<Measured> {
            let measured = |run: &RunEntry| Measured {
                label: format!("run {}: {}", run.number, shown(amount(run))),
                amount: amount(run),
                is_good: run.exit_code == Some(0),
            };
            runs.iter().rev().map(measured).collect()
        };
        let plots = [
            ColumnPlot::new("Time of each run", of_runs(run_seconds, seconds), seconds),
            ColumnPlot::new("Bytes sent by each run", of_runs(run_bytes, bytes), bytes),
        ];
        let (sites, sites_left_out) = sites(runs);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            heading: match runs.len() {
                1 => "The last run".to_owned(),
                runs => format!("The last {runs} runs"),
            },
            plots_of_runs: plots.into_iter().flatten().collect(),
            rows: runs.iter().map(RunRow::new).collect(),
            sites,
            sites_left_out,
        }
    }
}

impl RunRow {
    fn new(run: &RunEntry) -> Self {
        let state = match run.exit_code.and_then(Exit::of_code) {
            Some(Exit::Complete) => StateView::good("complete"),
            Some(Exit::Interrupted) => StateView::wait("interrupted"),
            Some(Exit::Incomplete) => StateView::bad("incomplete"),
            Some(exit) => StateView::bad(format!("failed ({})", exit.code())),
            None => StateView::wait("goes on, or was killed"),
        };
        let complete = run.sites.iter().filter(|site| is_complete(site)).count();
        Self {
            number: run.number,
            begun: minute(&run.started),
            state,
            complete: format!("{complete}/{}", run.sites.len()),
            sent: bytes(run_bytes(run)),
            time: seconds(run_seconds(run)),
            bundle: run.bundle.clone(),
            why: why(run.class.as_ref(), run.message.as_ref()),
        }
    }
}

fn is_complete(site: &SiteEntry) -> bool {
    site.result.as_deref() == Some("complete")
}

fn why(class: Option<&String>, message: Option<&String>) -> Option<String> {
    class.zip(message).map(|(class, message)| format!("{message} [{class}]"))
}

fn run_seconds(run: &RunEntry) -> f64 {
    let moment = |text: &str| text.parse::<jiff::Timestamp>().ok();
    let ended = run.ended.as_deref().and_then(moment);
    let spanned = ended.zip(moment(&run.started)).map(|(to, from)| to.duration_since(from).as_secs_f64());
    let longest = run.sites.iter().map(|site| site.elapsed_seconds).fold(0.0, f64::max);
    // Moments are kept in whole seconds.
    spanned.unwrap_or(0.0).max(longest)
}

fn run_bytes(run: &RunEntry) -> f64 {
    run.sites.iter().map(|site| site.bytes_sent).sum::<u64>() as f64
}

fn bytes(amount: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was a number of bytes")]
    ByteCount(amount as u64).to_string()
}

/// The mirrors of all runs, the worst first.
fn sites(runs: &[RunEntry]) -> (Vec<SiteRow>, Option<String>) {
    let mut by_name: BTreeMap<&str, Vec<&SiteEntry>> = BTreeMap::new();
    for site in runs.iter().flat_map(|run| &run.sites) {
        by_name.entry(&site.name).or_default().push(site);
    }
    let mut sorted: Vec<(usize, SiteRow)> = by_name
        .into_iter()
        .map(|(name, entries)| {
            let failed = entries.iter().filter(|site| !is_complete(site)).count();
            // The latest run comes first.
            let is_bad = entries.first().is_some_and(|site| !is_complete(site));
            (failed + if is_bad { runs.len() } else { 0 }, SiteRow::new(name, &entries))
        })
        .collect();
    sorted.sort_by_key(|(badness, _)| std::cmp::Reverse(*badness));
    let all = sorted.len();
    let rows: Vec<SiteRow> = sorted.into_iter().take(MAX_SITES).map(|(_, row)| row).collect();
    let left = left_out(all, rows.len(), "mirror");
    (rows, left)
}

impl SiteRow {
    /// `entries` are the results of runs there, the latest first.
    fn new(name: &str, entries: &[&SiteEntry]) -> Self {
        let result = entries.first().and_then(|site| site.result.as_deref());
        let state = match result {
            Some("complete") => StateView::good("complete"),
            Some("deferred") => StateView::wait("deferred"),
            Some(other) => StateView::bad(other),
            None => StateView::wait("not known"),
        };
        let complete = entries.iter().filter(|site| is_complete(site)).count();
        let last = entries.iter().find(|site| site.message.is_some());
        let longest = entries.iter().map(|site| site.elapsed_seconds).fold(0.0, f64::max);
        Self {
            name: name.to_owned(),
            state,
            complete: format!("{complete}/{}", entries.len()),
            sent: ByteCount(entries.iter().map(|site| site.bytes_sent).sum()).to_string(),
            longest: seconds(longest),
            why: last.and_then(|site| why(site.class.as_ref(), site.message.as_ref())),
        }
    }
}
