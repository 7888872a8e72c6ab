//! Locks the mirrors of a fleet, each for itself, and sets those aside that another run is pushing to.

use crate::report::document::{DeferralCause, DeferredSite};
use crate::report::{Class, Failure, Outcome};
use crate::state::{LockError, RunLock, State};

/// What becomes of a mirror that another run is pushing to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfBusy {
    /// It is left to that run.
    Skip,
    /// Waits until that run has ended.
    Wait,
    /// It has failed.
    Fail,
}

/// Mirrors that no other run is at, and what became of the others.
#[derive(Default)]
pub(crate) struct LockedMirrors {
    /// Those that can be fed, by their places.
    pub free: Vec<usize>,
    /// Their locks: other runs keep away as long as these live.
    pub locks: Vec<RunLock>,
    /// Those that are left to other runs.
    pub deferred: Vec<DeferredSite>,
    /// Those that another run did not free.
    pub failed: Vec<Outcome>,
    /// Why some have no lock: the reason is the same for all.
    pub unlocked: Option<Failure>,
}

/// Another run is at a mirror.
pub(crate) fn already_locked(error: &LockError) -> Failure {
    Failure::new(Class::Locked, error.to_string())
        .hint("wait for that run to end, and run this one again; `sync --if-running wait` waits by itself")
}

/// Nothing can be locked. A run may go on without locks, but with a warning.
pub(crate) fn no_lock(error: &LockError) -> Failure {
    Failure::new(Class::Io, format!("no lock: {error}, so another run may be at the same time at the same place"))
        .hint("let this user write that folder, or name another one: --state-dir DIR, or `state_dir` in the sites file")
}

/// Locks mirrors, given by their names and by where they are. `is_over` ends the wait for other runs; `waits` hears of each.
pub(crate) async fn lock_each(
    mirrors: &[(String, String)],
    state: &State,
    if_busy: IfBusy,
    is_over: impl Future<Output = ()>,
    waits: impl Fn(&str, &LockError),
) -> LockedMirrors {
    let places: Vec<String> = mirrors.iter().map(|(_, place)| place.clone()).collect();
    let locks = match if_busy {
        IfBusy::Wait => {
            state.wait_for_locks(&places, is_over, |at, error| waits(&mirrors[at].0, error)).await
        }
        IfBusy::Skip | IfBusy::Fail => state.lock_each(&places),
    };
    let mut locked = LockedMirrors::default();
    for (at, ((name, _), lock)) in mirrors.iter().zip(locks).enumerate() {
        match (lock, if_busy) {
            (Ok(lock), _) => locked.locks.extend(lock),
            (Err(error @ LockError::Held { .. }), IfBusy::Skip) => {
                let (name, message) = (name.clone(), error.to_string());
                let why = DeferralCause::Running;
                locked.deferred.push(DeferredSite { name, why, message, closing: None });
                continue;
            }
            (Err(error @ LockError::Held { .. }), _) => {
                let failure = already_locked(&error);
                // The lock was still held at the deadline.
                let class = if if_busy == IfBusy::Wait { Class::Deadline } else { failure.class };
                let failure = Failure { class, exit: class.exit(), ..failure };
                locked.failed.push(Outcome::not_begun(name.clone(), failure));
                continue;
            }
            (Err(error), _) => locked.unlocked = locked.unlocked.or_else(|| Some(no_lock(&error))),
        }
        locked.free.push(at);
    }
    locked
}
