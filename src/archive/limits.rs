//! Limits on a bundle, beyond which it is refused. Bundles are untrusted.

use std::cell::Cell;

use crate::error::{BundleError, Fault};
use crate::oci::manifest::MAX_MANIFEST_BYTES;

/// The limits of a bundle. The defaults suffice for every real bundle known.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Members of all tars, or files of a directory.
    pub entries: usize,
    /// Length of a member's name.
    pub name_bytes: u64,
    /// Length of a PAX extension header.
    pub pax_bytes: u64,
    /// Length of an `index.json` or `manifest.json`.
    pub index_bytes: u64,
    /// Length of a manifest.
    pub manifest_bytes: u64,
    /// Length of a configuration that is read here; those of docker-archives must be.
    pub config_bytes: u64,
    /// Descriptors in all manifests together.
    pub descriptors: usize,
    /// Indexes inside indexes.
    pub index_depth: usize,
    /// Archives inside archives.
    pub archive_depth: usize,
    /// Bytes of documents that are kept while the tars of a bundle are walked over. Others are read once more.
    pub kept_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            entries: 1_000_000,
            name_bytes: 4 << 10,
            pax_bytes: 1 << 20,
            index_bytes: 8 << 20,
            manifest_bytes: MAX_MANIFEST_BYTES,
            config_bytes: 8 << 20,
            descriptors: 100_000,
            index_depth: 8,
            archive_depth: 4,
            kept_bytes: 16 << 20,
        }
    }
}

/// What is left of the limits that count over a whole bundle, however many archives it is made of.
#[derive(Debug)]
pub(super) struct Allowance {
    entries: BoundedCount,
    descriptors: BoundedCount,
    to_keep: Cell<u64>,
}

#[derive(Debug)]
struct BoundedCount {
    what: &'static str,
    limit: usize,
    taken: Cell<usize>,
}

impl Allowance {
    pub(super) fn new(limits: &Limits) -> Self {
        let counter = |what, limit| BoundedCount { what, limit, taken: Cell::new(0) };
        Self {
            entries: counter("members", limits.entries),
            descriptors: counter("descriptors", limits.descriptors),
            to_keep: Cell::new(limits.kept_bytes),
        }
    }

    /// Whether a document of this length may be kept, which is booked then.
    pub(super) fn keep(&self, bytes: u64) -> bool {
        let left = self.to_keep.get().checked_sub(bytes);
        left.inspect(|left| self.to_keep.set(*left)).is_some()
    }

    /// A mark of what was used until now, for [`Allowance::return_to`].
    pub(super) fn mark(&self) -> (usize, usize) {
        (self.entries.taken.get(), self.descriptors.taken.get())
    }

    /// What was taken since a mark was for nothing.
    pub(super) fn return_to(&self, (entries, descriptors): (usize, usize)) {
        self.entries.taken.set(entries);
        self.descriptors.taken.set(descriptors);
    }

    pub(super) fn take_entry(&self) -> Result<(), BundleError> {
        self.entries.take(1)
    }

    pub(super) fn take_descriptors(&self, count: usize) -> Result<(), BundleError> {
        self.descriptors.take(count)
    }
}

impl BoundedCount {
    fn take(&self, count: usize) -> Result<(), BundleError> {
        self.taken.set(self.taken.get().saturating_add(count));
        if self.taken.get() <= self.limit {
            return Ok(());
        }
        let what = format!("has more than {} {}, which is the limit", self.limit, self.what);
        Err(BundleError::new(Fault::LimitExceeded, what))
    }
}

/// Refuses `what` when it is longer than `limit` bytes.
pub(super) fn check_length(what: &str, bytes: u64, limit: u64) -> Result<(), BundleError> {
    if bytes <= limit {
        return Ok(());
    }
    Err(BundleError::new(Fault::LimitExceeded, format!("{what} has {bytes} bytes, the limit is {limit}")))
}
