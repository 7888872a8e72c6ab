//! Everything below one manifest: what must be on a mirror before it.

use std::collections::HashSet;

use crate::archive::Catalog;
use crate::oci::{Descriptor, Digest};

/// A manifest and all that it needs, children before parents.
#[derive(Debug, Default, Clone)]
pub(crate) struct Closure {
    /// Manifests and indexes, each after everything it points at; the root is the last.
    pub manifests: Vec<Digest>,
    /// Configurations, layers and what else an index lists, each once, in the order of the bundle.
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
            let is_manifest = |child: &&Descriptor| catalog.manifests.contains_key(&child.digest);
            let children = manifest.children().iter();
            stack.extend(children.clone().rev().filter(is_manifest).map(|child| (child.digest, false)));
            // Who stores a build cache makes an index of layers.
            let listed = children.filter(|child| !is_manifest(child) && !child.is_foreign());
            let new = manifest.blobs().chain(listed).filter(|blob| blobs.insert(blob.digest));
            closure.blobs.extend(new.cloned());
        }
        closure.blobs.sort_by_key(|blob| catalog.blobs.get(&blob.digest).map_or(u64::MAX, |blob| blob.order));
        closure
    }
}
