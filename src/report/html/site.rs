//! One mirror: how it ended, why, and where its time went.

use super::overview::anchor;
use super::plots::{BarPlot, ColumnPlot, LinePlot, Measured, Share};
use super::words::{FactView, StateView, fact, rate, seconds};
use crate::report::alike::{Alike, alike};
use crate::report::document::RunEntry;
use crate::report::timeline::{RetryCount, SlowBlob};
use crate::report::{Failure, Outcome};
use crate::units::{ByteCount, count};

/// Names of images that failed alike.
const MAX_NAMES: usize = 40;
/// Causes of failures of images.
const MAX_GROUPS: usize = 40;
/// Tags that were moved.
const MAX_REPLACED: usize = 100;

/// One mirror.
#[derive(Debug)]
pub(super) struct SiteView {
    pub(super) anchor: String,
    pub(super) name: String,
    pub(super) is_open: bool,
    pub(super) state: StateView,
    /// Where it is, and when it may be filled.
    pub(super) place: Vec<String>,
    pub(super) failure: Option<FailureView>,
    pub(super) failed: Vec<FailedImages>,
    pub(super) facts: Vec<FactView>,
    pub(super) bars: Vec<BarPlot>,
    pub(super) bytes: Option<LinePlot>,
    pub(super) trend: Option<ColumnPlot>,
    pub(super) retries: Vec<RetryRow>,
    pub(super) slowest: Vec<SlowRow>,
    pub(super) replaced: Vec<String>,
}

/// Why it failed as a whole.
#[derive(Debug)]
pub(super) struct FailureView {
    pub(super) meaning: &'static str,
    pub(super) message: String,
    pub(super) class: String,
    pub(super) hint: Option<String>,
}

/// Images that failed for one cause.
#[derive(Debug)]
pub(super) struct FailedImages {
    pub(super) message: String,
    pub(super) class: String,
    pub(super) phase: String,
    pub(super) hint: Option<String>,
    /// Which they are, where the message does not say it.
    pub(super) images: Option<String>,
}

/// A cause of retries.
#[derive(Debug)]
pub(super) struct RetryRow {
    pub(super) cause: String,
    pub(super) count: u64,
    pub(super) pauses: String,
}

/// An upload that took long.
#[derive(Debug)]
pub(super) struct SlowRow {
    pub(super) digest: String,
    pub(super) bytes: String,
    pub(super) time: String,
    pub(super) bundle: String,
    pub(super) turn: String,
    pub(super) rate: String,
}

impl SiteView {
    /// The mirror at this place of the page, in a run that took so long and came after `past`, the latest first.
    pub(super) fn new(
        at: usize,
        outcome: &Outcome,
        run_seconds: f64,
        past: &[RunEntry],
        is_open: bool,
    ) -> Self {
        let state = StateView::of(outcome);
        let timeline = outcome.timeline.as_ref();
        let bars = [
            timeline.and_then(|timeline| BarPlot::of_stages(&timeline.stages, run_seconds)),
            blobs(outcome),
            BarPlot::of_waits(&outcome.waits),
        ];
        let replaced = outcome.tags_replaced.iter().take(MAX_REPLACED).map(|tag| {
            let from = tag.from.map_or_else(|| "an image that is not told".to_owned(), |it| it.to_string());
            format!("{} stood for {from} and stands for {}", tag.place, tag.to)
        });
        let mut replaced: Vec<String> = replaced.collect();
        let more = outcome.tags_replaced.len() - replaced.len();
        replaced.extend((more > 0).then(|| format!("and {more} more, which the JSON report has")));
        Self {
            anchor: anchor(at),
            name: outcome.name.clone(),
            is_open,
            place: place(outcome),
            failure: outcome.error.as_ref().map(|failure| FailureView::new(failure, state.meaning)),
            failed: failed(outcome),
            facts: facts(outcome),
            bars: bars.into_iter().flatten().collect(),
            bytes: timeline.and_then(LinePlot::of_bytes),
            trend: trend(&outcome.name, past),
            retries: timeline.map_or(&[][..], |it| &it.retries).iter().map(RetryRow::new).collect(),
            slowest: timeline.map_or(&[][..], |it| &it.slowest_blobs).iter().map(SlowRow::new).collect(),
            replaced,
            state,
        }
    }
}

impl FailureView {
    pub(super) fn new(failure: &Failure, meaning: &'static str) -> Self {
        let (message, class) = (failure.message.clone(), failure.class.to_string());
        Self { meaning, message, class, hint: failure.hint.clone() }
    }
}

impl RetryRow {
    fn new(retry: &RetryCount) -> Self {
        Self { cause: retry.cause.clone(), count: retry.count, pauses: seconds(retry.seconds) }
    }
}

impl SlowRow {
    fn new(blob: &SlowBlob) -> Self {
        let sending = blob.seconds - blob.bundle_seconds - blob.turn_seconds;
        Self {
            digest: blob.digest.short(),
            bytes: ByteCount(blob.bytes).to_string(),
            time: seconds(blob.seconds),
            bundle: seconds(blob.bundle_seconds),
            turn: seconds(blob.turn_seconds),
            rate: rate(blob.bytes, sending),
        }
    }
}

fn place(outcome: &Outcome) -> Vec<String> {
    let Some(site) = &outcome.site else { return Vec::new() };
    let mut lines = vec![format!("{}, wave {}", site.registry, site.wave)];
    if !site.groups.is_empty() {
        lines.push(format!("groups: {}", site.groups.join(", ")));
    }
    lines.extend(site.window.as_ref().map(|window| format!("window: {window}")));
    lines
}

fn facts(outcome: &Outcome) -> Vec<FactView> {
    let mut facts = vec![
        fact("Images complete", format!("{} of {}", outcome.images_complete, outcome.images)),
        fact("of those unchanged", outcome.images_unchanged),
        fact("Sent", ByteCount(outcome.bytes_sent)),
        fact("Time", seconds(outcome.elapsed_seconds)),
    ];
    if outcome.bytes_sent > 0 {
        facts.push(fact("Rate over all", rate(outcome.bytes_sent, outcome.elapsed_seconds)));
    }
    if outcome.requests > 0 {
        facts.push(fact("Requests", outcome.requests));
    }
    if outcome.uploads_resumed > 0 {
        let found = ByteCount(outcome.bytes_found);
        facts.push(fact("Uploads resumed", format!("{} ({found} found)", outcome.uploads_resumed)));
    }
    let repeated = outcome.timeline.as_ref().map_or(0, |timeline| timeline.bytes_repeated);
    if repeated > 0 {
        facts.push(fact("Sent again", ByteCount(repeated)));
    }
    facts
}

fn blobs(outcome: &Outcome) -> Option<BarPlot> {
    let share =
        |label, blobs: u64, fill| Share { label, value: blobs.to_string(), amount: blobs as f64, fill };
    BarPlot::of_shares(
        "Blobs",
        vec![
            share("sent", outcome.blobs_sent, "f1"),
            share("mounted", outcome.blobs_mounted, "f2"),
            share("there before", outcome.blobs_skipped, "f3"),
        ],
    )
}

/// Images that are not complete, by cause. What stopped the mirror as a whole is said once.
fn failed(outcome: &Outcome) -> Vec<FailedImages> {
    let groups = alike(&outcome.images_failed);
    let shown = groups.iter().take(MAX_GROUPS).map(|group| {
        let failure = &group.first.failure;
        FailedImages {
            message: group.in_words(),
            class: failure.class.to_string(),
            phase: phase(group),
            hint: failure.hint.clone(),
            images: (group.images.len() > 1).then(|| names(group)),
        }
    });
    let mut shown: Vec<FailedImages> = shown.collect();
    if let Some(rest) = groups.get(MAX_GROUPS..).filter(|rest| !rest.is_empty()) {
        let images: usize = rest.iter().map(|group| group.images.len()).sum();
        shown.push(FailedImages {
            message: format!("{} failed for other reasons", count(images, "more image")),
            class: "various".to_owned(),
            phase: "various".to_owned(),
            hint: None,
            images: Some("The JSON report names them.".to_owned()),
        });
    }
    shown
}

fn phase(group: &Alike<'_>) -> String {
    let phase = serde_json::to_value(group.first.phase).ok();
    phase.and_then(|phase| phase.as_str().map(str::to_owned)).unwrap_or_default()
}

fn names(group: &Alike<'_>) -> String {
    let names: Vec<&str> = group.images.iter().take(MAX_NAMES).map(|image| image.image.as_str()).collect();
    let more = group.images.len() - names.len();
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// How long the last runs took there.
fn trend(name: &str, past: &[RunEntry]) -> Option<ColumnPlot> {
    let runs = past.iter().rev().filter_map(|run| {
        let site = run.sites.iter().find(|site| site.name == name)?;
        let result = site.result.as_deref().unwrap_or("not known");
        let (sent, took) = (ByteCount(site.bytes_sent), seconds(site.elapsed_seconds));
        Some(Measured {
            label: format!("run {}: {result}, {sent} in {took}", run.number),
            amount: site.elapsed_seconds,
            is_good: result == "complete",
        })
    });
    ColumnPlot::new("Time of the runs before", runs.collect(), seconds)
}
