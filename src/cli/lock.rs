//! What is said of locks that a run could not take.

use super::bundle::CostArgs;
use super::output::Output;
use crate::report::{Class, Failure};
use crate::state::State;

/// Shows a failure even with `--quiet`, and returns it for the report.
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
