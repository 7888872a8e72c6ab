//! Counts what happens on one mirror. Observes every request.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::activity::MirrorActivity;
use super::limiter::ConcurrencyLimiter;
use crate::clock::Instant;
use crate::locks::Mutex;
use crate::registry::{FlightPhase, Observer};
use crate::report::event::Sample;
use crate::report::{Event, Listeners, Outcome};

/// The methods of the distribution specification.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

#[derive(Debug)]
pub(super) struct Counts {
    pub(super) mirror: usize,
    listeners: Listeners,
    limiter: Arc<ConcurrencyLimiter>,
    pub(super) activity: MirrorActivity,
    blobs_sent: AtomicU64,
    blobs_skipped: AtomicU64,
    blobs_mounted: AtomicU64,
    bytes_sent: AtomicU64,
    uploads_resumed: AtomicU64,
    bytes_found: AtomicU64,
    requests: AtomicU64,
    /// Why the last request that failed is tried again, until one is answered well.
    waits_for: Mutex<Option<String>>,
    was_answered: AtomicBool,
}

impl Counts {
    pub(super) fn new(mirror: usize, listeners: Listeners, limiter: Arc<ConcurrencyLimiter>) -> Self {
        Self {
            mirror,
            listeners,
            limiter,
            activity: MirrorActivity::new(Instant::now()),
            blobs_sent: AtomicU64::new(0),
            blobs_skipped: AtomicU64::new(0),
            blobs_mounted: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            uploads_resumed: AtomicU64::new(0),
            bytes_found: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            waits_for: Mutex::default(),
            was_answered: AtomicBool::new(false),
        }
    }

    pub(super) fn sent(&self) {
        self.blobs_sent.fetch_add(1, Ordering::Relaxed);
    }

    /// An upload was resumed this many times, and had this many bytes from an earlier run.
    pub(super) fn resumed(&self, times: u32, bytes_found: u64) {
        self.uploads_resumed.fetch_add(u64::from(times), Ordering::Relaxed);
        self.bytes_found.fetch_add(bytes_found, Ordering::Relaxed);
    }

    /// The mirror has this many blobs in a repository; `bytes` of them are new to the run.
    pub(super) fn skipped(&self, blobs: u64, bytes: u64) {
        self.blobs_skipped.fetch_add(blobs, Ordering::Relaxed);
        self.measured(Sample::Skipped { blobs, bytes });
    }

    pub(super) fn mounted(&self, bytes: u64) {
        self.blobs_mounted.fetch_add(1, Ordering::Relaxed);
        self.measured(Sample::Mounted { bytes });
    }

    fn measured(&self, sample: Sample) {
        self.listeners.emit(&Event::Measured { mirror: self.mirror, sample });
    }

    /// Why the run waits for the mirror, if it does.
    pub(super) fn waits_for(&self) -> Option<String> {
        let silent =
            || (!self.was_answered.load(Ordering::Relaxed)).then(|| "it has not answered".to_owned());
        self.waits_for.lock().clone().or_else(silent)
    }

    pub(super) fn write(&self, outcome: &mut Outcome) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        outcome.blobs_sent = read(&self.blobs_sent);
        outcome.blobs_skipped = read(&self.blobs_skipped);
        outcome.blobs_mounted = read(&self.blobs_mounted);
        outcome.bytes_sent = read(&self.bytes_sent);
        outcome.uploads_resumed = read(&self.uploads_resumed);
        outcome.bytes_found = read(&self.bytes_found);
        outcome.requests = read(&self.requests);
        outcome.waits = self.activity.waits(Instant::now());
    }
}

impl Observer for Counts {
    fn request(&self, method: &str, status: Option<u16>, after: Duration) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if status.is_some() {
            self.was_answered.store(true, Ordering::Relaxed);
        }
        if status.is_some_and(|status| status < 400) {
            *self.waits_for.lock() = None;
        }
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
        self.measured(Sample::Answered { method, status, after });
        if matches!(status, Some(429 | 503)) {
            self.limiter.overloaded();
        }
    }

    fn flight(&self, left: Option<FlightPhase>, entered: Option<FlightPhase>) {
        self.activity.flight(left, entered, Instant::now());
    }

    fn body_sent(&self, bytes: u64) {
        self.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
        self.limiter.sent(bytes);
        self.measured(Sample::Sent { bytes });
    }

    fn body_repositioned(&self, from: u64, to: u64) {
        self.measured(Sample::Repositioned { from, to });
    }

    fn retry(&self, what: &str, why: &str, cause: &str, after: Duration) {
        self.limiter.overloaded();
        let (what, why, cause) = (what.to_owned(), why.to_owned(), cause.to_owned());
        *self.waits_for.lock() = Some(format!("{what}: {why}"));
        self.listeners.emit(&Event::Retried { mirror: self.mirror, what, why, cause, after });
    }

    fn warning(&self, text: &str) {
        self.listeners.note(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::mirror::limiter::MaxConcurrency;

    #[test]
    fn what_was_last_waited_for_is_known_until_an_answer_is_good() {
        let limiter = Arc::new(ConcurrencyLimiter::new(MaxConcurrency::new(1 << 20, 1, None)));
        let counts = Counts::new(0, Listeners::default(), limiter);
        assert_eq!(counts.waits_for().unwrap(), "it has not answered");
        counts.request("GET", Some(503), Duration::ZERO);
        counts.retry("GET /v2/", "503 service unavailable", "503", Duration::ZERO);
        assert_eq!(counts.waits_for().unwrap(), "GET /v2/: 503 service unavailable");
        counts.request("GET", Some(200), Duration::ZERO);
        assert_eq!(counts.waits_for(), None);
    }
}
