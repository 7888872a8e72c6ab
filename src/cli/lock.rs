//! Locks of a run, taken before anything else is done, so that no two runs push to one mirror.

use super::bundle::CostArgs;
use super::output::Output;
use crate::report::{Class, Failure};
use crate::state::{LockError, State};

/// Another run is at a mirror.
pub(super) fn held(error: &LockError) -> Failure {
    Failure::new(Class::Locked, error.to_string())
        .hint("wait for that run to end, and run this one again; `sync --if-running wait` waits by itself")
}

/// Nothing can be locked. A run may go on without locks, but with a warning.
pub(super) fn unlocked(error: &LockError) -> Failure {
    Failure::new(Class::Io, format!("no lock: {error}, so another run may be at the same time at the same place"))
        .hint("let this user write that folder, or name another one: --state-dir DIR, or `state_dir` in the sites file")
}

/// Shows that even with `--quiet`, and returns it for the report.
pub(super) fn warn(failure: &Failure, output: &Output) -> String {
    let hint = failure.hint.as_ref().map(|hint| format!("; next: {hint}")).unwrap_or_default();
    let text = format!("{}{hint}", failure.message);
    output.alarm(&text);
    text
}

/// The same where it is known before any lock is tried; nothing where the user chose to take none.
pub(super) fn unlocked_from_the_start(state: &State, cost: &CostArgs) -> Option<Failure> {
    if state.keeps_locks() || cost.wants_no_state() {
        return None;
    }
    let message = "no lock: no folder of state is known, because this user has no home, so another run may be at the same time \
                   at the same place";
    let hint = "name a folder that this user may write: --state-dir DIR, or `state_dir` in the sites file";
    Some(Failure::new(Class::Io, message).hint(hint))
}
