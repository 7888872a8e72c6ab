//! Inputs of every kind, made by the encoders themselves, and readers for them.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use flate2::write::{DeflateEncoder, GzEncoder};
use flate2::{Compression, Crc};
use xz2::stream::{Action, Check, Status, Stream};
use zstd_safe::{CCtx, CParameter};

use super::{DecodeOptions, Decoder, Volume};
use crate::budget::{Budget, Shares};
use crate::error::BundleError;
use crate::source::ByteSpace;

pub(super) fn decoder(threads: usize, options: DecodeOptions) -> Decoder {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    Decoder::new(Arc::new(pool), options)
}

/// With so much memory for parts.
pub(super) fn with_parts(bytes: u64) -> DecodeOptions {
    options(Shares { parts: bytes, ..Shares::default() })
}

/// With so much disk for spools.
pub(super) fn with_spool_limit(bytes: u64) -> DecodeOptions {
    options(Shares { disk: bytes, ..Shares::default() })
}

fn options(shares: Shares) -> DecodeOptions {
    DecodeOptions { budget: Budget::new(shares), ..DecodeOptions::default() }
}

/// Bytes that compress a little, different for each seed.
pub(super) fn content(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    let mut out = Vec::with_capacity(len + 32);
    while out.len() < len {
        let word = next().to_le_bytes();
        out.extend_from_slice(&word[..4]);
        let repeat = usize::try_from(next() % 24).unwrap();
        out.extend(std::iter::repeat_n(word[0], repeat));
    }
    out.truncate(len);
    out
}

/// One xz stream of blocks of this size.
pub(crate) fn xz(data: &[u8], block_bytes: usize, check: Check) -> Vec<u8> {
    let mut stream = Stream::new_easy_encoder(0, check).unwrap();
    let mut out = Vec::new();
    let mut run = |input: &[u8], action: Action| {
        let start = stream.total_in();
        loop {
            out.reserve(64 << 10);
            let used = usize::try_from(stream.total_in() - start).unwrap();
            if stream.process_vec(&input[used..], &mut out, action).unwrap() == Status::StreamEnd {
                return;
            }
        }
    };
    for block in data.chunks(block_bytes.max(1)) {
        run(block, Action::FullFlush);
    }
    run(&[], Action::Finish);
    out
}

/// One zstd frame with a checksum and, if asked, its content size.
pub(super) fn zstd(data: &[u8], with_size: bool) -> Vec<u8> {
    let mut context = CCtx::create();
    context.set_parameter(CParameter::ChecksumFlag(true)).unwrap();
    context.set_parameter(CParameter::ContentSizeFlag(with_size)).unwrap();
    let mut out = Vec::with_capacity(zstd_safe::compress_bound(data.len()));
    context.compress2(&mut out, data).unwrap();
    out
}

pub(super) fn zstd_frames(data: &[u8], frame_bytes: usize) -> Vec<u8> {
    data.chunks(frame_bytes).flat_map(|frame| zstd(frame, true)).collect()
}

pub(super) fn skippable(payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).unwrap();
    [&[0x5a, 0x2a, 0x4d, 0x18], &len.to_le_bytes()[..], payload].concat()
}

pub(super) fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn bgzf(data: &[u8], member_bytes: usize) -> Vec<u8> {
    let member = |data: &[u8]| {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(data).unwrap();
        let deflated = encoder.finish().unwrap();
        let size = u16::try_from(18 + deflated.len() + 8 - 1).unwrap();
        let mut crc = Crc::new();
        crc.update(data);
        let mut out = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0".to_vec();
        out.extend_from_slice(&size.to_le_bytes());
        out.extend_from_slice(&deflated);
        out.extend_from_slice(&crc.sum().to_le_bytes());
        out.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
        out
    };
    data.chunks(member_bytes).chain([&[][..]]).flat_map(member).collect()
}

pub(super) fn space(bytes: &[u8]) -> Arc<dyn ByteSpace> {
    Arc::new(Bytes::copy_from_slice(bytes))
}

/// Everything from the beginning to the verified end.
pub(super) fn drain(volume: &Volume) -> Result<Vec<u8>, BundleError> {
    let mut all = Vec::new();
    loop {
        let chunk = volume.space.chunk_at(all.len() as u64, 100_000)?;
        if chunk.is_empty() {
            assert_eq!(volume.space.len()?, all.len() as u64);
            return Ok(all);
        }
        all.extend_from_slice(&chunk);
    }
}
