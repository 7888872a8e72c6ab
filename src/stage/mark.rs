//! The mark of one bundle: which of its images the stage has complete and under which names, what its layers became, and which
//! sites files need it. Pure: a document.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde::{Deserialize, Serialize};

use crate::oci::Digest;
use crate::state::BundleIdentity;

/// The mark of one bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Which bundle it is; none of one that cannot be known again, such as a pipe.
    pub(super) bundle: Option<BundleIdentity>,
    /// What it was called, for people.
    pub(super) path: String,
    /// When a run last used it, in milliseconds since 1970.
    pub(super) used_at: i64,
    /// The sites files whose bundle it is. What was pushed without one has no owner.
    pub(super) owners: BTreeSet<String>,
    /// What is in the bundle, in a file beside this one.
    pub(super) catalog: Option<CatalogFile>,
    /// The images that are whole in the stage.
    pub(super) images: Vec<StagedImage>,
}

/// The catalog of a bundle, kept in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CatalogFile {
    /// The digest of the file.
    pub(super) digest: Digest,
    /// Who wrote it: another version may find other images in the same bytes.
    pub(super) reader: String,
}

/// An image that is whole in the stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StagedImage {
    /// What makes it one in its bundle: the digest of its manifest, or of its configuration where the bundle has no manifest.
    pub(crate) content: Digest,
    /// Its manifest or index.
    pub(crate) root: StagedRoot,
    /// The annotations of its entries in `index.json`, one for each of its names; none where it is not listed.
    pub(crate) entries: Vec<BTreeMap<String, String>>,
    /// The image that it is about, where it has no place of its own.
    pub(crate) subject: Option<Digest>,
    /// All that it needs: manifests, configurations, layers.
    pub(crate) blobs: Vec<Digest>,
    /// The blobs of layers that have no manifest in the bundle.
    pub(crate) layers: Vec<StagedLayer>,
}

/// What an entry of `index.json` points at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StagedRoot {
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// The blob of a layer of a docker-archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StagedLayer {
    /// All that decides which blob it becomes, beside its content.
    pub(crate) recipe: String,
    /// The digest of its plain tar.
    pub(crate) diff_id: Digest,
    /// Its blob.
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    pub(crate) media_type: String,
}

impl Mark {
    pub(super) fn new(bundle: Option<BundleIdentity>, path: String) -> Self {
        let (owners, images) = (BTreeSet::new(), Vec::new());
        Self { bundle, path, used_at: 0, owners, catalog: None, images }
    }

    /// Adds an image. Of two that one image of the bundle became (by two ways to compress), the later one is listed.
    pub(super) fn add(&mut self, image: StagedImage) {
        self.images.retain(|known| (known.content, known.root.digest) != (image.content, image.root.digest));
        for known in self.images.iter_mut().filter(|known| known.content == image.content) {
            known.entries.clear();
        }
        self.images.push(image);
    }

    /// All blobs that its images need.
    pub(super) fn blobs(&self) -> HashSet<Digest> {
        self.images.iter().flat_map(|image| &image.blobs).copied().collect()
    }

    /// Keeps the images that are whole with only these blobs; returns whether all were.
    pub(super) fn keep_whole(&mut self, is_there: impl Fn(&Digest) -> bool) -> bool {
        let before = self.images.len();
        self.images.retain(|image| image.blobs.iter().all(&is_there));
        self.images.len() == before
    }
}
