//! The page of a run.

use askama::Template;

use super::evidence::EvidenceView;
use super::overview::{self, OverviewRow};
use super::site::SiteView;
use super::words::{FactView, StateView, fact, left_out, moment, seconds};
use crate::archive::{LeftOut, LeftOutClass};
use crate::exit::Exit;
use crate::report::document::{Bottleneck, RunEntry};
use crate::report::{Document, Outcome};
use crate::units::{ByteCount, count};

/// Mirrors that have a section of their own.
const MAX_SITES: usize = 40;
/// Sections of mirrors that are not complete that are open at first.
const MAX_OPEN: usize = 3;
const MAX_LEFT_OUT: usize = 200;
const MAX_NOTES: usize = 200;

/// The page of a run.
#[derive(Debug, Template)]
#[template(path = "run.html")]
pub(super) struct RunPage {
    version: String,
    started: String,
    started_in_words: String,
    what: String,
    headline: HeadlineView,
    facts: Vec<FactView>,
    rows: Vec<OverviewRow>,
    rows_left_out: Option<String>,
    sites: Vec<SiteView>,
    sites_left_out: Option<String>,
    deferred: Vec<String>,
    evidence: EvidenceView,
    left_out: LeftOutView,
    notes: Vec<String>,
}

/// The result of the run.
#[derive(Debug)]
struct HeadlineView {
    meaning: &'static str,
    mark: &'static str,
    word: String,
    sentence: String,
    lines: Vec<String>,
}

/// What was met and not taken.
#[derive(Debug)]
struct LeftOutView {
    rows: Vec<LeftOut>,
    left_out: Option<String>,
}

impl RunPage {
    pub(super) fn new(document: &Document, past: &[RunEntry]) -> Self {
        let sorted = overview::worst_first(&document.mirrors);
        let (rows, rows_left_out) = overview::rows(&sorted, MAX_SITES);
        let site = |(at, outcome): (usize, &&Outcome)| {
            // What is complete can be looked up.
            let is_open = at == 0 || at < MAX_OPEN && !outcome.is_complete();
            SiteView::new(at, outcome, document.elapsed_seconds, past, is_open)
        };
        let sites: Vec<SiteView> = sorted.iter().take(MAX_SITES).enumerate().map(site).collect();
        let mut notes: Vec<String> = document.notes.iter().take(MAX_NOTES).cloned().collect();
        notes.extend(left_out(document.notes.len(), notes.len(), "more note"));
        Self {
            version: document.layercast_version.clone(),
            started_in_words: moment(&document.started),
            started: document.started.clone(),
            what: what(document),
            headline: HeadlineView::new(document),
            facts: facts(document),
            rows,
            rows_left_out,
            sites_left_out: sections_left_out(sorted.len() - sites.len()),
            sites,
            deferred: document
                .deferred
                .iter()
                .map(|site| format!("{}: {}", site.name, site.message))
                .collect(),
            evidence: EvidenceView::new(document),
            left_out: LeftOutView::new(&document.left_out),
            notes,
        }
    }
}

impl HeadlineView {
    fn new(document: &Document) -> Self {
        let incomplete = document.mirrors.iter().filter(|outcome| !outcome.is_complete()).count();
        let mirrors = document.mirrors.len();
        let images = count(document.images, "image");
        let exit = Exit::of_code(document.exit_code);
        let (state, sentence) = match exit {
            Some(Exit::Complete) if document.mirrors.is_empty() => {
                (StateView::good("nothing to do"), "There was nothing to do".to_owned())
            }
            Some(Exit::Complete) => {
                let on = count(mirrors - incomplete, "mirror");
                (StateView::good("complete"), format!("All of {images} on {on}"))
            }
            Some(Exit::Interrupted) => (StateView::wait("interrupted"), "The run was interrupted".to_owned()),
            _ if incomplete > 0 => {
                let are = if incomplete == 1 { "is" } else { "are" };
                let sentence = format!("{incomplete} of {} {are} not complete", count(mirrors, "mirror"));
                (StateView::bad("incomplete"), sentence)
            }
            _ => (StateView::bad("failed"), "The run failed".to_owned()),
        };
        let mut lines = Vec::new();
        if let Some(error) = &document.error {
            lines.push(format!("{} [{}]", error.message, error.class));
            lines.extend(error.hint.as_ref().map(|hint| format!("Next: {hint}")));
        }
        let whole = mirrors - incomplete;
        if incomplete > 0 && whole > 0 {
            lines.push(format!("{} complete.", count(whole, "mirror")));
        }
        let unread = document.left_out.iter().filter(|it| it.class == LeftOutClass::Unreadable).count();
        if unread > 0 {
            lines
                .push(format!("{} could not be read and may hold images: see below.", count(unread, "file")));
        }
        if !document.deferred.is_empty() {
            lines.push(format!("{} left for a later run.", count(document.deferred.len(), "mirror")));
        }
        let StateView { meaning, mark, word } = state;
        Self { meaning, mark, word, sentence, lines }
    }
}

impl LeftOutView {
    fn new(all: &[LeftOut]) -> Self {
        // What could hold images comes first.
        let is_harmless = |it: &&LeftOut| it.class != LeftOutClass::Unreadable;
        let (harmless, grave): (Vec<&LeftOut>, Vec<&LeftOut>) = all.iter().partition(is_harmless);
        let rows = grave.into_iter().chain(harmless).take(MAX_LEFT_OUT).cloned();
        let rows: Vec<LeftOut> = rows.collect();
        Self { left_out: left_out(all.len(), rows.len(), "more file"), rows }
    }
}

fn sections_left_out(mirrors: usize) -> Option<String> {
    let others = count(mirrors, "other mirror");
    (mirrors > 0).then(|| format!("Of {others} there is no more on this page; the JSON report has all."))
}

fn what(document: &Document) -> String {
    let sources = match document.sources.as_slice() {
        [] => "no bundle".to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} and {}", count(rest.len(), "more bundle")),
    };
    let sites = document.sync.as_ref().map(|sync| format!(" by {}", sync.config)).unwrap_or_default();
    format!("{sources} to {}{sites}", count(document.mirrors.len(), "mirror"))
}

fn facts(document: &Document) -> Vec<FactView> {
    let sum = |of: fn(&Outcome) -> u64| document.mirrors.iter().map(of).sum::<u64>();
    let complete = document.mirrors.iter().filter(|outcome| outcome.is_complete()).count();
    let mut facts = vec![
        fact("Images in the plan", document.images),
        fact("Mirrors complete", format!("{complete} of {}", document.mirrors.len())),
        fact("Sent", ByteCount(sum(|outcome| outcome.bytes_sent))),
        fact("Time", seconds(document.elapsed_seconds)),
    ];
    facts.extend(document.read_seconds.map(|read| fact("Bundle read after", seconds(read))));
    if document.decode.bytes > 0 {
        facts.push(fact("Decoded", ByteCount(document.decode.bytes)));
        facts.push(fact("CPU for decoding", seconds(document.decode.cpu_seconds)));
    }
    if document.compress.cpu_seconds > 0.0 {
        facts.push(fact("CPU for compressing", seconds(document.compress.cpu_seconds)));
    }
    let bottleneck = document.utilisation.as_ref().and_then(|it| it.bottleneck);
    facts.extend(bottleneck.map(|bottleneck| fact("Waited most for", waited_for(bottleneck))));
    if document.peak_rss_bytes > 0 {
        facts.push(fact("Memory at most", ByteCount(document.peak_rss_bytes)));
    }
    if let Some(stage) = &document.stage {
        facts.push(fact("Read from the stage", ByteCount(stage.bytes_read)));
    }
    facts.push(fact("Exit code", document.exit_code));
    facts
}

/// What a run hung on, as the end of a sentence.
const fn waited_for(bottleneck: Bottleneck) -> &'static str {
    match bottleneck {
        Bottleneck::Decode => "decoding",
        Bottleneck::Compress => "compressing",
        Bottleneck::Registry => "the registry",
        Bottleneck::Link => "the link",
        Bottleneck::Limit => "the bandwidth limit",
    }
}
