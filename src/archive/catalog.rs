//! What is in a bundle: images, their manifests, and where the bytes of each blob lie.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::archive::leftovers::{LeftOut, nothing_in};
use crate::error::BundleError;
use crate::oci::{Digest, Manifest, Platform, Reference, Repository, Tag};
use crate::source::Extent;
use crate::units;

/// What is in a bundle. Nothing in it has been extracted: blobs are ranges of volumes.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Catalog {
    /// The images that are whole, in the order of the bundle.
    pub images: Vec<Image>,
    /// Manifests and indexes by digest, each verified against it. Written down beside the catalog, one by one.
    #[serde(skip)]
    pub manifests: HashMap<Digest, Arc<Manifest>>,
    /// Configurations and layers by digest. Their bytes are verified when they are read, not here.
    pub blobs: HashMap<Digest, Blob>,
    /// Those of the blobs that a delta leaves to its base, and what that is called. Never written down.
    #[serde(skip)]
    pub(crate) left_to_base: HashMap<Digest, Arc<str>>,
    /// Images that cannot be pushed, and why.
    pub broken: Vec<BrokenImage>,
    /// What was met and not taken, and why.
    pub left_out: Vec<LeftOut>,
    /// Oddities that harm nothing, for people.
    pub notes: Vec<String>,
}

/// One image as the bundle holds it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Image {
    /// What the bundle calls it; empty where the bundle gives no name.
    pub names: Vec<ImageName>,
    /// What it is made of.
    pub content: Content,
    /// Which archive of the bundle it lies in, for messages; empty for the bundle itself.
    pub origin: String,
    /// The annotations of its entry in an `index.json`, where tools hide names under keys of their own.
    pub annotations: std::collections::BTreeMap<String, String>,
    /// The index it stands for, where the bundle holds only a part of that.
    #[serde(with = "super::shared::option")]
    pub partial: Option<Arc<PartialIndex>>,
    /// What it is of another image, whose places are its own.
    pub attachment: Option<Attachment>,
    /// The archive that is whole or damaged by itself: one of a folder, or of several bundles.
    #[serde(with = "super::shared::option")]
    pub unit: Unit,
}

/// The archive that damage is confined to; none where the whole bundle is one.
pub(crate) type Unit = Option<Arc<str>>;

/// An index whose bundle has only some of its platforms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartialIndex {
    /// The digest of the index, which the bundle cannot give.
    pub index: Digest,
    /// What is whole, at least one: its digest and its platform, in words.
    pub present: Vec<(Digest, String)>,
    /// The platforms that are missing, in words.
    pub missing: Vec<String>,
}

/// That something is about another image, and goes where that one goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// The digest of the image that it is about.
    pub subject: Digest,
    /// What it is.
    pub kind: AttachmentKind,
}

/// What is attached to an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttachmentKind {
    /// Signatures of cosign.
    Signatures,
    /// Attestations of cosign.
    Attestations,
    /// A bill of materials as cosign attaches it.
    Sbom,
    /// A manifest that is found by its `subject`.
    Referrer,
}

impl AttachmentKind {
    /// The stable word for reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Signatures => "signatures",
            Self::Attestations => "attestations",
            Self::Sbom => "sbom",
            Self::Referrer => "referrer",
        }
    }
}

impl Attachment {
    /// The tag under which it is looked for; none for what is found by its subject.
    pub(crate) fn tag(&self) -> Option<Tag> {
        let suffix = match self.kind {
            AttachmentKind::Signatures => "sig",
            AttachmentKind::Attestations => "att",
            AttachmentKind::Sbom => "sbom",
            AttachmentKind::Referrer => return None,
        };
        format!("{}-{}.{suffix}", self.subject.algorithm().name(), self.subject.hex()).parse().ok()
    }
}

/// What a bundle calls an image.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ImageName {
    /// Host, repository, and tag or digest.
    Full(Reference),
    /// A repository and a tag, but no host (registry storage trees).
    Hostless(Repository, Tag),
    /// A repository without its host, and no tag: known by digest alone.
    HostlessDigest(Repository, Digest),
    /// Only a tag: the repository must come from the user.
    TagOnly(Tag),
    /// What stands where a name should be and is none. Nothing is ever made valid.
    Invalid {
        /// The text, printable.
        text: String,
        /// Why it is none.
        why: String,
    },
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(reference) => reference.fmt(f),
            Self::Hostless(repository, tag) => write!(f, "{repository}:{tag}"),
            Self::HostlessDigest(repository, digest) => write!(f, "{repository}@{digest}"),
            Self::TagOnly(tag) => tag.fmt(f),
            Self::Invalid { text, .. } => f.write_str(text),
        }
    }
}

/// What an image is made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Content {
    /// A manifest or index of [`Catalog::manifests`], with everything below it in the catalog.
    Manifest(Digest),
    /// A docker-archive's image, which has no registry manifest yet.
    Unpacked(#[serde(with = "super::shared")] Arc<Unpacked>),
}

/// What makes two images of a bundle one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ContentKey {
    /// The digest of the manifest.
    Manifest(Digest),
    /// The digest of the configuration, where there is no manifest yet.
    Config(Digest),
}

impl ContentKey {
    /// The digest, of whichever it is.
    pub(crate) const fn digest(self) -> Digest {
        match self {
            Self::Manifest(digest) | Self::Config(digest) => digest,
        }
    }
}

impl Content {
    /// The digest of its manifest, where it has one already.
    pub(crate) fn manifest_digest(&self) -> Option<Digest> {
        match self {
            Self::Manifest(digest) => Some(*digest),
            Self::Unpacked(_) => None,
        }
    }

    /// Equal for equal images.
    pub(crate) fn key(&self) -> ContentKey {
        match self {
            Self::Manifest(digest) => ContentKey::Manifest(*digest),
            Self::Unpacked(image) => ContentKey::Config(image.config_digest),
        }
    }
}

/// An image of a docker-archive: a configuration and layers, from which a manifest is made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Unpacked {
    /// The configuration, byte for byte.
    #[serde(with = "crate::oci::raw")]
    pub config: Bytes,
    /// Its digest.
    pub config_digest: Digest,
    /// The machine it is for.
    pub platform: Platform,
    /// The layers, lowest first; as many as the configuration has diff_ids.
    pub layers: Vec<UnpackedLayer>,
}

/// A layer of a docker-archive.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UnpackedLayer {
    /// The digest of the layer's plain tar, as the configuration states it. Not verified yet.
    pub diff_id: Digest,
    /// The member that holds it, for messages.
    pub member: String,
    /// Its bytes as stored. Written down beside the catalog: see `state::catalog_codec`.
    #[serde(skip)]
    pub extent: Extent,
    /// How many they are.
    pub size: u64,
    /// How they are stored.
    pub stored: Stored,
    /// Its place in the order of the bundle.
    pub order: u64,
}

/// How a layer is stored in a bundle, by its first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stored {
    /// A tar as it is.
    Plain,
    /// One or more gzip members.
    Gzip,
    /// One or more zstd frames.
    Zstd,
}

/// Where the bytes of a blob lie.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Blob {
    /// How many bytes.
    pub size: u64,
    /// The bytes. Written down beside the catalog, as those of layers.
    #[serde(skip)]
    pub extent: Extent,
    /// Its place in the order of the bundle: reading in this order reads the bundle once, front to back.
    pub order: u64,
}

/// An image that cannot be pushed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BrokenImage {
    /// What the bundle calls it, or its digest, or its place.
    pub name: String,
    /// What is wrong with it.
    pub error: BundleError,
    /// The archive that the damage is confined to.
    #[serde(with = "super::shared::option")]
    pub unit: Unit,
    /// What can be had of it where the user accepts a part of an index.
    pub part: Option<Box<Image>>,
}

impl BrokenImage {
    /// A broken image without any usable part.
    pub(crate) fn new(name: String, error: BundleError) -> Self {
        Self { name, error, unit: None, part: None }
    }
}

/// Puts these images into the unit of the archive at `path`.
fn confine(images: &mut [Image], broken: &mut [BrokenImage], path: &str) {
    let unit: Arc<str> = path.into();
    let broken = broken.iter_mut();
    let broken = broken.flat_map(|it| [Some(&mut it.unit), it.part.as_mut().map(|part| &mut part.unit)]);
    let units = images.iter_mut().map(|image| &mut image.unit).chain(broken.flatten());
    units.for_each(|place| *place = Some(Arc::clone(&unit)));
}

impl Catalog {
    /// This catalog and another, of a further source, as one. The order goes on where this one ends; a name that both
    /// give to different images is for the plan to settle.
    #[must_use]
    pub(crate) fn merge(mut self, mut other: Self) -> Self {
        let base = self.next_order();
        other.renumber(|order| base + order);
        self.absorb(other);
        self.keep_reachable();
        self
    }

    /// The digests of all that may be pushed of it as an image: of the manifest, or of the configuration where there is none.
    pub(crate) fn contents(&self) -> HashSet<Digest> {
        let images = self.images.iter().map(|image| image.content.key().digest());
        images.chain(self.parts()).collect()
    }

    /// Whether there is anything of images in it, whole or broken.
    pub(crate) fn has_images(&self) -> bool {
        !self.images.is_empty() || !self.broken.is_empty()
    }

    /// Makes everything in it one unit: damage to the archive at `path` stops no other.
    pub(crate) fn confine(&mut self, path: &str) {
        self.confine_from((0, 0), path);
    }

    /// Confines the images after the first `images` and the broken ones after the first `broken`.
    pub(crate) fn confine_from(&mut self, (images, broken): (usize, usize), path: &str) {
        let images = self.images.get_mut(images..).unwrap_or_default();
        confine(images, self.broken.get_mut(broken..).unwrap_or_default(), path);
    }

    /// Confines the first `images` images and the first `broken` broken ones.
    pub(crate) fn confine_to(&mut self, (images, broken): (usize, usize), path: &str) {
        let images = self.images.get_mut(..images).unwrap_or_default();
        confine(images, self.broken.get_mut(..broken).unwrap_or_default(), path);
    }

    /// Replaces indexes that are broken only because they lack platforms by the platforms that the bundle has.
    pub(crate) fn accept_parts(&mut self) {
        let (parts, broken) = std::mem::take(&mut self.broken).into_iter().partition(|it| it.part.is_some());
        self.broken = broken;
        let parts: Vec<BrokenImage> = parts;
        self.images.extend(parts.into_iter().filter_map(|broken| broken.part).map(|part| *part));
    }

    /// Leaves out archives that are damaged by themselves, with all that is in them: half an archive is worse than none.
    pub(crate) fn leave_out_damaged(&mut self) {
        let mut damaged: BTreeMap<Arc<str>, (usize, String)> = BTreeMap::new();
        for broken in &self.broken {
            if let Some(unit) = &broken.unit {
                let why = || broken.error.to_string();
                damaged.entry(Arc::clone(unit)).or_insert_with(|| (0, why())).0 += 1;
            }
        }
        let is_damaged = |unit: &Unit| unit.as_ref().is_some_and(|unit| damaged.contains_key(unit));
        let mut whole: HashMap<Arc<str>, Vec<String>> = HashMap::new();
        for image in self.images.iter().filter(|image| is_damaged(&image.unit)) {
            if let Some(unit) = &image.unit {
                let name =
                    image.names.first().map_or_else(|| "one without a name".to_owned(), ToString::to_string);
                whole.entry(Arc::clone(unit)).or_default().push(name);
            }
        }
        self.images.retain(|image| !is_damaged(&image.unit));
        self.broken.retain(|broken| !is_damaged(&broken.unit));
        self.left_out.extend(damaged.iter().map(|(unit, (count, why))| {
            let more = if *count > 1 { format!(" (and {} more)", count - 1) } else { String::new() };
            let with_it = whole.get(unit).map(|names| {
                let (count, names) = (names.len(), names.join(", "));
                let whole = units::count(count, "whole image");
                format!("; with it {whole} left out: {names}; next: --allow-damaged pushes what is whole")
            });
            let why = format!("{why}{more}{}", with_it.unwrap_or_default());
            LeftOut::unreadable(unit.as_ref(), "damaged images", why)
        }));
        self.keep_reachable();
    }

    /// Whether a member of an index is a blob, and not a manifest.
    pub(crate) fn lists_as_blob(&self, digest: &Digest) -> bool {
        !self.manifests.contains_key(digest) && self.blobs.contains_key(digest)
    }

    /// How many configurations and layers there are, those of docker-archives among them.
    pub(crate) fn distinct_blobs(&self) -> usize {
        let unpacked = self.images.iter().filter_map(|image| match &image.content {
            Content::Unpacked(unpacked) => Some(unpacked),
            Content::Manifest(_) => None,
        });
        let layers = unpacked.flat_map(|image| {
            std::iter::once(image.config_digest).chain(image.layers.iter().map(|layer| layer.diff_id))
        });
        layers.chain(self.blobs.keys().copied()).collect::<HashSet<Digest>>().len()
    }

    /// Takes everything of another catalog, whose order has been made to fit. Of a blob in both, the earlier stays.
    pub(super) fn absorb(&mut self, other: Self) {
        self.images.extend(other.images);
        self.manifests.extend(other.manifests);
        self.broken.extend(other.broken);
        self.notes.extend(other.notes);
        self.left_out.extend(other.left_out);
        for (digest, blob) in other.blobs {
            let (is_left, base) = (self.left_to_base.contains_key(&digest), other.left_to_base.get(&digest));
            let mut place = match self.blobs.entry(digest) {
                Entry::Vacant(place) => {
                    place.insert(blob);
                    self.left_to_base.extend(base.map(|base| (digest, Arc::clone(base))));
                    continue;
                }
                Entry::Occupied(place) => place,
            };
            // What one bundle leaves to its base another may have.
            let is_better = match (is_left, base.is_some()) {
                (true, false) => true,
                (false, true) => false,
                _ => blob.order < place.get().order,
            };
            if place.get().size == blob.size && is_better {
                place.insert(blob);
                if base.is_none() {
                    self.left_to_base.remove(&digest);
                }
            }
        }
    }

    /// The places in the order of the bundle that are taken.
    pub(super) fn orders(&self) -> BTreeSet<u64> {
        let layers = self.images.iter().flat_map(Image::unpacked_layers).map(|layer| layer.order);
        layers.chain(self.blobs.values().map(|blob| blob.order)).collect()
    }

    /// The first place that comes after all others.
    pub(super) fn next_order(&self) -> u64 {
        self.orders().last().map_or(0, |order| order + 1)
    }

    /// Gives everything another place in the order.
    pub(super) fn renumber(&mut self, place: impl Fn(u64) -> u64) {
        for blob in self.blobs.values_mut() {
            blob.order = place(blob.order);
        }
        for image in &mut self.images {
            if let Content::Unpacked(unpacked) = &mut image.content {
                for layer in &mut Arc::make_mut(unpacked).layers {
                    layer.order = place(layer.order);
                }
            }
        }
    }

    /// What can be had of indexes that were saved in part.
    fn parts(&self) -> Vec<Digest> {
        let broken = self.broken.iter().filter_map(|broken| broken.part.as_deref());
        let partial = self.images.iter().chain(broken).filter_map(|image| image.partial.as_ref());
        let present = partial.flat_map(|partial| partial.present.iter().map(|(digest, _)| *digest));
        let broken = self.broken.iter().filter_map(|broken| broken.part.as_deref());
        present
            .chain(broken.filter_map(|image| match image.content {
                Content::Manifest(digest) => Some(digest),
                Content::Unpacked(_) => None,
            }))
            .collect()
    }

    /// Drops manifests and blobs that no whole image needs.
    pub(super) fn keep_reachable(&mut self) {
        let (mut needed, mut blobs) = (HashSet::new(), HashSet::new());
        let mut rest: Vec<Digest> = self
            .images
            .iter()
            .filter_map(|image| match image.content {
                Content::Manifest(digest) => Some(digest),
                Content::Unpacked(_) => None,
            })
            .chain(self.parts())
            .collect();
        while let Some(digest) = rest.pop() {
            let Some(manifest) = self.manifests.get(&digest).filter(|_| needed.insert(digest)) else {
                continue;
            };
            blobs.extend(manifest.blobs().chain(manifest.children()).map(|descriptor| descriptor.digest));
            rest.extend(manifest.children().iter().map(|child| child.digest));
        }
        self.manifests.retain(|digest, _| needed.contains(digest));
        self.blobs.retain(|digest, _| blobs.contains(digest));
        self.left_to_base.retain(|digest, _| blobs.contains(digest));
    }
}

impl Image {
    /// The archive it lies in, as people find it: from the path that they gave, where that is known. Empty for a bundle
    /// that is one archive.
    pub(crate) fn archive(&self) -> String {
        match self.unit.as_deref() {
            Some(unit) if self.origin.is_empty() || unit.ends_with(&self.origin) => unit.to_owned(),
            // The unit is a file of a folder, and the origin goes on inside it.
            Some(unit) => match self.origin.split_once('/') {
                Some((file, inner)) if unit.ends_with(file) => format!("{unit}/{inner}"),
                _ => format!("{unit}/{}", self.origin),
            },
            None => self.origin.clone(),
        }
    }

    /// The layers of an image that has no manifest yet; none otherwise.
    pub(crate) fn unpacked_layers(&self) -> &[UnpackedLayer] {
        match &self.content {
            Content::Unpacked(unpacked) => &unpacked.layers,
            Content::Manifest(_) => &[],
        }
    }
}

impl Catalog {
    /// Why there is no image in a bundle, where there is none.
    pub(crate) fn nothing_in_it(&self) -> BundleError {
        nothing_in(&self.left_out)
    }

    /// Puts the path of the bundle before every path in it. `several` bundles make each a unit.
    pub(crate) fn lie_in(&mut self, path: &str, several: bool) {
        self.left_out = std::mem::take(&mut self.left_out).into_iter().map(|it| it.below(path)).collect();
        let units = self.images.iter_mut().map(|image| &mut image.unit);
        let broken = self.broken.iter_mut();
        let broken = broken.flat_map(|it| [Some(&mut it.unit), it.part.as_mut().map(|part| &mut part.unit)]);
        for unit in units.chain(broken.flatten()) {
            *unit = match unit.as_deref() {
                Some("") => Some(path.into()),
                Some(inner) => Some(format!("{path}/{inner}").into()),
                None => several.then(|| path.into()),
            };
        }
    }
}
