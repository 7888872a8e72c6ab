//! Which decoded parts there are, who wants them, and what they take. No waiting and no I/O: the cache does both. What leaves the
//! disk is given to it, to be dropped when this is not locked.

use std::cell::Cell;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::PartKey;
use super::eviction::{self, Evictable, NoRoom, RoomFor, Standing};
use super::spill::SpilledPart;
use crate::budget::Reclaimed;
use crate::clock::Instant;
use crate::error::BundleError;
use crate::source::Certainty;

thread_local! {
    /// The part this thread reads from. When it turns to another, this one has a reader less: a walk that jumps from
    /// header to header never reads a part to its end, and must not be waited for.
    static READING: Cell<Option<PartKey>> = const { Cell::new(None) };
}

#[derive(Default)]
pub(super) struct CacheState {
    pub(super) used_bytes: u64,
    pub(super) entries: HashMap<PartKey, CachedPart>,
    /// Parts on the disk. They take no memory.
    pub(super) spilled: HashMap<PartKey, Arc<SpilledPart>>,
    /// How many readers have announced for a part, decoded or not, that they will read it, or may.
    wanted: HashMap<PartKey, WantCount>,
    /// All readers have announced themselves: a part that nobody wants need not be kept.
    is_settled: bool,
    /// Buffers of parts that went, to be used again. They count as used.
    spares: Vec<Vec<u8>>,
    /// Parts are written to the disk.
    pub(super) spills: bool,
    /// Readers that wait for room. Nobody else need hear of parts that are left.
    pub(super) short_of_room: usize,
    /// How often a reader waited for room.
    #[cfg(test)]
    pub(super) waits_for_room: usize,
    pub(super) cancelled: bool,
}

/// What came of asking for room.
pub(super) enum Room {
    /// There is room. A buffer of a part that left, to be used again.
    Made(Vec<u8>),
    /// There will be room when these parts, which readers want, are on the disk; see [`CacheState::written`].
    Spill(Vec<(PartKey, Arc<Vec<u8>>)>),
}

#[derive(Clone, Copy, Default)]
struct WantCount {
    certain: u32,
    possible: u32,
}

impl WantCount {
    const fn count(&mut self, certainty: Certainty) -> &mut u32 {
        match certainty {
            Certainty::Certain => &mut self.certain,
            Certainty::Possible | Certainty::Again => &mut self.possible,
        }
    }

    const fn by_nobody(self) -> bool {
        self.certain == 0 && self.possible == 0
    }
}

pub(super) struct CachedPart {
    pub(super) phase: PartState,
    pub(super) need_bytes: u64,
    /// Threads that wait for it, or write it to the disk; it stays until they have done.
    pub(super) waiting: usize,
    /// Threads that read from it and have not turned to another part since.
    readers: usize,
    pub(super) touched: Instant,
    /// Whether anybody read from it.
    pub(super) seen: bool,
    /// How far those who read from it are.
    pub(super) progress: ReadProgress,
    /// Its volume is gone.
    pub(super) forgotten: bool,
}

/// How far the readers of a part are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum ReadProgress {
    Reading,
    /// All have turned to another part.
    Left,
    /// It was read to its end.
    Finished,
}

pub(super) enum PartState {
    Queued,
    Running,
    Ready(Arc<Vec<u8>>),
    Failed(BundleError),
}

impl CacheState {
    pub(super) fn insert(&mut self, key: PartKey, need_bytes: u64, phase: PartState) {
        self.used_bytes += need_bytes;
        let entry = CachedPart {
            phase,
            need_bytes,
            waiting: 0,
            readers: 0,
            touched: Instant::now(),
            seen: false,
            progress: ReadProgress::Reading,
            forgotten: false,
        };
        self.entries.insert(key, entry);
    }

    /// This thread reads from `key` now. Returns whether that helps a reader that waits for room.
    pub(super) fn turn_to(&mut self, key: PartKey, spares: usize) -> bool {
        let before = READING.replace(Some(key));
        if before == Some(key) {
            return false;
        }
        let mut is_left = false;
        if let Some(left) = before.and_then(|before| self.entries.get_mut(&before)) {
            left.readers = left.readers.saturating_sub(1);
            if left.readers == 0 && left.progress == ReadProgress::Reading {
                left.progress = ReadProgress::Left;
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

    fn has_left(&self, key: PartKey) -> bool {
        self.entries.get(&key).is_some_and(|entry| entry.progress == ReadProgress::Left)
    }

    /// Whether a reader may want the part, as far as is known.
    pub(super) fn is_worth_keeping(&self, key: PartKey) -> bool {
        !self.is_settled || self.wanted.contains_key(&key)
    }

    /// Removes a part that nobody needs any more, and keeps its buffer if there are fewer than `spares`.
    pub(super) fn let_go(&mut self, key: PartKey, spares: usize) {
        if !self.is_worth_keeping(key) {
            self.remove(key, spares);
        }
    }

    /// Removes a decoded part that nobody waits for, and keeps its buffer if there are fewer than `spares`.
    fn remove(&mut self, key: PartKey, spares: usize) {
        let Entry::Occupied(entry) = self.entries.entry(key) else { return };
        if entry.get().waiting > 0 || !matches!(entry.get().phase, PartState::Ready(_)) {
            return;
        }
        let entry = entry.remove();
        self.used_bytes -= entry.need_bytes;
        if let PartState::Ready(part) = entry.phase
            && self.spares.len() < spares
            && let Ok(buffer) = Arc::try_unwrap(part)
        {
            self.keep_spare(buffer);
        }
    }

    /// A buffer for a part that needs this many bytes.
    fn take_spare(&mut self, need_bytes: u64) -> Vec<u8> {
        let fitting =
            self.spares.iter().enumerate().filter(|(_, spare)| spare.capacity() as u64 <= need_bytes);
        let largest = fitting.max_by_key(|(_, spare)| spare.capacity()).map(|(at, _)| at);
        let spare = largest.map(|at| self.spares.swap_remove(at)).unwrap_or_default();
        self.used_bytes -= spare.capacity() as u64;
        spare
    }

    /// Makes room. What is too large for the budget gets all of it.
    pub(super) fn make_room(
        &mut self,
        key: PartKey,
        need_bytes: u64,
        budget_bytes: u64,
        asker: RoomFor,
    ) -> Result<Room, NoRoom> {
        let mut spare = self.take_spare(need_bytes);
        while self.used_bytes + need_bytes > budget_bytes
            && let Some(unused) = self.spares.pop()
        {
            self.used_bytes -= unused.capacity() as u64;
        }
        let over = (self.used_bytes + need_bytes).saturating_sub(budget_bytes).min(self.used_bytes);
        if over == 0 {
            return Ok(Room::Made(spare));
        }
        let candidates = self.entries.iter().filter_map(|(key, entry)| {
            entry.candidate(*key, self.wanted.get(key).is_some_and(|it| it.certain > 0))
        });
        let going = match eviction::choose(candidates, over, asker, key, Instant::now()) {
            Ok(going) => going,
            Err(no_room) => {
                self.keep_spare(spare);
                return Err(no_room);
            }
        };
        if self.spills && going.iter().any(|key| self.would_be_lost(*key)) {
            self.keep_spare(spare);
            return match asker {
                // Reading ahead is not worth writing.
                RoomFor::Ahead => Err(NoRoom { until: None }),
                RoomFor::Reader { .. } => Ok(Room::Spill(self.take_unwritten(&going))),
            };
        }
        for key in going {
            let Some(entry) = self.entries.remove(&key) else { continue };
            self.used_bytes -= entry.need_bytes;
            if let PartState::Ready(part) = entry.phase
                && let Ok(buffer) = Arc::try_unwrap(part)
                && buffer.capacity() as u64 <= need_bytes
                && buffer.capacity() > spare.capacity()
            {
                spare = buffer;
            }
        }
        Ok(Room::Made(spare))
    }

    /// What the buffers that wait to be used again take.
    #[cfg(test)]
    pub(super) fn spare_bytes(&self) -> u64 {
        self.spares.iter().map(|spare| spare.capacity() as u64).sum()
    }

    fn keep_spare(&mut self, spare: Vec<u8>) {
        if spare.capacity() > 0 {
            self.used_bytes += spare.capacity() as u64;
            self.spares.push(spare);
        }
    }

    /// Whether the part would have to be decoded again: a reader may want it, and the disk does not have it.
    fn would_be_lost(&self, key: PartKey) -> bool {
        let is_decoded =
            self.entries.get(&key).is_some_and(|entry| matches!(entry.phase, PartState::Ready(_)));
        is_decoded && self.is_worth_keeping(key) && !self.spilled.contains_key(&key)
    }

    /// Those of the parts that have to be written before they go. They stay until [`CacheState::written`].
    fn take_unwritten(&mut self, going: &[PartKey]) -> Vec<(PartKey, Arc<Vec<u8>>)> {
        let lost: Vec<PartKey> = going.iter().copied().filter(|key| self.would_be_lost(*key)).collect();
        let parts = lost.into_iter().filter_map(|key| {
            let entry = self.entries.get_mut(&key)?;
            let PartState::Ready(part) = &entry.phase else { return None };
            entry.waiting += 1;
            Some((key, Arc::clone(part)))
        });
        parts.collect()
    }

    /// A part is on the disk now, or found no room there. It leaves memory.
    #[must_use = "it leaves the disk when it is dropped"]
    pub(super) fn written(
        &mut self,
        key: PartKey,
        spilled: Option<SpilledPart>,
        spares: usize,
    ) -> Option<SpilledPart> {
        let Some(entry) = self.entries.get_mut(&key) else { return spilled };
        entry.waiting = entry.waiting.saturating_sub(1);
        let is_kept = !entry.forgotten && self.is_worth_keeping(key);
        let needless = match spilled {
            Some(spilled) if is_kept => {
                self.spilled.insert(key, Arc::new(spilled));
                None
            }
            needless => needless,
        };
        self.remove(key, spares);
        needless
    }

    /// Releases parts on the disk, the last ones first, until they take this many bytes less.
    pub(super) fn let_go_of_spilled(&mut self, bytes: u64) -> Reclaimed {
        let mut keys: Vec<_> = self.spilled.keys().copied().collect();
        keys.sort_unstable_by(|one, other| other.cmp(one));
        let mut gone = Reclaimed::default();
        for key in keys {
            if gone.bytes() >= bytes {
                break;
            }
            if let Some(part) = self.spilled.remove(&key) {
                let bytes = part.disk_bytes();
                gone.add(part, bytes);
            }
        }
        gone
    }

    /// Somebody will read these parts, or may.
    pub(super) fn want(&mut self, key: PartKey, certainty: Certainty) {
        *self.wanted.entry(key).or_default().count(certainty) += 1;
    }

    /// A reader that announced itself has read the part, or will not.
    #[must_use = "it leaves the disk when it is dropped"]
    pub(super) fn unwant(
        &mut self,
        key: PartKey,
        certainty: Certainty,
        spares: usize,
    ) -> Option<Arc<SpilledPart>> {
        let Entry::Occupied(mut wanted) = self.wanted.entry(key) else { return None };
        let count = wanted.get_mut().count(certainty);
        *count = count.saturating_sub(1);
        if !wanted.get().by_nobody() {
            return None;
        }
        wanted.remove();
        let gone = if self.is_worth_keeping(key) { None } else { self.spilled.remove(&key) };
        self.let_go(key, spares);
        gone
    }

    /// All readers have announced themselves. A part that none of them wants leaves as soon as it was read, or at once.
    pub(super) fn settle(&mut self, spares: usize) -> Vec<Arc<SpilledPart>> {
        self.is_settled = true;
        let Self { spilled, wanted, .. } = self;
        let gone = take_unless(spilled, |key| wanted.contains_key(key));
        let keys: Vec<PartKey> = self.entries.keys().copied().collect();
        for key in keys {
            self.let_go(key, spares);
        }
        gone
    }

    /// The volume is gone, and with it all its parts.
    pub(super) fn forget(&mut self, volume: u64) -> Vec<Arc<SpilledPart>> {
        let Self { used_bytes, entries, wanted, spilled, .. } = self;
        wanted.retain(|key, _| key.0 != volume);
        let gone = take_unless(spilled, |key| key.0 != volume);
        entries.retain(|key, entry| {
            if key.0 != volume {
                return true;
            }
            entry.forgotten = true;
            let running = matches!(entry.phase, PartState::Running);
            if !running {
                *used_bytes -= entry.need_bytes;
            }
            running
        });
        gone
    }
}

/// Takes out the parts that do not stay.
fn take_unless(
    spilled: &mut HashMap<PartKey, Arc<SpilledPart>>,
    stays: impl Fn(&PartKey) -> bool,
) -> Vec<Arc<SpilledPart>> {
    let going: Vec<PartKey> = spilled.keys().filter(|key| !stays(key)).copied().collect();
    going.iter().filter_map(|key| spilled.remove(key)).collect()
}

impl CachedPart {
    /// The part as one that could go; None if it stays.
    fn candidate(&self, key: PartKey, wanted: bool) -> Option<Evictable<PartKey>> {
        if self.waiting > 0 || self.need_bytes == 0 {
            return None;
        }
        let standing = match &self.phase {
            PartState::Ready(_) => match self.progress {
                ReadProgress::Finished => Standing::Finished,
                ReadProgress::Left => Standing::Left,
                ReadProgress::Reading if self.seen => Standing::Reading,
                ReadProgress::Reading => Standing::Unread,
            },
            PartState::Queued => Standing::Queued,
            PartState::Running | PartState::Failed(_) => return None,
        };
        Some(Evictable { key, bytes: self.need_bytes, standing, wanted, touched: self.touched })
    }
}
