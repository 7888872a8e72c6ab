//! The layers of one image, as long as somebody needs the image.

use std::sync::Arc;

use super::Layers;
use crate::archive::UnpackedLayer;
use crate::bundle::LayerKey;
use crate::clock::Instant;
use crate::compress::{LayerBlob, LayerFacts};
use crate::engine::background_drop::drop_in_background;
use crate::error::BundleError;
use crate::source::{Certainty, Intent};

/// A mirror needs the layers of an image. Layers that no other lease needs are released with it.
#[derive(Debug)]
pub(in crate::engine) struct LayerLease {
    pub(super) layers: Arc<Layers>,
    pub(super) number: u64,
    /// Each once, in the order of the table.
    list: Vec<UnpackedLayer>,
    /// Held by the mirror that waits for room, on behalf of all mirrors that need the image.
    admitting: tokio::sync::Mutex<()>,
}

impl LayerLease {
    pub(super) fn new(layers: &Arc<Layers>, all: &[UnpackedLayer]) -> Arc<Self> {
        let mut list: Vec<UnpackedLayer> = Vec::with_capacity(all.len());
        for layer in all {
            // The empty layer comes many times in one image.
            if !list.iter().any(|known| LayerKey::of(known) == LayerKey::of(layer)) {
                list.push(layer.clone());
            }
        }
        let keys = list.iter().map(LayerKey::of).collect();
        let intent = |at: usize| {
            let layer: &UnpackedLayer = &list[at];
            let will_be_read = layers.known(layer).is_none() && layers.is_read(layer);
            let certainty = if will_be_read { Certainty::Certain } else { Certainty::Possible };
            Intent::to_read(&layer.extent, certainty)
        };
        let number = layers.table.lock().add(keys, Instant::now(), intent);
        Arc::new(Self { layers: Arc::clone(layers), number, list, admitting: tokio::sync::Mutex::default() })
    }

    /// A mirror is sending the image while this lives.
    pub(in crate::engine) fn used_by(self: &Arc<Self>, mirror: usize) -> MirrorUse {
        MirrorUse(ActiveUse::new(self, mirror))
    }

    /// Whether the blobs of all layers are known, made or not.
    pub(in crate::engine) fn are_known(&self) -> bool {
        self.list.iter().all(|layer| self.layers.known(layer).is_some())
    }

    pub(in crate::engine) fn is_admitted(&self) -> bool {
        self.layers.table.lock().is_admitted(self.number)
    }

    /// Waits for room for all layers that are not made. They stay then, as long as the mirror moves.
    pub(in crate::engine) async fn admit(&self) {
        let _one = self.admitting.lock().await;
        let (mut room, mut asked) = (None, 0);
        loop {
            let lacking = {
                let mut table = self.layers.table.lock();
                if table.is_admitted(self.number) {
                    return;
                }
                let lacking =
                    table.lacking(self.number).map(|(at, _)| self.layers.most_bytes(&self.list[at])).sum();
                // Others may have made some meanwhile, or let go of some.
                if lacking <= asked {
                    return table.admit(self.number, room, Instant::now());
                }
                lacking
            };
            drop(room.take());
            asked = lacking;
            room = Some(self.layers.room(self.number, lacking).await);
        }
    }

    /// The digest and size of a layer's blob; makes it where they are not known.
    pub(in crate::engine) async fn facts(&self, layer: &UnpackedLayer) -> Result<LayerFacts, BundleError> {
        match self.layers.known(layer) {
            Some(facts) => Ok(facts),
            None => self.blob(layer).await.map(|blob| blob.facts),
        }
    }

    /// The blob of a layer, if it is made.
    pub(super) fn made(&self, layer: &UnpackedLayer) -> Option<LayerBlob> {
        let mut table = self.layers.table.lock();
        table.touch(self.number, Instant::now());
        table.made(&LayerKey::of(layer))
    }

    /// The blob of a layer, made where it is not.
    pub(super) async fn blob(&self, layer: &UnpackedLayer) -> Result<LayerBlob, BundleError> {
        let key = LayerKey::of(layer);
        let making = loop {
            if let Some(made) = self.made(layer) {
                return Ok(made);
            }
            self.admit().await;
            let begun = self.layers.table.lock().begin_making(self.number, &key);
            // What was admitted may have given way at once.
            if let Some(making) = begun {
                break making;
            }
        };
        let ends = EndsMaking(self);
        let made = making.blob.get_or_make(self.layers.make(layer, making.room)).await;
        let again = || Intent::to_read(&layer.extent, Certainty::Again);
        let was_read = self.layers.table.lock().was_read(&key, again);
        drop_in_background(was_read);
        if let Ok(blob) = &made {
            self.layers.learn(layer, blob.facts);
        }
        drop(ends);
        made
    }
}

impl LayerLease {
    /// The same for a request that is under way: it has what other images of its mirror may wait for.
    pub(super) async fn blob_under_way(&self, layer: &UnpackedLayer) -> Result<LayerBlob, BundleError> {
        self.layers.table.lock().body_waits(self.number);
        let _waits = WaitingBody(self);
        self.blob(layer).await
    }
}

/// A request that is under way waits for a layer.
struct WaitingBody<'a>(&'a LayerLease);

impl Drop for WaitingBody<'_> {
    fn drop(&mut self) {
        self.0.layers.table.lock().body_waited(self.0.number);
    }
}

impl Drop for LayerLease {
    fn drop(&mut self) {
        let mut gone = self.layers.table.lock().remove(self.number);
        // What is not needed of the bundle leaves the disk, which may take a while. Memory and room come free at once.
        let intents: Vec<Intent> = gone.slots.iter_mut().filter_map(|slot| slot.intent.take()).collect();
        drop(gone);
        self.layers.give_way();
        if !intents.is_empty() {
            drop_in_background(intents);
        }
    }
}

/// Ends the making of a layer, however it ended.
struct EndsMaking<'a>(&'a LayerLease);

impl Drop for EndsMaking<'_> {
    fn drop(&mut self) {
        let gone = self.0.layers.table.lock().end_making(self.0.number, Instant::now());
        drop(gone);
    }
}

/// A mirror is sending an image. When this is dropped, the mirror has finished it.
#[derive(Debug)]
pub(in crate::engine) struct MirrorUse(ActiveUse);

impl MirrorUse {
    pub(in crate::engine) fn active(&self) -> &ActiveUse {
        &self.0
    }
}

impl Drop for MirrorUse {
    fn drop(&mut self) {
        self.0.lease.layers.table.lock().is_through(self.0.mirror);
    }
}

/// A mirror does something for an image.
#[derive(Debug)]
pub(in crate::engine) struct ActiveUse {
    lease: Arc<LayerLease>,
    mirror: usize,
}

impl ActiveUse {
    fn new(lease: &Arc<LayerLease>, mirror: usize) -> Self {
        lease.layers.table.lock().begin(lease.number, mirror);
        Self { lease: Arc::clone(lease), mirror }
    }

    /// The mirror does one thing more for the image.
    pub(in crate::engine) fn fork(&self) -> Self {
        Self::new(&self.lease, self.mirror)
    }

    /// This waits for another image of the same mirror, until the guard is dropped. Where nothing else is done for the image,
    /// what is held of it is for others meanwhile.
    pub(in crate::engine) fn suspend(&self) -> Suspended<'_> {
        self.end();
        Suspended(self)
    }

    fn end(&self) {
        let layers = &self.lease.layers;
        let gone = layers.table.lock().end(self.lease.number, self.mirror);
        drop(gone);
        layers.give_way();
    }
}

impl Drop for ActiveUse {
    fn drop(&mut self) {
        self.end();
    }
}

/// Something waits for another image.
#[derive(Debug)]
pub(in crate::engine) struct Suspended<'a>(&'a ActiveUse);

impl Drop for Suspended<'_> {
    fn drop(&mut self) {
        let ActiveUse { lease, mirror } = self.0;
        lease.layers.table.lock().begin(lease.number, *mirror);
    }
}
