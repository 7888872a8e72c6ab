//! How far a run has come with one mirror. Pure.

use std::time::Duration;

use super::rate::RateWindow;
use crate::clock::Instant;
use crate::report::event::Sample;
use crate::report::{Class, Failure};

/// What the HTTP library holds of a body that is on its way, at the least.
const HELD_BYTES: u64 = 640 << 10;

/// What is known of one mirror.
#[derive(Debug, Default)]
pub(super) struct MirrorModel {
    pub(super) name: String,
    stage: MirrorStep,
    /// Images that it gets, once that is known.
    pub(super) images: Option<usize>,
    /// Images that are whole, and those that failed.
    pub(super) whole: usize,
    pub(super) failed: usize,
    /// Bytes of all blobs that it is to have, once that is known.
    planned: Option<u64>,
    /// Of those, the bytes of which it is known whether they must be sent.
    decided: u64,
    /// Of those, the bytes that must be.
    wanted: u64,
    /// Bytes that it has confirmed.
    pub(super) acknowledged: u64,
    /// Bytes that the network took of blobs that are there or on their way; what must be sent again does not count.
    pub(super) taken: u64,
    /// Uploads that have begun and have not ended.
    uploads: usize,
    rate: RateWindow,
    pause: Option<Pause>,
    /// It was given up before, and is tried once more.
    is_again: bool,
}

#[derive(Debug, Default)]
enum MirrorStep {
    #[default]
    NotBegun,
    Connecting,
    Connected,
    Publishing,
    Ended(EndState),
}

/// A request is tried again.
#[derive(Debug)]
struct Pause {
    until: Instant,
    cause: String,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndState {
    Complete,
    /// This many images are not complete.
    Incomplete(usize),
    Deferred,
    Interrupted,
    /// The mirror as a whole failed.
    Failed(Class),
}

/// The state of a mirror.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum MirrorState {
    NotBegun,
    Connecting,
    /// It is asked what it has.
    Probing,
    /// It gets blobs.
    Sending,
    /// All blobs are there.
    Publishing,
    /// Nothing moves until then, because of this.
    Waiting(Duration, String),
    Retrying(String),
    Ended(EndState),
}

impl MirrorModel {
    pub(super) fn new(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    /// It is connected to. What an earlier try brought is met again.
    pub(super) fn begun(&mut self) {
        let (name, images, planned) = (std::mem::take(&mut self.name), self.images, self.planned);
        let is_again = self.is_over();
        *self = Self { name, images, planned, is_again, stage: MirrorStep::Connecting, ..Self::default() };
    }

    pub(super) fn connected(&mut self) {
        (self.stage, self.pause) = (MirrorStep::Connected, None);
    }

    pub(super) fn planned(&mut self, images: usize, bytes: u64) {
        (self.images, self.planned) = (Some(images), Some(bytes));
    }

    /// A layer that was taken to have `estimated` bytes has `bytes`.
    pub(super) fn sized(&mut self, estimated: u64, bytes: u64) {
        self.planned = self.planned.map(|planned| (planned + bytes).saturating_sub(estimated));
    }

    pub(super) fn wanted(&mut self, bytes: u64) {
        self.uploads += 1;
        self.wanted += bytes;
        self.decided += bytes;
    }

    pub(super) fn acknowledged(&mut self, bytes: u64) {
        self.uploads = self.uploads.saturating_sub(1);
        self.acknowledged += bytes;
    }

    pub(super) fn not_sent(&mut self, bytes: u64) {
        self.uploads = self.uploads.saturating_sub(1);
        self.wanted = self.wanted.saturating_sub(bytes);
        self.decided = self.decided.saturating_sub(bytes);
        self.planned = self.planned.map(|planned| planned.saturating_sub(bytes));
    }

    pub(super) fn measured(&mut self, sample: Sample, now: Instant) {
        match sample {
            Sample::Sent { bytes } => {
                self.taken += bytes;
                self.rate.add(bytes, now);
            }
            Sample::Repositioned { from, to } => self.taken = (self.taken + to).saturating_sub(from),
            Sample::Skipped { bytes, .. } | Sample::Mounted { bytes } => self.decided += bytes,
            Sample::Answered { status: Some(..400), .. } => {
                self.pause.take_if(|pause| pause.until <= now);
            }
            Sample::Answered { .. } => {}
        }
    }

    pub(super) fn retried(&mut self, cause: &str, after: Duration, now: Instant) {
        let until = now + after;
        if self.pause.as_ref().is_none_or(|pause| pause.until < until) {
            self.pause = Some(Pause { until, cause: cause.to_owned() });
        }
    }

    pub(super) fn publishing(&mut self) {
        self.stage = MirrorStep::Publishing;
    }

    pub(super) fn finished(&mut self, complete: usize, failed: usize, failure: Option<&Failure>) {
        (self.whole, self.failed) = (complete, failed);
        self.stage = MirrorStep::Ended(match failure.map(|failure| failure.class) {
            None if failed == 0 => EndState::Complete,
            None => EndState::Incomplete(failed),
            Some(Class::Deferred) => EndState::Deferred,
            Some(Class::Interrupted) => EndState::Interrupted,
            Some(class) => EndState::Failed(class),
        });
    }

    pub(super) fn state(&self, now: Instant) -> MirrorState {
        let pause = self.pause.as_ref().filter(|_| !self.rate.moves(now));
        match (&self.stage, pause) {
            (MirrorStep::NotBegun, _) => MirrorState::NotBegun,
            (MirrorStep::Ended(end), _) => MirrorState::Ended(*end),
            (_, Some(Pause { until, cause })) if *until > now => {
                MirrorState::Waiting(until.duration_since(now), cause.clone())
            }
            (_, Some(Pause { cause, .. })) => MirrorState::Retrying(cause.clone()),
            (MirrorStep::Connecting, None) => MirrorState::Connecting,
            (MirrorStep::Connected, None) if self.uploads > 0 => MirrorState::Sending,
            (MirrorStep::Connected, None)
                if self.images.is_some_and(|images| self.whole + self.failed >= images) =>
            {
                MirrorState::Publishing
            }
            (MirrorStep::Connected, None) => MirrorState::Probing,
            (MirrorStep::Publishing, None) => MirrorState::Publishing,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, MirrorStep::Ended(_))
    }

    pub(super) fn is_complete(&self) -> bool {
        matches!(self.stage, MirrorStep::Ended(EndState::Complete))
    }

    /// Bytes that are to be sent in all, once that can be told: what is known to lack, and of the rest as large a part as of
    /// what is known.
    pub(super) fn expected(&self) -> Option<u64> {
        let undecided = self.planned?.saturating_sub(self.decided) as f64;
        // Nothing is expected of one that was given up before it has answered.
        if self.is_over() || self.is_again && matches!(self.stage, MirrorStep::Connecting) {
            return Some(self.wanted);
        }
        let lacking = if self.decided == 0 { 1.0 } else { self.wanted as f64 / self.decided as f64 };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of a u64")]
        let rest = (undecided * lacking) as u64;
        Some(self.wanted + rest)
    }

    /// How much is done, between 0 and 1, once that can be told. All of it only when the last answer is there.
    pub(super) fn share(&self, now: Instant) -> Option<f64> {
        if self.is_complete() {
            return Some(1.0);
        }
        let share = match self.expected()? {
            // Nothing to send: images are what counts.
            0 => self.whole as f64 / self.images?.max(1) as f64,
            expected => self.shown(now) as f64 / expected as f64,
        };
        Some(share.min(0.99))
    }

    /// Bytes that are there or on the wire, about: without those that wait on this side.
    pub(super) fn shown(&self, now: Instant) -> u64 {
        let in_flight = self.taken.saturating_sub(self.acknowledged);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of bytes")]
        let buffered = (self.rate.buffered(now) as u64).max(HELD_BYTES);
        self.taken - in_flight.min(buffered)
    }

    /// Bytes a second now.
    pub(super) fn per_second(&self, now: Instant) -> Option<f64> {
        if self.is_over() { None } else { self.rate.per_second(now) }
    }

    /// The time until all is sent, once that can be told.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        if self.is_over() || self.expected() == Some(0) {
            return Some(Duration::ZERO);
        }
        let unsent = self.expected()?.saturating_sub(self.shown(now)) as f64;
        let rate = self.rate.per_second(now).filter(|rate| *rate >= 1.0)?;
        Duration::try_from_secs_f64(unsent / rate).ok()
    }
}
