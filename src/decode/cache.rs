//! Decoded parts in memory, under a budget, shared by all block volumes of a decoder.
//!
//! In: a part that somebody wants. Out: the part, decoded once however many want it. A part's whole need is taken from
//! the budget before its decoding starts, so no task waits for memory with work half done. Failures stay.
//!
//! What goes first when room is needed: parts read to their end, then parts that their readers have left, then
//! what was decoded ahead. A part that is being read goes only after a patient wait, so that more readers than the
//! budget has parts for take turns instead of decoding each part again for every chunk.
//!
//! Two rules against deadlock. A thread of the pool never waits for a part that has not been begun: it decodes it
//! itself. And a part that is wanted to decode another one (an archive inside an archive, both compressed) may go past
//! the budget by one part per thread, for waiting there could be waiting for itself.

use crate::sync::{Condvar, Mutex, MutexGuard};
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::{BundleError, Fault};

/// A part that nobody touched for so long is not being read.
const IDLE: Duration = Duration::from_secs(1);
/// How long a reader waits for others to finish theirs before one of their parts goes.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long a reader waits for the pool to begin its part before it decodes it itself.
const UNBEGUN: Duration = Duration::from_millis(600);

/// The parts of one volume.
pub(super) trait PartSet: Send + Sync {
    /// The memory that a part and its decoding take.
    fn need_bytes(&self, index: usize) -> u64;

    /// Decodes a part into a buffer, whose old content is of no meaning.
    fn decode(&self, index: usize, out: &mut Vec<u8>) -> Result<Decoded, BundleError>;
}

/// What an attempt to decode a part came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decoded {
    /// The part is in the buffer.
    Whole,
    /// It needs more memory than was said, and now says so.
    NeedsRoom,
}

/// A volume, and a part of it.
pub(super) type Key = (u64, usize);

/// A number for a volume, as no other has it.
pub(super) fn next_id() -> u64 {
    static NEXT_ID: AtomicU64 = AtomicU64::new(0);
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

pub(super) struct PartCache {
    pool: Arc<rayon::ThreadPool>,
    budget_bytes: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    used_bytes: u64,
    entries: HashMap<Key, Entry>,
}

struct Entry {
    phase: Phase,
    need_bytes: u64,
    /// Threads that wait for it; it stays until they have it.
    waiting: usize,
    /// Threads that read from it and have not turned to another part since.
    readers: usize,
    touched: Instant,
    /// Whether anybody read from it.
    seen: bool,
    /// How far those who read from it are.
    progress: Progress,
    /// Its volume is gone.
    forgotten: bool,
}

/// How far the readers of a part are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Reading,
    /// All have turned to another part.
    Left,
    /// It was read to its end.
    Finished,
}

enum Phase {
    Queued,
    Running,
    Ready(Arc<Vec<u8>>),
    Failed(BundleError),
}

/// How urgently room is needed, and so what may go for it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Ahead,
    Wanted,
    Impatient,
}

thread_local! {
    /// How many parts this thread is decoding, one inside the other.
    static DECODING: Cell<usize> = const { Cell::new(0) };
    /// The part this thread reads from. When it turns to another, this one has a reader less: a walk that jumps from
    /// header to header never reads a part to its end, and must not be waited for.
    static READING: Cell<Option<Key>> = const { Cell::new(None) };
}

impl PartCache {
    pub(super) fn new(pool: Arc<rayon::ThreadPool>, budget_bytes: u64) -> Self {
        Self { pool, budget_bytes, state: Mutex::default(), changed: Condvar::new() }
    }

    /// How many parts can be decoded at once.
    pub(super) fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// A decoded part; decodes it, or waits for whoever does. The parts of `ahead` are begun too if there is room.
    pub(super) fn fetch(
        self: &Arc<Self>,
        set: &Arc<dyn PartSet>,
        volume: u64,
        index: usize,
        mut ahead: Range<usize>,
    ) -> Result<Arc<Vec<u8>>, BundleError> {
        let key = (volume, index);
        let on_pool = self.pool.current_thread_index().is_some();
        let begun = Instant::now();
        let mut state = self.state.lock();
        loop {
            let Some(entry) = state.entries.get_mut(&key) else {
                let need = set.need_bytes(index);
                let urgency = if begun.elapsed() < PATIENCE { Urgency::Wanted } else { Urgency::Impatient };
                let nested = DECODING.get() > 0;
                let (fits, spare) = state.make_room(need, self.budget_bytes, urgency);
                if !fits && !nested && state.used_bytes > 0 {
                    state = self.wait(state, PATIENCE / 4);
                    continue;
                }
                state.insert(key, need, Phase::Queued);
                if on_pool {
                    self.begin_ahead(&mut state, set, volume, std::mem::take(&mut ahead));
                    state = self.run_here(state, &**set, key, spare);
                } else {
                    self.spawn(set, key, spare);
                }
                continue;
            };
            match &entry.phase {
                Phase::Failed(error) => return Err(error.clone()),
                Phase::Ready(part) => {
                    let part = Arc::clone(part);
                    (entry.seen, entry.progress) = (true, Progress::Reading);
                    entry.touched = Instant::now();
                    state.turn_to(key);
                    self.begin_ahead(&mut state, set, volume, ahead);
                    return Ok(part);
                }
                Phase::Queued if on_pool || begun.elapsed() >= UNBEGUN => {
                    state = self.run_here(state, &**set, key, Vec::new());
                }
                Phase::Queued | Phase::Running => {
                    entry.waiting += 1;
                    self.begin_ahead(&mut state, set, volume, std::mem::take(&mut ahead));
                    state = self.wait(state, UNBEGUN);
                    state.stop_waiting(key);
                }
            }
        }
    }

    /// The part was read to its end, or nobody will read it again.
    pub(super) fn finish(&self, key: Key) {
        if let Some(entry) = self.state.lock().entries.get_mut(&key) {
            entry.progress = Progress::Finished;
        }
        self.changed.notify_all();
    }

    /// The volume is gone, and with it all its parts.
    pub(super) fn forget(&self, volume: u64) {
        let mut state = self.state.lock();
        let State { used_bytes, entries } = &mut *state;
        entries.retain(|key, entry| {
            if key.0 != volume {
                return true;
            }
            entry.forgotten = true;
            let running = matches!(entry.phase, Phase::Running);
            if !running {
                *used_bytes -= entry.need_bytes;
            }
            running
        });
        drop(state);
        self.changed.notify_all();
    }

    fn wait<'a>(&self, mut state: MutexGuard<'a, State>, at_most: Duration) -> MutexGuard<'a, State> {
        self.changed.wait_for(&mut state, at_most);
        state
    }

    fn begin_ahead(
        self: &Arc<Self>,
        state: &mut State,
        set: &Arc<dyn PartSet>,
        volume: u64,
        ahead: Range<usize>,
    ) {
        for index in ahead {
            let key = (volume, index);
            if state.entries.contains_key(&key) {
                continue;
            }
            let need = set.need_bytes(index);
            let (fits, spare) = state.make_room(need, self.budget_bytes, Urgency::Ahead);
            if !fits {
                return;
            }
            state.insert(key, need, Phase::Queued);
            self.spawn(set, key, spare);
        }
    }

    fn spawn(self: &Arc<Self>, set: &Arc<dyn PartSet>, key: Key, spare: Vec<u8>) {
        let (cache, set) = (Arc::clone(self), Arc::clone(set));
        self.pool.spawn(move || {
            {
                // A reader may have taken it over, or room was needed for something more urgent.
                let mut state = cache.state.lock();
                match state.entries.get_mut(&key) {
                    Some(entry) if matches!(entry.phase, Phase::Queued) => entry.phase = Phase::Running,
                    _ => return,
                }
            }
            cache.run(&*set, key, spare);
        });
    }

    /// Decodes a queued part on this thread, which wants it.
    fn run_here<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        set: &dyn PartSet,
        key: Key,
        spare: Vec<u8>,
    ) -> MutexGuard<'a, State> {
        if let Some(entry) = state.entries.get_mut(&key) {
            entry.phase = Phase::Running;
            entry.waiting += 1;
        }
        drop(state);
        self.run(set, key, spare);
        let mut state = self.state.lock();
        state.stop_waiting(key);
        state
    }

    /// Decodes a part whose entry is `Running`.
    fn run(&self, set: &dyn PartSet, key: Key, mut buffer: Vec<u8>) {
        DECODING.set(DECODING.get() + 1);
        let result = catch_unwind(AssertUnwindSafe(|| set.decode(key.1, &mut buffer))).unwrap_or_else(|_| {
            Err(BundleError::new(Fault::Io, format!("internal error while decoding part {}", key.1 + 1)))
        });
        DECODING.set(DECODING.get() - 1);
        let (phase, keeps) = match result {
            Ok(Decoded::Whole) => {
                let keeps = buffer.capacity() as u64;
                (Some(Phase::Ready(Arc::new(buffer))), keeps)
            }
            // Whoever waits for it finds it gone, and begins again.
            Ok(Decoded::NeedsRoom) => (None, 0),
            Err(error) => (Some(Phase::Failed(error)), 0),
        };
        let mut state = self.state.lock();
        let State { used_bytes, entries } = &mut *state;
        if let Some(entry) = entries.get_mut(&key) {
            *used_bytes -= entry.need_bytes;
            match phase.filter(|_| !entry.forgotten) {
                Some(phase) => {
                    *used_bytes += keeps;
                    (entry.need_bytes, entry.phase, entry.touched) = (keeps, phase, Instant::now());
                }
                None => drop(entries.remove(&key)),
            }
        }
        drop(state);
        self.changed.notify_all();
    }
}

impl State {
    fn insert(&mut self, key: Key, need_bytes: u64, phase: Phase) {
        self.used_bytes += need_bytes;
        let entry = Entry {
            phase,
            need_bytes,
            waiting: 0,
            readers: 0,
            touched: Instant::now(),
            seen: false,
            progress: Progress::Reading,
            forgotten: false,
        };
        self.entries.insert(key, entry);
    }

    /// This thread reads from `key` now.
    fn turn_to(&mut self, key: Key) {
        let before = READING.replace(Some(key));
        if before == Some(key) {
            return;
        }
        if let Some(left) = before.and_then(|before| self.entries.get_mut(&before)) {
            left.readers = left.readers.saturating_sub(1);
            if left.readers == 0 && left.progress == Progress::Reading {
                left.progress = Progress::Left;
            }
        }
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.readers += 1;
        }
    }

    fn stop_waiting(&mut self, key: Key) {
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.waiting = entry.waiting.saturating_sub(1);
        }
    }

    /// Makes room if what may go for it is enough; also gives a buffer of a part that went, to be used again.
    fn make_room(&mut self, need_bytes: u64, budget_bytes: u64, urgency: Urgency) -> (bool, Vec<u8>) {
        let over = (self.used_bytes + need_bytes).saturating_sub(budget_bytes);
        if over == 0 {
            return (true, Vec::new());
        }
        let now = Instant::now();
        let mut candidates: Vec<_> = self
            .entries
            .iter()
            .filter_map(|(key, entry)| {
                Some((entry.rank(now, urgency)?, entry.touched, *key, entry.need_bytes))
            })
            .collect();
        candidates.sort_unstable();
        let mut freed = 0;
        let going = candidates.iter().take_while(|(.., bytes)| {
            let wanted = freed < over;
            freed += if wanted { *bytes } else { 0 };
            wanted
        });
        let going: Vec<Key> = going.map(|(_, _, key, _)| *key).collect();
        if freed < over {
            return (false, Vec::new());
        }
        let mut spare = Vec::new();
        for key in going {
            let Some(entry) = self.entries.remove(&key) else { continue };
            self.used_bytes -= entry.need_bytes;
            if let Phase::Ready(part) = entry.phase
                && let Ok(buffer) = Arc::try_unwrap(part)
                && buffer.capacity() as u64 <= need_bytes
                && buffer.capacity() > spare.capacity()
            {
                spare = buffer;
            }
        }
        (true, spare)
    }
}

impl Entry {
    /// How early it goes when room is needed, the lowest first; None if it stays.
    fn rank(&self, now: Instant, urgency: Urgency) -> Option<u8> {
        if self.waiting > 0 || self.need_bytes == 0 {
            return None;
        }
        let idle = now.saturating_duration_since(self.touched) >= IDLE;
        let (rank, least) = match &self.phase {
            Phase::Ready(_) if self.progress == Progress::Finished => (0, Urgency::Ahead),
            // The walk over headers leaves parts that others are about to read: the longest left goes first.
            Phase::Ready(_) if self.progress == Progress::Left || (self.seen && idle) => (1, Urgency::Ahead),
            Phase::Queued => (2, Urgency::Wanted),
            Phase::Ready(_) if idle => (3, Urgency::Wanted),
            Phase::Ready(_) => (4, Urgency::Impatient),
            Phase::Running | Phase::Failed(_) => return None,
        };
        (urgency >= least).then_some(rank)
    }
}

impl fmt::Debug for PartCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartCache").field("budget_bytes", &self.budget_bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
