//! Bandwidth limits in bytes per second: of one mirror, of a group of mirrors, of a run. They hold for uploads and
//! downloads alike.
//!
//! A limit schedules slices: each slice of a body gets the first free moment, so bodies take turns. In any ten seconds no more
//! passes than the limit and a tenth of a second of it. The stall timeout does not count the time that a body waits here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::Sleep;

use crate::clock::Instant;
use crate::locks::Mutex;
use crate::units::Rate;

/// The burst after a limit was idle, or when bodies come late for their slots.
const BURST: Duration = Duration::from_millis(100);
/// A slice takes this long, if its size allows it, so that none of many bodies is silent for long.
const SLICE: Duration = Duration::from_millis(50);
/// The size of a slice.
const SLICE_BYTES: std::ops::RangeInclusive<u64> = 1 << 10..=64 << 10;

/// When slices may pass. Pure.
#[derive(Debug)]
struct LeakyBucket {
    rate: Rate,
    free_at: Option<Instant>,
}

impl LeakyBucket {
    /// Reserves the next free moment for `bytes`.
    fn reserve(&mut self, bytes: u64, now: Instant) -> Instant {
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let at = self.free_at.map_or(earliest, |free| free.max(earliest));
        self.free_at = Some(at + self.rate.time_for(bytes));
        at
    }
}

/// A limit on bytes a second, which all its holders share.
#[derive(Debug)]
pub struct BandwidthLimiter {
    bucket: Mutex<LeakyBucket>,
    slice_bytes: u64,
}

impl BandwidthLimiter {
    pub(crate) fn new(rate: Rate) -> Self {
        let slice_bytes = rate.bytes_in(SLICE).clamp(*SLICE_BYTES.start(), *SLICE_BYTES.end());
        Self { bucket: Mutex::new(LeakyBucket { rate, free_at: None }), slice_bytes }
    }

    /// Bytes a second.
    pub(crate) fn rate(&self) -> Rate {
        self.bucket.lock().rate
    }

    fn reserve(&self, bytes: u64) -> Instant {
        self.bucket.lock().reserve(bytes, Instant::now())
    }
}

/// One body on its way through all limits that are for it, one after the other.
#[derive(Debug, Clone, Default)]
pub(super) struct BandwidthLimits(Arc<[Arc<BandwidthLimiter>]>);

/// How far the present slice has come.
#[derive(Default)]
pub(super) struct Passage {
    limits: BandwidthLimits,
    passed: usize,
    wait: Option<Pin<Box<Sleep>>>,
}

impl BandwidthLimits {
    pub(super) fn new(limiters: &[Arc<BandwidthLimiter>]) -> Self {
        Self(limiters.into())
    }

    pub(super) fn passage(&self) -> Passage {
        Passage { limits: self.clone(), passed: 0, wait: None }
    }
}

impl Passage {
    /// How many of these bytes pass at once.
    pub(super) fn slice(&self, bytes: usize) -> usize {
        let slices = self.limits.0.iter().map(|limiter| limiter.slice_bytes);
        slices.fold(bytes, |bytes, slice| bytes.min(usize::try_from(slice).unwrap_or(usize::MAX)))
    }

    /// Ready once `bytes` may pass. Callers poll with the same number until then.
    pub(super) fn poll(&mut self, bytes: usize, context: &mut Context<'_>) -> Poll<()> {
        while let Some(limiter) = self.limits.0.get(self.passed) {
            let wait = self
                .wait
                .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(limiter.reserve(bytes as u64))));
            if wait.deadline() > Instant::now() {
                ready!(wait.as_mut().poll(context));
            }
            self.wait = None;
            self.passed += 1;
        }
        self.passed = 0;
        Poll::Ready(())
    }

    /// Waits until this number of bytes may pass, slice by slice. Returns the time that it waited.
    pub(super) async fn pass(&mut self, mut bytes: usize) -> Duration {
        let began = Instant::now();
        while bytes > 0 && !self.limits.0.is_empty() {
            let slice = self.slice(bytes);
            std::future::poll_fn(|context| self.poll(slice, context)).await;
            bytes -= slice;
        }
        began.elapsed()
    }
}

#[cfg(test)]
mod tests;
