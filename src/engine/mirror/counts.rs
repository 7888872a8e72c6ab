//! What is counted on one mirror. Hears of every request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::limiter::ConcurrencyLimiter;
use crate::registry::Observer;
use crate::report::event::Sample;
use crate::report::{Event, Listeners, Outcome};

/// The methods of the distribution specification.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

#[derive(Debug)]
pub(super) struct Counts {
    pub(super) mirror: usize,
    listeners: Listeners,
    limiter: Arc<ConcurrencyLimiter>,
    blobs_sent: AtomicU64,
    blobs_skipped: AtomicU64,
    blobs_mounted: AtomicU64,
    bytes_sent: AtomicU64,
    requests: AtomicU64,
}

impl Counts {
    pub(super) fn new(mirror: usize, listeners: Listeners, limiter: Arc<ConcurrencyLimiter>) -> Self {
        Self {
            mirror,
            listeners,
            limiter,
            blobs_sent: AtomicU64::new(0),
            blobs_skipped: AtomicU64::new(0),
            blobs_mounted: AtomicU64::new(0),
            bytes_sent: AtomicU64::new(0),
            requests: AtomicU64::new(0),
        }
    }

    pub(super) fn sent(&self) {
        self.blobs_sent.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn skipped(&self, blobs: u64) {
        self.blobs_skipped.fetch_add(blobs, Ordering::Relaxed);
        self.measured(Sample::Skipped { blobs });
    }

    pub(super) fn mounted(&self) {
        self.blobs_mounted.fetch_add(1, Ordering::Relaxed);
        self.measured(Sample::Mounted);
    }

    fn measured(&self, sample: Sample) {
        self.listeners.emit(&Event::Measured { mirror: self.mirror, sample });
    }

    pub(super) fn write(&self, outcome: &mut Outcome) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        outcome.blobs_sent = read(&self.blobs_sent);
        outcome.blobs_skipped = read(&self.blobs_skipped);
        outcome.blobs_mounted = read(&self.blobs_mounted);
        outcome.bytes_sent = read(&self.bytes_sent);
        outcome.requests = read(&self.requests);
    }
}

impl Observer for Counts {
    fn request(&self, method: &str, status: Option<u16>, after: Duration) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let method = METHODS.into_iter().find(|known| *known == method).unwrap_or("other");
        self.measured(Sample::Answered { method, status, after });
        if matches!(status, Some(429 | 503)) {
            self.limiter.overloaded();
        }
    }

    fn body_sent(&self, bytes: u64) {
        self.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
        self.limiter.sent(bytes);
        self.measured(Sample::Sent { bytes });
    }

    fn retry(&self, what: &str, why: &str, after: Duration) {
        self.limiter.overloaded();
        let (what, why) = (what.to_owned(), why.to_owned());
        self.listeners.emit(&Event::Retried { mirror: self.mirror, what, why, after });
    }

    fn warning(&self, text: &str) {
        self.listeners.note(text);
    }
}
