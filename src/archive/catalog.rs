//! The catalog of a bundle: images, their manifests, and where the bytes of each blob lie.

mod image;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(crate) use self::image::{
    Attachment, AttachmentKind, ContentKey, PartialIndex, Stored, Unit, Unpacked, UnpackedLayer,
};
pub use self::image::{Content, Image, ImageName};
use crate::archive::leftovers::{LeftOut, nothing_in};
use crate::error::BundleError;
use crate::oci::{Digest, Manifest};
use crate::source::Extent;
use crate::units;

/// The content of a bundle. Nothing has been extracted: blobs are ranges of volumes.
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
    /// Files that were not used, with the reason.
    pub left_out: Vec<LeftOut>,
    /// Harmless oddities, for people.
    pub notes: Vec<String>,
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
    /// Its name in the bundle, or its digest, or its position.
    pub name: String,
    /// What is wrong with it.
    pub error: BundleError,
    /// The archive that the damage is confined to.
    #[serde(with = "super::shared::option")]
    pub unit: Unit,
    /// The part that can be pushed where the user accepts a part of an index.
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

    /// Whether it has any image, whole or broken.
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

    /// This catalog of a tree with those of the archives in it, by the places of the archives: all in the order of the bundle.
    #[must_use]
    pub(super) fn weave(mut self, inner: Vec<(u64, Self)>) -> Self {
        let mut positions: BTreeMap<u64, u64> = self.orders().into_iter().map(|order| (order, 0)).collect();
        let mut bases = Vec::with_capacity(inner.len());
        let mut next = 0;
        let mut inner_sizes =
            inner.iter().map(|(position, catalog)| (*position, catalog.next_order())).peekable();
        for (&position, order) in &mut positions {
            while let Some((_, size)) = inner_sizes.next_if(|(at, _)| *at < position) {
                bases.push(next);
                next += size;
            }
            *order = next;
            next += 1;
        }
        for (_, size) in inner_sizes {
            bases.push(next);
            next += size;
        }
        self.renumber(|order| positions.get(&order).copied().unwrap_or(order));
        for ((_, mut catalog), base) in inner.into_iter().zip(bases) {
            catalog.renumber(|order| base + order);
            self.absorb(catalog);
        }
        self
    }

    /// Takes everything of another catalog, whose order has been made to fit. Of a blob in both, the earlier stays.
    fn absorb(&mut self, other: Self) {
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
    fn orders(&self) -> BTreeSet<u64> {
        let layers = self.images.iter().flat_map(Image::unpacked_layers).map(|layer| layer.order);
        layers.chain(self.blobs.values().map(|blob| blob.order)).collect()
    }

    /// The first place that comes after all others.
    fn next_order(&self) -> u64 {
        self.orders().last().map_or(0, |order| order + 1)
    }

    /// Gives everything another place in the order.
    fn renumber(&mut self, place: impl Fn(u64) -> u64) {
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

impl Catalog {
    /// Why the bundle holds no image, if it does not.
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
