//! The one owner of what a run may take: memory for decoded parts, compressed layers and bodies of requests; disk for
//! spools and waiting layers together.
//!
//! In: [`Shares`], set once. Out: reservations, which give back what they hold when they are dropped.
//! * [`LayerRoom`] is the promise to one image that its compressed layers will find room, in memory or on disk. It is made
//!   before the first of them is, for all of them, in the order of asking; one image always gets its turn. What had room
//!   before and gave it away comes after all others.
//! * [`LayerBytes`] is what one layer really takes of what was promised, memory first.
//! * [`SpoolRoom`] is the disk of one spool. What a spool is known to need is taken whole before it starts; it never waits,
//!   so layers that lie in it can always be read.
//! * [`SpilledBytes`] is disk for a decoded part that memory has no room for. It is whatever the others leave, and they get
//!   it back when they need it ([`Reclaim`]).

mod accounts;
mod allocator;
mod machine;

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Waker};

use self::accounts::BudgetAccounts;
pub(crate) use self::allocator::limit_arenas;
pub(crate) use self::machine::default_memory_bytes;
use crate::locks::Mutex;

/// Less memory does not hold a part for each of two cores.
pub(crate) const MIN_MEMORY_BYTES: u64 = 32 << 20;

/// How much of what a run may take, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shares {
    /// Memory for decoded parts and the decoders at work on them.
    pub parts: u64,
    /// Memory for compressed layers.
    pub layers: u64,
    /// Memory for bodies of requests, of all mirrors together.
    pub bodies: u64,
    /// Disk for spools and compressed layers together.
    pub disk: u64,
    /// The limit for compressed layers on disk.
    pub layers_on_disk: u64,
    /// The limit for decoded parts on disk, which give way to everything else.
    pub parts_on_disk: u64,
}

impl Shares {
    /// Five eighths of the memory for decoded parts, a quarter for compressed layers, the rest for bodies.
    pub(crate) const fn of(memory: u64, disk: u64, layers_on_disk: u64, parts_on_disk: u64) -> Self {
        let (parts, layers, bodies) = (memory / 8 * 5, memory / 4, memory / 8);
        Self { parts, layers, bodies, disk, layers_on_disk, parts_on_disk }
    }
}

impl Default for Shares {
    fn default() -> Self {
        Self::of(256 << 20, u64::MAX, u64::MAX, 0)
    }
}

/// What a run may take, and what is taken.
#[derive(Debug)]
pub(crate) struct Budget {
    shares: Shares,
    state: Mutex<BudgetState>,
    /// Who has spilled parts. Asked while `state` is not locked.
    spilled: Mutex<Vec<Weak<dyn Reclaim>>>,
}

/// Has parts on the disk that others may need.
pub(crate) trait Reclaim: fmt::Debug + Send + Sync {
    /// Lets go of spilled parts of `bytes` together, or of all of them.
    fn reclaim(&self, bytes: u64) -> Reclaimed;
}

/// Spilled parts that were let go of. The disk has their bytes when this is dropped, which may take a while.
#[derive(Debug, Default)]
#[must_use = "the disk has the bytes when this is dropped"]
pub(crate) struct Reclaimed {
    bytes: u64,
    parts: Vec<Arc<dyn fmt::Debug + Send + Sync>>,
}

impl Reclaimed {
    /// Lets go of a part. One that somebody still reads comes free later, and does not count.
    pub(crate) fn add<T: fmt::Debug + Send + Sync + 'static>(&mut self, part: Arc<T>, bytes: u64) {
        if Arc::strong_count(&part) == 1 {
            self.bytes += bytes;
        }
        self.parts.push(part);
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[derive(Debug)]
struct BudgetState {
    accounts: BudgetAccounts,
    /// Images that wait for room, in their order.
    queue: BTreeMap<Ticket, Option<Waker>>,
    last_ticket: u64,
}

type Ticket = (Turn, u64);

/// Who comes first of those who wait for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Turn {
    /// What had no room yet.
    First,
    /// What had some, and gave it away.
    Again,
    /// What could not get on with it: its mirrors have requests under way that wait for room themselves.
    Last,
}

/// A spool finds no room on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoDisk {
    /// The limit that would do, as far as is known.
    pub needed: u64,
    pub limit: u64,
}

impl Budget {
    pub(crate) fn new(shares: Shares) -> Arc<Self> {
        let accounts =
            BudgetAccounts::new(shares.layers, shares.disk, shares.layers_on_disk, shares.parts_on_disk);
        let state = BudgetState { accounts, queue: BTreeMap::new(), last_ticket: 0 };
        Arc::new(Self { shares, state: Mutex::new(state), spilled: Mutex::default() })
    }

    pub(crate) fn shares(&self) -> &Shares {
        &self.shares
    }

    /// The limit on bytes that were found in the bundle and are not read yet: half of the memory for parts.
    pub(crate) fn unread_bytes(&self) -> u64 {
        self.shares.parts / 2
    }

    /// A layer of this size will be compressed: spools leave it room.
    pub(crate) fn expect_layer(&self, bytes: u64) {
        self.state.lock().accounts.expect_layer(bytes);
    }

    /// Waits until there is room for all layers of an image, `bytes` together. An image larger than the whole budget gets
    /// the whole budget. Whoever has it lets spilled parts go: see [`Budget::reclaim`].
    pub(crate) const fn admit(self: &Arc<Self>, bytes: u64, turn: Turn) -> RoomRequest<'_> {
        RoomRequest { budget: self, bytes, turn, ticket: None }
    }

    /// Whether an image waits for room.
    pub(crate) fn is_short(&self) -> bool {
        !self.state.lock().queue.is_empty()
    }

    /// What a layer takes of the room of its image, nothing yet.
    pub(crate) fn layer(self: &Arc<Self>, room: Option<Arc<LayerRoom>>) -> LayerBytes {
        LayerBytes { budget: Arc::clone(self), room, in_memory: 0, on_disk: 0 }
    }

    /// Reserves disk for a spool that needs at least `at_least` bytes.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub(crate) fn spool(self: &Arc<Self>, at_least: u64) -> Result<SpoolRoom, NoDisk> {
        let room = SpoolRoom { budget: Arc::clone(self), bytes: AtomicU64::new(0) };
        room.grow(at_least)?;
        Ok(room)
    }

    /// Somebody who will spill parts, and drops them when others need the disk.
    pub(crate) fn reclaims_from(&self, owner: Weak<dyn Reclaim>) {
        self.spilled.lock().push(owner);
    }

    /// Reserves `bytes` of disk for a part, if nothing else needs them.
    pub(crate) fn spill(self: &Arc<Self>, bytes: u64) -> Option<SpilledBytes> {
        let fits = self.state.lock().accounts.spill(bytes);
        fits.then(|| SpilledBytes { budget: Arc::clone(self), bytes })
    }

    /// Has spilled parts let go of that lie where others have taken disk.
    pub(crate) fn reclaim(&self) -> Reclaimed {
        let excess = self.state.lock().accounts.excess();
        let mut reclaimed = Reclaimed::default();
        if excess > 0 {
            let owners: Vec<_> = self.spilled.lock().iter().filter_map(Weak::upgrade).collect();
            for owner in owners {
                let left = excess.saturating_sub(reclaimed.bytes);
                if left == 0 {
                    break;
                }
                let Reclaimed { bytes, parts } = owner.reclaim(left);
                reclaimed.bytes += bytes;
                reclaimed.parts.extend(parts);
            }
        }
        reclaimed
    }

    /// Gives something back, and wakes who may get on now.
    fn give_back(&self, change: impl FnOnce(&mut BudgetAccounts)) {
        let next = {
            let mut state = self.state.lock();
            change(&mut state.accounts);
            state.wake_first()
        };
        next.inspect(Waker::wake_by_ref);
    }
}

impl BudgetState {
    fn wake_first(&mut self) -> Option<Waker> {
        self.queue.first_entry().and_then(|mut first| first.get_mut().take())
    }
}

/// A place in the queue of images. One that is given up lets the next one try.
#[derive(Debug)]
pub(crate) struct RoomRequest<'a> {
    budget: &'a Arc<Budget>,
    bytes: u64,
    turn: Turn,
    ticket: Option<Ticket>,
}

impl RoomRequest<'_> {
    /// Takes another place in the queue, at its next poll.
    pub(crate) fn take_turn(&mut self, turn: Turn) {
        if turn != self.turn {
            self.give_up();
            self.turn = turn;
        }
    }

    fn give_up(&mut self) {
        let Some(ticket) = self.ticket.take() else { return };
        let next = {
            let mut state = self.budget.state.lock();
            state.queue.remove(&ticket);
            state.wake_first()
        };
        next.inspect(Waker::wake_by_ref);
    }

    /// Whether all others in the queue come after it.
    pub(crate) fn is_first(&self) -> bool {
        let state = self.budget.state.lock();
        let first = state.queue.first_key_value().map(|(first, _)| *first);
        self.ticket.is_some() && self.ticket == first
    }
}

impl Future for RoomRequest<'_> {
    type Output = Arc<LayerRoom>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Arc<LayerRoom>> {
        let (budget, turn) = (self.budget, self.turn);
        let mut state = budget.state.lock();
        let ticket = *self.ticket.get_or_insert_with(|| {
            state.last_ticket += 1;
            (turn, state.last_ticket)
        });
        let waiting = state.queue.entry(ticket).or_default();
        *waiting = Some(context.waker().clone());
        let is_first = state.queue.first_key_value().is_some_and(|(first, _)| *first == ticket);
        if is_first && let Some(bytes) = state.accounts.promise(self.bytes) {
            state.queue.remove(&ticket);
            let next = state.wake_first();
            drop(state);
            self.ticket = None;
            next.inspect(Waker::wake_by_ref);
            let (untaken, is_open) = (AtomicU64::new(bytes), AtomicBool::new(true));
            return Poll::Ready(Arc::new(LayerRoom { budget: Arc::clone(budget), untaken, is_open }));
        }
        Poll::Pending
    }
}

impl Drop for RoomRequest<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// Room that the compressed layers of one image are sure to find.
#[derive(Debug)]
pub(crate) struct LayerRoom {
    budget: Arc<Budget>,
    /// What no layer has taken yet. Changes only while the budget is locked, as does `is_open`.
    untaken: AtomicU64,
    is_open: AtomicBool,
}

impl LayerRoom {
    /// All layers of the image are made: what they did not take is for others.
    pub(crate) fn settle(&self) {
        self.budget.give_back(|accounts| {
            self.is_open.store(false, Ordering::Relaxed);
            accounts.take_back(self.untaken.swap(0, Ordering::Relaxed));
        });
    }
}

impl Drop for LayerRoom {
    fn drop(&mut self) {
        self.settle();
    }
}

/// What one compressed layer takes of memory and disk. What it took of the room of its image goes back there unless the
/// layer is finished: another try needs it.
#[derive(Debug)]
pub(crate) struct LayerBytes {
    budget: Arc<Budget>,
    room: Option<Arc<LayerRoom>>,
    in_memory: u64,
    on_disk: u64,
}

/// No room is left for a layer, in memory and on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoLayerRoom {
    /// What there is for all layers.
    pub limit: u64,
}

impl LayerBytes {
    /// Takes more, and says how much of it is memory: the rest is disk.
    ///
    /// # Errors
    /// The budget is exhausted. It never is for what keeps to its room.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<u64, NoLayerRoom> {
        let mut state = self.budget.state.lock();
        let untaken = self.room.as_ref().map_or(0, |room| room.untaken.load(Ordering::Relaxed));
        let promised = untaken.min(bytes);
        let Some(in_memory) = state.accounts.take(bytes, promised) else {
            return Err(NoLayerRoom { limit: state.accounts.layer_room() });
        };
        if let Some(room) = &self.room {
            room.untaken.store(untaken - promised, Ordering::Relaxed);
        }
        drop(state);
        drop(self.budget.reclaim());
        self.in_memory += in_memory;
        self.on_disk += bytes - in_memory;
        Ok(in_memory)
    }
}

impl LayerBytes {
    /// The layer is made: what it takes is its own now.
    pub(crate) fn finished(mut self) -> Self {
        self.room = None;
        self
    }
}

impl Drop for LayerBytes {
    fn drop(&mut self) {
        let room = self.room.take();
        self.budget.give_back(|accounts| {
            accounts.give_back(self.in_memory, self.on_disk);
            if let Some(room) = room.as_ref().filter(|room| room.is_open.load(Ordering::Relaxed)) {
                let bytes = self.in_memory + self.on_disk;
                accounts.promise_again(bytes);
                room.untaken.fetch_add(bytes, Ordering::Relaxed);
            }
        });
    }
}

/// The disk of one spool.
#[derive(Debug)]
pub(crate) struct SpoolRoom {
    budget: Arc<Budget>,
    bytes: AtomicU64,
}

impl SpoolRoom {
    /// Bytes that are reserved.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Takes more.
    ///
    /// # Errors
    /// The budget is exhausted.
    pub(crate) fn grow(&self, bytes: u64) -> Result<(), NoDisk> {
        let limit = self.budget.shares.disk;
        let taken = self.budget.state.lock().accounts.spool(bytes);
        taken.map_err(|needed| NoDisk { needed, limit })?;
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        drop(self.budget.reclaim());
        Ok(())
    }

    /// Releases `bytes`.
    pub(crate) fn give_back(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.budget.give_back(|accounts| accounts.unspool(bytes));
    }
}

/// The disk of one spilled part.
#[derive(Debug)]
pub(crate) struct SpilledBytes {
    budget: Arc<Budget>,
    bytes: u64,
}

impl Drop for SpilledBytes {
    fn drop(&mut self) {
        self.budget.give_back(|accounts| accounts.unspill(self.bytes));
    }
}

impl Drop for SpoolRoom {
    fn drop(&mut self) {
        self.budget.give_back(|accounts| accounts.unspool(*self.bytes.get_mut()));
    }
}

#[cfg(test)]
mod tests;
