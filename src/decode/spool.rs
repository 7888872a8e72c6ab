//! A volume that can only be decoded in order: one thread decodes ahead into a spool file, readers follow.
//!
//! In: stored bytes, or a pipe. Out: copies of at most 256 KiB out of the spool file, as soon as they are there. The
//! file has no name and is sparse: blocks of zeros are not written, and what is released is punched out again. A reader
//! past what is decoded waits; the length is known when everything is decoded and verified.

mod file;

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::file::{BLOCK_BYTES, SpoolFile};
use super::blocks::CHUNK_BYTES;
use super::feed::Feed;
use super::ranges::RangeSet;
use super::{Format, Output, Shared, cancelled, decode, lock};
use crate::error::{BundleError, Fault};
use crate::source::ByteSpace;

/// How often a waiting reader looks whether it should go on waiting.
const LOOK: Duration = Duration::from_millis(200);
/// How long dropping a volume waits for its thread; one that is stuck in a silent pipe is left behind.
const FAREWELL: Duration = Duration::from_secs(1);

/// A volume in a spool file.
pub(super) struct SpoolVolume {
    spool: Arc<Spool>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and the readers share.
struct Spool {
    shared: Arc<Shared>,
    format: Format,
    file: SpoolFile,
    abandoned: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// What lies below is in the file.
    watermark: u64,
    end: Option<Result<(), BundleError>>,
    released: RangeSet,
}

impl SpoolVolume {
    /// Starts to decode `feed`, which gives at least so many bytes.
    pub(super) fn start(
        shared: &Arc<Shared>,
        format: Format,
        feed: Box<dyn Feed>,
        at_least_bytes: u64,
    ) -> Result<Self, BundleError> {
        let spool = Arc::new(Spool {
            shared: Arc::clone(shared),
            format,
            file: SpoolFile::create(shared, at_least_bytes)?,
            abandoned: AtomicBool::new(false),
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let writer = Arc::clone(&spool);
        let thread = std::thread::Builder::new()
            .name("decode-spool".into())
            .spawn(move || {
                // If decoding panics the readers must hear of it.
                let mut verdict = Verdict { spool: &writer, result: None };
                let mut out = Writer::new(&writer);
                let mut feed = Wanted { feed, spool: &writer };
                let decoded = decode(format, &mut feed, &mut out, &writer.shared.options);
                verdict.result = Some(decoded.and_then(|()| out.flush()));
            })
            .map_err(|error| BundleError::io("starting a thread", &error))?;
        Ok(Self { spool, thread: Some(thread) })
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
        if state.released.overlaps(&(offset..offset + len as u64)) {
            return Err(BundleError::new(
                Fault::Io,
                format!("byte {offset} was released before it was read"),
            ));
        }
        drop(state);
        self.spool.file.read(offset, len)
    }

    fn release(&self, range: Range<u64>) {
        let mut state = lock(&self.spool.state);
        let whole = state.released.insert(range);
        let end = whole.end.min(state.watermark);
        drop(state);
        self.spool.file.punch(whole.start..end);
    }
}

impl Drop for SpoolVolume {
    fn drop(&mut self) {
        self.spool.abandoned.store(true, Ordering::Relaxed);
        let begun = Instant::now();
        let mut state = lock(&self.spool.state);
        while state.end.is_none() && begun.elapsed() < FAREWELL {
            state = self.spool.wait(state, FAREWELL);
        }
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
    fn wait_until(&self, is_there: impl Fn(&State) -> bool) -> Result<MutexGuard<'_, State>, BundleError> {
        let mut state = lock(&self.state);
        while !is_there(&state) {
            self.shared.check_cancelled()?;
            state = self.wait(state, LOOK);
        }
        Ok(state)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, at_most: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_timeout(state, at_most).unwrap_or_else(PoisonError::into_inner).0
    }

    fn check_wanted(&self) -> Result<(), BundleError> {
        if self.abandoned.load(Ordering::Relaxed) { Err(cancelled()) } else { self.shared.check_cancelled() }
    }
}

/// Tells the readers how decoding ended, however it ended.
struct Verdict<'a> {
    spool: &'a Spool,
    result: Option<Result<(), BundleError>>,
}

impl Drop for Verdict<'_> {
    fn drop(&mut self) {
        let panicked = || Err(BundleError::new(Fault::Io, "internal error while decoding"));
        lock(&self.spool.state).end = Some(self.result.take().unwrap_or_else(panicked));
        self.spool.changed.notify_all();
    }
}

/// A feed that ends when nobody wants the volume any more, even if nothing comes out of what it feeds.
struct Wanted<'a> {
    feed: Box<dyn Feed>,
    spool: &'a Spool,
}

impl Feed for Wanted<'_> {
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

/// Gathers decoded bytes and appends them to the file.
struct Writer<'a> {
    spool: &'a Spool,
    buffer: Vec<u8>,
    filled: usize,
    /// Where the buffer belongs in the file; a multiple of its size.
    offset: u64,
}

impl<'a> Writer<'a> {
    fn new(spool: &'a Spool) -> Self {
        Self { spool, buffer: vec![0; CHUNK_BYTES], filled: 0, offset: 0 }
    }

    fn flush(&mut self) -> Result<(), BundleError> {
        self.spool.check_wanted()?;
        for (index, block) in self.buffer[..self.filled].chunks(BLOCK_BYTES).enumerate() {
            let start = self.offset + (index * BLOCK_BYTES) as u64;
            let range = start..start + block.len() as u64;
            if !lock(&self.spool.state).released.covers(&range) {
                self.spool.file.write(start, block)?;
            }
        }
        self.offset += self.filled as u64;
        self.spool.file.reach(self.offset)?;
        self.spool.shared.meter.decoded_bytes.fetch_add(self.filled as u64, Ordering::Relaxed);
        self.filled = 0;
        lock(&self.spool.state).watermark = self.offset;
        self.spool.changed.notify_all();
        Ok(())
    }
}

impl Output for Writer<'_> {
    fn room(&mut self) -> Result<&mut [u8], BundleError> {
        if self.filled == self.buffer.len() {
            self.flush()?;
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
