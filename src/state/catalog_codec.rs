//! A catalog as bytes, and back: what a later run over the same bundle needs instead of reading it.
//!
//! In: a [`Catalog`], the volume it was read from, and which inner volumes were opened meanwhile. Out: one compressed
//! document. Manifests are kept byte for byte, and are hashed again when they come back; the view on them is kept beside
//! them, because to read ten thousand JSON documents takes longer than all the rest. Places are kept as ranges of the
//! bundle's own volume, of archives inside it (opened again when somebody reads them, not before), of files of a folder,
//! and, for the few bytes that a document embeds, as the bytes themselves.
//!
//! Not kept, so that the bundle is read again: catalogs with damaged images or unreadable archives (whether something
//! counts as such may hang on settings, as `--decode-memory`), catalogs too large, and places that cannot be told.

use crate::sync::Mutex;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::archive::{
    Attachment, AttachmentKind, Blob, Catalog, Content, Image, ImageName, LeftOut, LeftOutClass,
    PartialIndex, Stored, Unpacked, UnpackedLayer,
};
use crate::error::BundleError;
use crate::oci::manifest::Kind;
use crate::oci::{Descriptor, Digest, Manifest, Platform};
use crate::source::{ByteSpace, Extent, LateFile, LazySpace, read_exact};

/// Counts up with each change of the types below. Beside it the program's version is kept: another one may read bundles
/// in another way.
pub(super) const FORMAT: u32 = 4;

/// What a document may take in memory. Ten thousand images take some 30 MB.
const MAX_RAW_BYTES: usize = 128 << 20;
/// Bytes embedded in documents are kept up to this length each.
const MAX_INLINE_BYTES: u64 = 1 << 20;
/// Archives inside archives inside archives; the reader of archives allows fewer.
const MAX_SPACES: usize = 1_000_000;
/// Fast, and the digests do not compress anyway.
const LEVEL: i32 = 1;

/// Gives the decoded space of stored bytes, whenever it is wanted.
pub(crate) type OpenVolume =
    dyn Fn(Arc<dyn ByteSpace>) -> Result<Arc<dyn ByteSpace>, BundleError> + Send + Sync;

/// What was opened while a catalog was read: without it nobody can say what a space is.
#[derive(Debug, Default)]
pub(crate) struct Openings(Mutex<HashMap<usize, OpenedStream>>);

#[derive(Debug)]
struct OpenedStream {
    /// Keeps the address taken, and no more than that.
    space: Weak<dyn ByteSpace>,
    origin: Origin,
}

#[derive(Debug, Clone)]
enum Origin {
    Stored(Arc<dyn ByteSpace>),
    File(PathBuf),
}

impl Openings {
    /// `opened` is the decoded space of the bytes that are `stored` in the bundle.
    pub(crate) fn volume(&self, stored: &Arc<dyn ByteSpace>, opened: &Arc<dyn ByteSpace>) {
        if address(stored) != address(opened) {
            self.note(opened, Origin::Stored(Arc::clone(stored)));
        }
    }

    /// `opened` is the file at `path`, as the reader of a folder asked for it.
    pub(crate) fn file(&self, path: &Path, opened: &Arc<dyn ByteSpace>) {
        self.note(opened, Origin::File(path.to_owned()));
    }

    fn note(&self, opened: &Arc<dyn ByteSpace>, origin: Origin) {
        let space = Arc::downgrade(opened);
        let mut all = self.0.lock();
        all.insert(address(opened), OpenedStream { space, origin });
    }

    fn of(&self, space: &Arc<dyn ByteSpace>) -> Option<Origin> {
        let all = self.0.lock();
        let opened = all.get(&address(space))?;
        (opened.space.strong_count() > 0).then(|| opened.origin.clone())
    }
}

fn address(space: &Arc<dyn ByteSpace>) -> usize {
    Arc::as_ptr(space).cast::<()>().addr()
}

/// What the places of a catalog are relative to.
#[derive(Clone)]
pub(crate) enum Home {
    /// The volume of a file, open or to be opened late.
    Volume(Arc<dyn ByteSpace>),
    /// A folder.
    Folder(PathBuf),
}

impl std::fmt::Debug for Home {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Volume(space) => write!(f, "the volume {space:?}"),
            Self::Folder(path) => write!(f, "the folder {}", path.display()),
        }
    }
}

/// Why a catalog is not kept, or one that was kept is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unkept {
    #[error("something in it is damaged or cannot be read")]
    Broken,
    #[error("it is too large")]
    TooLarge,
    #[error("the place of some content cannot be told")]
    Place,
    #[error("what was kept is damaged")]
    Damaged,
}

#[derive(Serialize, Deserialize)]
struct WireCatalog<'a> {
    #[serde(borrow)]
    spaces: Vec<WireSpace<'a>>,
    #[serde(borrow)]
    images: Vec<WireImage<'a>>,
    #[serde(borrow)]
    manifests: Vec<WireManifest<'a>>,
    #[serde(borrow)]
    blobs: Vec<WireBlob<'a>>,
    #[serde(borrow)]
    notes: Vec<&'a str>,
    left_out: Cow<'a, [LeftOut]>,
}

/// Space 0 is the bundle's own volume; these follow from 1 on, each made from earlier ones.
#[derive(Serialize, Deserialize)]
enum WireSpace<'a> {
    Volume(WireExtent),
    /// Relative to the folder.
    File(#[serde(borrow)] Cow<'a, str>),
    Inline(&'a [u8]),
}

#[derive(Serialize, Deserialize, Clone, Copy)]
struct WireExtent {
    space: u32,
    offset: u64,
    len: u64,
}

#[derive(Serialize, Deserialize)]
struct WireImage<'a> {
    #[serde(borrow)]
    names: Vec<WireName<'a>>,
    #[serde(borrow)]
    content: WireContent<'a>,
    origin: &'a str,
    #[serde(borrow)]
    annotations: Vec<(&'a str, &'a str)>,
    #[serde(borrow)]
    partial: Option<WirePartial<'a>>,
    attachment: Option<(&'a [u8], AttachmentKind)>,
    unit: Option<&'a str>,
}

#[derive(Serialize, Deserialize)]
struct WirePartial<'a> {
    index: &'a [u8],
    #[serde(borrow)]
    present: Vec<(&'a [u8], &'a str)>,
    #[serde(borrow)]
    missing: Vec<&'a str>,
}

#[derive(Serialize, Deserialize)]
enum WireName<'a> {
    Full(#[serde(borrow)] Cow<'a, str>),
    Hostless(&'a str, &'a str),
    HostlessDigest(&'a str, &'a [u8]),
    TagOnly(&'a str),
    Invalid(&'a str, &'a str),
}

#[derive(Serialize, Deserialize)]
enum WireContent<'a> {
    Manifest(&'a [u8]),
    Unpacked {
        config: &'a [u8],
        config_digest: &'a [u8],
        os: &'a str,
        architecture: &'a str,
        variant: Option<&'a str>,
        #[serde(borrow)]
        layers: Vec<WireLayer<'a>>,
    },
}

#[derive(Serialize, Deserialize)]
struct WireLayer<'a> {
    diff_id: &'a [u8],
    member: &'a str,
    extent: WireExtent,
    stored: u8,
    order: u64,
}

#[derive(Serialize, Deserialize)]
struct WireManifest<'a> {
    digest: &'a [u8],
    media_type: &'a str,
    bytes: &'a [u8],
    #[serde(borrow)]
    kind: WireKind<'a>,
    /// Layers, blobs, or manifests.
    #[serde(borrow)]
    listed: Vec<WireDescriptor<'a>>,
    #[serde(borrow)]
    subject: Option<WireDescriptor<'a>>,
}

#[derive(Serialize, Deserialize)]
enum WireKind<'a> {
    /// With its configuration.
    Image(#[serde(borrow)] WireDescriptor<'a>),
    Index,
    Artifact,
}

#[derive(Serialize, Deserialize)]
struct WireDescriptor<'a> {
    media_type: &'a str,
    digest: &'a [u8],
    size: u64,
    #[serde(borrow)]
    urls: Vec<&'a str>,
    #[serde(borrow)]
    annotations: Vec<(&'a str, &'a str)>,
    #[serde(borrow)]
    platform: Option<(&'a str, &'a str, Option<&'a str>)>,
}

#[derive(Serialize, Deserialize)]
struct WireBlob<'a> {
    digest: &'a [u8],
    extent: WireExtent,
    order: u64,
}

/// A catalog as compressed bytes, and how many they are uncompressed.
pub(super) fn encode(
    catalog: &Catalog,
    home: &Home,
    openings: &Openings,
) -> Result<(Vec<u8>, usize), Unkept> {
    let unreadable = catalog.left_out.iter().any(|it| it.class == LeftOutClass::Unreadable);
    if unreadable || !catalog.broken.is_empty() {
        return Err(Unkept::Broken);
    }
    let mut places = Places::new(home, openings);
    let images = catalog.images.iter().map(|image| places.image(image)).collect::<Result<_, _>>()?;
    // In the order of the bundle, so that equal catalogs are equal bytes.
    let mut blobs: Vec<_> = catalog.blobs.iter().collect();
    blobs.sort_by_key(|(digest, blob)| (blob.order, **digest));
    let blobs = blobs.into_iter().map(|(digest, blob)| {
        let extent = places.extent(&blob.extent, blob.size)?;
        Ok(WireBlob { digest: digest_bytes(digest), extent, order: blob.order })
    });
    let blobs = blobs.collect::<Result<_, Unkept>>()?;
    let mut manifests: Vec<_> = catalog.manifests.iter().collect();
    manifests.sort_by_key(|(digest, _)| **digest);
    let manifests = manifests.into_iter().map(|(_, manifest)| wire_manifest(manifest)).collect();
    let notes = catalog.notes.iter().map(String::as_str).collect();
    let inline = places.inline;
    let spaces = places.spaces.into_iter().map(|space| match space {
        Space::Volume(extent) => WireSpace::Volume(extent),
        Space::File(path) => WireSpace::File(path.into()),
        Space::Inline(at) => WireSpace::Inline(&inline[at]),
    });
    let left_out = Cow::Borrowed(catalog.left_out.as_slice());
    let wire = WireCatalog { spaces: spaces.collect(), images, manifests, blobs, notes, left_out };
    let raw = postcard::to_stdvec(&wire).map_err(|_| Unkept::TooLarge)?;
    if raw.len() > MAX_RAW_BYTES {
        return Err(Unkept::TooLarge);
    }
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).map_err(|_| Unkept::TooLarge)?;
    compressor.include_checksum(true).map_err(|_| Unkept::TooLarge)?;
    let compressed = compressor.compress(&raw).map_err(|_| Unkept::TooLarge)?;
    Ok((compressed, raw.len()))
}

fn wire_manifest(manifest: &Manifest) -> WireManifest<'_> {
    let (kind, listed) = match &manifest.kind {
        Kind::Image { config, layers } => (WireKind::Image(wire_descriptor(config)), layers),
        Kind::Index { children } => (WireKind::Index, children),
        Kind::Artifact { blobs } => (WireKind::Artifact, blobs),
    };
    WireManifest {
        digest: digest_bytes(&manifest.digest),
        media_type: &manifest.media_type,
        bytes: &manifest.bytes,
        kind,
        listed: listed.iter().map(wire_descriptor).collect(),
        subject: manifest.subject.as_ref().map(wire_descriptor),
    }
}

fn wire_descriptor(descriptor: &Descriptor) -> WireDescriptor<'_> {
    // What a descriptor embeds is kept as the blob that it is.
    let Descriptor { media_type, digest, size, urls, annotations, platform, data: _ } = descriptor;
    WireDescriptor {
        media_type,
        digest: digest_bytes(digest),
        size: *size,
        urls: urls.iter().map(String::as_str).collect(),
        annotations: annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
        platform: platform.as_ref().map(|platform| {
            (platform.os.as_str(), platform.architecture.as_str(), platform.variant.as_deref())
        }),
    }
}

fn wire_partial(partial: &PartialIndex) -> WirePartial<'_> {
    let present = partial.present.iter().map(|(digest, platform)| (digest_bytes(digest), platform.as_str()));
    WirePartial {
        index: digest_bytes(&partial.index),
        present: present.collect(),
        missing: partial.missing.iter().map(String::as_str).collect(),
    }
}

enum Space {
    Volume(WireExtent),
    File(String),
    Inline(usize),
}

/// Finds out what ranges are ranges of.
struct Places<'a> {
    home: &'a Home,
    openings: &'a Openings,
    known: HashMap<usize, u32>,
    spaces: Vec<Space>,
    inline: Vec<Bytes>,
}

impl<'a> Places<'a> {
    fn new(home: &'a Home, openings: &'a Openings) -> Self {
        let known = match home {
            Home::Volume(space) => HashMap::from([(address(space), 0)]),
            Home::Folder(_) => HashMap::new(),
        };
        Self { home, openings, known, spaces: Vec::new(), inline: Vec::new() }
    }

    fn image<'c>(&mut self, image: &'c Image) -> Result<WireImage<'c>, Unkept> {
        let names = image.names.iter().map(|name| match name {
            ImageName::Full(reference) => WireName::Full(reference.to_string().into()),
            ImageName::Hostless(repository, tag) => WireName::Hostless(repository.as_str(), tag.as_str()),
            ImageName::HostlessDigest(repository, digest) => {
                WireName::HostlessDigest(repository.as_str(), digest_bytes(digest))
            }
            ImageName::TagOnly(tag) => WireName::TagOnly(tag.as_str()),
            ImageName::Invalid { text, why } => WireName::Invalid(text, why),
        });
        let content = match &image.content {
            Content::Manifest(digest) => WireContent::Manifest(digest_bytes(digest)),
            Content::Unpacked(unpacked) => {
                let layers = unpacked.layers.iter().map(|layer| {
                    Ok(WireLayer {
                        diff_id: digest_bytes(&layer.diff_id),
                        member: &layer.member,
                        extent: self.extent(&layer.extent, layer.size)?,
                        stored: stored_number(layer.stored),
                        order: layer.order,
                    })
                });
                let layers = layers.collect::<Result<_, Unkept>>()?;
                WireContent::Unpacked {
                    config: &unpacked.config,
                    config_digest: digest_bytes(&unpacked.config_digest),
                    os: &unpacked.platform.os,
                    architecture: &unpacked.platform.architecture,
                    variant: unpacked.platform.variant.as_deref(),
                    layers,
                }
            }
        };
        let annotations = image.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        Ok(WireImage {
            names: names.collect(),
            content,
            origin: &image.origin,
            annotations: annotations.collect(),
            partial: image.partial.as_deref().map(wire_partial),
            attachment: image.attachment.as_ref().map(|it| (digest_bytes(&it.subject), it.kind)),
            unit: image.unit.as_deref(),
        })
    }

    fn extent(&mut self, extent: &Extent, size: u64) -> Result<WireExtent, Unkept> {
        if extent.len().ok() != Some(size) {
            return Err(Unkept::Place);
        }
        let (space, offset) = extent.within().ok_or(Unkept::Place)?;
        self.range(space, offset, size)
    }

    /// A range of any space as one of a space that stands by itself.
    fn range(&mut self, space: &Arc<dyn ByteSpace>, offset: u64, len: u64) -> Result<WireExtent, Unkept> {
        let (mut space, mut offset) = (space, offset);
        loop {
            if let Some(&number) = self.known.get(&address(space)) {
                return Ok(WireExtent { space: number, offset, len });
            }
            if let Some(origin) = self.openings.of(space) {
                let made = match origin {
                    Origin::Stored(stored) => {
                        let stored_len = stored.len().map_err(|_| Unkept::Place)?;
                        Space::Volume(self.range(&stored, 0, stored_len)?)
                    }
                    Origin::File(path) => Space::File(self.relative(&path)?),
                };
                let number = self.add(made)?;
                self.known.insert(address(space), number);
                return Ok(WireExtent { space: number, offset, len });
            }
            match space.within() {
                Some((parent, at)) => {
                    offset = offset.checked_add(at).ok_or(Unkept::Place)?;
                    space = parent;
                }
                // No file and no volume: bytes that a document of the bundle embeds.
                None if len <= MAX_INLINE_BYTES => {
                    let len_here = usize::try_from(len).map_err(|_| Unkept::Place)?;
                    let bytes = read_exact(space.as_ref(), offset, len_here).map_err(|_| Unkept::Place)?;
                    self.inline.push(bytes);
                    let number = self.add(Space::Inline(self.inline.len() - 1))?;
                    return Ok(WireExtent { space: number, offset: 0, len });
                }
                None => return Err(Unkept::Place),
            }
        }
    }

    fn relative(&self, path: &Path) -> Result<String, Unkept> {
        let Home::Folder(root) = self.home else { return Err(Unkept::Place) };
        let path = path.strip_prefix(root).map_err(|_| Unkept::Place)?;
        path.to_str().map(str::to_owned).ok_or(Unkept::Place)
    }

    fn add(&mut self, space: Space) -> Result<u32, Unkept> {
        self.spaces.push(space);
        if self.spaces.len() > MAX_SPACES {
            return Err(Unkept::TooLarge);
        }
        u32::try_from(self.spaces.len()).map_err(|_| Unkept::TooLarge)
    }
}

/// The catalog that was kept, its places in `home`. Reads nothing of the bundle. Everything is checked: each manifest and
/// configuration against its digest, each name against its grammar, and that nothing an image needs is missing.
pub(super) fn decode(
    compressed: &[u8],
    raw_len: usize,
    home: &Home,
    open: &Arc<OpenVolume>,
) -> Result<Catalog, Unkept> {
    if raw_len > MAX_RAW_BYTES {
        return Err(Unkept::TooLarge);
    }
    let mut decompressor = zstd::bulk::Decompressor::new().map_err(|_| Unkept::Damaged)?;
    let raw = decompressor.decompress(compressed, raw_len).map_err(|_| Unkept::Damaged)?;
    let raw = Bytes::from(raw);
    let wire: WireCatalog<'_> = postcard::from_bytes(&raw).map_err(|_| Unkept::Damaged)?;
    let spaces = Spaces::new(wire.spaces, &raw, home, open)?;
    let mut catalog = Catalog {
        manifests: manifests(&wire.manifests, &raw)?,
        notes: wire.notes.into_iter().map(str::to_owned).collect(),
        left_out: wire.left_out.into_owned(),
        ..Catalog::default()
    };
    catalog.blobs.reserve(wire.blobs.len());
    for blob in wire.blobs {
        let (extent, size) = (spaces.extent(blob.extent)?, blob.extent.len);
        catalog.blobs.insert(digest_of(blob.digest)?, Blob { size, extent, order: blob.order });
    }
    catalog.images =
        wire.images.into_iter().map(|kept| image(kept, &raw, &spaces)).collect::<Result<_, _>>()?;
    if is_closed(&catalog) { Ok(catalog) } else { Err(Unkept::Damaged) }
}

/// From so many manifests on, a second thread pays.
const MANIFESTS_PER_THREAD: usize = 1000;
const MAX_THREADS: usize = 4;

fn manifests(wire: &[WireManifest<'_>], raw: &Bytes) -> Result<HashMap<Digest, Arc<Manifest>>, Unkept> {
    let part_of = |part: &[WireManifest<'_>]| {
        part.iter().map(|kept| manifest(kept, raw)).collect::<Result<Vec<_>, Unkept>>()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let per_thread = wire.len().div_ceil(cores).max(MANIFESTS_PER_THREAD);
    let mut all = HashMap::with_capacity(wire.len());
    if wire.len() <= per_thread {
        all.extend(part_of(wire)?);
        return Ok(all);
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> =
            wire.chunks(per_thread).map(|part| scope.spawn(move || part_of(part))).collect();
        for thread in threads {
            all.extend(thread.join().map_err(|_| Unkept::Damaged)??);
        }
        Ok(all)
    })
}

fn manifest(kept: &WireManifest<'_>, raw: &Bytes) -> Result<(Digest, Arc<Manifest>), Unkept> {
    let digest = digest_of(kept.digest)?;
    if !digest.matches(kept.bytes) {
        return Err(Unkept::Damaged);
    }
    let listed = kept.listed.iter().map(descriptor).collect::<Result<Vec<_>, _>>()?;
    let kind = match &kept.kind {
        WireKind::Image(config) => Kind::Image { config: Box::new(descriptor(config)?), layers: listed },
        WireKind::Index => Kind::Index { children: listed },
        WireKind::Artifact => Kind::Artifact { blobs: listed },
    };
    let manifest = Manifest {
        bytes: raw.slice_ref(kept.bytes),
        digest,
        media_type: kept.media_type.to_owned(),
        kind,
        subject: kept.subject.as_ref().map(descriptor).transpose()?,
    };
    Ok((digest, Arc::new(manifest)))
}

fn descriptor(kept: &WireDescriptor<'_>) -> Result<Descriptor, Unkept> {
    let platform = kept.platform.map(|(os, architecture, variant)| platform(os, architecture, variant));
    Ok(Descriptor {
        media_type: kept.media_type.to_owned(),
        digest: digest_of(kept.digest)?,
        size: kept.size,
        urls: kept.urls.iter().map(|&url| url.to_owned()).collect(),
        annotations: kept
            .annotations
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect(),
        platform,
        data: None,
    })
}

fn platform(os: &str, architecture: &str, variant: Option<&str>) -> Platform {
    Platform { os: os.to_owned(), architecture: architecture.to_owned(), variant: variant.map(str::to_owned) }
}

fn image(kept: WireImage<'_>, raw: &Bytes, spaces: &Spaces) -> Result<Image, Unkept> {
    let names = kept.names.into_iter().map(|name| match name {
        WireName::Full(text) => parse(&text).map(ImageName::Full),
        WireName::Hostless(repository, tag) => Ok(ImageName::Hostless(parse(repository)?, parse(tag)?)),
        WireName::HostlessDigest(repository, digest) => {
            Ok(ImageName::HostlessDigest(parse(repository)?, digest_of(digest)?))
        }
        WireName::TagOnly(tag) => parse(tag).map(ImageName::TagOnly),
        WireName::Invalid(text, why) => Ok(ImageName::Invalid { text: text.to_owned(), why: why.to_owned() }),
    });
    let names = names.collect::<Result<_, _>>()?;
    let content = match kept.content {
        WireContent::Manifest(digest) => Content::Manifest(digest_of(digest)?),
        WireContent::Unpacked { config, config_digest, os, architecture, variant, layers } => {
            let config_digest = digest_of(config_digest)?;
            if !config_digest.matches(config) {
                return Err(Unkept::Damaged);
            }
            let layers = layers.into_iter().map(|layer| {
                Ok(UnpackedLayer {
                    diff_id: digest_of(layer.diff_id)?,
                    member: layer.member.to_owned(),
                    extent: spaces.extent(layer.extent)?,
                    size: layer.extent.len,
                    stored: stored_of(layer.stored)?,
                    order: layer.order,
                })
            });
            Content::Unpacked(Arc::new(Unpacked {
                config: raw.slice_ref(config),
                config_digest,
                platform: platform(os, architecture, variant),
                layers: layers.collect::<Result<_, Unkept>>()?,
            }))
        }
    };
    let annotations: BTreeMap<String, String> =
        kept.annotations.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let partial = kept.partial.map(partial).transpose()?.map(Arc::new);
    let attachment = kept
        .attachment
        .map(|(subject, kind)| digest_of(subject).map(|subject| Attachment { subject, kind }))
        .transpose()?;
    let (origin, unit) = (kept.origin.to_owned(), kept.unit.map(Arc::from));
    Ok(Image { names, content, origin, annotations, partial, attachment, unit })
}

fn partial(kept: WirePartial<'_>) -> Result<PartialIndex, Unkept> {
    let present =
        kept.present.into_iter().map(|(digest, platform)| Ok((digest_of(digest)?, platform.to_owned())));
    Ok(PartialIndex {
        index: digest_of(kept.index)?,
        present: present.collect::<Result<_, Unkept>>()?,
        missing: kept.missing.into_iter().map(str::to_owned).collect(),
    })
}

/// The spaces of a catalog that came back; none of them opened.
struct Spaces(Vec<Option<Arc<dyn ByteSpace>>>);

impl Spaces {
    fn new(
        kept: Vec<WireSpace<'_>>,
        raw: &Bytes,
        home: &Home,
        open: &Arc<OpenVolume>,
    ) -> Result<Self, Unkept> {
        let mut spaces = Self(vec![match home {
            Home::Volume(space) => Some(Arc::clone(space)),
            Home::Folder(_) => None,
        }]);
        for space in kept {
            let made: Arc<dyn ByteSpace> = match space {
                WireSpace::Volume(stored) => {
                    let stored: Arc<dyn ByteSpace> = Arc::new(spaces.extent(stored)?);
                    let open = Arc::clone(open);
                    Arc::new(LazySpace::new(move || open(Arc::clone(&stored))))
                }
                WireSpace::File(path) => {
                    let Home::Folder(root) = home else { return Err(Unkept::Damaged) };
                    let path = inside(root, &path).ok_or(Unkept::Damaged)?;
                    Arc::new(LazySpace::new(move || Ok(Arc::new(LateFile::new(&path)?))))
                }
                WireSpace::Inline(bytes) => Arc::new(raw.slice_ref(bytes)),
            };
            spaces.0.push(Some(made));
        }
        Ok(spaces)
    }

    fn extent(&self, kept: WireExtent) -> Result<Extent, Unkept> {
        kept.offset.checked_add(kept.len).ok_or(Unkept::Damaged)?;
        let number = usize::try_from(kept.space).map_err(|_| Unkept::Damaged)?;
        let space = self.0.get(number).and_then(Option::as_ref).ok_or(Unkept::Damaged)?;
        Ok(Extent::new(Arc::clone(space), kept.offset, kept.len))
    }
}

/// A path below the folder, unless it leads out of it.
fn inside(root: &Path, path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    path.components().all(|part| matches!(part, std::path::Component::Normal(_))).then(|| root.join(path))
}

/// Whether everything that an image needs is there.
fn is_closed(catalog: &Catalog) -> bool {
    let there =
        |digest: &Digest| catalog.manifests.contains_key(digest) || catalog.blobs.contains_key(digest);
    let manifests = catalog.manifests.values();
    let roots = catalog.images.iter().all(|image| match &image.content {
        Content::Manifest(digest) => catalog.manifests.contains_key(digest),
        Content::Unpacked(_) => true,
    });
    let partial = catalog.images.iter().filter_map(|image| image.partial.as_ref());
    let parts = partial.flat_map(|partial| &partial.present).all(|(digest, _)| there(digest));
    let below = manifests.flat_map(|m| m.blobs().chain(m.children()));
    roots && parts && below.filter(|below| !below.is_foreign()).all(|below| there(&below.digest))
}

fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Unkept> {
    text.parse().map_err(|_| Unkept::Damaged)
}

/// Its length tells the algorithm.
fn digest_bytes(digest: &Digest) -> &[u8] {
    match digest {
        Digest::Sha256(bytes) => bytes,
        Digest::Sha512(bytes) => bytes,
    }
}

fn digest_of(bytes: &[u8]) -> Result<Digest, Unkept> {
    let sha512 = || bytes.try_into().map(Digest::Sha512);
    bytes.try_into().map(Digest::Sha256).or_else(|_| sha512()).map_err(|_| Unkept::Damaged)
}

const fn stored_number(stored: Stored) -> u8 {
    match stored {
        Stored::Plain => 0,
        Stored::Gzip => 1,
        Stored::Zstd => 2,
    }
}

const fn stored_of(number: u8) -> Result<Stored, Unkept> {
    match number {
        0 => Ok(Stored::Plain),
        1 => Ok(Stored::Gzip),
        2 => Ok(Stored::Zstd),
        _ => Err(Unkept::Damaged),
    }
}
