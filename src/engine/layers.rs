//! Layers of docker-archives as blobs: compressed once, kept while there is room and an image that has them is needed, and
//! made again where one is wanted later.
//!
//! In: a [`LayerLease`] for each image that mirrors need. Three rules follow. A layer that a mirror needs is kept until room is
//! short. An image that a mirror is sending is *admitted* before anything is made of it: room for all of its layers is
//! reserved, and they stay. A mirror that stands still loses its room to another one that is short of it, and its layers are
//! made again when it moves on. So a slow mirror costs the others nothing, and no mirror that waits for room holds any.
//!
//! Room is not all that is waited for. Who sends a blob has its location on the mirror, and then a permit, and may wait for
//! room with both: the layer gave way while its mirror stood still. So no image keeps room while all that its mirrors do for
//! it waits for such a request:
//! * Who waits for the location of a blob does nothing for its image meanwhile ([`ActiveUse::suspend`]). An image for which nobody
//!   does anything gives way at once, to its own mirror too.
//! * Who waits for a permit may have to wait long, because the link is slow: it keeps its room, until a request that is under
//!   way waits for room on the same mirror. Then its image gives way (`table`: `revoke_held_up`), and asks again after that
//!   request ([`Turn::Last`]).
//!
//! What is learned of a layer (digest and size of its blob) is kept for the whole run, and by the caller beyond it: an
//! image all of whose layers are known gets its manifest without a byte being read.

mod body;
mod lease;
mod table;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::oneshot;

pub(super) use self::lease::{ActiveUse, LayerLease, MirrorUse, Suspended};
use self::table::{IDLE, LayerTable};
use super::background_drop::drop_in_background;
use super::body::Buffering;
use super::ordered_semaphore::OrderedSemaphore;
use crate::archive::{Stored, UnpackedLayer};
use crate::budget::{LayerRoom, Turn};
use crate::bundle::{KnownLayers, LayerKey};
use crate::clock::Instant;
use crate::compress::{self, CpuMeters, LayerBlob, LayerFacts, Method, SpillSettings};
use crate::error::{BundleError, Fault};
use crate::locks::Mutex;
use crate::report::{Event, Listeners};

/// All layers of a run.
#[derive(Debug)]
pub(super) struct Layers {
    table: Mutex<LayerTable>,
    known: Mutex<KnownLayers>,
    /// What this run learned.
    learned: Mutex<KnownLayers>,
    pool: Arc<rayon::ThreadPool>,
    /// Layers in work at the same time.
    workers: Arc<OrderedSemaphore>,
    method: Method,
    spill: SpillSettings,
    /// The CPU time of compressing and hashing.
    cpu: CpuMeters,
    buffering: Buffering,
    listeners: Listeners,
}

/// The estimated size of a compressed layer in hundredths of its plain size: the middle for system images.
const ESTIMATED_PERCENT: u64 = 40;

impl Layers {
    pub(super) fn new(
        pool: Arc<rayon::ThreadPool>,
        workers: usize,
        method: Method,
        spill: SpillSettings,
        cpu: CpuMeters,
        buffering: Buffering,
        listeners: Listeners,
    ) -> Arc<Self> {
        let (table, known, learned) = (Mutex::default(), Mutex::default(), Mutex::default());
        let workers = OrderedSemaphore::new(workers);
        Arc::new(Self { table, known, learned, pool, workers, method, spill, cpu, buffering, listeners })
    }

    /// Adds what an earlier run has learned of layers.
    pub(super) fn know(&self, layers: KnownLayers) {
        let mut known = self.known.lock();
        for (layer, facts) in layers {
            // What this run learned itself is newer.
            known.entry(layer).or_insert(facts);
        }
    }

    pub(super) fn method(&self) -> Method {
        self.method
    }

    /// What this run has learned.
    pub(super) fn learned(&self) -> KnownLayers {
        self.learned.lock().clone()
    }

    /// What is known of the blob of a layer.
    pub(super) fn known(&self, layer: &UnpackedLayer) -> Option<LayerFacts> {
        self.known.lock().get(&LayerKey::of(layer)).copied()
    }

    /// The most that the blob of a layer takes: compressed ones are sent as they lie in the bundle.
    pub(super) fn most_bytes(&self, layer: &UnpackedLayer) -> u64 {
        match (layer.stored, self.method) {
            (Stored::Plain, Method::Gzip | Method::Zstd) => self.method.most_bytes(layer.size),
            _ => 0,
        }
    }

    /// Whether a layer must be read to know its blob.
    fn is_read(&self, layer: &UnpackedLayer) -> bool {
        layer.stored != Stored::Plain || self.method != Method::None
    }

    /// A lease for an image with these layers, which a mirror needs.
    pub(super) fn lease(self: &Arc<Self>, layers: &[UnpackedLayer]) -> Arc<LayerLease> {
        LayerLease::new(self, layers)
    }

    /// Room for this many bytes, for this lease.
    async fn room(&self, lease: u64, bytes: u64) -> Arc<LayerRoom> {
        let mut request = self.spill.budget.admit(bytes, Turn::First);
        loop {
            request.take_turn(self.table.lock().turn(lease));
            if let Some(room) = (&mut request).now_or_never() {
                return self.taken(room);
            }
            // Most later images find their layers on their mirrors; for the others they are made again.
            let unpinned = self.table.lock().drop_unpinned();
            if !unpinned.is_nothing() {
                continue;
            }
            let revoked = {
                let (mut table, now) = (self.table.lock(), Instant::now());
                let idle = if request.is_first() { table.revoke_idle(lease, now) } else { None };
                idle.or_else(|| table.revoke_held_up(lease, now))
            };
            // What came free is for whoever comes first.
            if revoked.is_some() && request.is_first() {
                continue;
            }
            tokio::select! {
                room = &mut request => return self.taken(room),
                () = tokio::time::sleep(IDLE / 2) => {}
            }
        }
    }

    /// Spilled parts have no claim to the disk that the room takes.
    fn taken(&self, room: Arc<LayerRoom>) -> Arc<LayerRoom> {
        drop_in_background(self.spill.budget.reclaim());
        room
    }

    /// Releases layers that no mirror is sending, if another one waits for room.
    fn give_way(&self) {
        if self.spill.budget.is_short() {
            drop(self.table.lock().drop_unpinned());
        }
    }

    /// The bytes of the blob of a layer: known, or estimated.
    pub(super) fn estimated_bytes(&self, layer: &UnpackedLayer) -> u64 {
        self.known(layer).map_or_else(|| self.estimate(layer), |facts| facts.size)
    }

    fn estimate(&self, layer: &UnpackedLayer) -> u64 {
        match (layer.stored, self.method) {
            (Stored::Plain, Method::Gzip | Method::Zstd) => layer.size / 100 * ESTIMATED_PERCENT,
            _ => layer.size,
        }
    }

    fn learn(&self, layer: &UnpackedLayer, facts: LayerFacts) {
        let key = LayerKey::of(layer);
        let was_known = self.known.lock().insert(key, facts).is_some();
        self.learned.lock().insert(key, facts);
        if !was_known {
            self.listeners.emit(&Event::LayerSized { estimated: self.estimate(layer), bytes: facts.size });
        }
    }

    async fn make(
        &self,
        layer: &UnpackedLayer,
        room: Option<Arc<LayerRoom>>,
    ) -> Result<LayerBlob, BundleError> {
        let worker = self.workers.acquire(layer.extent.root_offset()).await;
        let spill = SpillSettings { room, ..self.spill.clone() };
        let (pool, layer, method) = (Arc::clone(&self.pool), layer.clone(), self.method);
        let cpu = self.cpu.clone();
        let (done, made) = oneshot::channel();
        let work = move || {
            // Work that nobody waits for any more goes on, and keeps its place.
            let _worker = worker;
            let _ = done.send(compress::layer(&pool, &layer, method, &spill, &cpu));
        };
        // A thread of its own, one for each worker: all threads of the runtime may be bodies that wait for this very layer.
        let thread = std::thread::Builder::new().name("compress-layer".to_owned());
        thread.spawn(work).map_err(|error| BundleError::io("starting a thread", &error))?;
        let lost = |_| Err(BundleError::new(Fault::Io, "internal error while compressing a layer"));
        made.await.unwrap_or_else(lost)
    }
}
