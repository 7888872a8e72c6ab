//! How much of the images of a run the stage has.

use std::collections::HashMap;
use std::sync::Arc;

use crate::archive::Content;
use crate::engine::prepare::Preparer;
use crate::engine::work::Work;
use crate::oci::Digest;
use crate::plan::Closure;
use crate::stage::Stage;

/// Bytes of the blobs of all images that a plan has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fill {
    /// Those that are in the stage.
    pub(super) staged: u64,
    /// All of them: the most that they can be, as long as layers are not compressed yet.
    pub(super) total: u64,
}

impl Fill {
    pub(super) fn of(stage: &Stage, works: &[Arc<Work>], preparer: &Preparer) -> Self {
        let mut staged = HashMap::<Digest, u64>::new();
        let mut lacking = HashMap::<Digest, u64>::new();
        let mut count = |digest, size| {
            if stage.has(&digest) { &mut staged } else { &mut lacking }.insert(digest, size);
        };
        for (work, agreed) in works.iter().filter_map(|work| Some((work, work.agreed()?.ok()?))) {
            for image in agreed.images.iter().filter_map(|at| work.image(*at)) {
                match &image.planned.content {
                    Content::Manifest(root) => {
                        for blob in Closure::of(&image.catalog, root).blobs {
                            count(blob.digest, blob.size);
                        }
                    }
                    Content::Unpacked(unpacked) => {
                        count(unpacked.config_digest, unpacked.config.len() as u64);
                        for layer in &unpacked.layers {
                            // No blob has the digest of its plain tar, but one that is stored as it is.
                            let most = preparer.layers.most_bytes(layer).max(layer.size);
                            let known = preparer.layers.known(layer);
                            let (digest, size) =
                                known.map_or((layer.diff_id, most), |facts| (facts.digest, facts.size));
                            count(digest, size);
                        }
                    }
                }
            }
        }
        let staged = staged.values().sum();
        Self { staged, total: lacking.values().fold(staged, |sum, bytes| sum.saturating_add(*bytes)) }
    }
}
