//! Decoded parts in memory, under a budget, shared by all block volumes of a decoder.
//!
//! In: a part that a reader wants. Out: the part, decoded once for all its readers. A part's whole need is reserved from the
//! budget before its decoding starts, so no task waits for memory with work half done. Failures stay.
//!
//! [`eviction`] chooses which parts leave when room is needed. With several readers, a part that leaves and may be wanted again
//! goes to the disk ([`spill`]), and is read from there. Once all readers have announced what they will read, a part that none
//! of them wants leaves as soon as it was read, and its buffer is used again. Whatever ends a wait wakes the waiter: a decoded
//! part, a reader that has finished another part, the end of the run.
//!
//! Two rules prevent deadlock. A thread that decodes, of the pool or of a spool, never waits for a part that nobody has begun:
//! it decodes that part itself. So the pool gets to every part in its queue. And a part that is needed to decode another one (an
//! archive inside an archive, both compressed) may exceed the budget by one part per thread, because the thread might wait
//! for itself.

mod eviction;
mod spill;
mod state;

use crate::clock::Instant;
use crate::locks::{Condvar, Mutex, MutexGuard};
use std::cell::Cell;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use self::eviction::{NoRoom, RoomFor};
use self::spill::{SpillFile, SpilledPart};
use self::state::{CacheState, PartState, ReadProgress, Room};
use super::{DecodeOptions, Meter, cancelled};
use crate::budget::{Budget, Reclaim, Reclaimed};
use crate::error::{BundleError, Fault};
use crate::source::Certainty;

/// The parts of one volume.
pub(super) trait PartSet: Send + Sync {
    /// The memory that a part and its decoding take.
    fn need_bytes(&self, index: usize) -> u64;

    /// Decodes a part into a buffer, whose old content is of no meaning.
    fn decode(&self, index: usize, out: &mut Vec<u8>) -> Result<DecodeAttempt, BundleError>;
}

/// The result of an attempt to decode a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DecodeAttempt {
    /// The part is in the buffer.
    Whole,
    /// It needs more memory than it had announced; its set now knows how much.
    NeedsRoom,
}

/// A volume, and a part of it.
pub(super) type PartKey = (u64, usize);

/// A number for a volume, as no other has it.
pub(super) fn next_id() -> u64 {
    static NEXT_ID: AtomicU64 = AtomicU64::new(0);
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

pub(super) struct PartCache {
    pool: Arc<rayon::ThreadPool>,
    budget: Arc<Budget>,
    state: Mutex<CacheState>,
    changed: Condvar,
    spill_folder: PathBuf,
    spill_file: OnceLock<Option<Arc<SpillFile>>>,
    meter: Arc<Meter>,
}

/// A decoded part.
pub(super) enum DecodedPart {
    InMemory(Arc<Vec<u8>>),
    OnDisk(Arc<SpilledPart>),
}

impl DecodedPart {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::InMemory(part) => part.len(),
            Self::OnDisk(part) => part.len(),
        }
    }

    /// A copy of a range that lies in the part; None where the disk does not give it back.
    pub(super) fn copy(&self, range: Range<usize>) -> Option<Bytes> {
        match self {
            Self::InMemory(part) => Some(Bytes::copy_from_slice(&part[range])),
            Self::OnDisk(part) => part.read(range).ok(),
        }
    }
}
thread_local! {
    /// How much this thread is decoding, one inside the other.
    static DECODING: Cell<usize> = const { Cell::new(0) };
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
    pub(super) fn new(pool: Arc<rayon::ThreadPool>, options: &DecodeOptions, meter: Arc<Meter>) -> Arc<Self> {
        let cache = Arc::new(Self {
            pool,
            budget: Arc::clone(&options.budget),
            state: Mutex::default(),
            changed: Condvar::new(),
            spill_folder: options.spool_dir.clone(),
            spill_file: OnceLock::new(),
            meter,
        });
        let owner = Arc::downgrade(&cache);
        cache.budget.reclaims_from(owner);
        cache
    }

    /// Several will read, one after the other: what memory has no room for goes to the disk.
    pub(super) fn spill_to_disk(&self) {
        self.state.lock().spills = self.budget.shares().parts_on_disk > 0;
    }

    fn budget_bytes(&self) -> u64 {
        self.budget.shares().parts
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
    ) -> Result<DecodedPart, BundleError> {
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
                if let Some(part) = state.spilled.get(&key).map(Arc::clone) {
                    if state.turn_to(key, self.spares()) {
                        self.changed.notify_all();
                    }
                    return Ok(DecodedPart::OnDisk(part));
                }
                let need = set.need_bytes(index);
                let spare = match state.make_room(key, need, self.budget_bytes(), RoomFor::Reader { since }) {
                    Ok(Room::Made(spare)) => spare,
                    Ok(Room::Spill(parts)) => {
                        drop(state);
                        state = self.write(parts);
                        continue;
                    }
                    Err(_) if nested => Vec::new(),
                    Err(NoRoom { until }) => {
                        state = self.wait_for_room(state, until);
                        continue;
                    }
                };
                state.insert(key, need, PartState::Queued);
                if decodes_itself {
                    self.begin_ahead(&mut state, set, volume, std::mem::take(&mut ahead));
                    state = self.run_here(state, &**set, key, spare);
                } else {
                    self.spawn(set, key, spare);
                }
                continue;
            };
            match &entry.phase {
                PartState::Failed(error) => return Err(error.clone()),
                PartState::Ready(part) => {
                    let part = Arc::clone(part);
                    (entry.seen, entry.progress) = (true, ReadProgress::Reading);
                    entry.touched = Instant::now();
                    if state.turn_to(key, self.spares()) {
                        self.changed.notify_all();
                    }
                    self.begin_ahead(&mut state, set, volume, ahead);
                    return Ok(DecodedPart::InMemory(part));
                }
                PartState::Queued if decodes_itself => {
                    state = self.run_here(state, &**set, key, Vec::new());
                }
                PartState::Queued | PartState::Running => {
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

    /// Whether every part that was begun is decoded, or has failed.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.entries.values().all(|entry| matches!(entry.phase, PartState::Ready(_) | PartState::Failed(_)))
    }

    /// Ends all waits, now and later.
    pub(super) fn cancel(&self) {
        self.state.lock().cancelled = true;
        self.changed.notify_all();
    }

    /// The part was read to its end, or nobody will read it again.
    pub(super) fn finish(&self, key: PartKey) {
        let mut state = self.state.lock();
        if let Some(entry) = state.entries.get_mut(&key) {
            entry.progress = ReadProgress::Finished;
        }
        state.let_go(key, self.spares());
        drop(state);
        self.changed.notify_all();
    }

    /// All readers have announced themselves. A part that none of them wants leaves as soon as it was read, or at once. Where
    /// others come later and the disk takes parts, it goes there when memory is short.
    pub(super) fn settle(&self, others_come_later: bool) {
        let mut state = self.state.lock();
        let skips = others_come_later && state.spills;
        let gone = if skips { Vec::new() } else { state.settle(self.spares()) };
        drop(state);
        self.changed.notify_all();
        drop(gone);
    }

    /// Buffers that are worth keeping: each thread fills one next.
    fn spares(&self) -> usize {
        self.threads() + 1
    }

    /// A reader announces that it will read these parts, or may.
    pub(super) fn want(&self, volume: u64, parts: Range<usize>, certainty: Certainty) {
        let mut state = self.state.lock();
        parts.for_each(|index| state.want((volume, index), certainty));
    }

    /// A reader that announced itself has read them, or will not.
    pub(super) fn unwant(&self, volume: u64, parts: Range<usize>, certainty: Certainty) {
        let mut state = self.state.lock();
        let gone: Vec<_> =
            parts.filter_map(|index| state.unwant((volume, index), certainty, self.spares())).collect();
        if state.short_of_room > 0 {
            self.changed.notify_all();
        }
        drop(state);
        drop(gone);
    }

    /// The volume is gone, and with it all its parts.
    pub(super) fn forget(&self, volume: u64) {
        let gone = self.state.lock().forget(volume);
        self.changed.notify_all();
        drop(gone);
    }

    /// The disk does not give this part back: it is decoded again.
    pub(super) fn lost(&self, key: PartKey) {
        let gone = self.state.lock().spilled.remove(&key);
        drop(gone);
    }

    /// Writes parts to the disk, so that they can leave memory.
    fn write(&self, parts: Vec<(PartKey, Arc<Vec<u8>>)>) -> MutexGuard<'_, CacheState> {
        let create = || SpillFile::create(&self.spill_folder, &self.meter).map(Arc::new);
        let file = self.spill_file.get_or_init(create);
        for (key, part) in parts {
            let spilled = file.as_ref().and_then(|file| file.write(&part, &self.budget));
            drop(part);
            let needless = self.state.lock().written(key, spilled, self.spares());
            drop(needless);
        }
        self.changed.notify_all();
        let mut state = self.state.lock();
        state.spills &= file.is_some();
        state
    }

    /// Waits until a part may go that could not, at the latest until then.
    fn wait_for_room<'a>(
        &self,
        mut state: MutexGuard<'a, CacheState>,
        until: Option<Instant>,
    ) -> MutexGuard<'a, CacheState> {
        state.short_of_room += 1;
        #[cfg(test)]
        {
            state.waits_for_room += 1;
        }
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
        state: &mut CacheState,
        set: &Arc<dyn PartSet>,
        volume: u64,
        ahead: Range<usize>,
    ) {
        for index in ahead {
            if state.short_of_room > 0 {
                return;
            }
            let key = (volume, index);
            let is_there = state.entries.contains_key(&key) || state.spilled.contains_key(&key);
            if is_there || !state.is_worth_keeping(key) {
                continue;
            }
            let need = set.need_bytes(index);
            let room = state.make_room(key, need, self.budget_bytes(), RoomFor::Ahead);
            let Ok(Room::Made(spare)) = room else { return };
            state.insert(key, need, PartState::Queued);
            self.spawn(set, key, spare);
        }
    }

    fn spawn(self: &Arc<Self>, set: &Arc<dyn PartSet>, key: PartKey, spare: Vec<u8>) {
        let (cache, set) = (Arc::clone(self), Arc::clone(set));
        self.pool.spawn(move || {
            {
                // A reader may have taken it over, or room was needed for something more urgent.
                let mut state = cache.state.lock();
                match state.entries.get_mut(&key) {
                    Some(entry) if matches!(entry.phase, PartState::Queued) => {
                        entry.phase = PartState::Running;
                    }
                    _ => return,
                }
            }
            cache.run(&*set, key, spare);
        });
    }

    /// Decodes a queued part on this thread, which wants it.
    fn run_here<'a>(
        &'a self,
        mut state: MutexGuard<'a, CacheState>,
        set: &dyn PartSet,
        key: PartKey,
        spare: Vec<u8>,
    ) -> MutexGuard<'a, CacheState> {
        if let Some(entry) = state.entries.get_mut(&key) {
            entry.phase = PartState::Running;
            entry.waiting += 1;
        }
        drop(state);
        self.run(set, key, spare);
        let mut state = self.state.lock();
        self.stop_waiting(&mut state, key);
        state
    }

    fn stop_waiting(&self, state: &mut CacheState, key: PartKey) {
        let Some(entry) = state.entries.get_mut(&key) else { return };
        entry.waiting = entry.waiting.saturating_sub(1);
        // From now on the part may go.
        if entry.waiting == 0 && state.short_of_room > 0 {
            self.changed.notify_all();
        }
    }

    /// Decodes a part whose entry is `Running`.
    fn run(&self, set: &dyn PartSet, key: PartKey, mut buffer: Vec<u8>) {
        let decoding = Decoding::begin();
        let result = catch_unwind(AssertUnwindSafe(|| set.decode(key.1, &mut buffer))).unwrap_or_else(|_| {
            Err(BundleError::new(Fault::Io, format!("internal error while decoding part {}", key.1 + 1)))
        });
        drop(decoding);
        let (phase, keeps) = match result {
            Ok(DecodeAttempt::Whole) => {
                let keeps = buffer.capacity() as u64;
                (Some(PartState::Ready(Arc::new(buffer))), keeps)
            }
            // Whoever waits for it finds it gone, and begins again.
            Ok(DecodeAttempt::NeedsRoom) => (None, 0),
            Err(error) => (Some(PartState::Failed(error)), 0),
        };
        let mut state = self.state.lock();
        let CacheState { used_bytes, entries, .. } = &mut *state;
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

impl Reclaim for PartCache {
    fn reclaim(&self, bytes: u64) -> Reclaimed {
        self.state.lock().let_go_of_spilled(bytes)
    }
}

impl fmt::Debug for PartCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartCache").field("budget_bytes", &self.budget_bytes()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
