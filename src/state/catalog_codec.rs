//! A catalog as bytes, and back: what a later run over the same bundle needs instead of reading it.
//!
//! In: a [`Catalog`]. Out: one compressed document, the catalog as its own types serialise it. Where bytes lie is no part
//! of that; it is written beside it, as offsets in spaces: the bundle's own volume, archives inside it (opened again when
//! somebody reads them, not before), files of a folder, and, for the few bytes that a document embeds, the bytes
//! themselves. Manifests are kept byte for byte with the view on them, because to read ten thousand JSON documents takes
//! longer than all the rest; they are hashed again when they come back.
//!
//! Damaged images and unreadable files are kept like the rest: they are a property of the bundle's bytes, and each run reports
//! them.
//!
//! Not kept, so that the bundle is read again: deltas, catalogs of which a part may be read with other settings (`--decode-memory`) or
//! at another time, catalogs too large, and places that cannot be written down.

mod spaces;
#[cfg(test)]
pub(super) mod tests;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::spaces::{Space, SpaceEncoder, SpaceOffset, Spaces};
use crate::archive::{Catalog, Content, Image};
use crate::error::BundleError;
use crate::oci::{Digest, Manifest};
use crate::source::ByteSpace;

/// Incremented with each change of the types that are written. The program's version is kept beside it, because another version
/// may read bundles in another way.
pub(super) const FORMAT: u32 = 6;

/// The most memory of a document. Ten thousand images take some 30 MB.
const MAX_RAW_BYTES: usize = 128 << 20;
/// Fast, and the digests do not compress anyway.
const LEVEL: i32 = 1;

/// Gives the decoded space of stored bytes, whenever it is wanted.
pub(crate) type OpenVolume =
    dyn Fn(Arc<dyn ByteSpace>) -> Result<Arc<dyn ByteSpace>, BundleError> + Send + Sync;

/// What the places of a catalog are relative to.
#[derive(Debug, Clone)]
pub(crate) enum Home {
    /// The volume of a file, open or to be opened late.
    Volume(Arc<dyn ByteSpace>),
    /// A folder.
    Folder(PathBuf),
}

impl Home {
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) => Some(path),
            Self::Volume(_) => None,
        }
    }
}

/// Why a catalog is not kept, or one that was kept is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unkept {
    #[error("a later run may be able to read what this one could not")]
    MayPass,
    #[error("it is too large")]
    TooLarge,
    #[error("the place of some content cannot be written down")]
    Place,
    #[error("what was kept is damaged")]
    Damaged,
}

#[derive(Serialize, Deserialize)]
struct StoredCatalog<'a> {
    catalog: Cow<'a, Catalog>,
    /// With the digest under which the catalog has them, which need not be their own.
    manifests: Vec<(Digest, Cow<'a, Manifest>)>,
    spaces: Vec<Space>,
    /// Of blobs in the order of the bundle.
    blobs: Vec<SpaceOffset>,
    /// Of layers in the order of the images.
    layers: Vec<SpaceOffset>,
}

/// A catalog as compressed bytes, and how many they are uncompressed.
pub(super) fn encode(catalog: &Catalog, home: &Home) -> Result<(Vec<u8>, usize), Unkept> {
    let failed = catalog.broken.iter().map(|broken| broken.error.fault().may_pass());
    if failed.chain(catalog.left_out.iter().map(|it| it.may_pass)).any(|may_pass| may_pass) {
        return Err(Unkept::MayPass);
    }
    if !catalog.left_to_base.is_empty() {
        return Err(Unkept::Place);
    }
    let mut places = SpaceEncoder::new(home.folder());
    let mut blobs: Vec<_> = catalog.blobs.iter().collect();
    blobs.sort_unstable_by_key(|(digest, blob)| (blob.order, **digest));
    let blobs = blobs.into_iter().map(|(_, blob)| places.of(&blob.extent, blob.size));
    let blobs = blobs.collect::<Result<_, _>>()?;
    let layers = catalog.images.iter().flat_map(Image::unpacked_layers);
    let layers = layers.map(|layer| places.of(&layer.extent, layer.size)).collect::<Result<_, _>>()?;
    let manifests = catalog.manifests.iter();
    let manifests = manifests.map(|(digest, manifest)| (*digest, Cow::Borrowed(manifest.as_ref()))).collect();
    let spaces = places.spaces();
    let document = StoredCatalog { catalog: Cow::Borrowed(catalog), manifests, spaces, blobs, layers };
    let raw = postcard::to_stdvec(&document).map_err(|_| Unkept::TooLarge)?;
    if raw.len() > MAX_RAW_BYTES {
        return Err(Unkept::TooLarge);
    }
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).map_err(|_| Unkept::TooLarge)?;
    compressor.include_checksum(true).map_err(|_| Unkept::TooLarge)?;
    let compressed = compressor.compress(&raw).map_err(|_| Unkept::TooLarge)?;
    Ok((compressed, raw.len()))
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
    let document: StoredCatalog<'static> = postcard::from_bytes(&raw).map_err(|_| Unkept::Damaged)?;
    drop(raw);
    let mut catalog = document.catalog.into_owned();
    let manifests = document.manifests.into_iter();
    catalog.manifests.extend(manifests.map(|(digest, manifest)| (digest, Arc::new(manifest.into_owned()))));
    let spaces = Spaces::new(document.spaces, home, open)?;
    give_places(&mut catalog, &spaces, &document.blobs, &document.layers)?;
    if is_sound(&catalog) && is_closed(&catalog) { Ok(catalog) } else { Err(Unkept::Damaged) }
}

/// Gives each blob and layer the place of its bytes, in the order in which [`encode`] wrote them.
fn give_places(
    catalog: &mut Catalog,
    spaces: &Spaces,
    blobs: &[SpaceOffset],
    layers: &[SpaceOffset],
) -> Result<(), Unkept> {
    let mut all: Vec<_> = catalog.blobs.iter_mut().collect();
    all.sort_unstable_by_key(|(digest, blob)| (blob.order, **digest));
    if all.len() != blobs.len() {
        return Err(Unkept::Damaged);
    }
    for ((_, blob), place) in all.into_iter().zip(blobs) {
        blob.extent = spaces.extent(*place, blob.size)?;
    }
    let mut layers = layers.iter();
    for image in &mut catalog.images {
        let Content::Unpacked(unpacked) = &mut image.content else { continue };
        for layer in &mut Arc::get_mut(unpacked).ok_or(Unkept::Damaged)?.layers {
            layer.extent = spaces.extent(*layers.next().ok_or(Unkept::Damaged)?, layer.size)?;
        }
    }
    layers.next().is_none().then_some(()).ok_or(Unkept::Damaged)
}

/// From this many manifests on, a second thread pays.
const MANIFESTS_PER_THREAD: usize = 1000;
const MAX_THREADS: usize = 4;

/// Whether manifests and configurations have their digests.
fn is_sound(catalog: &Catalog) -> bool {
    let configurations = catalog.images.iter().all(|image| match &image.content {
        Content::Unpacked(unpacked) => unpacked.config_digest.matches(&unpacked.config),
        Content::Manifest(_) => true,
    });
    let manifests: Vec<_> = catalog.manifests.iter().collect();
    let part = |part: &[(&Digest, &Arc<Manifest>)]| {
        part.iter().all(|(digest, manifest)| {
            // Bytes that are known by another digest than their own are hashed for both.
            let is_own = **digest == manifest.digest;
            digest.matches(&manifest.bytes) && (is_own || manifest.digest.matches(&manifest.bytes))
        })
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
    let per_thread = manifests.len().div_ceil(cores).max(MANIFESTS_PER_THREAD);
    configurations
        && std::thread::scope(|scope| {
            let mut parts = manifests.chunks(per_thread);
            let first = parts.next().unwrap_or_default();
            let threads: Vec<_> = parts.map(|others| scope.spawn(move || part(others))).collect();
            // All of them are waited for, whatever one says.
            let first = part(first);
            threads.into_iter().map(|thread| thread.join().unwrap_or(false)).fold(first, |all, one| all & one)
        })
}

/// Whether everything that an image needs is there.
fn is_closed(catalog: &Catalog) -> bool {
    let there = |digest: &_| catalog.manifests.contains_key(digest) || catalog.blobs.contains_key(digest);
    let manifests = catalog.manifests.values();
    // What can be had of a broken index is an image where that is accepted.
    let images = || catalog.images.iter().chain(catalog.broken.iter().filter_map(|it| it.part.as_deref()));
    let roots = images().all(|image| match &image.content {
        Content::Manifest(digest) => catalog.manifests.contains_key(digest),
        Content::Unpacked(_) => true,
    });
    let partial = images().filter_map(|image| image.partial.as_ref());
    let parts = partial.flat_map(|partial| &partial.present).all(|(digest, _)| there(digest));
    let below = manifests.flat_map(|m| m.blobs().chain(m.children()));
    roots && parts && below.filter(|below| !below.is_foreign()).all(|below| there(&below.digest))
}
