//! What became of the images of one mirror. The task of the mirror owns it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::engine::mirror::probe::TagMove;
use crate::engine::mirror::verify::{Needs, Sized};
use crate::oci::{Digest, Manifest, Repository};
use crate::report::Failure;
use crate::report::outcome::Phase;

/// The results of the images of one mirror, by their places in the list of the run.
#[derive(Default)]
pub(super) struct Results {
    pub(super) untagged: HashMap<usize, Untagged>,
    pub(super) complete: HashSet<usize>,
    pub(super) failed: HashMap<usize, (Phase, Failure)>,
}

/// An image that lacks nothing but its tags.
pub(super) struct Untagged {
    pub(super) repository: Repository,
    pub(super) root: Arc<Manifest>,
    /// How deep the root nests: 1 for an image, 2 for an index of images.
    pub(super) depth: usize,
    /// The digests of its manifests; its own is the last.
    pub(super) manifests: Vec<Digest>,
    pub(super) blobs: Vec<Sized>,
    pub(super) already: bool,
    pub(super) tags_to_move: Vec<TagMove>,
}

impl Untagged {
    /// Whether it was there before the run, tags and all.
    pub(super) fn is_unchanged(&self) -> bool {
        self.already && self.tags_to_move.is_empty()
    }

    pub(super) fn needs(&self) -> Needs<'_> {
        Needs { repository: &self.repository, manifests: &self.manifests, blobs: &self.blobs }
    }
}
