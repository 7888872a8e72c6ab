//! The metrics of a run. They listen to its events like a progress bar does; stages know nothing of Prometheus.
//!
//! [`list`] has all of them. Their values go into a file for node_exporter, or [`endpoint`] serves them.

mod carried;
mod endpoint;
mod list;
mod recorder;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use self::carried::with_other_sites;
pub(crate) use self::endpoint::MetricsEndpoint;
use self::recorder::Recorder;
use super::document::{Compressed, Decoded};
use super::{Document, Event, Listener, Outcome};
use crate::clock;
use crate::locks::Mutex;
use crate::report::event::Sample;

/// After this many durations they are put into their buckets.
const SETTLE_EVERY: u64 = 4096;

/// Gives the figures of reading, when metrics are rendered.
type ReadingTotals = Box<dyn Fn() -> (Decoded, Compressed) + Send + Sync>;

/// The metrics of a run.
pub(crate) struct Metrics {
    recorder: Recorder,
    sites: Mutex<Vec<SiteMetrics>>,
    reading: OnceLock<ReadingTotals>,
    durations: AtomicU64,
}

/// The metrics of a site that are written often.
struct SiteMetrics {
    name: String,
    sent_bytes: metrics::Counter,
    planned: Option<usize>,
    complete: usize,
}

impl Metrics {
    /// All metrics will have a label `run` with this value: it tells the files in one folder of node_exporter apart.
    pub(crate) fn new(run: &str) -> Self {
        let recorder = Recorder::new(run);
        recorder.gauge(&list::BUILD_INFO, [env!("CARGO_PKG_VERSION")]).set(1);
        recorder.gauge(&list::RUN_START, []).set(seconds_now());
        Self { recorder, sites: Mutex::default(), reading: OnceLock::new(), durations: AtomicU64::new(0) }
    }

    /// A site that the run is to fill, and when it was last complete, in seconds since 1970. Call it before the run begins, so that
    /// a run that ends early has it too.
    pub(crate) fn expect(&self, site: &str, last_complete: Option<i64>) {
        self.recorder.gauge(&list::SITE_LAST_COMPLETE, [site]).set(last_complete.unwrap_or(0) as f64);
        self.recorder.gauge(&list::SITE_COMPLETE, [site]).set(0);
        self.recorder.gauge(&list::SITE_DEFERRED, [site]).set(0);
        self.start_at_zero(site);
    }

    /// Where to ask for what reading has come to.
    pub(crate) fn read_by(&self, reading: impl Fn() -> (Decoded, Compressed) + Send + Sync + 'static) {
        let _ = self.reading.set(Box::new(reading));
    }

    /// The run has ended with this report.
    pub(crate) fn end(&self, document: &Document) {
        self.recorder.gauge(&list::RUN_END, []).set(seconds_now());
        self.recorder.gauge(&list::RUN_EXIT_CODE, []).set(document.exit_code);
        self.recorder.gauge(&list::RUN_PASSED_OVER, []).set(document.passed_over().len() as f64);
        self.recorder.gauge(&list::RUN_IMAGES, []).set(document.images as f64);
        self.recorder.gauge(&list::RUN_MEMORY_PEAK, []).set(document.peak_rss_bytes as f64);
        for site in &document.deferred {
            self.recorder.gauge(&list::SITE_DEFERRED, [site.name.as_str()]).set(1);
        }
        for outcome in &document.mirrors {
            // A run that failed as a whole has not shown that the bundle was what it should be.
            self.site_ended(outcome, document.error.is_none() && outcome.is_complete());
        }
    }

    /// All of them in the text format of Prometheus.
    pub(crate) fn render(&self) -> String {
        if let Some((decoded, compressed)) = self.reading.get().map(|reading| reading()) {
            self.recorder.counter(&list::DECODED_BYTES, []).absolute(decoded.bytes);
            self.recorder.counter(&list::DECODED_PARTS, []).absolute(decoded.parts);
            self.recorder.gauge(&list::DECODE_CPU, []).set(decoded.cpu_seconds);
            self.recorder.gauge(&list::COMPRESS_CPU, []).set(compressed.cpu_seconds);
            self.recorder.gauge(&list::SPOOL_PEAK, []).set(decoded.spool_peak_bytes as f64);
        }
        self.recorder.render()
    }

    /// What did not happen is 0, not absent.
    fn start_at_zero(&self, name: &str) {
        for outcome in ["sent", "skipped", "mounted"] {
            self.recorder.counter(&list::BLOBS, [name, outcome]).absolute(0);
        }
        for counter in [&list::TAGS, &list::RETRIES, &list::THROTTLED, &list::SENT_BYTES] {
            self.recorder.counter(counter, [name]).absolute(0);
        }
        self.recorder.gauge(&list::RETRY_WAIT, [name]).set(0);
    }

    fn site(&self, name: &str) -> SiteMetrics {
        let sent_bytes = self.recorder.counter(&list::SENT_BYTES, [name]);
        SiteMetrics { name: name.to_owned(), sent_bytes, planned: None, complete: 0 }
    }

    fn site_ended(&self, outcome: &Outcome, is_complete: bool) {
        let site = outcome.name.as_str();
        if outcome.images > 0 {
            self.images(site, outcome.images, outcome.images_complete);
        }
        self.recorder.gauge(&list::SITE_DURATION, [site]).set(outcome.elapsed_seconds);
        self.recorder.gauge(&list::SITE_COMPLETE, [site]).set(f64::from(u8::from(is_complete)));
        if is_complete {
            self.recorder.gauge(&list::SITE_LAST_COMPLETE, [site]).set(seconds_now());
        }
    }

    fn images(&self, site: &str, planned: usize, complete: usize) {
        self.recorder.gauge(&list::SITE_IMAGES, [site]).set(planned as f64);
        let missing = planned.saturating_sub(complete);
        self.recorder.gauge(&list::SITE_IMAGES_MISSING, [site]).set(missing as f64);
    }

    fn with(&self, mirror: usize, act: impl FnOnce(&mut SiteMetrics)) {
        if let Some(site) = self.sites.lock().get_mut(mirror) {
            act(site);
        }
    }

    fn measured(&self, site: &SiteMetrics, sample: &Sample) {
        let name = site.name.as_str();
        let blobs = |outcome, count| self.recorder.counter(&list::BLOBS, [name, outcome]).increment(count);
        match *sample {
            Sample::Sent { bytes } => site.sent_bytes.increment(bytes),
            Sample::Skipped { blobs: count, .. } => blobs("skipped", count),
            Sample::Mounted { .. } => blobs("mounted", 1),
            Sample::Answered { method, status, after } => {
                let (outcome, class) = (outcome(status), class(status));
                self.recorder.counter(&list::REQUESTS, [name, outcome, class]).increment(1);
                if outcome == "throttled" {
                    self.recorder.counter(&list::THROTTLED, [name]).increment(1);
                }
                self.duration(method, after);
            }
            Sample::Repositioned { .. } => {}
        }
    }

    fn duration(&self, method: &str, after: Duration) {
        self.recorder.histogram(&list::REQUEST_DURATION, [method]).record(after);
        if self.durations.fetch_add(1, Ordering::Relaxed) % SETTLE_EVERY == SETTLE_EVERY - 1 {
            self.recorder.settle();
        }
    }
}

impl Listener for Metrics {
    fn hear(&self, event: &Event) {
        match event {
            Event::Started { mirrors, .. } => {
                *self.sites.lock() = mirrors.iter().map(|name| self.site(name)).collect();
            }
            Event::Planned { images, .. } => {
                for (mirror, &planned) in images.iter().enumerate() {
                    self.with(mirror, |site| {
                        site.planned = Some(planned);
                        self.images(&site.name, planned, site.complete);
                    });
                }
            }
            Event::Measured { mirror, sample } => self.with(*mirror, |site| self.measured(site, sample)),
            Event::Acknowledged { mirror, .. } => self.with(*mirror, |site| {
                self.recorder.counter(&list::BLOBS, [&site.name, "sent"]).increment(1);
            }),
            Event::Tagged { mirror, tags } => self.with(*mirror, |site| {
                self.recorder.counter(&list::TAGS, [&site.name]).increment(*tags as u64);
            }),
            Event::Retried { mirror, after, .. } => self.with(*mirror, |site| {
                self.recorder.counter(&list::RETRIES, [&site.name]).increment(1);
                self.recorder.gauge(&list::RETRY_WAIT, [&site.name]).increment(after.as_secs_f64());
            }),
            Event::Finished { mirror, complete, took, .. } => self.with(*mirror, |site| {
                site.complete = *complete;
                if let Some(planned) = site.planned {
                    self.images(&site.name, planned, *complete);
                }
                self.recorder.gauge(&list::SITE_DURATION, [&site.name]).set(took.as_secs_f64());
            }),
            _ => {}
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("recorder", &self.recorder).finish_non_exhaustive()
    }
}

/// The outcome of a request. A HEAD for missing content is no refusal.
fn outcome(status: Option<u16>) -> &'static str {
    match status {
        None => "no_answer",
        Some(429 | 503) => "throttled",
        Some(404) => "not_found",
        Some(400..=499) => "refused",
        Some(500..) => "failed",
        Some(_) => "ok",
    }
}

fn class(status: Option<u16>) -> &'static str {
    match status {
        None => "none",
        Some(..=199) => "1xx",
        Some(200..=299) => "2xx",
        Some(300..=399) => "3xx",
        Some(400..=499) => "4xx",
        Some(500..) => "5xx",
    }
}

fn seconds_now() -> f64 {
    let now = clock::timestamp();
    now.as_second() as f64
}
