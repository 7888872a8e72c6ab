//! A volume whose parts are decoded alone, by any core, again and again.
//!
//! In: stored bytes and the [`Outline`] a format read from them. Out: copies of at most 256 KiB out of parts that belong
//! to the shared cache. Readers that go through the volume in order get the next parts decoded ahead.
//!
//! Parts that do not state their decoded size are found in order: the place of one is known once all before it are decoded.
//! The walk over a bundle reads every part anyway, so this costs no extra decoding. The room for such a part is a guess, and
//! grows where it was too small; [`super::guessed`] handles one that proves too large for a part.

use crate::locks::Mutex;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use super::cache::{self, DecodeAttempt, DecodedPart, PartSet};
use super::feed::SpaceFeed;
use super::limits::{memory_exceeded, reserve};
use super::outline::{Codec, Outline, Part};
use super::{DecodeSink, Format, Shared, corrupt, decode, xz, zstd};
use crate::error::{BundleError, Fault};
use crate::source::{ByteSpace, Certainty};

/// What is given out at once, so that a slow consumer never keeps a whole part in memory.
pub(super) const CHUNK_BYTES: usize = 256 << 10;

/// A guess that was too low is multiplied by this.
const ROOM_GROWTH: u64 = 4;

/// How many parts a volume remembers as touched, to see who reads in order.
const REMEMBERED: usize = 16;

/// The parts of one file, as the cache sees them.
pub(super) struct Parts {
    shared: Arc<Shared>,
    stored: Arc<dyn ByteSpace>,
    format: Format,
    table: Vec<Part>,
    sizes_told: bool,
    working_bytes: u64,
    /// Parts whose guess was too low, and the room they are given instead.
    roomier: Mutex<HashMap<usize, u64>>,
    one_is_too_large: AtomicBool,
}

impl Parts {
    pub(super) fn new(shared: Arc<Shared>, stored: Arc<dyn ByteSpace>, outline: Outline) -> Self {
        let Outline { format, parts, sizes_told, working_bytes, .. } = outline;
        let (roomier, one_is_too_large) = (Mutex::default(), AtomicBool::new(false));
        Self { shared, stored, format, table: parts, sizes_told, working_bytes, roomier, one_is_too_large }
    }

    fn room_bytes(&self, index: usize) -> u64 {
        self.roomier.lock().get(&index).copied().unwrap_or(self.table[index].bytes)
    }

    /// More room for a part; an error if it has all that a part may have.
    fn give_room(&self, index: usize) -> Result<(), BundleError> {
        let limit = self.shared.options.part_limit_bytes();
        let room = self.room_bytes(index);
        if room >= limit / 2 {
            self.one_is_too_large.store(true, Ordering::Relaxed);
            return Err(memory_exceeded("a part of this file", None, room));
        }
        self.roomier.lock().insert(index, room.saturating_mul(ROOM_GROWTH).min(limit / 2));
        Ok(())
    }

    /// The bytes as stored.
    pub(super) fn stored(&self) -> Arc<dyn ByteSpace> {
        Arc::clone(&self.stored)
    }

    /// Whether a part proved too large.
    pub(super) fn one_is_too_large(&self) -> bool {
        self.one_is_too_large.load(Ordering::Relaxed)
    }

    fn decode_into(&self, index: usize, out: &mut Vec<u8>) -> Result<DecodeAttempt, BundleError> {
        let (stored, options) = (&*self.stored, &self.shared.options);
        let part = &self.table[index];
        let framed = |head, tail| SpaceFeed::framed(stored, head, part.stored.clone(), tail);
        let (format, mut feed) = match part.codec {
            Codec::Zstd => return self.decode_frames(index, out),
            Codec::Gzip => (Format::Gzip, framed(Bytes::new(), Bytes::new())),
            Codec::Xz { check, unpadded_bytes } => {
                let (head, tail) = xz::frame(check, unpadded_bytes, part.bytes);
                (Format::Xz, framed(head, tail))
            }
        };
        let mut exact = Exact::new(out, part.bytes)?;
        decode(format, &mut feed, &mut exact, options)?;
        exact.finish()?;
        Ok(DecodeAttempt::Whole)
    }

    fn decode_frames(&self, index: usize, out: &mut Vec<u8>) -> Result<DecodeAttempt, BundleError> {
        let room = self.room_bytes(index);
        let fits =
            zstd::decode_within(&*self.stored, &self.table[index].stored, room, &self.shared.options, out)?;
        match (fits, self.sizes_told) {
            (true, true) if (out.len() as u64) < room => {
                Err(corrupt(format!("decodes to {} bytes, but {room} are declared", out.len())))
            }
            (false, true) => Err(corrupt(format!("decodes to more than the {room} bytes declared"))),
            (false, false) => {
                self.shared.meter.decoded_bytes.fetch_add(room, Ordering::Relaxed);
                self.give_room(index)?;
                Ok(DecodeAttempt::NeedsRoom)
            }
            (true, told) => {
                if !told {
                    out.shrink_to_fit();
                }
                Ok(DecodeAttempt::Whole)
            }
        }
    }

    /// What a failure really was: the stored bytes may have changed or ended under the decoder.
    fn judge<T>(&self, index: usize, result: Result<T, BundleError>) -> Result<T, BundleError> {
        let Part { stored, .. } = &self.table[index];
        let (name, number, count) = (self.format.part_name(), index + 1, self.table.len());
        let place = format!("{name} {number} of {count} at byte {}", stored.start);
        let last = self.stored.chunk_at(stored.end - 1, 1).map_err(|e| e.at(&place))?;
        result.map_err(|error| match error.fault() {
            // The bytes are all there, so it is the table of parts or the part itself that lies.
            Fault::Truncated if !last.is_empty() => {
                corrupt("its data does not end where it should").at(place)
            }
            _ => error.at(place),
        })
    }
}

impl PartSet for Parts {
    fn need_bytes(&self, index: usize) -> u64 {
        let (part, room) = (&self.table[index], self.room_bytes(index));
        room + match part.codec {
            // Where the stored bytes do not lie together, they are put together before they are decoded.
            Codec::Zstd => part.stored.end - part.stored.start,
            Codec::Xz { .. } | Codec::Gzip => self.working_bytes.min(room),
        }
    }

    fn decode(&self, index: usize, out: &mut Vec<u8>) -> Result<DecodeAttempt, BundleError> {
        self.shared.check_cancelled()?;
        let result = self.shared.meter.cpu.of(|| self.decode_into(index, out));
        let decoded = self.judge(index, result)?;
        if decoded == DecodeAttempt::Whole {
            self.shared.meter.parts_decoded.fetch_add(1, Ordering::Relaxed);
            self.shared.meter.decoded_bytes.fetch_add(out.len() as u64, Ordering::Relaxed);
        }
        Ok(decoded)
    }
}

/// The announcement of a reader: where its range begins and ends, and whether it will certainly read it.
type Saying = (u64, u64, Certainty);

/// A volume of independent parts.
pub(super) struct BlockVolume {
    set: Arc<Parts>,
    /// The cache's view of `set`.
    parts: Arc<dyn PartSet>,
    id: u64,
    /// Where the parts end, decoded, as far as it is known.
    ends: Mutex<Vec<u64>>,
    recent: Mutex<VecDeque<usize>>,
    /// What was said of ranges whose parts were not all known: by range and certainty, the parts that were meant each time.
    meant: Mutex<HashMap<Saying, Vec<Range<usize>>>>,
}

impl BlockVolume {
    /// The outline has at least one part.
    pub(super) fn new(shared: Arc<Shared>, stored: Arc<dyn ByteSpace>, outline: Outline) -> Self {
        let set = Arc::new(Parts::new(shared, stored, outline));
        let told = if set.sizes_told { &set.table[..] } else { &[] };
        let add = |end: &mut u64, part: &Part| {
            *end += part.bytes;
            Some(*end)
        };
        let ends = told.iter().scan(0, add).collect();
        Self {
            parts: Arc::clone(&set) as Arc<dyn PartSet>,
            set,
            id: cache::next_id(),
            ends: Mutex::new(ends),
            recent: Mutex::new(VecDeque::with_capacity(REMEMBERED)),
            meant: Mutex::default(),
        }
    }

    /// The part in which the byte at `offset` lies, and where that part begins; None past the end.
    fn locate(&self, offset: u64) -> Result<Option<(usize, u64)>, BundleError> {
        let count = self.set.table.len();
        loop {
            let next = {
                let ends = self.ends.lock();
                let index = ends.partition_point(|end| *end <= offset);
                if index < ends.len() || index == count {
                    return Ok((index < count).then(|| (index, end_before(&ends, index))));
                }
                index
            };
            let part = self.fetch(next, true)?;
            let mut ends = self.ends.lock();
            if ends.len() == next {
                let end = end_before(&ends, next) + part.len() as u64;
                ends.push(end);
            }
        }
    }

    /// Whether a part proved too large, so that the file must be decoded in order.
    pub(super) fn one_is_too_large(&self) -> bool {
        self.set.one_is_too_large()
    }

    fn fetch(&self, index: usize, in_order: bool) -> Result<DecodedPart, BundleError> {
        let cache = &self.set.shared.cache;
        let last = if in_order { self.set.table.len().min(index + 1 + cache.threads()) } else { index + 1 };
        cache.fetch(&self.parts, self.id, index, index + 1..last)
    }

    /// The parts that the range reaches into, as far as it is known where they lie.
    fn parts_in(&self, range: &Range<u64>) -> Range<usize> {
        let ends = self.ends.lock();
        let first = ends.partition_point(|end| *end <= range.start);
        let last = ends.partition_point(|end| *end < range.end);
        if range.is_empty() { 0..0 } else { first..(last + 1).min(ends.len()).max(first) }
    }

    /// The parts that a reader means when it announces a range. The end of that announcement means the same parts.
    fn parts_meant(&self, range: &Range<u64>, certainty: Certainty) -> Range<usize> {
        let parts = self.parts_in(range);
        if !self.set.sizes_told {
            let key = (range.start, range.end, certainty);
            self.meant.lock().entry(key).or_default().push(parts.clone());
        }
        parts
    }

    /// The parts that were meant by one of those who said it of this range.
    fn parts_unmeant(&self, range: &Range<u64>, certainty: Certainty) -> Range<usize> {
        if self.set.sizes_told {
            return self.parts_in(range);
        }
        let mut meant = self.meant.lock();
        let Entry::Occupied(mut all) = meant.entry((range.start, range.end, certainty)) else { return 0..0 };
        // The fewest first: what the others mean stays until the last of them.
        let fewest = all.get().iter().enumerate().min_by_key(|(_, parts)| parts.len()).map(|(at, _)| at);
        let parts = fewest.map_or(0..0, |at| all.get_mut().swap_remove(at));
        if all.get().is_empty() {
            all.remove();
        }
        parts
    }

    /// Where these parts lie as stored.
    fn stored_range(&self, parts: &Range<usize>) -> Option<Range<u64>> {
        let parts = self.set.table.get(parts.clone())?;
        Some(parts.first()?.stored.start..parts.last()?.stored.end)
    }

    /// Remembers that the part was touched, and tells whether the one before it was too, not long ago.
    fn in_order(&self, index: usize) -> bool {
        let mut recent = self.recent.lock();
        if !recent.contains(&index) {
            if recent.len() == REMEMBERED {
                recent.pop_front();
            }
            recent.push_back(index);
        }
        index > 0 && recent.contains(&(index - 1))
    }
}

/// Where the part begins, if those before it are known.
fn end_before(ends: &[u64], index: usize) -> u64 {
    index.checked_sub(1).map_or(0, |before| ends[before])
}

impl ByteSpace for BlockVolume {
    fn len(&self) -> Result<u64, BundleError> {
        self.locate(u64::MAX)?;
        Ok(self.ends.lock().last().copied().unwrap_or(0))
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        if max == 0 {
            return Ok(Bytes::new());
        }
        let Some((index, start)) = self.locate(offset)? else { return Ok(Bytes::new()) };
        loop {
            let part = self.fetch(index, self.in_order(index))?;
            // A part's size was checked against memory when it was decoded.
            let from = usize::try_from(offset - start).unwrap_or(usize::MAX);
            let to = part.len().min(from.saturating_add(max.min(CHUNK_BYTES)));
            let Some(chunk) = part.copy(from..to) else {
                self.set.shared.cache.lost((self.id, index));
                continue;
            };
            if to == part.len() {
                drop(part);
                self.set.shared.cache.finish((self.id, index));
            }
            return Ok(chunk);
        }
    }

    fn will_read(&self, range: Range<u64>, certainty: Certainty) {
        let parts = self.parts_meant(&range, certainty);
        if let Some(stored) = self.stored_range(&parts) {
            self.set.stored.will_read(stored, Certainty::Possible);
        }
        // A part is decoded once more for itself.
        if certainty != Certainty::Again {
            self.set.shared.cache.want(self.id, parts, certainty);
        }
    }

    fn will_not_read(&self, range: Range<u64>, certainty: Certainty) {
        let parts = self.parts_unmeant(&range, certainty);
        if let Some(stored) = self.stored_range(&parts) {
            self.set.stored.will_not_read(stored, Certainty::Possible);
        }
        if certainty != Certainty::Again {
            self.set.shared.cache.unwant(self.id, parts, certainty);
        }
    }

    fn release(&self, range: Range<u64>) {
        let (first, last) = {
            let ends = self.ends.lock();
            // A part begins where the one before it ends.
            let first = if range.start == 0 { 0 } else { ends.partition_point(|end| *end < range.start) + 1 };
            (first, ends.partition_point(|end| *end <= range.end))
        };
        for index in first..last {
            self.set.shared.cache.finish((self.id, index));
        }
    }

    fn check_intact(&self) -> Result<(), BundleError> {
        self.set.stored.check_intact()
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
        let declared = reserve(buffer, declared)?;
        // A buffer that is used again needs no zeros.
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

impl DecodeSink for Exact<'_> {
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
