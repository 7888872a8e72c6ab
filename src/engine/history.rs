//! What a push asks the state and leaves there: the lock of each mirror, and the history of runs.

use std::sync::Arc;

use crate::exit::Exit;
use crate::report::outcome::OutcomeState;
use crate::report::{Class, Failure, Listeners, Outcome};
use crate::state::{LockError, MirrorEnd, MirrorResult, RecordedFailure, Retention, RunId, RunLock, State};

/// Who keeps other runs from the mirrors of this one.
#[derive(Debug, Default)]
pub(crate) enum Locks {
    /// The run locks all of its mirrors when it begins, and does not begin when another holds one of them.
    #[default]
    Take,
    /// The caller of the run has locked what can be locked.
    Held,
}

impl Locks {
    /// Takes the locks, if that is the run's to do. Where the folder of the state cannot be used, the run goes on without a lock: two at once
    /// waste time, no more.
    ///
    /// # Errors
    /// Another run is at one of the mirrors.
    pub(super) fn taken(
        self,
        state: &State,
        mirrors: &[String],
        listeners: &Listeners,
    ) -> Result<Vec<RunLock>, Failure> {
        match self {
            Self::Held => Ok(Vec::new()),
            Self::Take => match state.lock(mirrors) {
                Ok(lock) => Ok(Vec::from_iter(lock)),
                Err(error @ LockError::Held { .. }) => Err(Failure::new(Class::Locked, error.to_string())),
                Err(error) => {
                    listeners.note(error.to_string());
                    Ok(Vec::new())
                }
            },
        }
    }
}

/// A run that has begun. Its mirrors stay locked until this is dropped.
#[derive(Debug)]
pub(super) struct History {
    state: Arc<State>,
    run: Option<RunId>,
    _locks: Vec<RunLock>,
}

impl History {
    /// Notes that the run begins, or begins anew with these bundles where it has a number already.
    pub(super) fn begin(
        state: &Arc<State>,
        bundles: &str,
        mirrors: &[String],
        retention: Retention,
        number: Option<RunId>,
        locks: Vec<RunLock>,
    ) -> Self {
        let run = number.inspect(|run| state.begin_again(*run, bundles));
        let run = run.or_else(|| state.begin_run(bundles, mirrors, retention));
        Self { state: Arc::clone(state), run, _locks: locks }
    }

    /// Its number, if it is remembered.
    pub(super) const fn run(&self) -> Option<RunId> {
        self.run
    }

    /// For each of these mirrors, whether the history remembers no push to it.
    pub(super) fn are_new(&self, mirrors: &[String]) -> Vec<bool> {
        let filled = self.state.filled(mirrors);
        let is_kept = self.state.is_kept();
        mirrors.iter().map(|mirror| is_kept && !filled.contains(mirror)).collect()
    }

    /// Notes how the run ended, and why if it failed as a whole.
    pub(super) fn end(self, ended: Result<Exit, &Failure>, outcomes: &[Outcome]) {
        if let Some(run) = self.run {
            let mirrors = outcomes.iter().map(|outcome| (outcome.name.clone(), result(outcome)));
            let (exit, why) =
                ended.map_or_else(|failure| (failure.exit, Some(why(failure))), |exit| (exit, None));
            self.state.end_run(run, exit, why, mirrors.collect());
        }
    }
}

/// What the history remembers of a mirror.
pub(crate) fn result(outcome: &Outcome) -> MirrorResult {
    // What failed says more than that the rest was left for later.
    let failed = outcome.failures().find(|failure| failure.class != Class::Deferred);
    let whole = outcome.error.as_ref().filter(|failure| failure.class != Class::Deferred);
    let end = match (outcome.state, whole) {
        (OutcomeState::Complete, _) => MirrorEnd::Complete,
        (OutcomeState::Deferred, _) => MirrorEnd::Deferred,
        (OutcomeState::Incomplete, None) => MirrorEnd::Incomplete,
        (OutcomeState::Incomplete, Some(_)) => MirrorEnd::Failed,
        (OutcomeState::NotBegun, _) => MirrorEnd::NotBegun,
    };
    MirrorResult {
        end: Some(end),
        why: failed.or_else(|| outcome.failures().next()).map(why),
        images: outcome.images as u64,
        images_complete: outcome.images_complete as u64,
        images_incomplete: outcome.images_failed.len() as u64,
        blobs_sent: outcome.blobs_sent,
        bytes_sent: outcome.bytes_sent,
        seconds: outcome.elapsed_seconds,
    }
}

/// What the history remembers of a failure.
pub(crate) fn why(failure: &Failure) -> RecordedFailure {
    RecordedFailure { class: failure.class.to_string(), message: failure.message.clone() }
}
