//! Zstandard: the walk over frames without decoding them, and the decoder.
//!
//! Frames are independent (RFC 8878, section 3.1). Each tells its window and, mostly, its content size in its header,
//! and its length by a chain of three-byte block headers. Skippable frames carry nothing and are stepped over. Where
//! several frames do not all tell their sizes, as `pzstd` writes them, [`sizes`] learns what is missing.

mod sizes;

use std::ops::Range;
use std::sync::Arc;

use zstd_safe::zstd_sys::ZSTD_ErrorCode;
use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer, is_error_kind};

use super::blocks::{Codec, Grouping, MAX_PARTS, Outline};
use super::feed::{Feed, peek};
use super::limits::memory_exceeded;
use super::sniff::{is_skippable, may_be_zstd};
use super::{DecodeOptions, Format, Output, Shared, corrupt, truncated};
use crate::error::{BundleError, Fault};
use crate::source::ByteSpace;

const MAX_HEADER_BYTES: usize = 18;
/// No block decodes to more.
const MAX_BLOCK_BYTES: u64 = 128 << 10;

/// What the header of a frame tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    len: u64,
    window_bytes: u64,
    content_bytes: Option<u64>,
    has_checksum: bool,
    dictionary: u32,
}

impl Header {
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

/// A frame that can be a part.
#[derive(Debug, Clone)]
struct Frame {
    stored: Range<u64>,
    window_bytes: u64,
    /// None where the frame does not tell.
    content_bytes: Option<u64>,
}

/// What the walk over the frames came to.
enum Walk {
    /// Each of them, none too large for a part as far as it can be told.
    Frames(Vec<Frame>),
    /// One is too large, or there are too many; those before it decode to so much at the least.
    Stream { at_least_bytes: u64 },
}

/// Walks over the frames. If there are several, what they do not tell of their sizes is learned by decoding them once.
pub(super) fn outline(
    shared: &Arc<Shared>,
    stored: &Arc<dyn ByteSpace>,
    stored_len: u64,
) -> Result<Outline, BundleError> {
    let options = &shared.options;
    let stream = |at_least_bytes| Outline { at_least_bytes, ..Outline::stream(Format::Zstd, None) };
    let frames = match walk(&**stored, stored_len, options)? {
        Walk::Frames(frames) => frames,
        Walk::Stream { at_least_bytes } => return Ok(stream(at_least_bytes)),
    };
    let told = frames.iter().filter_map(|frame| frame.content_bytes).fold(0, u64::saturating_add);
    let all_tell = frames.iter().all(|frame| frame.content_bytes.is_some());
    let learned = match &frames[..] {
        _ if all_tell => Vec::new(),
        [_alone] => return Ok(stream(told)),
        _ => match sizes::learn(shared, stored, &frames)? {
            Some(sizes) => sizes,
            None => return Ok(stream(told)),
        },
    };
    let mut learned = learned.into_iter();
    let mut groups = Grouping::new(Codec::Zstd);
    let mut working_bytes = 0;
    for frame in frames {
        let content = frame.content_bytes.or_else(|| learned.next()).unwrap_or(0);
        working_bytes = working_bytes.max(frame.window_bytes.min(content));
        groups.add(frame.stored, content);
    }
    let units = groups.units();
    let outline = Outline::parts(Format::Zstd, groups.finish(), units, working_bytes);
    Ok(Outline { sizes_learned: !all_tell, ..outline })
}

fn walk(stored: &dyn ByteSpace, stored_len: u64, options: &DecodeOptions) -> Result<Walk, BundleError> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut told_bytes = 0_u64;
    let mut at = 0;
    while at < stored_len {
        let place = format!("zstd frame at byte {at}");
        let head = peek(stored, at, MAX_HEADER_BYTES)?;
        if is_skippable(&head) {
            let len = head.get(4..8).and_then(|len| len.try_into().ok()).map(u32::from_le_bytes);
            at = match len.map(|len| at + 8 + u64::from(len)) {
                Some(next) if next <= stored_len => next,
                _ => return Err(truncated("zstd", stored_len).at(place)),
            };
            continue;
        }
        if !may_be_zstd(&head) {
            let what =
                format!("zstd data ends at byte {at}, and {} bytes that are none follow it", stored_len - at);
            return Err(corrupt(what));
        }
        let header = Header::parse(&head).ok_or_else(|| truncated("zstd", stored_len).at(&place))?;
        header.check(options).map_err(|e| e.at(&place))?;
        told_bytes = told_bytes.saturating_add(header.content_bytes.unwrap_or(0));
        let too_large = header.content_bytes.is_some_and(|content| content > options.part_cache_bytes);
        let frame = if too_large || frames.len() == MAX_PARTS {
            None
        } else {
            frame_at(stored, at, stored_len, header, options).map_err(|e| e.at(&place))?
        };
        // No need to look at the rest of the file.
        let Some(frame) = frame else { return Ok(Walk::Stream { at_least_bytes: told_bytes }) };
        at = frame.end;
        let Header { window_bytes, content_bytes, .. } = header;
        frames.push(Frame { stored: frame, window_bytes, content_bytes });
    }
    Ok(Walk::Frames(frames))
}

/// Where the frame with this header lies, by its block headers; None if it tells no size and must be too large.
fn frame_at(
    stored: &dyn ByteSpace,
    start: u64,
    stored_len: u64,
    header: Header,
    options: &DecodeOptions,
) -> Result<Option<Range<u64>>, BundleError> {
    let mut at = start + header.len;
    let mut most = 0;
    loop {
        let bytes = peek(stored, at, 3)?;
        let &[a, b, c] = &bytes[..] else { return Err(truncated("zstd", stored_len)) };
        let block = u32::from_le_bytes([a, b, c, 0]);
        let (kind, size) = (block >> 1 & 3, u64::from(block >> 3));
        at += 3 + match kind {
            0 | 2 => size,
            1 => 1,
            _ => return Err(corrupt(format!("the block at byte {at} is of no known kind"))),
        };
        most += MAX_BLOCK_BYTES;
        if block & 1 != 0 {
            break;
        }
        // No encoder stores blocks larger than they decode. A frame alone, the usual build, is mostly known as such
        // here, without a look at all of it.
        if header.content_bytes.is_none() && at - start > options.part_limit_bytes().saturating_mul(9) / 8 {
            return Ok(None);
        }
    }
    at += if header.has_checksum { 4 } else { 0 };
    if at > stored_len {
        return Err(truncated("zstd", stored_len));
    }
    if header.content_bytes.is_some_and(|content| content > most) {
        return Err(corrupt("it declares more bytes than its blocks can hold"));
    }
    Ok(Some(start..at))
}

/// Decodes all frames of the feed, each checksum verified where there is one.
pub(super) fn decode(
    feed: &mut dyn Feed,
    out: &mut dyn Output,
    options: &DecodeOptions,
) -> Result<(), BundleError> {
    decode_with(&mut context(options)?, feed, out, options)
}

fn context(options: &DecodeOptions) -> Result<DCtx<'static>, BundleError> {
    let mut context = DCtx::try_create()
        .ok_or_else(|| BundleError::new(Fault::LimitExceeded, "no memory for the zstd decoder"))?;
    context
        .set_parameter(DParameter::WindowLogMax(options.zstd_window_log()))
        .map_err(|code| failure(code, options))?;
    Ok(context)
}

/// [`decode`] with a context that is at the beginning of a frame, and is again at the end.
fn decode_with(
    context: &mut DCtx<'_>,
    feed: &mut dyn Feed,
    out: &mut dyn Output,
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
        BundleError::new(Fault::LimitExceeded, "no memory for the zstd decoder")
    } else if is(Code::ZSTD_error_prefix_unknown) {
        corrupt("bytes that are no zstd data follow it")
    } else if is(Code::ZSTD_error_checksum_wrong) {
        corrupt("the checksum does not match")
    } else {
        corrupt(format!("the zstd data is damaged ({})", zstd_safe::get_error_name(code).to_lowercase()))
    }
}
