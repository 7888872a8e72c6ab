//! Layers of docker-archives as blobs: compressed once, kept while an image that has them is under way, and made again
//! in the rare case that one is wanted later.
//!
//! What is learned of a layer (digest and size of its blob) is kept for the whole run, and by the caller beyond it: an
//! image all of whose layers are known gets its manifest without a byte being read.

use crate::sync::Mutex;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::OnceCell;

use super::body::{Buffering, SpaceBody};
use super::line::WorkerLine;
use super::ready::RetryableOnce;
use crate::archive::{Stored, UnpackedLayer};
use crate::budget::LayerRoom;
use crate::bundle::{KnownLayers, LayerKey};
use crate::clock::CpuTime;
use crate::compress::{self, LayerBlob, LayerContent, LayerFacts, Method, SpillSettings};
use crate::error::{BundleError, Fault};
use crate::registry::{BlobBody, BodyStream};
use crate::source::Intent;

/// The room for the layers of an image, once it is promised.
pub(super) type Room = Arc<OnceCell<Arc<LayerRoom>>>;

/// All layers of a run.
#[derive(Debug)]
pub(super) struct Layers {
    slots: Mutex<HashMap<LayerKey, LayerSlot>>,
    known: Mutex<KnownLayers>,
    /// What this run found out.
    learned: Mutex<KnownLayers>,
    pool: Arc<rayon::ThreadPool>,
    /// Layers in work at the same time.
    workers: Arc<WorkerLine>,
    method: Method,
    spill: SpillSettings,
    /// What compressing has taken.
    cpu: Arc<CpuTime>,
    buffering: Buffering,
}

#[derive(Debug, Default)]
struct LayerSlot {
    blob: Arc<RetryableOnce<LayerBlob>>,
    images_left: usize,
    /// Of those, images that were admitted: they are on their way.
    images_admitted: usize,
    /// That the layer will be read, until it was.
    intent: Option<Intent>,
}

impl LayerSlot {
    fn drop_unused(&mut self) {
        if self.images_admitted == 0 && self.blob.is_made() {
            self.blob.clear();
        }
    }
}

impl Layers {
    pub(super) fn new(
        pool: Arc<rayon::ThreadPool>,
        workers: usize,
        method: Method,
        spill: SpillSettings,
        cpu: Arc<CpuTime>,
        buffering: Buffering,
    ) -> Arc<Self> {
        let (slots, known, learned) = (Mutex::default(), Mutex::default(), Mutex::default());
        Arc::new(Self {
            slots,
            known,
            learned,
            pool,
            workers: WorkerLine::new(workers),
            method,
            spill,
            cpu,
            buffering,
        })
    }

    /// What is known of layers from elsewhere.
    pub(super) fn know(&self, layers: KnownLayers) {
        let mut known = self.known.lock();
        for (layer, facts) in layers {
            // What this run found out itself is newer.
            known.entry(layer).or_insert(facts);
        }
    }

    pub(super) fn method(&self) -> Method {
        self.method
    }

    /// What was found out in this run.
    pub(super) fn learned(&self) -> KnownLayers {
        self.learned.lock().clone()
    }

    /// Whether the blobs of all of these are known, made or not.
    pub(super) fn are_known(&self, layers: &[UnpackedLayer]) -> bool {
        let known = self.known.lock();
        layers.iter().all(|layer| known.contains_key(&LayerKey::of(layer)))
    }

    /// What is known of the blob of a layer.
    pub(super) fn known(&self, layer: &UnpackedLayer) -> Option<LayerFacts> {
        self.known.lock().get(&LayerKey::of(layer)).copied()
    }

    /// Whether the blobs of all of these are made.
    pub(super) fn are_made(&self, layers: &[UnpackedLayer]) -> bool {
        let slots = self.slots.lock();
        let is_made = |layer| slots.get(&LayerKey::of(layer)).is_some_and(|slot| slot.blob.is_made());
        layers.iter().all(is_made)
    }

    /// What these layers may take, made: compressed ones are sent as they lie in the bundle.
    pub(super) fn made_bytes(&self, layers: &[UnpackedLayer]) -> u64 {
        if self.method == Method::None {
            return 0;
        }
        layers.iter().filter(|layer| layer.stored == Stored::Plain).map(|layer| layer.size).sum()
    }

    /// An image will come that has these layers.
    pub(super) fn expect(&self, layers: &[UnpackedLayer]) {
        let (known, mut slots) = (self.known.lock(), self.slots.lock());
        for layer in layers {
            let key = LayerKey::of(layer);
            let will_be_read = !known.contains_key(&key) && self.is_read(layer);
            let first = || LayerSlot {
                intent: will_be_read.then(|| Intent::to_read(&layer.extent)),
                ..LayerSlot::default()
            };
            slots.entry(key).or_insert_with(first).images_left += 1;
        }
    }

    /// Whether a layer must be read to know its blob.
    fn is_read(&self, layer: &UnpackedLayer) -> bool {
        layer.stored != Stored::Plain || self.method != Method::None
    }

    /// Such an image is on its way: what is made of these layers stays until it is through.
    pub(super) fn admit(&self, layers: &[UnpackedLayer]) {
        let mut slots = self.slots.lock();
        for layer in layers {
            slots.entry(LayerKey::of(layer)).or_default().images_admitted += 1;
        }
    }

    /// Such an image has been everywhere.
    pub(super) fn release(&self, layers: &[UnpackedLayer], was_admitted: bool) {
        let is_short = self.spill.budget.is_short();
        let mut slots = self.slots.lock();
        for layer in layers {
            let key = LayerKey::of(layer);
            let Some(slot) = slots.get_mut(&key) else { continue };
            slot.images_left = slot.images_left.saturating_sub(1);
            slot.images_admitted -= usize::from(was_admitted && slot.images_admitted > 0);
            if slot.images_left == 0 {
                slots.remove(&key);
            } else if is_short {
                slot.drop_unused();
            }
        }
    }

    /// Drops what is made of layers that only later images have. Most of them find it on their mirrors; for the others it is
    /// made again.
    pub(super) fn drop_unused(&self) {
        self.slots.lock().values_mut().for_each(LayerSlot::drop_unused);
    }

    /// The digest and size of a layer's blob; makes it where they are not known.
    pub(super) async fn facts(&self, layer: &UnpackedLayer, room: &Room) -> Result<LayerFacts, BundleError> {
        match self.known(layer) {
            Some(facts) => Ok(facts),
            None => self.blob(layer, room).await.map(|blob| blob.facts),
        }
    }

    /// The blob of a layer, which is made when its first byte is wanted.
    pub(super) fn body(
        this: &Arc<Self>,
        layer: &UnpackedLayer,
        facts: &LayerFacts,
        room: &Room,
    ) -> Arc<dyn BlobBody> {
        let (layers, room) = (Arc::clone(this), Arc::clone(room));
        Arc::new(LayerBody { layers, layer: layer.clone(), facts: *facts, room })
    }

    async fn blob(&self, layer: &UnpackedLayer, room: &Room) -> Result<LayerBlob, BundleError> {
        let key = LayerKey::of(layer);
        let slot = {
            let mut slots = self.slots.lock();
            Arc::clone(&slots.entry(key).or_default().blob)
        };
        let made = slot.get_or_make(self.make(layer, room)).await;
        if let Some(slot) = self.slots.lock().get_mut(&key) {
            slot.intent = None;
        }
        if let Ok(blob) = &made {
            self.known.lock().insert(key, blob.facts);
            self.learned.lock().insert(key, blob.facts);
        }
        made
    }

    async fn make(&self, layer: &UnpackedLayer, room: &Room) -> Result<LayerBlob, BundleError> {
        let worker = self.workers.worker(layer.extent.root_offset()).await;
        let spill = SpillSettings { room: room.get().cloned(), ..self.spill.clone() };
        let (pool, layer, method) = (Arc::clone(&self.pool), layer.clone(), self.method);
        let cpu = Arc::clone(&self.cpu);
        let work = tokio::task::spawn_blocking(move || {
            // Work that nobody waits for any more goes on, and keeps its place.
            let _worker = worker;
            compress::layer(&pool, &layer, method, &spill, &cpu)
        });
        work.await
            .unwrap_or_else(|error| Err(BundleError::new(Fault::Io, format!("compressing a layer: {error}"))))
    }
}

/// The blob of a layer, made on demand.
struct LayerBody {
    layers: Arc<Layers>,
    layer: UnpackedLayer,
    facts: LayerFacts,
    room: Room,
}

impl BlobBody for LayerBody {
    fn len(&self) -> u64 {
        self.facts.size
    }

    fn is_ready(&self) -> bool {
        self.layers.are_made(std::slice::from_ref(&self.layer))
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), BundleError>> {
        async {
            let blob = self.layers.blob(&self.layer, &self.room).await?;
            as_known(&self.layer, self.facts, blob, self.layers.buffering).map(drop)
        }
        .boxed()
    }

    fn open(&self, range: Range<u64>) -> BodyStream {
        let (layers, layer, facts) = (Arc::clone(&self.layers), self.layer.clone(), self.facts);
        let room = Arc::clone(&self.room);
        let start = async move {
            match layers
                .blob(&layer, &room)
                .await
                .and_then(|blob| as_known(&layer, facts, blob, layers.buffering))
            {
                Ok(body) => body.open(range),
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        start.into_stream().flatten().boxed()
    }
}

/// The blob must be the one that its manifest names, which may have been made from what an earlier run remembered. Where it
/// is not, the image is made ready once more: see `Preparer::is_disproved`.
fn as_known(
    layer: &UnpackedLayer,
    facts: LayerFacts,
    blob: LayerBlob,
    buffering: Buffering,
) -> Result<SpaceBody, BundleError> {
    if (blob.facts.digest, blob.facts.size) != (facts.digest, facts.size) {
        let told = format!(
            "{}: became {} of {} bytes, but was remembered as {} of {} bytes",
            layer.member, blob.facts.digest, blob.facts.size, facts.digest, facts.size
        );
        return Err(BundleError::new(Fault::Io, told));
    }
    Ok(match blob.content {
        LayerContent::Made(spill) => SpaceBody::made(spill, facts.size, buffering),
        LayerContent::Stored(extent) => {
            SpaceBody::verified(Arc::new(extent), facts.size, facts.digest, buffering)
        }
    })
}
