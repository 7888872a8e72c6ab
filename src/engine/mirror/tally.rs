//! What became of a mirror whose task is ended from outside, because the bundle cannot be read.

use std::sync::{Arc, OnceLock};

use super::counts::Counts;
use crate::clock::Instant;
use crate::report::Outcome;

/// What is known of a mirror while its task goes on.
#[derive(Debug)]
pub(crate) struct Tally {
    name: String,
    pub(super) started: Instant,
    pub(super) counts: OnceLock<Arc<Counts>>,
    /// What the task came to, if it ended by itself.
    pub(super) ended: OnceLock<Outcome>,
}

impl Tally {
    pub(crate) fn new(name: String) -> Self {
        Self { name, started: Instant::now(), counts: OnceLock::new(), ended: OnceLock::new() }
    }

    /// What became of the mirror up to now.
    pub(crate) fn outcome(&self) -> Outcome {
        if let Some(ended) = self.ended.get() {
            return ended.clone();
        }
        let mut outcome = Outcome::new(self.name.clone());
        self.counts.get().inspect(|counts| counts.write(&mut outcome));
        outcome.elapsed_seconds = self.started.elapsed().as_secs_f64();
        outcome
    }
}
