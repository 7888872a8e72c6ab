//! Locks the sites of a run, and sets those aside that another run is pushing to.

use super::time_limit::TimeLimit;
use crate::cli::lock;
use crate::cli::output::Output;
use crate::config::{IfRunning, Site};
use crate::report::document::{DeferralCause, DeferredSite};
use crate::report::{Class, Failure, Outcome};
use crate::state::{LockError, RunLock, State};

/// Sites that no other run is at.
#[derive(Default)]
pub(super) struct Locked<'c> {
    pub(super) sites: Vec<&'c Site>,
    pub(super) locks: Vec<RunLock>,
    pub(super) deferred: Vec<DeferredSite>,
    pub(super) failed: Vec<Outcome>,
    /// Why some have no lock: the reason is the same for all.
    pub(super) unlocked: Option<Failure>,
}

/// Locks the sites, each for itself; `limit` ends the wait for other runs.
pub(super) fn lock<'c>(
    sites: &'c [Site],
    state: &State,
    if_running: IfRunning,
    limit: &TimeLimit<'_>,
    output: &Output,
) -> Locked<'c> {
    let places: Vec<String> = sites.iter().map(|site| site.target.lock_key()).collect();
    let locks = match if_running {
        IfRunning::Wait => {
            let waiting = state.wait_for_locks(&places, limit.is_over(), |at, error| {
                output.note(&format!("{}: waits until that run is done: {error}", sites[at].name));
            });
            limit.runtime.block_on(waiting)
        }
        IfRunning::Skip | IfRunning::Fail => state.lock_each(&places),
    };
    let mut locked = Locked::default();
    for (site, lock) in sites.iter().zip(locks) {
        let name = || site.name.clone();
        match (lock, if_running) {
            (Ok(lock), _) => locked.locks.extend(lock),
            (Err(error @ LockError::Held { .. }), IfRunning::Skip) => {
                let (name, message) = (name(), error.to_string());
                let why = DeferralCause::Running;
                locked.deferred.push(DeferredSite { name, why, message, closing: None });
                continue;
            }
            (Err(error @ LockError::Held { .. }), _) => {
                let held = lock::held(&error);
                // It was waited for until the deadline.
                let class = if if_running == IfRunning::Wait { Class::Deadline } else { held.class };
                let failure = Failure { class, exit: class.exit(), ..held };
                locked.failed.push(Outcome::not_begun(name(), failure));
                continue;
            }
            (Err(error), _) => locked.unlocked = locked.unlocked.or_else(|| Some(lock::unlocked(&error))),
        }
        locked.sites.push(site);
    }
    locked
}
