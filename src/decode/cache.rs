//! Decoded parts in memory, under a budget, shared by all block volumes of a decoder.
//!
//! In: a part that somebody wants. Out: the part, decoded once however many want it. A part's whole need is taken from
//! the budget before its decoding starts, so no task waits for memory with work half done. Failures stay.
//!
//! [`eviction`] says what goes when room is needed. Once all who will read have said so, a part that none of them wants goes
//! as soon as it was read, and its buffer is used again. Whoever waits is woken by what ends the wait: a part that is there, a
//! reader that is through with another, the end of the run.
//!
//! Two rules against deadlock. A thread that decodes, be it of the pool or of a spool, never waits for a part that has
//! not been begun: it decodes it itself. So the pool gets to every part that it was given. And a part that is
//! wanted to decode another one (an archive inside an archive, both compressed) may go past the budget by one part
//! per thread, for waiting there could be waiting for itself.

mod eviction;

use crate::clock::Instant;
use crate::sync::{Condvar, Mutex, MutexGuard};
use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use self::eviction::{Asker, Candidate, NoRoom, Standing};
use super::cancelled;
use crate::error::{BundleError, Fault};
use crate::source::Certainty;

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
    entries: HashMap<Key, CachedPart>,
    /// How many said of a part, decoded or not, that they will read it, or may.
    wanted: HashMap<Key, Wanted>,
    /// All who will read have said so: what nobody wants need not be kept.
    is_settled: bool,
    /// Buffers of parts that went, to be used again. They count as used.
    spares: Vec<Vec<u8>>,
    /// Readers that wait for room. Nobody else need hear of parts that are left.
    short_of_room: usize,
    cancelled: bool,
}

#[derive(Clone, Copy, Default)]
struct Wanted {
    certain: u32,
    possible: u32,
}

impl Wanted {
    const fn count(&mut self, certainty: Certainty) -> &mut u32 {
        match certainty {
            Certainty::Certain => &mut self.certain,
            Certainty::Possible => &mut self.possible,
        }
    }

    const fn by_nobody(self) -> bool {
        self.certain == 0 && self.possible == 0
    }
}

struct CachedPart {
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

thread_local! {
    /// How much this thread is decoding, one inside the other.
    static DECODING: Cell<usize> = const { Cell::new(0) };
    /// The part this thread reads from. When it turns to another, this one has a reader less: a walk that jumps from
    /// header to header never reads a part to its end, and must not be waited for.
    static READING: Cell<Option<Key>> = const { Cell::new(None) };
}

/// Marks the thread as one that decodes, while it lives: others may wait for it, so it waits for few.
pub(super) struct Decoding(());

impl Decoding {
    pub(super) fn begin() -> Self {
        DECODING.set(DECODING.get() + 1);
        Self(())
    }
}

impl Drop for Decoding {
    fn drop(&mut self) {
        DECODING.set(DECODING.get() - 1);
    }
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
        let nested = DECODING.get() > 0;
        let decodes_itself = nested || self.pool.current_thread_index().is_some();
        let since = Instant::now();
        let mut state = self.state.lock();
        loop {
            let Some(entry) = state.entries.get_mut(&key) else {
                if state.cancelled {
                    return Err(cancelled());
                }
                let need = set.need_bytes(index);
                let spare = match state.make_room(key, need, self.budget_bytes, Asker::Reader { since }) {
                    Ok(spare) => spare,
                    Err(_) if nested => Vec::new(),
                    Err(NoRoom { until }) => {
                        state = self.wait_for_room(state, until);
                        continue;
                    }
                };
                state.insert(key, need, Phase::Queued);
                if decodes_itself {
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
                    if state.turn_to(key, self.spares()) {
                        self.changed.notify_all();
                    }
                    self.begin_ahead(&mut state, set, volume, ahead);
                    return Ok(part);
                }
                Phase::Queued if decodes_itself => {
                    state = self.run_here(state, &**set, key, Vec::new());
                }
                Phase::Queued | Phase::Running => {
                    entry.waiting += 1;
                    self.begin_ahead(&mut state, set, volume, std::mem::take(&mut ahead));
                    self.changed.wait(&mut state);
                    self.stop_waiting(&mut state, key);
                    if state.cancelled {
                        return Err(cancelled());
                    }
                }
            }
        }
    }

    /// Ends all waits, now and later.
    pub(super) fn cancel(&self) {
        self.state.lock().cancelled = true;
        self.changed.notify_all();
    }

    /// The part was read to its end, or nobody will read it again.
    pub(super) fn finish(&self, key: Key) {
        let mut state = self.state.lock();
        if let Some(entry) = state.entries.get_mut(&key) {
            entry.progress = Progress::Finished;
        }
        state.let_go(key, self.spares());
        drop(state);
        self.changed.notify_all();
    }

    /// All who will read have said so. What none of them wants goes as soon as it was read, or at once.
    pub(super) fn settle(&self) {
        let mut state = self.state.lock();
        state.is_settled = true;
        let keys: Vec<Key> = state.entries.keys().copied().collect();
        for key in keys {
            state.let_go(key, self.spares());
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Buffers that are worth keeping: each thread fills one next.
    fn spares(&self) -> usize {
        self.threads() + 1
    }

    /// Somebody will read these parts, or may.
    pub(super) fn want(&self, volume: u64, parts: Range<usize>, certainty: Certainty) {
        let mut state = self.state.lock();
        for index in parts {
            *state.wanted.entry((volume, index)).or_default().count(certainty) += 1;
        }
    }

    /// Somebody who said so will not, or has.
    pub(super) fn unwant(&self, volume: u64, parts: Range<usize>, certainty: Certainty) {
        let mut state = self.state.lock();
        for index in parts {
            let key = (volume, index);
            if let Entry::Occupied(mut wanted) = state.wanted.entry(key) {
                let count = wanted.get_mut().count(certainty);
                *count = count.saturating_sub(1);
                if wanted.get().by_nobody() {
                    wanted.remove();
                    state.let_go(key, self.spares());
                }
            }
        }
        if state.short_of_room > 0 {
            self.changed.notify_all();
        }
    }

    /// The volume is gone, and with it all its parts.
    pub(super) fn forget(&self, volume: u64) {
        let mut state = self.state.lock();
        let State { used_bytes, entries, wanted, .. } = &mut *state;
        wanted.retain(|key, _| key.0 != volume);
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

    /// Waits until a part may go that could not, at the latest until then.
    fn wait_for_room<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, State> {
        state.short_of_room += 1;
        match until {
            Some(until) => {
                self.changed.wait_until(&mut state, until.into_std());
            }
            None => self.changed.wait(&mut state),
        }
        state.short_of_room -= 1;
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
            if state.short_of_room > 0 {
                return;
            }
            let key = (volume, index);
            if state.entries.contains_key(&key) || !state.is_worth_keeping(key) {
                continue;
            }
            let need = set.need_bytes(index);
            let Ok(spare) = state.make_room(key, need, self.budget_bytes, Asker::Ahead) else { return };
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
        self.stop_waiting(&mut state, key);
        state
    }

    fn stop_waiting(&self, state: &mut State, key: Key) {
        let Some(entry) = state.entries.get_mut(&key) else { return };
        entry.waiting = entry.waiting.saturating_sub(1);
        // From now on the part may go.
        if entry.waiting == 0 && state.short_of_room > 0 {
            self.changed.notify_all();
        }
    }

    /// Decodes a part whose entry is `Running`.
    fn run(&self, set: &dyn PartSet, key: Key, mut buffer: Vec<u8>) {
        let decoding = Decoding::begin();
        let result = catch_unwind(AssertUnwindSafe(|| set.decode(key.1, &mut buffer))).unwrap_or_else(|_| {
            Err(BundleError::new(Fault::Io, format!("internal error while decoding part {}", key.1 + 1)))
        });
        drop(decoding);
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
        let State { used_bytes, entries, .. } = &mut *state;
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
        let entry = CachedPart {
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

    /// This thread reads from `key` now. Says whether that helps somebody who waits for room.
    fn turn_to(&mut self, key: Key, spares: usize) -> bool {
        let before = READING.replace(Some(key));
        if before == Some(key) {
            return false;
        }
        let mut is_left = false;
        if let Some(left) = before.and_then(|before| self.entries.get_mut(&before)) {
            left.readers = left.readers.saturating_sub(1);
            if left.readers == 0 && left.progress == Progress::Reading {
                left.progress = Progress::Left;
                is_left = self.short_of_room > 0;
            }
        }
        if let Some(before) = before.filter(|before| self.has_left(*before)) {
            self.let_go(before, spares);
        }
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.readers += 1;
        }
        is_left
    }

    fn has_left(&self, key: Key) -> bool {
        self.entries.get(&key).is_some_and(|entry| entry.progress == Progress::Left)
    }

    /// Whether somebody may want the part, as far as is known.
    fn is_worth_keeping(&self, key: Key) -> bool {
        !self.is_settled || self.wanted.contains_key(&key)
    }

    /// Lets go of a part that nobody needs any more, and keeps its buffer if there are fewer than so many.
    fn let_go(&mut self, key: Key, spares: usize) {
        if self.is_worth_keeping(key) {
            return;
        }
        let Entry::Occupied(entry) = self.entries.entry(key) else { return };
        if entry.get().waiting > 0 || !matches!(entry.get().phase, Phase::Ready(_)) {
            return;
        }
        let entry = entry.remove();
        self.used_bytes -= entry.need_bytes;
        if let Phase::Ready(part) = entry.phase
            && self.spares.len() < spares
            && let Ok(buffer) = Arc::try_unwrap(part)
        {
            self.used_bytes += buffer.capacity() as u64;
            self.spares.push(buffer);
        }
    }

    /// A buffer that may be used for a part that takes so much.
    fn take_spare(&mut self, need_bytes: u64) -> Vec<u8> {
        let fitting =
            self.spares.iter().enumerate().filter(|(_, spare)| spare.capacity() as u64 <= need_bytes);
        let largest = fitting.max_by_key(|(_, spare)| spare.capacity()).map(|(at, _)| at);
        let spare = largest.map(|at| self.spares.swap_remove(at)).unwrap_or_default();
        self.used_bytes -= spare.capacity() as u64;
        spare
    }

    /// Makes room; gives a buffer of a part that went, to be used again. What is too large for the budget gets all of it.
    fn make_room(
        &mut self,
        key: Key,
        need_bytes: u64,
        budget_bytes: u64,
        asker: Asker,
    ) -> Result<Vec<u8>, NoRoom> {
        let mut spare = self.take_spare(need_bytes);
        while self.used_bytes + need_bytes > budget_bytes
            && let Some(unused) = self.spares.pop()
        {
            self.used_bytes -= unused.capacity() as u64;
        }
        let over = (self.used_bytes + need_bytes).saturating_sub(budget_bytes).min(self.used_bytes);
        if over == 0 {
            return Ok(spare);
        }
        let candidates = self.entries.iter().filter_map(|(key, entry)| {
            entry.candidate(*key, self.wanted.get(key).is_some_and(|it| it.certain > 0))
        });
        for key in eviction::choose(candidates, over, asker, key, Instant::now())? {
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
        Ok(spare)
    }
}

impl CachedPart {
    /// The part as one that could go; None if it stays.
    fn candidate(&self, key: Key, wanted: bool) -> Option<Candidate<Key>> {
        if self.waiting > 0 || self.need_bytes == 0 {
            return None;
        }
        let standing = match &self.phase {
            Phase::Ready(_) => match self.progress {
                Progress::Finished => Standing::Finished,
                Progress::Left => Standing::Left,
                Progress::Reading if self.seen => Standing::Reading,
                Progress::Reading => Standing::Unread,
            },
            Phase::Queued => Standing::Queued,
            Phase::Running | Phase::Failed(_) => return None,
        };
        Some(Candidate { key, bytes: self.need_bytes, standing, wanted, touched: self.touched })
    }
}

impl fmt::Debug for PartCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartCache").field("budget_bytes", &self.budget_bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
