//! A volume whose parts are decoded alone, by any core, again and again.
//!
//! In: stored bytes and the [`Outline`] a format read from them. Out: copies of at most 256 KiB out of parts that belong
//! to the shared cache. Readers that go through the volume in order get the next parts decoded ahead.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::cache::{self, PartSet};
use super::feed::{Feed, SpaceFeed};
use super::{Format, Output, Shared, corrupt, decode, lock, xz};
use crate::error::{BundleError, Fault};
use crate::source::ByteSpace;

/// What is given out at once, so that a slow consumer never keeps a whole part in memory.
pub(super) const CHUNK_BYTES: usize = 256 << 10;

/// More parts than this are decoded as one stream: the table of parts must stay small.
pub(super) const MAX_PARTS: usize = 1 << 18;

/// Frames and members smaller than this share a part.
pub(super) const GROUP_BYTES: u64 = 1 << 20;

/// How many parts a volume remembers as touched, to see who reads in order.
const REMEMBERED: usize = 16;

/// A range of stored bytes that decodes alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Where it lies as stored.
    pub(super) stored: Range<u64>,
    /// Where it lies decoded.
    pub(super) decoded: Range<u64>,
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
    /// Blocks, frames or members, of which a part may hold several.
    pub(super) units: usize,
    pub(super) largest_bytes: u64,
    /// The memory that decoding one part needs beside the part.
    pub(super) working_bytes: u64,
    pub(super) decoded_bytes: Option<u64>,
    /// What it decodes to at the least.
    pub(super) at_least_bytes: u64,
    /// Whether all of it was decoded to know this.
    pub(super) sizes_learned: bool,
}

impl Outline {
    /// A file that is decoded in order.
    pub(super) fn stream(format: Format, decoded_bytes: Option<u64>) -> Self {
        Self {
            format,
            parts_known: false,
            parts: Vec::new(),
            units: 1,
            largest_bytes: decoded_bytes.unwrap_or(0),
            working_bytes: 0,
            decoded_bytes,
            at_least_bytes: decoded_bytes.unwrap_or(0),
            sizes_learned: false,
        }
    }

    /// A file that falls into these parts.
    pub(super) fn parts(format: Format, parts: Vec<Part>, units: usize, working_bytes: u64) -> Self {
        let size = |part: &Part| part.decoded.end - part.decoded.start;
        let decoded_bytes = parts.last().map_or(0, |part| part.decoded.end);
        Self {
            format,
            parts_known: true,
            units,
            largest_bytes: parts.iter().map(size).max().unwrap_or(0),
            working_bytes,
            decoded_bytes: Some(decoded_bytes),
            at_least_bytes: decoded_bytes,
            sizes_learned: false,
            parts,
        }
    }
}

/// Puts small frames and members together, in order, until they are worth a part.
#[derive(Debug)]
pub(super) struct Grouping {
    codec: Codec,
    units: usize,
    closed: Vec<Part>,
    open: Option<Part>,
    decoded_bytes: u64,
}

impl Grouping {
    pub(super) fn new(codec: Codec) -> Self {
        Self { codec, units: 0, closed: Vec::new(), open: None, decoded_bytes: 0 }
    }

    /// The next frame or member: where it is stored, and its decoded size.
    pub(super) fn add(&mut self, stored: Range<u64>, decoded_bytes: u64) {
        self.units += 1;
        let start = self.decoded_bytes;
        let end = start + decoded_bytes;
        self.decoded_bytes = end;
        let mut part = match self.open.take() {
            // A large one stays alone, so that reading it costs nothing else.
            Some(open) if decoded_bytes >= GROUP_BYTES && !open.decoded.is_empty() => {
                self.closed.push(open);
                Part { stored: stored.clone(), decoded: start..start, codec: self.codec }
            }
            Some(open) => open,
            None => Part { stored: stored.clone(), decoded: start..start, codec: self.codec },
        };
        part.stored.end = stored.end;
        part.decoded.end = end;
        if end - part.decoded.start >= GROUP_BYTES {
            self.closed.push(part);
        } else {
            self.open = Some(part);
        }
    }

    /// How many were added.
    pub(super) fn units(&self) -> usize {
        self.units
    }

    /// The parts. What decodes to nothing at the very end is none.
    pub(super) fn finish(mut self) -> Vec<Part> {
        self.closed.extend(self.open.filter(|part| !part.decoded.is_empty()));
        self.closed
    }
}

/// The parts of one file, as the cache sees them.
pub(super) struct Parts {
    shared: Arc<Shared>,
    stored: Arc<dyn ByteSpace>,
    format: Format,
    table: Vec<Part>,
    working_bytes: u64,
}

impl Parts {
    pub(super) fn new(shared: Arc<Shared>, stored: Arc<dyn ByteSpace>, outline: Outline) -> Self {
        let Outline { format, parts, working_bytes, .. } = outline;
        Self { shared, stored, format, table: parts, working_bytes }
    }

    fn size(&self, index: usize) -> u64 {
        let decoded = &self.table[index].decoded;
        decoded.end - decoded.start
    }

    fn decode_into(&self, part: &Part, out: &mut Vec<u8>) -> Result<(), BundleError> {
        let stored: &dyn ByteSpace = &*self.stored;
        let size = part.decoded.end - part.decoded.start;
        let bare = |range: &Range<u64>| SpaceFeed::framed(stored, Bytes::new(), range.clone(), Bytes::new());
        let (format, mut feed) = match part.codec {
            Codec::Xz { check, unpadded_bytes } => {
                let (head, tail) = xz::frame(check, unpadded_bytes, size);
                (Format::Xz, SpaceFeed::framed(stored, head, part.stored.clone(), tail))
            }
            // libzstd decodes a whole frame into a whole buffer without a window of its own.
            Codec::Zstd => (Format::Zstd, bare(&part.stored).in_one_window()),
            Codec::Gzip => (Format::Gzip, bare(&part.stored)),
        };
        let mut exact = Exact::new(out, size)?;
        let feed: &mut dyn Feed = &mut feed;
        decode(format, feed, &mut exact, &self.shared.options)?;
        exact.finish()
    }

    /// What a failure really was: the stored bytes may have changed or ended under the decoder.
    fn judge(&self, index: usize, result: Result<(), BundleError>) -> Result<(), BundleError> {
        let part = &self.table[index];
        let place = format!(
            "{} {} of {} at byte {}",
            self.format.part_name(),
            index + 1,
            self.table.len(),
            part.stored.start
        );
        judge(&*self.stored, part.stored.end, &place, result)
    }
}

/// What a failure to decode the bytes before `stored_end` really was.
pub(super) fn judge<T>(
    stored: &dyn ByteSpace,
    stored_end: u64,
    place: &str,
    result: Result<T, BundleError>,
) -> Result<T, BundleError> {
    let last = stored.chunk_at(stored_end - 1, 1).map_err(|e| e.at(place))?;
    result.map_err(|error| match error.fault() {
        // The bytes are all there, so it is the table of parts or the part itself that lies.
        Fault::Truncated if !last.is_empty() => corrupt("its data does not end where it should").at(place),
        _ => error.at(place),
    })
}

impl PartSet for Parts {
    fn need_bytes(&self, index: usize) -> u64 {
        let size = self.size(index);
        size + self.working_bytes.min(size)
    }

    fn decode(&self, index: usize, out: &mut Vec<u8>) -> Result<(), BundleError> {
        self.shared.check_cancelled()?;
        let result = self.decode_into(&self.table[index], out);
        self.judge(index, result)?;
        self.shared.meter.parts_decoded.fetch_add(1, Ordering::Relaxed);
        self.shared.meter.decoded_bytes.fetch_add(self.size(index), Ordering::Relaxed);
        Ok(())
    }
}

/// A volume of independent parts.
pub(super) struct BlockVolume {
    set: Arc<Parts>,
    /// The cache's view of `set`.
    parts: Arc<dyn PartSet>,
    id: u64,
    recent: Mutex<VecDeque<usize>>,
}

impl BlockVolume {
    /// The outline has at least one part.
    pub(super) fn new(shared: Arc<Shared>, stored: Arc<dyn ByteSpace>, outline: Outline) -> Self {
        let set = Arc::new(Parts::new(shared, stored, outline));
        Self {
            parts: Arc::clone(&set) as Arc<dyn PartSet>,
            set,
            id: cache::next_id(),
            recent: Mutex::new(VecDeque::with_capacity(REMEMBERED)),
        }
    }

    fn decoded_len(&self) -> u64 {
        self.set.table.last().map_or(0, |part| part.decoded.end)
    }

    /// Remembers that the part was touched, and tells whether the one before it was too, not long ago.
    fn in_order(&self, index: usize) -> bool {
        let mut recent = lock(&self.recent);
        if !recent.contains(&index) {
            if recent.len() == REMEMBERED {
                recent.pop_front();
            }
            recent.push_back(index);
        }
        index > 0 && recent.contains(&(index - 1))
    }
}

impl ByteSpace for BlockVolume {
    fn len(&self) -> Result<u64, BundleError> {
        Ok(self.decoded_len())
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        if offset >= self.decoded_len() || max == 0 {
            return Ok(Bytes::new());
        }
        let index = self.set.table.partition_point(|part| part.decoded.end <= offset);
        let cache = &self.set.shared.cache;
        let ahead = if self.in_order(index) {
            index + 1..self.set.table.len().min(index + 1 + cache.threads())
        } else {
            0..0
        };
        let part = cache.fetch(&self.parts, self.id, index, ahead)?;
        // A part's size was checked against memory when it was decoded.
        let from = usize::try_from(offset - self.set.table[index].decoded.start).unwrap_or(usize::MAX);
        let to = part.len().min(from.saturating_add(max.min(CHUNK_BYTES)));
        if to == part.len() {
            cache.finish((self.id, index));
        }
        Ok(Bytes::copy_from_slice(&part[from..to]))
    }

    fn release(&self, range: Range<u64>) {
        let first = self.set.table.partition_point(|part| part.decoded.start < range.start);
        let last = self.set.table.partition_point(|part| part.decoded.end <= range.end);
        for index in first..last {
            self.set.shared.cache.finish((self.id, index));
        }
    }
}

impl Drop for BlockVolume {
    fn drop(&mut self) {
        self.set.shared.cache.forget(self.id);
    }
}

impl fmt::Debug for BlockVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BlockVolume")
            .field("format", &self.set.format)
            .field("parts", &self.set.table.len())
            .field("stored", &self.set.stored)
            .finish_non_exhaustive()
    }
}

/// A buffer that takes exactly the declared number of bytes.
struct Exact<'a> {
    buffer: &'a mut Vec<u8>,
    filled: usize,
    /// Room past the end, in which the byte too many is caught and a decoder can run to its last check.
    spare: [u8; 16],
}

impl<'a> Exact<'a> {
    fn new(buffer: &'a mut Vec<u8>, declared: u64) -> Result<Self, BundleError> {
        let refused = || BundleError::new(Fault::LimitExceeded, format!("no memory for {declared} bytes"));
        let declared = usize::try_from(declared).map_err(|_| refused())?;
        // A buffer that is used again needs no zeros.
        buffer.try_reserve_exact(declared.saturating_sub(buffer.len())).map_err(|_| refused())?;
        buffer.resize(declared, 0);
        Ok(Self { buffer, filled: 0, spare: [0; 16] })
    }

    fn finish(self) -> Result<(), BundleError> {
        let (filled, declared) = (self.filled, self.buffer.len());
        if filled == declared {
            Ok(())
        } else {
            Err(corrupt(format!("decodes to {filled} bytes, but {declared} are declared")))
        }
    }
}

impl Output for Exact<'_> {
    fn room(&mut self) -> Result<&mut [u8], BundleError> {
        let room = &mut self.buffer[self.filled..];
        Ok(if room.is_empty() { &mut self.spare } else { room })
    }

    fn filled(&mut self, len: usize) -> Result<(), BundleError> {
        self.filled += len;
        let declared = self.buffer.len();
        if self.filled > declared {
            return Err(corrupt(format!("decodes to more than the {declared} bytes declared")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
