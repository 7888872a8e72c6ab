//! Measurements, each of one thing: latencies, small blobs, uploads, downloads, commits.

pub(super) mod commit;
pub(super) mod download;
pub(super) mod latency;
pub(super) mod send;
pub(super) mod setting;
pub(super) mod small;
pub(super) mod upload;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::cleanup::Traces;
use super::stop::{Ended, LinkDeadline};
use crate::clock::Instant;
use crate::locks::Mutex;
use crate::oci::Repository;
use crate::registry::{FailureKind, Observer, Registry, RegistryError, UploadSession};
use crate::report::document::HttpVersion;
use crate::report::event::{LinkStep, WorkStep};
use crate::report::{Event, Listeners};

/// A mirror that asks for fewer requests is left alone for so long, where it does not say for how long.
const PAUSE: Duration = Duration::from_millis(500);
/// No mirror is left alone for longer: the measurement goes on without that request.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// What the buffers of both sides of a connection hold of a body, as Linux sizes them.
const BUFFERED_BYTES: f64 = 4e6;
const LONGEST_DRAIN: Duration = Duration::from_secs(10);
/// How often one request is sent at most that is answered with 429.
const MOST_TRIES: u32 = 12;
/// How often one is whose connection breaks.
const MOST_RESETS: u32 = 2;

/// One link that is measured.
pub(super) struct Link {
    pub(super) registry: Registry,
    /// The same, with bodies over HTTP/2, where the mirror offers it.
    pub(super) over_http2: Option<Registry>,
    pub(super) repository: Repository,
    pub(super) stop: LinkDeadline,
    pub(super) traces: Traces,
    pub(super) counts: Arc<LinkCounts>,
    /// The round trip, as soon as it is known.
    pub(super) rtt: Duration,
    /// How a body goes in one request that is not to stay.
    pub(super) single: SingleRequest,
    began: Instant,
    /// Bytes that may still be sent or read.
    left: AtomicU64,
}

/// How a body goes in one request that is not to stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SingleRequest {
    /// As a push sends it, with a digest that its bytes do not have.
    Put,
    /// By PATCH, where a session that a digest was refused for could not be closed any more. The same bytes go in the same way.
    Patch,
}

/// What went over the link. It hears of every request, and `listeners` hear how far the measurement has come.
#[derive(Debug)]
pub(super) struct LinkCounts {
    listeners: Listeners,
    step: Mutex<LinkStep>,
    pub(super) requests: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) received: AtomicU64,
    /// Answers that asked for fewer requests.
    pub(super) rate_limited: AtomicU64,
    pub(super) warnings: Mutex<Vec<String>>,
}

impl LinkCounts {
    pub(super) fn new(listeners: Listeners) -> Self {
        Self {
            listeners,
            step: Mutex::new(LinkStep::Connection),
            requests: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            rate_limited: AtomicU64::new(0),
            warnings: Mutex::new(Vec::new()),
        }
    }

    /// The next step begins.
    pub(super) fn enter(&self, step: LinkStep) {
        *self.step.lock() = step;
        self.advanced();
    }

    /// Bytes of a download have arrived.
    pub(super) fn body_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
        self.advanced();
    }

    fn advanced(&self) {
        let step = WorkStep::Measure(*self.step.lock());
        let bytes = self.sent.load(Ordering::Relaxed) + self.received.load(Ordering::Relaxed);
        // A measurement seldom takes all bytes that it may, so they are not its end.
        self.listeners.emit(&Event::Advanced { step, bytes, of: None });
    }
}

impl Observer for LinkCounts {
    fn request(&self, _method: &str, status: Option<u16>, _after: Duration) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if status == Some(429) {
            self.rate_limited.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn body_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
        self.advanced();
    }

    fn warning(&self, text: &str) {
        self.warnings.lock().push(text.to_owned());
    }
}

impl Link {
    pub(super) fn new(
        registry: Registry,
        repository: Repository,
        stop: LinkDeadline,
        counts: Arc<LinkCounts>,
        bytes: u64,
    ) -> Self {
        let (rtt, left) = (registry.round_trip(), AtomicU64::new(bytes));
        let (traces, began) = (Traces::default(), Instant::now());
        let single = SingleRequest::Put;
        Self { registry, over_http2: None, repository, stop, traces, counts, rtt, single, began, left }
    }

    /// The client whose bodies go over a protocol.
    pub(super) fn client(&self, protocol: HttpVersion) -> &Registry {
        match protocol {
            HttpVersion::Http1 => &self.registry,
            HttpVersion::Http2 => self.over_http2.as_ref().unwrap_or(&self.registry),
        }
    }

    /// Takes so many of the bytes that may go over the link.
    pub(super) fn take(&self, bytes: u64) -> Result<(), Ended> {
        let taken =
            self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
        taken.map(drop).map_err(|_| Ended::UsedUp)
    }

    /// Lets no more than so many bytes go over it from now on.
    pub(super) fn cut(&self, bytes: u64) {
        self.left.fetch_min(bytes, Ordering::Relaxed);
    }

    /// Lets more bytes go over it.
    pub(super) fn allow(&self, bytes: u64) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that may still go over it.
    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// How often the mirror asked for fewer requests.
    pub(super) fn rate_limited(&self) -> u64 {
        self.counts.rate_limited.load(Ordering::Relaxed)
    }

    /// Asks, and asks again where the mirror wants fewer requests.
    pub(super) async fn ask<T, F>(&self, stop: &LinkDeadline, ask: impl Fn() -> F) -> Result<T, Ended>
    where
        F: Future<Output = Result<T, RegistryError>>,
    {
        let mut tries = 0;
        loop {
            stop.check()?;
            // What is asked is answered: a session that was opened unheard could not be closed.
            match ask().await {
                Err(error) if error.wants_fewer_requests() && tries < MOST_TRIES => {
                    tries += 1;
                    self.pause(stop, &error).await?;
                }
                // Mostly a kept connection that the other side had closed.
                Err(error) if is_reset(&error) && tries < MOST_RESETS => tries += 1,
                asked => return Ok(asked?),
            }
        }
    }

    /// Leaves the mirror alone, as it asked.
    pub(super) async fn pause(&self, stop: &LinkDeadline, error: &RegistryError) -> Result<(), Ended> {
        let pause = error.retry_after().unwrap_or(PAUSE).min(LONGEST_PAUSE);
        // Not everybody at once when the pause is over.
        stop.or(tokio::time::sleep(pause.mul_f64(0.75 + fastrand::f64() / 2.0))).await
    }

    /// Opens a session, to be closed.
    pub(super) async fn open(&self, stop: &LinkDeadline) -> Result<UploadSession, Ended> {
        self.ask(stop, || Box::pin(self.registry.start_upload(&self.repository))).await
    }

    /// Waits until what lies in buffers of a body that was cut off has gone over the link. A registry that is still writing it when
    /// the session is closed makes the session anew (docker-registry writes the state of its hash last).
    pub(super) async fn drain(&self) {
        let sent = self.counts.sent.load(Ordering::Relaxed) as f64;
        let rate = sent / self.began.elapsed().as_secs_f64().max(0.1);
        let drained = Duration::from_secs_f64((BUFFERED_BYTES / rate.max(1.0)).min(60.0));
        tokio::time::sleep(drained.clamp(PAUSE, LONGEST_DRAIN)).await;
    }

    /// Closes the sessions that have served; whether all are gone.
    pub(super) async fn close_served(&self) -> bool {
        self.traces.close_served(&self.registry, &self.repository).await
    }

    /// Closes a session that is not needed, or broke; whether it is gone.
    pub(super) async fn close(&self, session: UploadSession, bytes: u64) -> bool {
        self.traces.close(&self.registry, &self.repository, session, bytes).await
    }
}

/// Whether the connection broke before there was an answer.
pub(super) fn is_reset(error: &RegistryError) -> bool {
    error.kind() == FailureKind::Broken
}
