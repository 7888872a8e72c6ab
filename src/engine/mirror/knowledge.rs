//! What a run knows of one mirror: where content is, and what to expect of what was not asked yet.

mod expectations;
mod locations;
mod probe_heuristic;

pub(super) use self::expectations::Expectations;
pub(super) use self::locations::{LocationGuard, Locations, note};
use crate::sync::{Mutex, MutexGuard};

/// What is known of one mirror.
#[derive(Debug)]
pub(super) struct Knowledge {
    /// The repositories that have each blob.
    pub(super) blobs: Locations,
    /// The repositories that have each manifest.
    pub(super) manifests: Locations,
    expectations: Mutex<Expectations>,
}

impl Knowledge {
    pub(super) fn new(expectations: Expectations) -> Self {
        Self {
            blobs: Locations::default(),
            manifests: Locations::default(),
            expectations: Mutex::new(expectations),
        }
    }

    /// What to expect. Images of one mirror are futures of one task, so nobody ever waits for this lock; it is never held
    /// while something is awaited.
    pub(super) fn expectations(&self) -> MutexGuard<'_, Expectations> {
        self.expectations.lock()
    }
}
