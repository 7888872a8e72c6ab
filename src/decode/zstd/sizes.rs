//! The sizes of frames that do not tell them.
//!
//! In: frames, as the walk found them. Out: what each one without a size decodes to, its checksum verified; nothing if
//! one of them is too large to be a part. What comes out of the decoders is thrown away: beside its window one holds
//! 256 KiB. The cache of parts deals out the work, so windows count against its budget, and a volume that is opened on a
//! thread of the pool, inside another one, cannot wait for itself.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::{Frame, context, decode_with};
use crate::decode::blocks::{CHUNK_BYTES, judge};
use crate::decode::cache::{self, PartSet};
use crate::decode::feed::SpaceFeed;
use crate::decode::{DecodeOptions, Output, Shared, cancelled, lock};
use crate::error::BundleError;
use crate::source::ByteSpace;

/// Frames smaller than this, as stored, share a task.
const TASK_BYTES: u64 = 1 << 20;

/// The sizes of those frames that do not tell theirs, in order; None if one is too large for a part.
pub(super) fn learn(
    shared: &Arc<Shared>,
    stored: &Arc<dyn ByteSpace>,
    frames: &[Frame],
) -> Result<Option<Vec<u64>>, BundleError> {
    let untold: Vec<Frame> = frames.iter().filter(|frame| frame.content_bytes.is_none()).cloned().collect();
    let window_bytes = untold.iter().map(|frame| frame.window_bytes).max().unwrap_or(0);
    let most_bytes = most_bytes(&shared.options, window_bytes);
    let learning = Arc::new(Learning {
        shared: Arc::clone(shared),
        stored: Arc::clone(stored),
        tasks: tasks(&untold),
        sizes: Mutex::new(vec![0; untold.len()]),
        frames: untold,
        need_bytes: window_bytes.min(most_bytes) + CHUNK_BYTES as u64,
        most_bytes,
        one_is_too_large: AtomicBool::new(false),
    });
    let set = Arc::clone(&learning) as Arc<dyn PartSet>;
    let number = Number { id: cache::next_id(), shared };
    let (count, threads) = (learning.tasks.len(), shared.cache.threads());
    for index in 0..count {
        let ahead = index + 1..count.min(index + 1 + threads);
        shared.cache.fetch(&set, number.id, index, ahead)?;
        if learning.one_is_too_large.load(Ordering::Relaxed) {
            return Ok(None);
        }
    }
    let sizes = std::mem::take(&mut *lock(&learning.sizes));
    Ok(Some(sizes))
}

/// The most that a frame may decode to, so that it and its window are within the limit for a part.
fn most_bytes(options: &DecodeOptions, window_bytes: u64) -> u64 {
    let limit = options.part_limit_bytes();
    limit - window_bytes.min(limit / 2)
}

/// Frames in a row, worth a task each.
fn tasks(frames: &[Frame]) -> Vec<Range<usize>> {
    let mut tasks = Vec::new();
    let (mut first, mut bytes) = (0, 0);
    for (index, frame) in frames.iter().enumerate() {
        bytes += frame.stored.end - frame.stored.start;
        if bytes >= TASK_BYTES || index + 1 == frames.len() {
            tasks.push(first..index + 1);
            (first, bytes) = (index + 1, 0);
        }
    }
    tasks
}

/// The tasks, as the cache sees them: parts that leave nothing behind.
struct Learning {
    shared: Arc<Shared>,
    stored: Arc<dyn ByteSpace>,
    frames: Vec<Frame>,
    tasks: Vec<Range<usize>>,
    sizes: Mutex<Vec<u64>>,
    need_bytes: u64,
    most_bytes: u64,
    one_is_too_large: AtomicBool,
}

impl PartSet for Learning {
    fn need_bytes(&self, _index: usize) -> u64 {
        self.need_bytes
    }

    fn decode(&self, index: usize, out: &mut Vec<u8>) -> Result<(), BundleError> {
        *out = Vec::new();
        let options = &self.shared.options;
        let mut context = context(options)?;
        let mut room = vec![0; CHUNK_BYTES];
        for frame in self.tasks[index].clone() {
            let stored = &self.frames[frame].stored;
            let mut feed = SpaceFeed::framed(&*self.stored, Bytes::new(), stored.clone(), Bytes::new());
            let mut counter = Counter { learning: self, room: &mut room, bytes: 0 };
            let result = decode_with(&mut context, &mut feed, &mut counter, options);
            let bytes = counter.bytes;
            self.shared.meter.decoded_bytes.fetch_add(bytes, Ordering::Relaxed);
            if self.one_is_too_large.load(Ordering::Relaxed) {
                return Ok(());
            }
            let place = format!("zstd frame at byte {}", stored.start);
            judge(&*self.stored, stored.end, &place, result)?;
            lock(&self.sizes)[frame] = bytes;
        }
        Ok(())
    }
}

/// Counts what it is given, up to the limit for a part.
struct Counter<'a> {
    learning: &'a Learning,
    room: &'a mut [u8],
    bytes: u64,
}

impl Output for Counter<'_> {
    fn room(&mut self) -> Result<&mut [u8], BundleError> {
        self.learning.shared.check_cancelled()?;
        Ok(self.room)
    }

    fn filled(&mut self, len: usize) -> Result<(), BundleError> {
        self.bytes += len as u64;
        let too_large = &self.learning.one_is_too_large;
        too_large.fetch_or(self.bytes > self.learning.most_bytes, Ordering::Relaxed);
        // Whoever sees the flag has no use for what is left.
        if too_large.load(Ordering::Relaxed) { Err(cancelled()) } else { Ok(()) }
    }
}

/// A number in the cache, given back whatever happens.
struct Number<'a> {
    id: u64,
    shared: &'a Shared,
}

impl Drop for Number<'_> {
    fn drop(&mut self) {
        self.shared.cache.forget(self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::testing::{content, decoder, drain, skippable, space, zstd};
    use crate::decode::{Decoder, StructureKind, Volume};
    use crate::error::Fault;

    const FRAME: usize = 1 << 20;
    const FRAMES: usize = 6;

    fn file(data: &[u8]) -> Vec<u8> {
        let frame = |data: &[u8]| [skippable(b"1234"), zstd(data, false)].concat();
        data.chunks(FRAME).flat_map(frame).collect()
    }

    fn opened(decoder: &Decoder) -> (Volume, Vec<u8>) {
        let data = content(FRAME * FRAMES, 5);
        (decoder.open(space(&file(&data))).unwrap(), data)
    }

    #[test]
    fn frames_without_sizes_are_parts_after_one_pass_and_nothing_is_spooled() {
        let decoder = decoder(2, DecodeOptions::default());
        let (volume, data) = opened(&decoder);
        let structure = volume.structure;
        assert_eq!((structure.kind, structure.parts), (StructureKind::Blocks, FRAMES));
        assert_eq!(structure.decoded_bytes, Some(data.len() as u64));
        assert!(structure.sizes_learned && structure.to_string().contains("learn their sizes"));
        assert_eq!(decoder.meter().decoded_bytes(), data.len() as u64, "the pass is counted");
        assert_eq!(decoder.meter().parts_decoded(), 0);

        let chunk = volume.space.chunk_at(4 * FRAME as u64 + 9, 50).unwrap();
        assert_eq!(chunk[..], data[4 * FRAME + 9..4 * FRAME + 9 + chunk.len()]);
        assert_eq!(decoder.meter().decoded_bytes(), (data.len() + FRAME) as u64, "one frame more");
        assert!(drain(&volume).unwrap() == data);
        assert_eq!(decoder.meter().spool_high_water_bytes(), 0);
    }

    #[test]
    fn frames_with_sizes_among_them_are_not_decoded_to_learn_any() {
        let data = content(3 * FRAME, 6);
        let frames: Vec<_> = data.chunks(FRAME).zip([true, false, true]).collect();
        let stored: Vec<u8> = frames.iter().flat_map(|(data, told)| zstd(data, *told)).collect();
        let decoder = decoder(2, DecodeOptions::default());
        let volume = decoder.open(space(&stored)).unwrap();
        assert_eq!(decoder.meter().decoded_bytes(), FRAME as u64);
        assert!(drain(&volume).unwrap() == data);
    }

    #[test]
    fn a_frame_alone_stays_a_stream_and_is_not_decoded_twice() {
        let data = content(FRAME, 7);
        let decoder = decoder(2, DecodeOptions::default());
        let stored = [skippable(b""), zstd(&data, false)].concat();
        let volume = decoder.open(space(&stored)).unwrap();
        assert_eq!(volume.structure.kind, StructureKind::Spool);
        assert!(!volume.structure.sizes_learned);
        assert!(drain(&volume).unwrap() == data);
        assert_eq!(decoder.meter().decoded_bytes(), data.len() as u64);
    }

    #[test]
    fn a_frame_too_large_for_a_part_ends_the_pass_early() {
        let options = DecodeOptions { part_cache_bytes: 4 << 20, ..DecodeOptions::default() };
        let decoder = decoder(1, options);
        let data = [content(FRAME / 2, 8), vec![7; 64 << 20]].concat();
        let stored = [zstd(&data[..FRAME / 2], false), zstd(&data[FRAME / 2..], false)].concat();
        let outline = crate::decode::zstd::outline(&decoder.0, &space(&stored), stored.len() as u64).unwrap();
        assert!(!outline.parts_known && !outline.sizes_learned);
        assert!(decoder.meter().decoded_bytes() < 4 << 20, "{}", decoder.meter().decoded_bytes());
        assert!(drain(&decoder.open(space(&stored)).unwrap()).unwrap() == data);
    }

    #[test]
    fn damage_in_a_frame_is_found_by_the_pass_and_placed() {
        let first = zstd(&content(FRAME, 9), false);
        let mut stored = [&first[..], &zstd(&content(FRAME, 10), false)].concat();
        let last = stored.len() - 1;
        stored[last] ^= 1;
        let error = decoder(2, DecodeOptions::default()).open(space(&stored)).unwrap_err();
        assert_eq!(error.fault(), Fault::CorruptCompression);
        assert!(error.to_string().contains(&format!("zstd frame at byte {}", first.len())), "{error}");
    }

    #[test]
    fn a_cancelled_decoder_learns_nothing() {
        let decoder = decoder(2, DecodeOptions::default());
        decoder.cancel();
        let stored = file(&content(2 * FRAME, 11));
        assert_eq!(decoder.open(space(&stored)).unwrap_err().fault(), Fault::Cancelled);
        assert_eq!(decoder.meter().decoded_bytes(), 0);
    }
}
