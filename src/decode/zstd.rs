//! Zstandard: the walk over frames without decoding them, and the decoder.
//!
//! Frames are independent (RFC 8878, section 3.1). Each states its window and, mostly, its content size in its header,
//! and its length by a chain of three-byte block headers. Skippable frames carry nothing and are stepped over. Frames that do
//! not state their sizes, as `pzstd` writes them, are parts too: their decoded size is a guess until they are decoded.

use std::ops::Range;

use zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, is_error_kind};

use super::feed::Feed;
use super::limits::{memory_exceeded, reserve};
use super::magic::{is_skippable, may_be_zstd};
use super::outline::{Codec, Grouping, MAX_PARTS, Outline};
use super::{DecodeOptions, DecodeSink, Format, corrupt, truncated};
use crate::error::{BundleError, Fault};
use crate::source::{ByteSpace, read_up_to};

const MAX_HEADER_BYTES: usize = 18;
/// No block decodes to more.
const MAX_BLOCK_BYTES: u64 = 128 << 10;
/// Few blocks of images decode to more than this many times what they take as stored.
const LIKELY_RATIO: u64 = 6;

/// What the header of a frame tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FrameHeader {
    len: u64,
    window_bytes: u64,
    content_bytes: Option<u64>,
    has_checksum: bool,
    dictionary: u32,
}

impl FrameHeader {
    /// Reads the header after the magic number; None if there are too few bytes.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let descriptor = *bytes.get(4)?;
        let single_segment = descriptor & 0x20 != 0;
        let mut at = 5;
        let mut field = |len: usize| {
            let bytes = bytes.get(at..at + len)?;
            at += len;
            Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        };
        let window = if single_segment { None } else { Some(field(1)?) };
        let dictionary = field([0, 1, 2, 4][usize::from(descriptor & 3)])?;
        let content_bytes = match (descriptor >> 6, single_segment) {
            (0, false) => None,
            (0, true) => Some(field(1)?),
            (1, _) => Some(field(2)? + 256),
            (2, _) => Some(field(4)?),
            _ => Some(field(8)?),
        };
        let window_bytes = match window {
            None => content_bytes.unwrap_or(0),
            Some(window) => {
                let base = 1_u64 << (10 + (window >> 3));
                base + base / 8 * (window & 7)
            }
        };
        Some(Self {
            len: at as u64,
            window_bytes,
            content_bytes,
            has_checksum: descriptor & 4 != 0,
            dictionary: u32::try_from(dictionary).unwrap_or(u32::MAX),
        })
    }

    fn check(&self, options: &DecodeOptions) -> Result<(), BundleError> {
        if self.dictionary != 0 {
            return Err(needs_dictionary());
        }
        let limit = 1 << options.zstd_window_log();
        if self.window_bytes > limit {
            return Err(memory_exceeded("a zstd window", Some(self.window_bytes), limit));
        }
        Ok(())
    }
}

/// Walks over the frames, as far as each is small enough for a part.
pub(super) fn outline(
    stored: &dyn ByteSpace,
    stored_len: u64,
    options: &DecodeOptions,
) -> Result<Outline, BundleError> {
    let mut groups = Grouping::new(Codec::Zstd);
    let (mut told_bytes, mut all_tell) = (0_u64, true);
    let mut at = 0;
    while at < stored_len {
        let place = format!("zstd frame at byte {at}");
        let head = read_up_to(stored, at, MAX_HEADER_BYTES)?;
        if is_skippable(&head) {
            let len = head.get(4..8).and_then(|len| len.try_into().ok()).map(u32::from_le_bytes);
            at = match len.map(|len| at + 8 + u64::from(len)) {
                Some(next) if next <= stored_len => next,
                _ => return Err(truncated("zstd", stored_len).at(place)),
            };
            groups.close();
            continue;
        }
        if !may_be_zstd(&head) {
            let what =
                format!("zstd data ends at byte {at}, and {} bytes that are none follow it", stored_len - at);
            return Err(corrupt(what));
        }
        let header = FrameHeader::parse(&head).ok_or_else(|| truncated("zstd", stored_len).at(&place))?;
        header.check(options).map_err(|e| e.at(&place))?;
        told_bytes = told_bytes.saturating_add(header.content_bytes.unwrap_or(0));
        all_tell &= header.content_bytes.is_some();
        let frame = if groups.units() == MAX_PARTS {
            None
        } else {
            frame_at(stored, at, stored_len, header, options).map_err(|e| e.at(&place))?
        };
        // No need to look at the rest of the file.
        let Some((end, bytes)) = frame else {
            return Ok(Outline { at_least_bytes: told_bytes, ..Outline::stream(Format::Zstd, None) });
        };
        groups.add(at..end, bytes);
        at = end;
    }
    let (units, parts) = (groups.units(), groups.finish());
    let working_bytes = parts.iter().map(|part| part.stored.end - part.stored.start).max().unwrap_or(0);
    Ok(if all_tell {
        Outline::parts(Format::Zstd, parts, units, working_bytes)
    } else {
        Outline::guessed_parts(Format::Zstd, parts, units, working_bytes)
    })
}

/// Where the frame with this header ends, by its block headers, and what it decodes to, a guess where it does not tell;
/// None if that is too much for a part.
fn frame_at(
    stored: &dyn ByteSpace,
    start: u64,
    stored_len: u64,
    header: FrameHeader,
    options: &DecodeOptions,
) -> Result<Option<(u64, u64)>, BundleError> {
    let limit = options.part_limit_bytes();
    if header.content_bytes.is_some_and(|content| content > limit) {
        return Ok(None);
    }
    let mut at = start + header.len;
    let (mut most, mut likely) = (0, 0);
    loop {
        let bytes = read_up_to(stored, at, 3)?;
        let &[a, b, c] = &bytes[..] else { return Err(truncated("zstd", stored_len)) };
        let block = u32::from_le_bytes([a, b, c, 0]);
        let (kind, size) = (block >> 1 & 3, u64::from(block >> 3));
        let (stored_bytes, likely_bytes) = match kind {
            // Raw and of one byte: these tell.
            0 => (size, size),
            1 => (1, size),
            2 => (size, size * LIKELY_RATIO),
            _ => return Err(corrupt(format!("the block at byte {at} is of no known kind"))),
        };
        at += 3 + stored_bytes;
        most += MAX_BLOCK_BYTES;
        likely += likely_bytes.min(MAX_BLOCK_BYTES);
        if block & 1 != 0 {
            break;
        }
        // No encoder stores blocks much larger than they decode. A frame alone, the usual build, is mostly known as such
        // here, without a look at all of it.
        if at - start > limit.saturating_mul(9) / 8 {
            return Ok(None);
        }
    }
    at += if header.has_checksum { 4 } else { 0 };
    if at > stored_len {
        return Err(truncated("zstd", stored_len));
    }
    match header.content_bytes {
        Some(content) if content > most => Err(corrupt("it declares more bytes than its blocks can hold")),
        Some(content) => Ok(Some((at, content))),
        None => Ok(Some((at, likely))),
    }
}

/// Decodes whole frames at once, which needs no window, each checksum verified where there is one. False if they decode to
/// more than `room_bytes`.
pub(super) fn decode_within(
    stored: &dyn ByteSpace,
    range: &Range<u64>,
    room_bytes: u64,
    options: &DecodeOptions,
    out: &mut Vec<u8>,
) -> Result<bool, BundleError> {
    let stored_bytes = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let frames = read_up_to(stored, range.start, stored_bytes)?;
    if frames.len() < stored_bytes {
        return Err(truncated("zstd", range.start + frames.len() as u64));
    }
    out.clear();
    reserve(out, room_bytes)?;
    match context(options)?.decompress(out, &frames) {
        Ok(_) => Ok(out.len() as u64 <= room_bytes),
        Err(code) if is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_dstSize_tooSmall) => Ok(false),
        Err(code) => Err(failure(code, options)),
    }
}

/// Decodes all frames of the feed, each checksum verified where there is one.
pub(super) fn decode(
    feed: &mut dyn Feed,
    out: &mut dyn DecodeSink,
    options: &DecodeOptions,
) -> Result<(), BundleError> {
    decode_with(&mut context(options)?, feed, out, options)
}

fn context(options: &DecodeOptions) -> Result<DCtx<'static>, BundleError> {
    let mut context =
        DCtx::try_create().ok_or_else(|| BundleError::new(Fault::Io, "no memory for the zstd decoder"))?;
    context
        .set_parameter(DParameter::WindowLogMax(options.zstd_window_log()))
        .map_err(|code| failure(code, options))?;
    Ok(context)
}

/// [`decode`] with a context that is at the beginning of a frame, and is again at the end.
fn decode_with(
    context: &mut DCtx<'_>,
    feed: &mut dyn Feed,
    out: &mut dyn DecodeSink,
    options: &DecodeOptions,
) -> Result<(), BundleError> {
    let mut frame_is_done = true;
    loop {
        let position = feed.position();
        let stored = feed.window()?;
        let at_end = stored.is_empty();
        if at_end && frame_is_done {
            return Ok(());
        }
        let mut input = InBuffer::around(stored);
        let mut output = OutBuffer::around(out.room()?);
        let left = context.decompress_stream(&mut output, &mut input);
        let (used, made) = (input.pos(), output.pos());
        feed.advance(used);
        out.filled(made)?;
        frame_is_done = left.map_err(|code| failure(code, options))? == 0;
        if at_end && made == 0 && !frame_is_done {
            return Err(truncated("zstd", position));
        }
    }
}

fn needs_dictionary() -> BundleError {
    BundleError::new(Fault::Unsupported, "zstd data that needs a dictionary")
        .hint("decompress it with that dictionary, and give the result")
}

fn failure(code: usize, options: &DecodeOptions) -> BundleError {
    use ZSTD_ErrorCode as Code;
    let is = |kind| is_error_kind(code, kind);
    if is(Code::ZSTD_error_frameParameter_windowTooLarge) {
        memory_exceeded("the window of this zstd data", None, 1 << options.zstd_window_log())
    } else if is(Code::ZSTD_error_dictionary_wrong) {
        needs_dictionary()
    } else if is(Code::ZSTD_error_frameParameter_unsupported) || is(Code::ZSTD_error_version_unsupported) {
        BundleError::new(Fault::Unsupported, "a version of zstd data that is not known")
    } else if is(Code::ZSTD_error_memory_allocation) {
        BundleError::new(Fault::Io, "no memory for the zstd decoder")
    } else if is(Code::ZSTD_error_prefix_unknown) {
        corrupt("bytes that are no zstd data follow it")
    } else if is(Code::ZSTD_error_checksum_wrong) {
        corrupt("the checksum does not match")
    } else {
        corrupt(format!("the zstd data is damaged ({})", zstd_safe::get_error_name(code).to_lowercase()))
    }
}

#[cfg(test)]
mod tests;
