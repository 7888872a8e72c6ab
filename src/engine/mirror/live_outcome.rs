//! The outcome of a mirror whose task is ended from outside, because the bundle cannot be read.

use std::sync::{Arc, OnceLock};

use super::counts::Counts;
use crate::clock::Instant;
use crate::report::Outcome;

/// What is known of a mirror while its task goes on.
#[derive(Debug)]
pub(crate) struct LiveOutcome {
    name: String,
    pub(super) started: Instant,
    pub(super) counts: OnceLock<Arc<Counts>>,
    /// The outcome of the task, if it ended by itself.
    pub(super) ended: OnceLock<Outcome>,
}

impl LiveOutcome {
    pub(crate) fn new(name: String) -> Self {
        Self { name, started: Instant::now(), counts: OnceLock::new(), ended: OnceLock::new() }
    }

    /// Why the run waits for the mirror, if it does.
    pub(crate) fn waits_for(&self) -> Option<String> {
        self.counts.get()?.waits_for()
    }

    /// The outcome of the mirror up to now, added to that of an earlier try.
    pub(crate) fn outcome_after(&self, earlier: Option<Outcome>) -> Outcome {
        let outcome = self.outcome();
        match earlier {
            Some(earlier) => outcome.after(earlier),
            None => outcome,
        }
    }

    fn outcome(&self) -> Outcome {
        if let Some(ended) = self.ended.get() {
            return ended.clone();
        }
        let mut outcome = Outcome::new(self.name.clone());
        self.counts.get().inspect(|counts| counts.write(&mut outcome));
        outcome.elapsed_seconds = self.started.elapsed().as_secs_f64();
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_second_try_has_sent_until_now_comes_on_top_of_the_first() {
        let sent = |bytes_sent| Outcome { bytes_sent, ..Outcome::new("m".into()) };
        let live = LiveOutcome::new("m".into());
        live.ended.set(sent(5)).unwrap();
        assert_eq!(live.outcome_after(None).bytes_sent, 5);
        assert_eq!(live.outcome_after(Some(sent(3))).bytes_sent, 8);
    }
}
