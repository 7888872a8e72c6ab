//! What goes into a bundle: entries of its `index.json`, documents, and blobs with where their bytes are.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::layout::IndexEntry;
use crate::archive::base::Base;
use crate::archive::{
    Catalog, Content, ContentKey, Image, ImageName, LeftOut, Stored, Unpacked, UnpackedLayer,
};
use crate::bundle::{Bundle, LayerKey, Opener};
use crate::compress::{self, LayerBlob, LayerContent, LayerFacts, Method, SpillSettings};
use crate::engine::{entries, synthesise};
use crate::error::{BundleError, Fault};
use crate::oci::manifest::{Kind, MAX_MANIFEST_BYTES};
use crate::oci::{Digest, Manifest, Reference};
use crate::plan::Closure;
use crate::report::event::WorkStep;
use crate::report::{Event, Listeners};
use crate::source::{ByteSpace, Extent, WatchedSpace, read_exact};

/// What a bundle is written from.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    /// Of `index.json`, in the order of the images.
    pub(super) entries: Vec<IndexEntry>,
    /// Manifests and configurations, which come first.
    pub(super) documents: BTreeMap<Digest, Bytes>,
    /// All other blobs, in the order of the bundle that they come from.
    pub(super) blobs: Vec<ContentBlob>,
    images: Vec<ContentImage>,
    left_out: Vec<LeftOut>,
    base: Option<Base>,
}

/// What an image is called and made of.
#[derive(Debug)]
struct ContentImage {
    /// None where it has no name of its own.
    repositories: BTreeSet<NamedRepository>,
    digest: Digest,
    blobs: Vec<Digest>,
}

/// A repository as an image is named. On a mirror names have no host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct NamedRepository {
    host: Option<String>,
    path: String,
}

impl NamedRepository {
    /// Under these it is found by those that may be the same repository of a mirror.
    fn keys(&self) -> [String; 2] {
        let Self { host, path } = self;
        match host {
            Some(host) => [format!("{host}/{path}"), format!("*/{path}")],
            None => [path.clone(), path.clone()],
        }
    }

    /// Under these it finds them.
    fn wanted(&self) -> [String; 2] {
        let Self { host, path } = self;
        match host {
            Some(host) => [format!("{host}/{path}"), path.clone()],
            None => [path.clone(), format!("*/{path}")],
        }
    }
}

/// A blob and where its bytes are.
#[derive(Debug, Clone)]
pub(super) struct ContentBlob {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) space: Arc<dyn ByteSpace>,
}

impl Contents {
    /// All whole images of a bundle. Layers of docker-archives are compressed with `method`; `listeners` hear how far that has
    /// come. Blocks.
    ///
    /// # Errors
    /// The bundle cannot be read, or `cancel` was cancelled.
    pub(crate) fn of(
        bundle: &Bundle,
        opener: &Opener,
        method: Method,
        cancel: &CancellationToken,
        listeners: &Listeners,
    ) -> Result<Self, BundleError> {
        let told = CompressProgress::of(&bundle.catalog, method, listeners);
        let maker = LayerMaker { opener, method, cancel, told, made: HashMap::new() };
        let mut collector = Collector {
            catalog: &bundle.catalog,
            maker,
            contents: Self::default(),
            ordered: BTreeMap::new(),
            known: HashSet::new(),
            of_image: Vec::new(),
        };
        let mut seen: HashSet<ContentKey> = HashSet::new();
        for image in bundle.catalog.images.iter().filter(|image| seen.insert(image.content.key())) {
            collector.image(image)?;
        }
        let mut contents = collector.contents;
        contents.blobs.extend(collector.ordered.into_values().flatten());
        Ok(contents)
    }

    /// How many images there are.
    pub(crate) fn images(&self) -> usize {
        self.images.len()
    }

    /// The blobs that it has beside its documents.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = Digest> {
        self.blobs.iter().map(|blob| blob.digest)
    }

    /// What it leaves to another bundle.
    pub(crate) fn base(&self) -> Option<&Base> {
        self.base.as_ref()
    }

    /// Leaves to a bundle what that has, as far as a mirror that has it can be told where.
    #[must_use]
    pub(crate) fn less(mut self, old: &Self, name: String) -> Self {
        let mut held: HashMap<String, HashSet<Digest>> = HashMap::new();
        for image in &old.images {
            for key in image.repositories.iter().flat_map(NamedRepository::keys) {
                held.entry(key).or_default().extend(&image.blobs);
            }
        }
        // A mirror has what it got with an image in that image's repository. One that the new bundle does not name as well
        // would have to be guessed.
        let repositories = self.images.iter().flat_map(|image| &image.repositories);
        let known: HashSet<Digest> = repositories
            .flat_map(NamedRepository::wanted)
            .filter_map(|it| held.get(&it))
            .flatten()
            .copied()
            .collect();
        let (left, kept): (Vec<_>, Vec<_>) =
            self.blobs.into_iter().partition(|blob| known.contains(&blob.digest));
        let mut roots: Vec<String> = old.images.iter().map(|image| image.digest.to_string()).collect();
        roots.sort_unstable();
        roots.dedup();
        let digest = Digest::of(roots.join("\n").as_bytes());
        let blobs = left.into_iter().map(|blob| (blob.digest, blob.size)).collect();
        self.blobs = kept;
        self.base = Some(Base { digest, name, blobs });
        self
    }

    /// Whole images that have no place in a bundle, and why.
    pub(crate) fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }
}

struct Collector<'a> {
    catalog: &'a Catalog,
    maker: LayerMaker<'a>,
    contents: Contents,
    /// Blobs by their place in the order of the bundle.
    ordered: BTreeMap<u64, Vec<ContentBlob>>,
    known: HashSet<Digest>,
    /// The blobs of the image at hand.
    of_image: Vec<Digest>,
}

impl Collector<'_> {
    fn image(&mut self, image: &Image) -> Result<(), BundleError> {
        let (entries, _) = entries::of(self.catalog, image.content.key().digest());
        if entries.is_empty() {
            let name =
                image.names.first().map_or_else(|| "an image without a name".to_owned(), ToString::to_string);
            let why = "the bundle has several platforms of it, not all; next: push it from the bundle that has them, with \
                       --accept partial-index";
            self.contents.left_out.push(LeftOut::unreadable(name, "a part of an index", why));
            return Ok(());
        }
        let root = match &image.content {
            Content::Manifest(root) => self.stored(root)?,
            Content::Unpacked(unpacked) => self.unpacked(unpacked)?,
        };
        let repositories = image.names.iter().filter_map(repository_of).collect();
        let blobs = std::mem::take(&mut self.of_image);
        self.contents.images.push(ContentImage { repositories, digest: root.digest, blobs });
        let (digest, size) = (root.digest, root.bytes.len() as u64);
        let entry =
            |annotations| IndexEntry { media_type: root.media_type.clone(), digest, size, annotations };
        self.contents.entries.extend(entries.into_iter().map(entry));
        Ok(())
    }

    /// An image with manifests of its own: they stay as they are.
    fn stored(&mut self, root: &Digest) -> Result<Manifest, BundleError> {
        let missing =
            |digest: &Digest| BundleError::new(Fault::MissingBlob, format!("the bundle lacks {digest}"));
        let closure = Closure::of(self.catalog, root);
        let mut configurations = HashSet::new();
        for digest in &closure.manifests {
            let manifest = self.catalog.manifests.get(digest).ok_or_else(|| missing(digest))?;
            if let Kind::Image { config, .. } = &manifest.kind {
                configurations.insert(config.digest);
            }
            self.contents.documents.insert(*digest, manifest.bytes.clone());
        }
        for descriptor in &closure.blobs {
            let digest = descriptor.digest;
            let blob = self.catalog.blobs.get(&digest).ok_or_else(|| missing(&digest))?;
            if configurations.contains(&digest) && blob.size <= MAX_MANIFEST_BYTES {
                if let Entry::Vacant(place) = self.contents.documents.entry(digest) {
                    let bytes = read_exact(&blob.extent, 0, usize::try_from(blob.size).unwrap_or(0))?;
                    check(&digest, digest.of_same_kind(&bytes))?;
                    place.insert(bytes);
                }
            } else {
                self.blob(blob.order, digest, blob.size, Arc::new(blob.extent.clone()));
            }
        }
        let root = self.catalog.manifests.get(root).ok_or_else(|| missing(root))?;
        Ok(Manifest::clone(root))
    }

    /// An image of a docker-archive: the same manifest and layers that a push makes of it.
    fn unpacked(&mut self, image: &Unpacked) -> Result<Manifest, BundleError> {
        let mut facts: Vec<LayerFacts> = Vec::new();
        for layer in &image.layers {
            let LayerBlob { facts: made, content } = self.maker.layer(layer)?;
            let space: Arc<dyn ByteSpace> = match content {
                LayerContent::Made(spill) => spill,
                LayerContent::Stored(extent) => Arc::new(extent),
            };
            self.blob(layer.order, made.digest, made.size, space);
            facts.push(made);
        }
        let manifest = synthesise(image, &facts, self.maker.method)?;
        self.contents.documents.insert(image.config_digest, image.config.clone());
        self.contents.documents.insert(manifest.digest, manifest.bytes.clone());
        Ok(manifest)
    }

    fn blob(&mut self, order: u64, digest: Digest, size: u64, space: Arc<dyn ByteSpace>) {
        self.of_image.push(digest);
        if self.known.insert(digest) {
            self.ordered.entry(order).or_default().push(ContentBlob { digest, size, space });
        }
    }
}

/// The repository of a name.
fn repository_of(name: &ImageName) -> Option<NamedRepository> {
    let (host, path) = match name {
        ImageName::Full(Reference { host, repository, .. }) => (Some(host.clone()), repository),
        ImageName::Hostless(repository, _) | ImageName::HostlessDigest(repository, _) => (None, repository),
        ImageName::TagOnly(_) | ImageName::Invalid { .. } => return None,
    };
    Some(NamedRepository { host, path: path.to_string() })
}

/// Makes each layer of docker-archives once.
struct LayerMaker<'a> {
    opener: &'a Opener,
    method: Method,
    cancel: &'a CancellationToken,
    told: CompressProgress,
    made: HashMap<LayerKey, LayerBlob>,
}

/// Tells how many bytes of layers have been compressed.
struct CompressProgress {
    listeners: Listeners,
    method: Method,
    /// Of layers that are done.
    bytes: u64,
    /// Of all layers that are to be compressed.
    of: u64,
}

impl CompressProgress {
    fn of(catalog: &Catalog, method: Method, listeners: &Listeners) -> Self {
        let mut told = Self { listeners: listeners.clone(), method, bytes: 0, of: 0 };
        let unpacked = catalog.images.iter().filter_map(|image| match &image.content {
            Content::Unpacked(unpacked) => Some(unpacked),
            Content::Manifest(_) => None,
        });
        let mut known = HashSet::new();
        let layers = unpacked.flat_map(|image| &image.layers).filter(|layer| told.is_compressed(layer));
        let once = layers.filter(|layer| known.insert(LayerKey::of(layer)));
        told.of = once.map(|layer| layer.size).sum();
        told
    }

    fn is_compressed(&self, layer: &UnpackedLayer) -> bool {
        layer.stored == Stored::Plain && self.method != Method::None
    }

    /// The layer, which says how far it has been read.
    fn watched(&self, layer: &UnpackedLayer) -> UnpackedLayer {
        let (listeners, before, of) = (self.listeners.clone(), self.bytes, Some(self.of));
        let told = move |read| {
            listeners.emit(&Event::Advanced { step: WorkStep::Compress, bytes: before + read, of });
        };
        let space = WatchedSpace::over(Arc::new(layer.extent.clone()), told);
        UnpackedLayer { extent: Extent::new(space, 0, layer.size), ..layer.clone() }
    }
}

impl LayerMaker<'_> {
    fn layer(&mut self, layer: &UnpackedLayer) -> Result<LayerBlob, BundleError> {
        if let Some(made) = self.made.get(&LayerKey::of(layer)) {
            return Ok(made.clone());
        }
        super::go_on(self.cancel)?;
        let Opener { pool, resources, budget, cpu, .. } = self.opener;
        let spill =
            SpillSettings { budget: Arc::clone(budget), room: None, folder: resources.spool_folder.clone() };
        let made = if self.told.is_compressed(layer) {
            let made = compress::layer(pool, &self.told.watched(layer), self.method, &spill, cpu)?;
            self.told.bytes += layer.size;
            made
        } else {
            compress::layer(pool, layer, self.method, &spill, cpu)?
        };
        self.made.insert(LayerKey::of(layer), made.clone());
        Ok(made)
    }
}

/// Whether content is what it is called.
///
/// # Errors
/// [`Fault::DigestMismatch`]
pub(super) fn check(digest: &Digest, found: Digest) -> Result<(), BundleError> {
    if *digest == found {
        return Ok(());
    }
    let what = format!("the content of {digest} has the digest {found}");
    Err(BundleError::new(Fault::DigestMismatch, what))
}
