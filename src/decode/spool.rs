//! A volume that can only be decoded in order: one thread decodes ahead, another writes what comes out into a spool file,
//! readers follow.
//!
//! In: stored bytes, or a pipe. Out: copies of at most 256 KiB out of the spool file, as soon as they are there. The
//! file has no name and is sparse: blocks of zeros are not written. Released ranges are punched out, and so are those
//! that nobody needs once all readers have announced what they will read. A reader past the decoded bytes waits; the length is
//! known when everything is decoded and verified. A released range that is wanted again is decoded once more from the beginning;
//! a pipe cannot give it again.

mod file;

use crate::clock::Instant;
use crate::locks::{Condvar, Mutex, MutexGuard};
use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use crossbeam::channel::{Receiver, Sender, bounded};

use self::file::{BLOCK_BYTES, SpoolFile};
use super::blocks::CHUNK_BYTES;
use super::cache::Decoding;
use super::feed::{Feed, SpaceFeed};
use super::ranges::{Coverage, RangeSet};
use super::{DecodeSink, Format, Shared, Waiting, cancelled, decode};
use crate::error::{BundleError, Fault};
use crate::source::{ByteSpace, Certainty, Intent, OpenedOnce};

/// Buffers between the thread that decodes and the one that writes: one is filled, one is written, two wait.
const BUFFERS: usize = 4;
/// How long dropping a volume waits for its thread; one that is stuck in a silent pipe is left behind.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

/// A volume in a spool file.
pub(super) struct SpoolVolume {
    spool: Arc<Spool>,
    thread: Option<JoinHandle<()>>,
    /// The bytes as stored; none of a pipe.
    stored: Option<Arc<dyn ByteSpace>>,
    /// The same once more, for what was released and is read again.
    again: OpenedOnce<Box<SpoolVolume>>,
}

/// What the thread and the readers share.
struct Spool {
    shared: Arc<Shared>,
    format: Format,
    file: SpoolFile,
    abandoned: AtomicBool,
    state: Mutex<SpoolState>,
    changed: Condvar,
}

#[derive(Default)]
struct SpoolState {
    /// What lies below is in the file.
    watermark: u64,
    end: Option<Result<(), BundleError>>,
    released: RangeSet,
    /// What readers have announced that they will read, or may.
    needed: Coverage,
    /// All readers have announced themselves.
    is_settled: bool,
}

impl SpoolState {
    /// What of these ranges is in the file and is released now, with what makes whole blocks of it.
    fn release(&mut self, ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
        const BLOCK: u64 = BLOCK_BYTES as u64;
        let in_file = |range: Range<u64>| {
            let whole = self.released.insert(range.clone());
            let start = (range.start / BLOCK * BLOCK).max(whole.start);
            let end = range.end.div_ceil(BLOCK).saturating_mul(BLOCK).min(whole.end);
            start..end.min(self.watermark)
        };
        ranges.into_iter().map(in_file).collect()
    }

    /// What lies below is in the file from now on. Gives what of these blocks was released while they were written.
    fn reach(&mut self, watermark: u64, mut written: Vec<Range<u64>>) -> Vec<Range<u64>> {
        self.watermark = watermark;
        written.retain(|block| self.released.covers(block));
        written
    }
}

impl SpoolVolume {
    /// Starts to decode a space, which gives at least `at_least` bytes.
    pub(super) fn of_space(
        shared: &Arc<Shared>,
        format: Format,
        stored: &Arc<dyn ByteSpace>,
        at_least_bytes: u64,
    ) -> Result<Self, BundleError> {
        let feed = Box::new(SpaceFeed::all(Arc::clone(stored)));
        Self::start(shared, format, feed, at_least_bytes, Some(Arc::clone(stored)))
    }

    /// Starts to decode what comes out of a pipe.
    pub(super) fn of_pipe(
        shared: &Arc<Shared>,
        format: Format,
        feed: Box<dyn Feed>,
    ) -> Result<Self, BundleError> {
        Self::start(shared, format, feed, 0, None)
    }

    fn start(
        shared: &Arc<Shared>,
        format: Format,
        feed: Box<dyn Feed>,
        at_least_bytes: u64,
        stored: Option<Arc<dyn ByteSpace>>,
    ) -> Result<Self, BundleError> {
        let spool = Arc::new(Spool {
            shared: Arc::clone(shared),
            format,
            file: SpoolFile::create(shared, at_least_bytes)?,
            abandoned: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let waiting: Weak<Spool> = Arc::downgrade(&spool);
        shared.wake_on_cancel(waiting);
        let decoding = Arc::clone(&spool);
        let reads =
            stored.as_ref().map(|stored| Intent::to_read_range(stored, 0..u64::MAX, Certainty::Possible));
        let source = stored.clone();
        let thread = std::thread::Builder::new()
            .name("decode-spool".into())
            .spawn(move || {
                let _decoding = Decoding::begin();
                let _reads = reads;
                // If decoding panics the readers must hear of it.
                let mut end = EndGuard { spool: &decoding, result: None };
                let lost = |error| match source.map_or(Ok(()), |stored| stored.check_intact()) {
                    Ok(()) => error,
                    Err(lost) => lost,
                };
                end.result = Some(decoding.fill(feed).map_err(lost));
            })
            .map_err(|error| BundleError::io("starting a thread", &error))?;
        Ok(Self { spool, thread: Some(thread), stored, again: OpenedOnce::default() })
    }

    /// The volume decoded once more. What it holds stays.
    fn again(&self, offset: u64) -> Result<&Self, BundleError> {
        let Some(stored) = &self.stored else {
            let told = format!("byte {offset} of the pipe was read and released before it was wanted again");
            return Err(BundleError::new(Fault::Io, told).hint("run again, or give the bundle as a file"));
        };
        let start = || Self::of_space(&self.spool.shared, self.spool.format, stored, 0).map(Box::new);
        self.again.get_or_open(start).map(|again| &**again)
    }
}

impl Spool {
    /// Decodes all of `feed` into the file. What has come out is written by a second thread: a decoder of one stream is
    /// what everybody waits for, and has better to do.
    fn fill(&self, feed: Box<dyn Feed>) -> Result<(), BundleError> {
        let (full, to_write) = bounded::<DecodedPiece>(BUFFERS);
        let (written, empty) = bounded::<Vec<u8>>(BUFFERS);
        for _ in 0..BUFFERS {
            let _ = written.try_send(vec![0; CHUNK_BYTES]);
        }
        std::thread::scope(|scope| {
            let writing = std::thread::Builder::new()
                .name("write-spool".into())
                .spawn_scoped(scope, move || self.write_all(to_write, &written))
                .map_err(|error| BundleError::io("starting a thread", &error))?;
            let decoded = {
                let mut out = Pieces { full, empty, buffer: Vec::new(), filled: 0, offset: 0 };
                let mut feed = CancellableFeed { feed, spool: self };
                let decoding = || decode(self.format, &mut feed, &mut out, &self.shared.options);
                let decoded = self.shared.meter.cpu.of(decoding);
                decoded.and_then(|()| out.flush())
            };
            let broke = |_| Err(BundleError::new(Fault::Io, "internal error while writing a spool file"));
            // Why nothing could be written says more than that there was nobody left to write it.
            writing.join().unwrap_or_else(broke).and(decoded)?;
            self.file.complete();
            Ok(())
        })
    }

    fn write_all(
        &self,
        pieces: Receiver<DecodedPiece>,
        written: &Sender<Vec<u8>>,
    ) -> Result<(), BundleError> {
        for DecodedPiece { buffer, filled, offset } in pieces {
            self.check_wanted()?;
            let mut blocks = Vec::new();
            for (index, block) in buffer[..filled].chunks(BLOCK_BYTES).enumerate() {
                let start = offset + (index * BLOCK_BYTES) as u64;
                let range = start..start + block.len() as u64;
                let is_wanted = {
                    let mut state = self.state.lock();
                    if state.is_settled {
                        let unneeded = state.needed.bare(&range);
                        state.release(unneeded);
                    }
                    !state.released.covers(&range)
                };
                if is_wanted {
                    self.file.write(start, block)?;
                    blocks.push(range);
                }
            }
            let end = offset + filled as u64;
            self.file.reach(end)?;
            self.shared.meter.decoded_bytes.fetch_add(filled as u64, Ordering::Relaxed);
            let gone = self.state.lock().reach(end, blocks);
            self.changed.notify_all();
            for range in gone {
                self.file.punch(range);
            }
            // Nobody takes buffers any more once all is decoded.
            let _ = written.try_send(buffer);
        }
        Ok(())
    }
}

impl Waiting for Spool {
    fn wake(&self) {
        // Whoever is between looking and waiting holds the lock.
        drop(self.state.lock());
        self.changed.notify_all();
    }

    fn settle(&self) {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.is_settled, true) {
            return;
        }
        let unneeded = state.needed.bare(&(0..state.watermark));
        let gone = state.release(unneeded);
        drop(state);
        for range in gone {
            self.file.punch(range);
        }
    }
}

impl ByteSpace for SpoolVolume {
    fn len(&self) -> Result<u64, BundleError> {
        let state = self.spool.wait_until(|state| state.end.is_some())?;
        match &state.end {
            Some(Err(error)) => Err(error.clone()),
            _ => Ok(state.watermark),
        }
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        let state = self.spool.wait_until(|state| state.watermark > offset || state.end.is_some())?;
        let left = state.watermark.saturating_sub(offset);
        if left == 0 {
            return match &state.end {
                Some(Err(error)) => Err(error.clone()),
                _ => Ok(Bytes::new()),
            };
        }
        let len = usize::try_from(left).unwrap_or(usize::MAX).min(max).min(CHUNK_BYTES);
        let held = |state: &SpoolState| !state.released.overlaps(&(offset..offset + len as u64));
        let was_held = held(&state);
        drop(state);
        if was_held {
            let bytes = self.spool.file.read(offset, len)?;
            // What is released meanwhile may have been read as zeros.
            if held(&self.spool.state.lock()) {
                return Ok(bytes);
            }
        }
        self.again(offset)?.chunk_at(offset, max)
    }

    fn release(&self, range: Range<u64>) {
        let gone = self.spool.state.lock().release(vec![range]);
        for range in gone {
            self.spool.file.punch(range);
        }
    }

    fn check_intact(&self) -> Result<(), BundleError> {
        self.stored.as_ref().map_or(Ok(()), |stored| stored.check_intact())
    }

    fn will_read(&self, range: Range<u64>, _certainty: Certainty) {
        self.spool.state.lock().needed.add(&range);
    }

    fn will_not_read(&self, range: Range<u64>, _certainty: Certainty) {
        let gone = {
            let mut state = self.spool.state.lock();
            let unneeded = state.needed.remove(&range);
            if state.is_settled { state.release(unneeded) } else { Vec::new() }
        };
        for range in gone {
            self.spool.file.punch(range);
        }
    }
}

impl Drop for SpoolVolume {
    fn drop(&mut self) {
        self.spool.abandoned.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + SHUTDOWN_GRACE;
        let mut state = self.spool.state.lock();
        while state.end.is_none()
            && !self.spool.changed.wait_until(&mut state, deadline.into_std()).timed_out()
        {}
        let ended = state.end.is_some();
        drop(state);
        if let Some(thread) = self.thread.take().filter(|_| ended) {
            // It has said its last word; a panic of it was reported to the readers.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for SpoolVolume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpoolVolume").field("format", &self.spool.format).finish_non_exhaustive()
    }
}

impl Spool {
    fn wait_until(
        &self,
        is_there: impl Fn(&SpoolState) -> bool,
    ) -> Result<MutexGuard<'_, SpoolState>, BundleError> {
        let mut state = self.state.lock();
        while !is_there(&state) {
            self.shared.check_cancelled()?;
            self.changed.wait(&mut state);
        }
        Ok(state)
    }

    fn check_wanted(&self) -> Result<(), BundleError> {
        if self.abandoned.load(Ordering::Relaxed) { Err(cancelled()) } else { self.shared.check_cancelled() }
    }
}

/// Tells the readers how decoding ended, however it ended.
struct EndGuard<'a> {
    spool: &'a Spool,
    result: Option<Result<(), BundleError>>,
}

impl Drop for EndGuard<'_> {
    fn drop(&mut self) {
        let panicked = || Err(BundleError::new(Fault::Io, "internal error while decoding"));
        self.spool.state.lock().end = Some(self.result.take().unwrap_or_else(panicked));
        self.spool.changed.notify_all();
    }
}

/// A feed that ends when nobody wants the volume any more, even if nothing comes out of what it feeds.
struct CancellableFeed<'a> {
    feed: Box<dyn Feed>,
    spool: &'a Spool,
}

impl Feed for CancellableFeed<'_> {
    fn window(&mut self) -> Result<&[u8], BundleError> {
        self.spool.check_wanted()?;
        self.feed.window()
    }

    fn advance(&mut self, len: usize) {
        self.feed.advance(len);
    }

    fn position(&self) -> u64 {
        self.feed.position()
    }
}

/// Decoded bytes on their way into the file.
struct DecodedPiece {
    buffer: Vec<u8>,
    filled: usize,
    /// Where they belong; a multiple of the buffer's size.
    offset: u64,
}

/// Gathers decoded bytes and hands them over to be written.
struct Pieces {
    full: Sender<DecodedPiece>,
    empty: Receiver<Vec<u8>>,
    /// Without bytes until room is wanted.
    buffer: Vec<u8>,
    filled: usize,
    offset: u64,
}

impl Pieces {
    fn flush(&mut self) -> Result<(), BundleError> {
        if self.filled == 0 {
            return Ok(());
        }
        let (buffer, filled, offset) = (std::mem::take(&mut self.buffer), self.filled, self.offset);
        self.offset += filled as u64;
        self.filled = 0;
        // The one that writes ends early only with an error of its own.
        self.full.send(DecodedPiece { buffer, filled, offset }).map_err(|_| cancelled())
    }
}

impl DecodeSink for Pieces {
    fn room(&mut self) -> Result<&mut [u8], BundleError> {
        if self.filled == self.buffer.len() {
            self.flush()?;
        }
        if self.buffer.is_empty() {
            self.buffer = self.empty.recv().map_err(|_| cancelled())?;
        }
        Ok(&mut self.buffer[self.filled..])
    }

    fn filled(&mut self, len: usize) -> Result<(), BundleError> {
        self.filled += len;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
