//! The page of links: what each bears, what holds it back, and which settings to use.

use askama::Template;

use super::heat_map::HeatMap;
use super::plots::{ColumnPlot, LinePlot};
use super::site::FailureView;
use super::words::{FactView, StateView, bits, fact, moment, seconds};
use crate::report::document::{
    BundleEstimate, CommitTime, LatencyFigures, LinkDocument, LinkLimit, LinkTarget, ThroughputFigures,
    TransferMethod,
};
use crate::units::{ByteCount, count};

/// Links that have a section of their own.
const MAX_TARGETS: usize = 40;
/// Sections that are open at first.
const MAX_OPEN: usize = 3;

/// The page of links.
#[derive(Debug, Template)]
#[template(path = "link.html")]
pub(super) struct LinkPage {
    version: String,
    heading: String,
    started: String,
    started_in_words: String,
    took: String,
    rows: Vec<LinkRow>,
    targets: Vec<LinkView>,
    left_out: Option<String>,
}

/// A link in the table of all.
#[derive(Debug)]
struct LinkRow {
    name: String,
    state: StateView,
    up: String,
    down: String,
    round_trip: String,
}

/// A link.
#[derive(Debug)]
struct LinkView {
    name: String,
    place: String,
    is_open: bool,
    state: StateView,
    conclusion: String,
    evidence: Vec<String>,
    failure: Option<FailureView>,
    advice: Vec<String>,
    site: Option<String>,
    estimates: Vec<String>,
    facts: Vec<FactView>,
    heat_maps: Vec<HeatMap>,
    distributions: Vec<ColumnPlot>,
    soak: Option<LinePlot>,
    commits: Vec<CommitRow>,
    left_behind: Vec<String>,
    notes: Vec<String>,
}

/// How long a commit took.
#[derive(Debug)]
struct CommitRow {
    bytes: String,
    time: String,
}

impl LinkPage {
    pub(super) fn new(document: &LinkDocument) -> Self {
        let heading = match document.targets.as_slice() {
            [only] => format!("The link to {}", only.name),
            all => format!("The links to {}", count(all.len(), "mirror")),
        };
        let shown = document.targets.iter().take(MAX_TARGETS).enumerate();
        let targets: Vec<LinkView> = shown.map(|(at, target)| LinkView::new(target, at < MAX_OPEN)).collect();
        let more = document.targets.len() - targets.len();
        Self {
            version: document.layercast_version.clone(),
            heading,
            started_in_words: moment(&document.started),
            started: document.started.clone(),
            took: seconds(document.elapsed_seconds),
            rows: document.targets.iter().map(LinkRow::new).collect(),
            targets,
            left_out: (more > 0)
                .then(|| format!("Of {} there is no more on this page.", count(more, "other link"))),
        }
    }
}

impl LinkRow {
    fn new(target: &LinkTarget) -> Self {
        let rate =
            |figures: &Option<ThroughputFigures>| figures.as_ref().map(|it| bits(it.best_bytes_per_second));
        let dash = || "–".to_owned();
        Self {
            name: target.name.clone(),
            state: state(target),
            up: rate(&target.upload).unwrap_or_else(dash),
            down: rate(&target.download).unwrap_or_else(dash),
            round_trip: target.rtt_seconds.as_ref().map_or_else(dash, |it| milliseconds(it.p50)),
        }
    }
}

/// How far it was measured.
fn state(target: &LinkTarget) -> StateView {
    match (&target.error, target.limit) {
        (Some(failure), _) => StateView::bad(failure.class.to_string()),
        (None, Some(limit)) => StateView::good(held_by(limit)),
        (None, None) => StateView::wait("no conclusion"),
    }
}

const fn held_by(limit: LinkLimit) -> &'static str {
    match limit {
        LinkLimit::RoundTrip => "round trip",
        LinkLimit::Bandwidth => "bandwidth",
        LinkLimit::Server => "server",
        LinkLimit::RequestSize => "request size",
        LinkLimit::RateLimit => "rate limit",
        LinkLimit::ClientCpu => "client CPU",
    }
}

/// What holds uploads back, as a sentence.
const fn explained(limit: LinkLimit) -> &'static str {
    match limit {
        LinkLimit::RoundTrip => {
            "The way there and back holds uploads back: more of them at a time bring more."
        }
        LinkLimit::Bandwidth => "The bandwidth holds uploads back: more of them at a time bring no more.",
        LinkLimit::Server => "The registry holds uploads back: it takes its time with bytes that it has.",
        LinkLimit::RequestSize => "Requests above a size are refused.",
        LinkLimit::RateLimit => "Requests above a number in a second are refused.",
        LinkLimit::ClientCpu => "This machine holds uploads back: its cores are busy.",
    }
}

impl LinkView {
    fn new(target: &LinkTarget, is_open: bool) -> Self {
        let state = state(target);
        let conclusion = match (&target.upload, target.limit) {
            (Some(upload), Some(limit)) => {
                format!("{} to the mirror. {}", bits(upload.best_bytes_per_second), explained(limit))
            }
            _ if target.error.is_some() => "It was not measured.".to_owned(),
            _ => "It was not measured far enough for a conclusion.".to_owned(),
        };
        let failure = target.error.as_ref().map(|failure| FailureView::new(failure, state.meaning));
        let maps = [("Upload", &target.upload), ("Download", &target.download)];
        let latencies = [
            ("Round trip over a connection that stands", &target.rtt_seconds),
            ("Round trip over a new connection", &target.cold_seconds),
        ];
        let distribution = |(title, figures): (&'static str, &Option<LatencyFigures>)| {
            ColumnPlot::of_distribution(title, &figures.as_ref()?.median.samples, milliseconds)
        };
        let commit = |it: &CommitTime| CommitRow {
            bytes: ByteCount(it.bytes).to_string(),
            time: milliseconds(it.seconds),
        };
        Self {
            name: target.name.clone(),
            place: target.place.clone(),
            is_open,
            state,
            conclusion,
            evidence: target.evidence.clone(),
            failure,
            advice: advice(target),
            site: target.recommendation.as_ref().map(|it| it.site.clone()),
            estimates: target.estimates.iter().map(estimate).collect(),
            facts: facts(target),
            heat_maps: maps
                .into_iter()
                .filter_map(|(title, figures)| HeatMap::of_trials(title, &figures.as_ref()?.trials))
                .collect(),
            distributions: latencies.into_iter().filter_map(distribution).collect(),
            soak: LinePlot::of_rate(&target.soak),
            commits: target.commit_seconds.iter().map(commit).collect(),
            left_behind: target
                .left_behind
                .iter()
                .map(|it| format!("{} ({}): {}", it.what, ByteCount(it.bytes), it.why))
                .collect(),
            notes: target.notes.clone(),
        }
    }
}

/// The recommendation in words.
fn advice(target: &LinkTarget) -> Vec<String> {
    let Some(recommended) = &target.recommendation else { return Vec::new() };
    let uploads = match recommended.threads {
        1 => "one upload at a time".to_owned(),
        threads => format!("{threads} uploads at a time"),
    };
    let method = match recommended.method {
        TransferMethod::Put => "each blob in one PUT",
        TransferMethod::Patch | TransferMethod::Get => "each blob in one PATCH",
        TransferMethod::Chunks => "each blob in chunks",
    };
    let size = recommended.request_bytes.map_or_else(
        || "requests of any size are taken".to_owned(),
        |bytes| format!("at most {} in a request", ByteCount(bytes)),
    );
    let mut advice = vec![format!("Use {uploads}, {method}; {size}.")];
    if !recommended.equivalent_threads.is_empty() {
        let others: Vec<String> = recommended.equivalent_threads.iter().map(ToString::to_string).collect();
        advice.push(format!("As good, as far as can be measured: {} at a time.", others.join(", ")));
    }
    advice
}

fn estimate(estimate: &BundleEstimate) -> String {
    let about = if estimate.bytes_are_exact { "" } else { "at most " };
    format!(
        "{}: {about}{} in {} are missing, which would take {} ({} to {}).",
        estimate.bundles.join(", "),
        ByteCount(estimate.bytes),
        count(usize::try_from(estimate.blobs).unwrap_or(usize::MAX), "blob"),
        seconds(estimate.seconds),
        seconds(estimate.seconds_low),
        seconds(estimate.seconds_high),
    )
}

fn facts(target: &LinkTarget) -> Vec<FactView> {
    let mut facts = Vec::new();
    for (upload, figures) in [(true, &target.upload), (false, &target.download)] {
        let Some(figures) = figures else { continue };
        let rate = figures.rate.clone();
        let range = format!("{} ({} to {})", bits(rate.median), bits(rate.low), bits(rate.high));
        facts.push(fact(if upload { "Upload" } else { "Download" }, range));
        let one = figures.one_stream_bytes_per_second.filter(|_| figures.streams > 1);
        facts.extend(
            one.map(|rate| fact(if upload { "One upload alone" } else { "One download alone" }, bits(rate))),
        );
    }
    if let Some(latency) = &target.rtt_seconds {
        let [p50, p90, p99] = [latency.p50, latency.p90, latency.p99].map(milliseconds);
        facts.push(fact("Round trip (p50, p90, p99)", format!("{p50}, {p90}, {p99}")));
    }
    facts.extend(target.mount_seconds.as_ref().map(|it| fact("Mount", milliseconds(it.p50))));
    facts.extend(
        target
            .small_blobs_per_second
            .as_ref()
            .map(|it| fact("Small blobs a second", format!("{:.0}", it.median))),
    );
    let steps = [
        ("Name", target.connect.name_seconds),
        ("TCP", target.connect.tcp_seconds),
        ("TLS", target.connect.tls_seconds),
        ("Login", target.connect.token_seconds),
    ];
    facts.extend(steps.into_iter().filter_map(|(what, took)| Some(fact(what, milliseconds(took?)))));
    facts
        .extend(target.tls.as_ref().map(|tls| fact("Encryption", format!("{} {}", tls.version, tls.cipher))));
    facts.extend(target.keeps.as_ref().map(|keeps| fact("Keeps of a broken upload", keeps)));
    facts.extend(target.refused_bytes.map(|bytes| fact("Refused as too large", ByteCount(bytes))));
    if target.rate_limited > 0 {
        facts.push(fact("Refused as too many", target.rate_limited));
    }
    facts.push(fact(
        "Cost",
        format!("{} sent, {} read", ByteCount(target.bytes_sent), ByteCount(target.bytes_received)),
    ));
    facts
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}
