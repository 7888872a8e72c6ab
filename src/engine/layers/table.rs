//! Which layers are made, who needs them, and what goes when room is short. No I/O, and the time is given.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::budget::{LayerRoom, Turn};
use crate::bundle::LayerKey;
use crate::clock::Instant;
use crate::compress::{LayerBlob, LayerContent};
use crate::engine::prepared::RetryableOnce;
use crate::source::Intent;

/// A mirror that has not read from the layers of an image for this long loses their room to one that is ahead of it.
pub(super) const IDLE: Duration = Duration::from_secs(2);
/// After this long it loses their room to any other mirror.
const STALLED: Duration = Duration::from_secs(20);

/// All layers that mirrors need, and their leases.
#[derive(Debug, Default)]
pub(super) struct LayerTable {
    slots: HashMap<LayerKey, LayerSlot>,
    leases: HashMap<u64, LeaseState>,
    last: u64,
    /// How many images each mirror has finished.
    through: HashMap<usize, u64>,
    /// Mirrors that lost room, and have finished no image since.
    still: HashSet<usize>,
}

#[derive(Debug, Default)]
pub(super) struct LayerSlot {
    pub(super) blob: Arc<RetryableOnce<LayerBlob>>,
    leases: usize,
    /// Of those, how many are admitted: what is made stays.
    pins: usize,
    /// That the layer will be read, until it is made, and that it may be, as long as it is needed.
    pub(super) intent: Option<Intent>,
}

#[derive(Debug)]
struct LeaseState {
    /// Each once.
    layers: Vec<LayerKey>,
    /// How many things each mirror does for the image now, and does not wait for another image of its own with.
    users: HashMap<usize, usize>,
    /// Requests under way that wait for one of its layers.
    waiting_bodies: usize,
    admission: Admission,
    /// Layers that are being made for it.
    making: usize,
    /// When its layers were last made or read from.
    touched: Instant,
}

/// Whether layers of an image may be made.
#[derive(Debug, Default)]
enum Admission {
    #[default]
    NotYet,
    /// They may, in what is left of this room; none where all are made.
    Admitted(Option<Arc<LayerRoom>>),
    /// They were made, and lost their room to another mirror.
    Revoked,
}

/// What is no longer kept, to be dropped when the table is not locked.
#[derive(Debug, Default)]
pub(super) struct Gone {
    pub(super) slots: Vec<LayerSlot>,
    blobs: Vec<LayerBlob>,
    room: SettledRoom,
}

impl Gone {
    fn room(room: Option<Arc<LayerRoom>>) -> Self {
        Self { room: SettledRoom(room), ..Self::default() }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.slots.is_empty() && self.blobs.is_empty() && self.room.0.is_none()
    }
}

/// Room that is given back when this is dropped, also where work that nobody waits for still has it.
#[derive(Debug, Default)]
struct SettledRoom(Option<Arc<LayerRoom>>);

impl Drop for SettledRoom {
    fn drop(&mut self) {
        if let Some(room) = &self.0 {
            room.settle();
        }
    }
}

impl LayerTable {
    /// A mirror needs these layers. `intent` announces the reads of each layer that nobody needed before.
    pub(super) fn add(
        &mut self,
        layers: Vec<LayerKey>,
        now: Instant,
        mut intent: impl FnMut(usize) -> Intent,
    ) -> u64 {
        for (at, key) in layers.iter().enumerate() {
            let new = || LayerSlot { intent: Some(intent(at)), ..LayerSlot::default() };
            let slot = self.slots.entry(*key).or_insert_with(new);
            slot.leases += 1;
        }
        self.last += 1;
        let (users, admission) = (HashMap::new(), Admission::NotYet);
        let state = LeaseState { layers, users, waiting_bodies: 0, admission, making: 0, touched: now };
        self.leases.insert(self.last, state);
        self.last
    }

    /// No mirror needs a lease any more.
    pub(super) fn remove(&mut self, lease: u64) -> Gone {
        let mut gone = self.unpin(lease, Admission::NotYet);
        let layers = self.leases.remove(&lease).map(|lease| lease.layers).unwrap_or_default();
        for key in layers {
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.leases -= 1;
                if slot.leases == 0 {
                    gone.slots.extend(self.slots.remove(&key));
                }
            }
        }
        gone
    }

    /// A layer was made. Nobody reads its bytes in the bundle any more, unless its blob is sent from where it lies. While a
    /// mirror needs the layer, it may lose its room and be made again; `again` announces that.
    pub(super) fn was_read(&mut self, key: &LayerKey, again: impl FnOnce() -> Intent) -> Option<Intent> {
        let slot = self.slots.get_mut(key)?;
        let is_kept = slot.blob.made().is_some_and(|blob| matches!(blob.content, LayerContent::Made(_)));
        if is_kept { slot.intent.replace(again()) } else { None }
    }

    /// The blob of a layer, if it is made.
    pub(super) fn made(&self, key: &LayerKey) -> Option<LayerBlob> {
        self.slots.get(key)?.blob.made()
    }

    pub(super) fn touch(&mut self, lease: u64, now: Instant) {
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.touched = now;
        }
    }

    pub(super) fn is_admitted(&self, lease: u64) -> bool {
        self.leases.get(&lease).is_some_and(LeaseState::is_admitted)
    }

    /// Who comes before a lease that waits for room.
    pub(super) fn turn(&self, lease: u64) -> Turn {
        match self.leases.get(&lease) {
            Some(state) if state.waiting_bodies == 0 && self.is_held_up(lease) => Turn::Last,
            Some(LeaseState { admission: Admission::Revoked, .. }) => Turn::Again,
            _ => Turn::First,
        }
    }

    /// A request that is under way begins to wait for a layer of a lease.
    pub(super) fn body_waits(&mut self, lease: u64) {
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.waiting_bodies += 1;
        }
    }

    /// The request has the layer, or was given up.
    pub(super) fn body_waited(&mut self, lease: u64) {
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.waiting_bodies -= 1;
        }
    }

    /// A mirror begins to work on an image.
    pub(super) fn begin(&mut self, lease: u64, mirror: usize) {
        if let Some(lease) = self.leases.get_mut(&lease) {
            *lease.users.entry(mirror).or_default() += 1;
        }
    }

    /// A mirror has finished an image.
    pub(super) fn is_through(&mut self, mirror: usize) {
        *self.through.entry(mirror).or_default() += 1;
        self.still.remove(&mirror);
    }

    /// A mirror has done something for an image, or waits with it for another image. What was made of it stays while there is
    /// room, for mirrors that come to it later.
    pub(super) fn end(&mut self, lease: u64, mirror: usize) -> Gone {
        if let Some(state) = self.leases.get_mut(&lease) {
            if let Some(count) = state.users.get_mut(&mirror) {
                *count -= 1;
            }
            state.users.retain(|_, count| *count > 0);
        }
        self.unpin_unused(lease)
    }

    /// Layers of a lease that are not made.
    pub(super) fn lacking(&self, lease: u64) -> impl Iterator<Item = (usize, LayerKey)> {
        let layers = self.leases.get(&lease).map_or(&[][..], |lease| &lease.layers);
        layers.iter().copied().enumerate().filter(|(_, key)| self.made(key).is_none())
    }

    /// From now on the layers of a lease stay once they are made.
    pub(super) fn admit(&mut self, lease: u64, room: Option<Arc<LayerRoom>>, now: Instant) {
        let Some(state) = self.leases.get_mut(&lease) else { return };
        state.admission = Admission::Admitted(room);
        state.touched = now;
        for key in &state.layers {
            if let Some(slot) = self.slots.get_mut(key) {
                slot.pins += 1;
            }
        }
    }

    /// A layer of an admitted lease is going to be made: the place for it, and the room. None if it is not admitted.
    pub(super) fn begin_making(&mut self, lease: u64, key: &LayerKey) -> Option<Making> {
        let state = self.leases.get_mut(&lease)?;
        let Admission::Admitted(room) = &state.admission else { return None };
        let blob = Arc::clone(&self.slots.get(key)?.blob);
        state.making += 1;
        Some(Making { blob, room: room.clone() })
    }

    /// It was made, or not. Where all layers are made, what they did not take of the room is for others.
    pub(super) fn end_making(&mut self, lease: u64, now: Instant) -> Gone {
        let is_done = self.lacking(lease).next().is_none();
        let Some(state) = self.leases.get_mut(&lease) else { return Gone::default() };
        state.making -= 1;
        state.touched = now;
        let is_used = !state.users.is_empty() || state.making > 0;
        match &mut state.admission {
            Admission::Admitted(room) if is_done && is_used => Gone::room(room.take()),
            _ => self.unpin_unused(lease),
        }
    }

    /// Releases layers of leases that no mirror is sending now.
    pub(super) fn drop_unpinned(&mut self) -> Gone {
        let unpinned = self.slots.values().filter(|slot| slot.pins == 0);
        Gone { blobs: unpinned.filter_map(|slot| slot.blob.take()).collect(), ..Gone::default() }
    }

    /// Layers that no mirror is sending are kept for none, once the work on them has ended.
    fn unpin_unused(&mut self, lease: u64) -> Gone {
        match self.leases.get(&lease) {
            Some(state) if state.users.is_empty() && state.making == 0 => {
                self.unpin(lease, Admission::NotYet)
            }
            _ => Gone::default(),
        }
    }

    /// Takes the room of the image that was touched the longest ago, of those held for mirrors that stand still, in favour of a
    /// mirror that needs `lease`. A mirror never loses room to itself, and one that is ahead only when it has
    /// stood still for very long.
    pub(super) fn revoke_idle(&mut self, lease: u64, now: Instant) -> Option<Gone> {
        let asking = self.leases.get(&lease)?;
        let through = |mirror: &usize| self.through.get(mirror).copied().unwrap_or(0);
        let gives_way = |other: &LeaseState| {
            let askers = asking.users.keys().filter(|mirror| !other.users.contains_key(mirror));
            let Some(ahead) = askers.map(through).max() else { return false };
            let patience = if other.users.keys().all(|mirror| self.still.contains(mirror)) {
                Duration::ZERO
            } else if other.users.keys().all(|mirror| through(mirror) < ahead) {
                IDLE
            } else {
                STALLED
            };
            other.is_admitted()
                && other.making == 0
                && now.saturating_duration_since(other.touched) >= patience
        };
        let idle = self.leases.iter().filter(|(number, other)| **number != lease && gives_way(other));
        let first =
            idle.min_by_key(|(number, other)| (other.touched, **number)).map(|(number, _)| *number)?;
        let users: Vec<usize> = self.leases.get(&first)?.users.keys().copied().collect();
        self.still.extend(users);
        Some(self.unpin(first, Admission::Revoked))
    }

    /// Takes the room of one image whose mirrors all wait for room with requests that are under way, in favour of such a
    /// request: what they wait for with the image (a permit, above all) may be what those requests have.
    pub(super) fn revoke_held_up(&mut self, lease: u64, now: Instant) -> Option<Gone> {
        self.leases.get(&lease).filter(|asking| asking.waiting_bodies > 0)?;
        let gives_way = |number: u64, other: &LeaseState| {
            let idle = now.saturating_duration_since(other.touched);
            other.is_admitted() && other.making == 0 && idle >= IDLE && self.is_held_up(number)
        };
        let held_up = self.leases.iter().filter(|(number, other)| gives_way(**number, other));
        let first =
            held_up.min_by_key(|(number, other)| (other.touched, **number)).map(|(number, _)| *number)?;
        Some(self.unpin(first, Admission::Revoked))
    }

    /// Whether each mirror that brings an image has a request under way that waits for room for another one.
    fn is_held_up(&self, lease: u64) -> bool {
        let waits = |mirror: &usize| {
            self.leases.iter().any(|(number, other)| {
                let waits = other.waiting_bodies > 0 && !other.is_admitted();
                waits && *number != lease && other.users.contains_key(mirror)
            })
        };
        let users = self.leases.get(&lease).map(|state| &state.users);
        users.is_some_and(|users| !users.is_empty() && users.keys().all(waits))
    }

    fn unpin(&mut self, lease: u64, next: Admission) -> Gone {
        let Some(state) = self.leases.get_mut(&lease).filter(|state| state.is_admitted()) else {
            return Gone::default();
        };
        for key in &state.layers {
            if let Some(slot) = self.slots.get_mut(key) {
                slot.pins -= 1;
            }
        }
        match std::mem::replace(&mut state.admission, next) {
            Admission::Admitted(room) => Gone::room(room),
            Admission::NotYet | Admission::Revoked => Gone::default(),
        }
    }
}

impl LeaseState {
    fn is_admitted(&self) -> bool {
        matches!(self.admission, Admission::Admitted(_))
    }
}

/// A layer that is going to be made.
pub(super) struct Making {
    pub(super) blob: Arc<RetryableOnce<LayerBlob>>,
    pub(super) room: Option<Arc<LayerRoom>>,
}
