//! Layers that a docker-archive stores compressed: pushed as they are, decoded once to check their diff_id.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;

use super::{LayerBlob, LayerContent, LayerFacts, expect};
use crate::archive::UnpackedLayer;
use crate::error::{BundleError, Fault};
use crate::oci::{Algorithm, Hasher, media_type};
use crate::source::ByteSpace;

/// No layer that people use is larger, and what unpacks to more is an attack on the disks of the nodes.
const MAX_PLAIN_BYTES: u64 = 256 << 30;
const READ_BYTES: usize = 256 << 10;

pub(super) fn gzip(layer: &UnpackedLayer) -> Result<LayerBlob, BundleError> {
    check(layer, media_type::DOCKER_LAYER_GZIP, |stored, plain| drain(MultiGzDecoder::new(stored), plain))
}

pub(super) fn zstd(layer: &UnpackedLayer) -> Result<LayerBlob, BundleError> {
    check(layer, media_type::OCI_LAYER_ZSTD, |stored, plain| {
        let mut decoder = zstd::stream::read::Decoder::new(stored)?;
        decoder.window_log_max(27)?;
        drain(decoder, plain)
    })
}

fn check(
    layer: &UnpackedLayer,
    media_type: &'static str,
    decode: impl FnOnce(&mut HashingReader<'_>, &mut Hasher) -> io::Result<()>,
) -> Result<LayerBlob, BundleError> {
    let mut stored = HashingReader { layer, offset: 0, hasher: Hasher::new(Algorithm::Sha256), failed: None };
    let mut plain = layer.diff_id.hasher();
    // What follows the last member belongs to the blob too.
    let outcome = decode(&mut stored, &mut plain).and_then(|()| io::copy(&mut stored, &mut io::sink()));
    if let Some(error) = stored.failed.take() {
        return Err(error);
    }
    outcome.map_err(|error| {
        BundleError::new(Fault::CorruptCompression, format!("the layer does not decompress: {error}"))
    })?;
    expect(layer, plain.finish())?;
    let facts = LayerFacts { digest: stored.hasher.finish(), size: layer.size, media_type };
    Ok(LayerBlob { facts, content: LayerContent::Stored(layer.extent.clone()) })
}

/// Not on the pool: the stored bytes may have to be waited for.
fn drain(mut from: impl Read, plain: &mut Hasher) -> io::Result<()> {
    let mut buffer = vec![0; READ_BYTES];
    let mut total = 0;
    loop {
        let n = from.read(&mut buffer)?;
        plain.update(&buffer[..n]);
        total += n as u64;
        if n == 0 {
            return Ok(());
        }
        if total > MAX_PLAIN_BYTES {
            return Err(io::Error::other("it unpacks to more than 256 GiB"));
        }
    }
}

/// Reads a layer's stored bytes and hashes them on the way.
struct HashingReader<'a> {
    layer: &'a UnpackedLayer,
    offset: u64,
    hasher: Hasher,
    failed: Option<BundleError>,
}

impl Read for HashingReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let chunk = self.layer.extent.chunk_at(self.offset, buffer.len()).map_err(|error| {
            let text = error.to_string();
            self.failed = Some(error);
            io::Error::other(text)
        })?;
        buffer[..chunk.len()].copy_from_slice(&chunk);
        self.hasher.update(&chunk);
        self.offset += chunk.len() as u64;
        Ok(chunk.len())
    }
}
