//! The history of runs, and that no two runs are at one mirror: what a push asks the state and leaves there.

use std::sync::Arc;

use crate::exit::Exit;
use crate::report::{Class, Failure, Listeners, Outcome};
use crate::state::{LockError, RunCounts, RunId, RunLock, State};

/// A run that has begun. Its mirrors stay locked until this is dropped.
#[derive(Debug)]
pub(super) struct History {
    state: Arc<State>,
    run: Option<RunId>,
    _lock: Option<RunLock>,
}

impl History {
    /// Locks the mirrors and notes that the run begins. Where the folder of the state cannot be used, the run goes on
    /// without a lock: two at once waste time, no more.
    ///
    /// # Errors
    /// Another run is at one of the mirrors.
    pub(super) fn begin(
        state: &Arc<State>,
        bundles: &str,
        mirrors: &[String],
        listeners: &Listeners,
    ) -> Result<Self, Failure> {
        let lock = match state.lock(mirrors) {
            Ok(lock) => lock,
            Err(error @ LockError::Held { .. }) => {
                return Err(Failure::new(Class::Locked, error.to_string()));
            }
            Err(error) => {
                listeners.note(error.to_string());
                None
            }
        };
        let run = state.begin_run(bundles, mirrors);
        Ok(Self { state: Arc::clone(state), run, _lock: lock })
    }

    /// Whether nothing was ever brought to this mirror, as far as is remembered.
    pub(super) fn is_new(&self, mirror: &str) -> bool {
        self.state.is_kept() && !self.state.has_filled(mirror)
    }

    /// Notes how the run ended.
    pub(super) fn end(self, exit: Exit, outcomes: &[Outcome], listeners: &Listeners) {
        if let Some(run) = self.run {
            let counts = |outcome: &Outcome| RunCounts {
                images_complete: outcome.images_complete as u64,
                images_incomplete: outcome.images_failed.len() as u64,
                blobs_sent: outcome.blobs_sent,
                bytes_sent: outcome.bytes_sent,
            };
            let mirrors = outcomes.iter().map(|outcome| (outcome.name.clone(), counts(outcome)));
            self.state.end_run(run, exit, mirrors.collect());
        }
        self.state.take_notes().iter().for_each(|note| listeners.note(note));
    }
}
