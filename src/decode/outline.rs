//! What a format states of a file before anything is decoded: the parts that decode alone, and their sizes.

use std::ops::Range;

use super::Format;

/// More parts than this are decoded as one stream: the table of parts must stay small.
pub(super) const MAX_PARTS: usize = 1 << 18;

/// Frames and members smaller than this share a part.
pub(super) const GROUP_BYTES: u64 = 1 << 20;

/// A range of stored bytes that decodes alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Where it lies as stored.
    pub(super) stored: Range<u64>,
    /// What it decodes to; a guess where the outline's sizes are not told.
    pub(super) bytes: u64,
    /// How it is decoded.
    pub(super) codec: Codec,
}

/// How a part is decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    /// One xz block of a stream with this kind of check; its size as the Index states it.
    Xz { check: u8, unpadded_bytes: u64 },
    /// Whole zstd frames.
    Zstd,
    /// Whole gzip members.
    Gzip,
}

/// What a format tells of a file before anything is decoded.
#[derive(Debug)]
pub(super) struct Outline {
    pub(super) format: Format,
    /// Whether `parts` covers the file; otherwise it can only be decoded in order.
    pub(super) parts_known: bool,
    /// The parts that have bytes, in order.
    pub(super) parts: Vec<Part>,
    /// Whether each part decodes to exactly what the table says.
    pub(super) sizes_told: bool,
    /// The number of blocks, frames or members. A part may hold several.
    pub(super) units: usize,
    pub(super) largest_bytes: u64,
    /// The memory that decoding one part needs beside the part, if the part is not smaller than that.
    pub(super) working_bytes: u64,
    pub(super) decoded_bytes: Option<u64>,
    /// What it decodes to at the least.
    pub(super) at_least_bytes: u64,
}

impl Outline {
    /// A file that is decoded in order.
    pub(super) fn stream(format: Format, decoded_bytes: Option<u64>) -> Self {
        Self {
            format,
            parts_known: false,
            parts: Vec::new(),
            sizes_told: decoded_bytes.is_some(),
            units: 1,
            largest_bytes: decoded_bytes.unwrap_or(0),
            working_bytes: 0,
            decoded_bytes,
            at_least_bytes: decoded_bytes.unwrap_or(0),
        }
    }

    /// A file that falls into these parts, which decode to exactly what they say.
    pub(super) fn parts(format: Format, parts: Vec<Part>, units: usize, working_bytes: u64) -> Self {
        let decoded_bytes = parts.iter().map(|part| part.bytes).sum();
        Self {
            format,
            parts_known: true,
            sizes_told: true,
            units,
            largest_bytes: parts.iter().map(|part| part.bytes).max().unwrap_or(0),
            working_bytes,
            decoded_bytes: Some(decoded_bytes),
            at_least_bytes: decoded_bytes,
            parts,
        }
    }

    /// A file that falls into these parts, whose decoded sizes are guesses.
    pub(super) fn guessed_parts(format: Format, parts: Vec<Part>, units: usize, working_bytes: u64) -> Self {
        let told = Self::parts(format, parts, units, working_bytes);
        Self { sizes_told: false, decoded_bytes: None, at_least_bytes: 0, ..told }
    }
}

/// Puts small frames and members together, in order, until they are worth a part.
#[derive(Debug)]
pub(super) struct Grouping {
    codec: Codec,
    units: usize,
    closed: Vec<Part>,
    open: Option<Part>,
}

impl Grouping {
    pub(super) fn new(codec: Codec) -> Self {
        Self { codec, units: 0, closed: Vec::new(), open: None }
    }

    /// The next frame or member: where it is stored, and what it decodes to.
    pub(super) fn add(&mut self, stored: Range<u64>, bytes: u64) {
        self.units += 1;
        // A large one stays alone, so that reading it costs nothing else.
        if bytes >= GROUP_BYTES
            && let Some(open) = self.open.take_if(|open| open.bytes > 0)
        {
            self.closed.push(open);
        }
        let first = Part { stored: stored.start..stored.start, bytes: 0, codec: self.codec };
        let part = self.open.get_or_insert(first);
        part.stored.end = stored.end;
        part.bytes += bytes;
        if part.bytes.max(part.stored.end - part.stored.start) >= GROUP_BYTES {
            self.close();
        }
    }

    /// What comes next begins a part of its own: something that is none of either lies before it.
    pub(super) fn close(&mut self) {
        self.closed.extend(self.open.take_if(|open| open.bytes > 0));
        self.open = None;
    }

    /// How many were added.
    pub(super) fn units(&self) -> usize {
        self.units
    }

    /// The parts. What decodes to nothing at the very end is none.
    pub(super) fn finish(mut self) -> Vec<Part> {
        self.closed.extend(self.open.filter(|part| part.bytes > 0));
        self.closed
    }
}
