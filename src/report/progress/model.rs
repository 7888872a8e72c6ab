//! How far a run has come. Pure: events and the time go in.

use std::time::Duration;

use super::mirror::MirrorModel;
use super::step::StepModel;
use crate::clock::Instant;
use crate::report::event::Event;

/// What is known of a run.
#[derive(Debug)]
pub(super) struct RunModel {
    pub(super) began: Instant,
    /// The bundle that is being read; none before the first, and once all have been.
    pub(super) reading: Option<BundleReading>,
    pub(super) mirrors: Vec<MirrorModel>,
    /// What goes on that no mirror sees.
    pub(super) step: Option<StepModel>,
    is_planned: bool,
    /// The run ends before it has begun with its mirrors.
    pub(super) is_abandoned: bool,
}

/// A bundle that is being read.
#[derive(Debug)]
pub(super) struct BundleReading {
    pub(super) bytes: u64,
    /// What it decodes to, where that is known.
    pub(super) of: Option<u64>,
}

impl RunModel {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            began: now,
            reading: None,
            mirrors: Vec::new(),
            step: None,
            is_planned: false,
            is_abandoned: false,
        }
    }

    /// Takes in what happened.
    pub(super) fn hear(&mut self, event: &Event, now: Instant) {
        if let Some(mirror) = event.mirror() {
            if let Some(mirror) = self.mirrors.get_mut(mirror) {
                hear(mirror, event, now);
            }
            return;
        }
        match event {
            Event::Opened { .. } => {
                (self.reading, self.step) = (Some(BundleReading { bytes: 0, of: None }), None);
            }
            // Once all is known, mirrors read what they need.
            Event::BundleRead { bytes, of } => {
                if let Some(reading) = &mut self.reading {
                    *reading = BundleReading { bytes: reading.bytes.max(*bytes), of: *of };
                }
            }
            Event::Catalogued { .. } => self.reading = None,
            Event::Started { mirrors, .. } => {
                self.mirrors = mirrors.iter().cloned().map(MirrorModel::new).collect();
                (self.is_planned, self.is_abandoned) = (false, false);
            }
            Event::Planned { images, bytes } => {
                (self.reading, self.is_planned) = (None, true);
                for (mirror, (images, bytes)) in self.mirrors.iter_mut().zip(images.iter().zip(bytes)) {
                    mirror.planned(*images, *bytes);
                }
            }
            Event::LayerSized { estimated, bytes } if self.is_planned => {
                self.mirrors.iter_mut().for_each(|mirror| mirror.sized(*estimated, *bytes));
            }
            Event::Advanced { step, bytes, of } => {
                self.step = Some(StepModel::after(self.step.take(), *step, *bytes, *of, now));
            }
            Event::Abandoned => (self.reading, self.is_abandoned) = (None, true),
            _ => {}
        }
    }

    /// Bytes that are there or on the wire, about.
    pub(super) fn shown(&self, now: Instant) -> u64 {
        self.mirrors.iter().map(|mirror| mirror.shown(now)).sum()
    }

    /// Bytes that mirrors have confirmed.
    pub(super) fn acknowledged(&self) -> u64 {
        self.mirrors.iter().map(|mirror| mirror.acknowledged).sum()
    }

    /// Bytes that are to be sent in all, once that can be told.
    pub(super) fn expected(&self) -> Option<u64> {
        self.mirrors.iter().map(MirrorModel::expected).sum()
    }

    /// How much is done, between 0 and 1. All of it only when all mirrors are done.
    pub(super) fn share(&self, now: Instant) -> Option<f64> {
        if self.mirrors.is_empty() {
            return None;
        }
        if self.mirrors.iter().all(MirrorModel::is_complete) {
            return Some(1.0);
        }
        let share = match self.expected()? {
            0 => {
                let shares: Option<Vec<f64>> = self.mirrors.iter().map(|mirror| mirror.share(now)).collect();
                shares?.iter().sum::<f64>() / self.mirrors.len() as f64
            }
            expected => self.shown(now) as f64 / expected as f64,
        };
        Some(share.min(0.99))
    }

    /// Bytes a second now.
    pub(super) fn per_second(&self, now: Instant) -> Option<f64> {
        let rates = self.mirrors.iter().filter_map(|mirror| mirror.per_second(now));
        rates.reduce(|all, rate| all + rate)
    }

    /// The time until all is sent, once that can be told: until the last mirror has everything.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let left: Option<Vec<Duration>> = self.mirrors.iter().map(|mirror| mirror.left(now)).collect();
        left?.into_iter().max()
    }
}

fn hear(mirror: &mut MirrorModel, event: &Event, now: Instant) {
    match event {
        Event::Begun { .. } => mirror.begun(),
        Event::Connected { .. } => mirror.connected(),
        Event::Wanted { bytes, .. } => mirror.wanted(*bytes),
        Event::Acknowledged { bytes, .. } => mirror.acknowledged(*bytes),
        Event::NotSent { bytes, .. } => mirror.not_sent(*bytes),
        Event::ImageWhole { .. } => mirror.whole += 1,
        Event::ImageFailed { .. } => mirror.failed += 1,
        Event::Retried { cause, after, .. } => mirror.retried(cause, *after, now),
        Event::Publishes { .. } => mirror.publishing(),
        Event::Finished { complete, failed, failure, .. } => {
            mirror.finished(*complete, *failed, failure.as_ref());
        }
        Event::Measured { sample, .. } => mirror.measured(*sample, now),
        _ => {}
    }
}
