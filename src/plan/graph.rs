//! Everything below one manifest: what must be on a mirror before it.

use std::collections::HashSet;

use crate::archive::Catalog;
use crate::oci::{Descriptor, Digest};

/// A manifest and all that it needs, children before parents.
#[derive(Debug, Default, Clone)]
pub(crate) struct Closure {
    /// Manifests and indexes, each after everything it points at; the root is the last.
    pub manifests: Vec<Digest>,
    /// Configurations and layers, each once, in the order of the bundle.
    pub blobs: Vec<Descriptor>,
}

impl Closure {
    /// Walks the catalog from `root`. The catalog has bounded depth and no cycles, and each manifest is visited once.
    pub(crate) fn of(catalog: &Catalog, root: &Digest) -> Self {
        let mut closure = Self::default();
        let mut seen = HashSet::new();
        let mut blobs = HashSet::new();
        // (manifest, whether its children are done)
        let mut stack = vec![(*root, false)];
        while let Some((digest, done)) = stack.pop() {
            if done {
                closure.manifests.push(digest);
                continue;
            }
            if !seen.insert(digest) {
                continue;
            }
            let Some(manifest) = catalog.manifests.get(&digest) else { continue };
            stack.push((digest, true));
            stack.extend(manifest.children().iter().rev().map(|child| (child.digest, false)));
            closure.blobs.extend(manifest.blobs().filter(|blob| blobs.insert(blob.digest)).cloned());
        }
        closure.blobs.sort_by_key(|blob| catalog.blobs.get(&blob.digest).map_or(u64::MAX, |blob| blob.order));
        closure
    }
}
