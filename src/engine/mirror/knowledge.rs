//! What a run knows of one mirror: where content is, and which answers to expect.

mod expectations;
mod locations;
mod probe_heuristic;
mod sampling;

pub(super) use self::expectations::{Ahead, Expectations};
pub(super) use self::locations::{LocationGuard, Locations, note};
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::locks::{Mutex, MutexGuard};
use crate::oci::{Digest, Repository};

/// What is known of one mirror.
#[derive(Debug)]
pub(super) struct Knowledge {
    /// The repositories that have each blob.
    pub(super) blobs: Locations,
    /// The repositories that have each manifest.
    pub(super) manifests: Locations,
    /// The subjects whose fallback tags are written: the lock of one is held meanwhile.
    pub(super) fallback_tags: Locations,
    proven: Mutex<HashSet<(Repository, Digest)>>,
    vouched: Mutex<HashSet<(Repository, Digest)>>,
    doubts_manifests: AtomicBool,
    expectations: Mutex<Expectations>,
}

impl Knowledge {
    pub(super) fn new(expectations: Expectations) -> Self {
        Self {
            blobs: Locations::default(),
            manifests: Locations::default(),
            fallback_tags: Locations::default(),
            proven: Mutex::default(),
            vouched: Mutex::default(),
            doubts_manifests: AtomicBool::new(false),
            expectations: Mutex::new(expectations),
        }
    }

    /// What to expect. Images of one mirror are futures of one task, so nobody ever waits for this lock; it is never held
    /// while something is awaited.
    pub(super) fn expectations(&self) -> MutexGuard<'_, Expectations> {
        self.expectations.lock()
    }

    /// The mirror has acknowledged a blob in this run, or returned bytes of it.
    pub(super) fn prove(&self, repository: &Repository, digest: Digest) {
        self.proven.lock().insert((repository.clone(), digest));
    }

    /// A manifest that the mirror has names a blob.
    pub(super) fn vouch(&self, repository: &Repository, digest: Digest) {
        self.vouched.lock().insert((repository.clone(), digest));
    }

    /// The mirror lacked a blob that it had claimed to have, so it may lack what its manifests name as well.
    pub(super) fn doubt_manifests(&self) {
        self.doubts_manifests.store(true, Ordering::Relaxed);
    }

    /// Whether a manifest that is there says that its blobs are.
    pub(super) fn trusts_manifests(&self) -> bool {
        !self.doubts_manifests.load(Ordering::Relaxed)
    }

    /// Whether only a manifest says that a blob is there.
    pub(super) fn is_vouched(&self, repository: &Repository, digest: Digest) -> bool {
        self.vouched.lock().contains(&(repository.clone(), digest)) && !self.is_proven(repository, digest)
    }

    /// Whether more than the word of a HEAD says that a blob is there.
    pub(super) fn is_proven(&self, repository: &Repository, digest: Digest) -> bool {
        self.proven.lock().contains(&(repository.clone(), digest))
    }
}
