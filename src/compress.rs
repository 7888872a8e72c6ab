//! Plain layers of docker-archives become compressed blobs: in parallel, and always the same bytes.
//!
//! In: a layer as the bundle stores it. Out: the digest, size and content of the blob that is pushed for it. A layer is
//! cut into members of fixed size, each compressed alone by any core, and put together in order; so the result depends
//! on the input, the method and the library versions (pinned), never on the machine or the number of cores. Concatenated
//! gzip members are ordinary gzip ([RFC 1952, 2.2](https://www.rfc-editor.org/rfc/rfc1952#section-2.2)), concatenated
//! zstd frames ordinary zstd ([RFC 8878, 3](https://www.rfc-editor.org/rfc/rfc8878#section-3)).
//!
//! What is stored compressed already (crane's tarballs) stays as it is; it is decoded once, to check its diff_id.

mod spill;
mod stored;

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use rayon::prelude::*;

use crate::archive::{Stored, UnpackedLayer};
use crate::clock::CpuTime;
use crate::error::{BundleError, Fault};
use crate::oci::{Algorithm, Digest, Hasher, media_type};
use crate::source::{ByteSpace, Extent, read_exact};

pub(crate) use spill::{Spill, SpillSettings};

/// How plain layers of docker-archives are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, clap::ValueEnum)]
pub enum Method {
    /// Every runtime reads it.
    #[default]
    Gzip,
    // It needs OCI media types.
    /// Faster and smaller; containerd 1.5, CRI-O 1.20, Docker 23 and later.
    Zstd,
    /// Plain tars.
    None,
}

/// What a manifest says of a layer's blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerFacts {
    /// Digest of the blob.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Its media type.
    pub media_type: &'static str,
}

/// A layer as a blob that can be pushed.
#[derive(Debug, Clone)]
pub(crate) struct LayerBlob {
    /// What the manifest says of it.
    pub facts: LayerFacts,
    /// Its bytes.
    pub content: LayerContent,
}

/// The bytes of a layer's blob.
#[derive(Debug, Clone)]
pub(crate) enum LayerContent {
    /// Made here; hashed while they were made.
    Made(Arc<Spill>),
    /// As they lie in the bundle.
    Stored(Extent),
}

/// CPU time that was spent on what goes out, by what it was spent on.
#[derive(Debug, Clone, Default)]
pub(crate) struct CpuMeters {
    /// Compressing layers.
    pub compress: Arc<CpuTime>,
    /// Hashing layers and blobs.
    pub sha256: Arc<CpuTime>,
}

const MEMBER_BYTES: usize = 1 << 20;
/// Members that are read and compressed together. What a layer in work needs of memory is about three times this.
const WINDOW_MEMBERS: usize = 4;
/// Level 3 of libdeflate: nearly the ratio of zlib's 6 at twice the speed.
const GZIP_LEVEL: i32 = 3;
const ZSTD_LEVEL: i32 = 1;

/// Media types of layers for images that have no manifest of their own. Docker's for gzip and plain, as `docker push`
/// writes them and every registry takes them; zstd has a type only in OCI.
impl Method {
    /// All that decides which bytes come out, beside those that go in. It changes when they do.
    pub(crate) const fn recipe(self) -> &'static str {
        match self {
            Self::Gzip => "gzip: libdeflate 1.26.1, level 3, members of 1 MiB",
            Self::Zstd => "zstd: libzstd of zstd 0.14.4, level 1, frames of 1 MiB, checksums",
            Self::None => "plain",
        }
    }

    /// The most that a layer of so many plain bytes takes as a blob. What does not compress grows a little: libdeflate adds
    /// five bytes for each block of 5,000, zstd a 256th, and both frame each member.
    pub(crate) const fn most_bytes(self, plain: u64) -> u64 {
        let member = MEMBER_BYTES as u64;
        // An empty layer is one empty member.
        let members = if plain == 0 { 1 } else { plain.div_ceil(member) };
        let growth = match self {
            Self::Gzip => member / 5000 * 5 + 64,
            Self::Zstd => member / 256 + 64,
            Self::None => 0,
        };
        plain + members * growth
    }

    /// The media type of a layer compressed this way.
    pub(crate) const fn layer_type(self) -> &'static str {
        match self {
            Self::Gzip => media_type::DOCKER_LAYER_GZIP,
            Self::Zstd => media_type::OCI_LAYER_ZSTD,
            Self::None => media_type::DOCKER_LAYER,
        }
    }
}

/// Makes the blob of a layer, and checks the layer against its diff_id on the way. Runs on `pool`; the calling thread
/// reads, and waits. What it takes is added to `cpu`.
///
/// # Errors
/// [`Fault::DigestMismatch`] when the content is not what the image's configuration says, and whatever reading gives.
pub(crate) fn layer(
    pool: &rayon::ThreadPool,
    layer: &UnpackedLayer,
    method: Method,
    settings: &SpillSettings,
    cpu: &CpuMeters,
) -> Result<LayerBlob, BundleError> {
    let at_member = |error: BundleError| error.at(&layer.member);
    match (layer.stored, method) {
        (Stored::Plain, Method::None) => {
            // The blob is the layer: its digest is the diff_id, checked while it is sent.
            let facts =
                LayerFacts { digest: layer.diff_id, size: layer.size, media_type: method.layer_type() };
            Ok(LayerBlob { facts, content: LayerContent::Stored(layer.extent.clone()) })
        }
        (Stored::Plain, _) => compress(pool, layer, method, settings, cpu).map_err(at_member),
        (Stored::Gzip, _) => stored::gzip(layer).map_err(at_member),
        (Stored::Zstd, _) => stored::zstd(layer).map_err(at_member),
    }
}

fn compress(
    pool: &rayon::ThreadPool,
    layer: &UnpackedLayer,
    method: Method,
    settings: &SpillSettings,
    cpu: &CpuMeters,
) -> Result<LayerBlob, BundleError> {
    let (spill, hasher) = (spill::Writer::new(settings), Hasher::new(Algorithm::Sha256));
    let mut blob = BlobBuilder { spill, hasher, cpu };
    let mut plain_hash = layer.diff_id.hasher();
    let mut window = read_window(layer, 0)?;
    let mut offset = window.len() as u64;
    let mut finished = Vec::new();
    loop {
        // The pool works on one window; this thread meanwhile puts away the last one and reads the next.
        let mut members = Ok(Vec::new());
        let next = pool.in_place_scope(|scope| {
            scope.spawn(|_| members = compress_members(&window, method, &cpu.compress));
            scope.spawn(|_| cpu.sha256.of(|| plain_hash.update(&window)));
            blob.put(std::mem::take(&mut finished))?;
            read_window(layer, offset)
        });
        (finished, window) = (members?, next?);
        offset += window.len() as u64;
        // An empty layer is one empty member.
        if window.is_empty() {
            break;
        }
    }
    blob.put(finished)?;
    expect(layer, plain_hash.finish())?;
    let content = blob.spill.finish();
    let facts =
        LayerFacts { digest: blob.hasher.finish(), size: content.len()?, media_type: method.layer_type() };
    Ok(LayerBlob { facts, content: LayerContent::Made(Arc::new(content)) })
}

/// What has been put together of a blob.
struct BlobBuilder<'a> {
    spill: spill::Writer<'a>,
    hasher: Hasher,
    cpu: &'a CpuMeters,
}

impl BlobBuilder<'_> {
    fn put(&mut self, members: Vec<Vec<u8>>) -> Result<(), BundleError> {
        for member in members {
            self.cpu.sha256.of(|| self.hasher.update(&member));
            self.spill.append(member)?;
        }
        Ok(())
    }
}

fn read_window(layer: &UnpackedLayer, offset: u64) -> Result<Bytes, BundleError> {
    let len = (layer.size - offset).min((MEMBER_BYTES * WINDOW_MEMBERS) as u64);
    read_exact(&layer.extent, offset, usize::try_from(len).unwrap_or(MEMBER_BYTES))
}

fn expect(layer: &UnpackedLayer, found: Digest) -> Result<(), BundleError> {
    if found == layer.diff_id {
        return Ok(());
    }
    let told =
        format!("the layer's content has digest {found}, the image's configuration says {}", layer.diff_id);
    Err(BundleError::new(Fault::DigestMismatch, told))
}

fn compress_members(window: &[u8], method: Method, cpu: &CpuTime) -> Result<Vec<Vec<u8>>, BundleError> {
    if window.is_empty() {
        return Ok(vec![compress_member(window, method)?]);
    }
    window.par_chunks(MEMBER_BYTES).map(|member| cpu.of(|| compress_member(member, method))).collect()
}

/// A member of a layer's blob, compressed alone. Public for measurements.
///
/// Compressors are kept per thread: making one costs more than compressing a small member.
pub fn compress_member(member: &[u8], method: Method) -> Result<Vec<u8>, BundleError> {
    thread_local! {
        static GZIP: RefCell<Option<libdeflater::Compressor>> = const { RefCell::new(None) };
        static ZSTD: RefCell<Option<zstd::bulk::Compressor<'static>>> = const { RefCell::new(None) };
    }
    let failed = |why: String| BundleError::new(Fault::Io, format!("compressing a layer: {why}"));
    match method {
        Method::None => Ok(member.to_vec()),
        Method::Gzip => GZIP.with_borrow_mut(|slot| {
            if slot.is_none() {
                let level =
                    libdeflater::CompressionLvl::new(GZIP_LEVEL).map_err(|e| failed(format!("{e:?}")))?;
                *slot = Some(libdeflater::Compressor::new(level));
            }
            let Some(compressor) = slot else { return Err(failed("no compressor".to_owned())) };
            let mut out = vec![0; compressor.gzip_compress_bound(member.len())];
            let len = compressor.gzip_compress(member, &mut out).map_err(|e| failed(e.to_string()))?;
            out.truncate(len);
            out.shrink_to_fit();
            Ok(out)
        }),
        Method::Zstd => ZSTD.with_borrow_mut(|slot| {
            if slot.is_none() {
                let mut compressor =
                    zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(|e| failed(e.to_string()))?;
                compressor.include_checksum(true).map_err(|e| failed(e.to_string()))?;
                *slot = Some(compressor);
            }
            let Some(compressor) = slot else { return Err(failed("no compressor".to_owned())) };
            let mut out = compressor.compress(member).map_err(|e| failed(e.to_string()))?;
            out.shrink_to_fit();
            Ok(out)
        }),
    }
}

#[cfg(test)]
mod tests;
