//! What a run knows of one mirror: where content is, and which answers to expect. Pure: the caller asks the mirror, and writes
//! the answers down here.
//!
//! It belongs to the task of the mirror. The images on their way are futures of that one task, so nobody ever waits for the
//! lock around it, and the compiler refuses one that is held over an `await`.

mod earlier_manifests;
mod evidence;
mod expectations;
mod locations;
mod probe_heuristic;
mod sampling;

pub(super) use self::earlier_manifests::{EarlierManifests, best};
pub(super) use self::evidence::Evidence;
pub(super) use self::expectations::{Ahead, Expectations};
pub(super) use self::locations::{LocationGuard, Locations, forget, note};

/// What is known of one mirror.
#[derive(Debug)]
pub(super) struct Knowledge {
    /// The repositories that have each blob.
    pub(super) blobs: Locations,
    /// The repositories that have each manifest.
    pub(super) manifests: Locations,
    /// The subjects whose fallback tags are written: the lock of one is held meanwhile.
    pub(super) fallback_tags: Locations,
    /// Blobs that were read back whole. In other repositories they are asked for a byte.
    pub(super) read_back: Locations,
    /// What says that blobs are there.
    pub(super) evidence: Evidence,
    /// What to expect of the next answers.
    pub(super) expectations: Expectations,
    /// Manifests that earlier runs have put.
    pub(super) earlier: EarlierManifests,
}

impl Knowledge {
    pub(super) fn new(expectations: Expectations, earlier: EarlierManifests) -> Self {
        Self {
            blobs: Locations::default(),
            manifests: Locations::default(),
            fallback_tags: Locations::default(),
            read_back: Locations::default(),
            evidence: Evidence::default(),
            expectations,
            earlier,
        }
    }
}
