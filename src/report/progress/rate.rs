//! Bytes a second over the last seconds. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use crate::clock::Instant;

/// What the rate is taken over.
const WINDOW: Duration = Duration::from_secs(15);
/// How far samples lie apart.
const STEP: Duration = Duration::from_millis(500);
/// What is handed to the network in this time after it was idle fills buffers, and says nothing of the link.
const FILLING: Duration = Duration::from_secs(1);
/// After this time without a byte the buffers are empty.
const IDLE: Duration = Duration::from_secs(5);

/// A total that grows, at one moment.
#[derive(Debug, Clone, Copy)]
struct RateSample {
    at: Instant,
    total: u64,
}

/// The rate at which bytes are taken.
#[derive(Debug, Default)]
pub(super) struct RateWindow {
    total: u64,
    samples: VecDeque<RateSample>,
    last: Option<Instant>,
    /// When sending began, after it was idle.
    began: Option<RateSample>,
    /// When buffers were full then.
    filled: Option<RateSample>,
}

impl RateWindow {
    /// Takes in that bytes were taken.
    pub(super) fn add(&mut self, bytes: u64, now: Instant) {
        if self.last.is_none_or(|last| now.duration_since(last) > IDLE) {
            self.began = Some(RateSample { at: now, total: self.total });
            self.filled = None;
            self.samples.clear();
        }
        self.last = Some(now);
        self.total += bytes;
        let sample = RateSample { at: now, total: self.total };
        if self.filled.is_none() && self.began.is_some_and(|it| now.duration_since(it.at) >= FILLING) {
            self.filled = Some(sample);
            self.samples.push_back(sample);
        } else if self.samples.back().is_some_and(|last| now.duration_since(last.at) >= STEP) {
            self.samples.push_back(sample);
        }
        while self.samples.get(1).is_some_and(|second| now.duration_since(second.at) >= WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Whether bytes were taken in the last second.
    pub(super) fn moves(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.duration_since(last) < Duration::from_secs(1))
    }

    /// Bytes a second; none before it can be told.
    pub(super) fn per_second(&self, now: Instant) -> Option<f64> {
        let oldest = self.samples.iter().rev().find(|it| now.duration_since(it.at) >= WINDOW);
        let from = oldest.or(self.samples.front())?;
        let span = now.duration_since(from.at);
        (span >= 2 * STEP).then(|| (self.total - from.total) as f64 / span.as_secs_f64())
    }

    /// Of what was taken, about how much waits in buffers on this side.
    pub(super) fn buffered(&self, now: Instant) -> f64 {
        let (Some(began), Some(filled), Some(rate)) = (self.began, self.filled, self.per_second(now)) else {
            return 0.0;
        };
        let left = rate * filled.at.duration_since(began.at).as_secs_f64();
        ((filled.total - began.total) as f64 - left).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Six MiB a second in pieces, of which the first four fill buffers at once.
    fn sent(seconds: u64) -> (RateWindow, Instant) {
        let (mut rate, began) = (RateWindow::default(), Instant::now());
        rate.add(4 * MIB, began);
        for step in 1..=seconds * 10 {
            rate.add(6 * MIB / 10, began + Duration::from_millis(100 * step));
        }
        (rate, began + Duration::from_secs(seconds))
    }

    #[test]
    fn what_fills_buffers_is_not_taken_for_the_rate_of_the_link() {
        let (rate, now) = sent(4);
        let per_second = rate.per_second(now).unwrap() / MIB as f64;
        assert!((5.9..6.1).contains(&per_second), "{per_second}");
        let buffered = rate.buffered(now) / MIB as f64;
        assert!((3.8..4.2).contains(&buffered), "{buffered}");
    }

    #[test]
    fn a_rate_is_told_late_and_forgets() {
        let (rate, now) = sent(1);
        assert_eq!(rate.per_second(now), None);
        let (mut rate, now) = sent(30);
        let later = now + Duration::from_secs(5);
        let per_second = rate.per_second(later).unwrap() / MIB as f64;
        assert!((3.5..5.0).contains(&per_second), "a pause counts: {per_second}");
        assert_eq!(rate.per_second(now + Duration::from_secs(40)), Some(0.0));
        rate.add(1, now + Duration::from_secs(60));
        assert_eq!(rate.per_second(now + Duration::from_secs(61)), None, "it begins anew");
    }
}
