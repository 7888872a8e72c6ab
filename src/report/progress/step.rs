//! A step of the work that no mirror sees: how far it has come. Pure.

use std::time::Duration;

use super::rate::RateWindow;
use super::words::{of_bytes, per_second, percent, time};
use crate::clock::Instant;
use crate::report::event::WorkStep;
use crate::units::ByteCount;

/// A step that goes on.
#[derive(Debug)]
pub(super) struct StepModel {
    pub(super) step: WorkStep,
    pub(super) bytes: u64,
    /// All of them, where that is known.
    pub(super) of: Option<u64>,
    rate: RateWindow,
}

impl StepModel {
    /// What follows on `before` at this moment.
    pub(super) fn after(
        before: Option<Self>,
        step: WorkStep,
        bytes: u64,
        of: Option<u64>,
        now: Instant,
    ) -> Self {
        // Its figures may have changed, and it is the same step.
        let same = before.filter(|before| before.step.name() == step.name());
        let (mut rate, known) = same.map_or_else(Default::default, |before| (before.rate, before.bytes));
        rate.add(bytes.saturating_sub(known), now);
        Self { step, bytes, of, rate }
    }

    /// Bytes a second now.
    pub(super) fn per_second(&self, now: Instant) -> Option<f64> {
        self.rate.per_second(now).filter(|rate| *rate >= 1.0)
    }

    /// The time until it is done, once that can be told.
    pub(super) fn left(&self, now: Instant) -> Option<Duration> {
        let left = self.of?.saturating_sub(self.bytes);
        Duration::try_from_secs_f64(left as f64 / self.per_second(now)?).ok()
    }

    /// `writing the bundle  28 %  210/933 MiB  45.0 MiB/s  ETA 16 s`
    pub(super) fn line(&self, now: Instant) -> String {
        let mut words = vec![self.step.in_words()];
        match self.of.filter(|of| *of > 0) {
            Some(of) => {
                // All of it is done when the step is, which is not for this line to say.
                words.push(percent((self.bytes as f64 / of as f64).min(0.99)));
                words.push(of_bytes(self.bytes.min(of), of));
            }
            None => words.push(ByteCount(self.bytes).to_string()),
        }
        words.extend(self.per_second(now).map(per_second));
        words.extend(self.left(now).filter(|left| !left.is_zero()).map(|left| format!("ETA {}", time(left))));
        words.join("  ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_says_how_far_it_has_come_and_the_next_one_begins_anew() {
        const MIB: u64 = 1 << 20;
        let (began, mut model) = (Instant::now(), None);
        let at = |second: u64| began + Duration::from_secs(second);
        for second in 0..=5 {
            let of = Some(20 * MIB);
            model = Some(StepModel::after(model, WorkStep::Write, second * 2 * MIB, of, at(second)));
        }
        let written = model.unwrap();
        assert_eq!(
            written.line(at(5)),
            "writing the bundle  50 %  10.0/20.0 MiB  2.0 MiB/s  ETA 5 s",
            "{written:?}"
        );
        let step = WorkStep::Fetch { whole: 3, images: 14 };
        let fetched = StepModel::after(Some(written), step, MIB, None, at(6));
        assert_eq!(fetched.line(at(6)), "fetching images, 3 of 14 are whole  1.0 MiB");
    }
}
