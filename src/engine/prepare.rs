//! From an image of the bundle to manifests and blobs that can be sent. Done once, whatever the number of mirrors.
//!
//! An image that has a manifest only needs its closure. One of a docker-archive gets a manifest made, always the same
//! one, for which the digests of its compressed layers must be known; see `layers`. What was prepared is dropped when
//! the last mirror is through with the image, and what it took of memory and disk with it.

use crate::sync::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use futures_util::FutureExt as _;

use super::body::{Buffering, SpaceBody};
use super::image::WorkImage;
use super::layers::{Layers, Room};
use super::ready::{Ready, ReadyBlob};
use super::synthesis::synthesise;
use crate::archive::{Catalog, Content, Unpacked, UnpackedLayer};
use crate::budget::{Budget, LayerRoom};
use crate::compress::LayerFacts;
use crate::error::{BundleError, Fault};
use crate::oci::Digest;
use crate::plan::Closure;
use crate::registry::BlobBody;

/// Prepares images on demand, each once.
#[derive(Debug)]
pub(super) struct Preparer {
    /// Layers of docker-archives: images share them.
    pub(super) layers: Arc<Layers>,
    /// Bodies by digest: mirrors and images share their verification.
    bodies: Mutex<HashMap<Digest, Weak<dyn BlobBody>>>,
    buffering: Buffering,
    budget: Arc<Budget>,
}

impl Preparer {
    pub(super) fn new(layers: Arc<Layers>, buffering: Buffering, budget: Arc<Budget>) -> Self {
        Self { layers, bodies: Mutex::default(), buffering, budget }
    }

    /// An image will come whose layers are these.
    pub(super) fn expect(&self, content: &Content) {
        if let Content::Unpacked(image) = content {
            self.layers.expect(&image.layers);
            let largest =
                image.layers.iter().map(|layer| self.layers.made_bytes(std::slice::from_ref(layer))).max();
            self.budget.expect_layer(largest.unwrap_or(0));
        }
    }

    /// Waits for room for what is made of an image. Whoever waits may hold nothing that others need to get on.
    pub(super) async fn admit(&self, image: &WorkImage) {
        if let Content::Unpacked(unpacked) = &image.planned.content {
            let room = Arc::clone(&image.room.lock());
            room.get_or_init(|| self.reserve(&unpacked.layers)).await;
        }
    }

    async fn reserve(&self, layers: &[UnpackedLayer]) -> Arc<LayerRoom> {
        let mut admitted = Box::pin(self.budget.admit(self.layers.made_bytes(layers)));
        let room = if let Some(room) = (&mut admitted).now_or_never() {
            room
        } else {
            // Whoever is first in the queue waits for images that are on their way, and for nothing else.
            self.layers.drop_unused();
            admitted.await
        };
        self.layers.admit(layers);
        room
    }

    /// The image, ready to be sent, but for the bytes of layers of which all is known that its manifest says.
    pub(super) async fn image(&self, image: &WorkImage) -> Result<Arc<Ready>, BundleError> {
        if let Content::Unpacked(unpacked) = &image.planned.content
            && !self.layers.are_known(&unpacked.layers)
        {
            self.admit(image).await;
        }
        image.ready.get_or_make(self.prepare(image)).await
    }

    /// Whether an image was made ready from what was remembered of its layers, and a layer became something else since. It
    /// is made ready once more when it is asked for again.
    pub(super) fn is_disproved(&self, image: &WorkImage, ready: &Ready) -> bool {
        let Content::Unpacked(unpacked) = &image.planned.content else { return false };
        let names = |facts: LayerFacts| {
            ready.blobs.iter().any(|it| (it.digest, it.size) == (facts.digest, facts.size))
        };
        let disproved = unpacked.layers.iter().any(|layer| !self.layers.known(layer).is_none_or(names));
        if disproved {
            image.ready.clear();
        }
        disproved
    }

    /// A mirror is through with this image, well or not.
    pub(super) fn done(&self, image: &WorkImage) {
        if image.done() {
            self.forget(image);
        }
    }

    /// What was made of this image is not needed any more.
    pub(super) fn forget(&self, image: &WorkImage) {
        image.ready.clear();
        let room = std::mem::take(&mut *image.room.lock());
        if let Content::Unpacked(unpacked) = &image.planned.content {
            self.layers.release(&unpacked.layers, room.initialized());
        }
    }

    async fn prepare(&self, image: &WorkImage) -> Result<Arc<Ready>, BundleError> {
        match &image.planned.content {
            Content::Manifest(root) => self.collect(&image.catalog, root).map(Arc::new),
            Content::Unpacked(unpacked) => {
                let room = Arc::clone(&image.room.lock());
                let made = self.make(unpacked, &room).await;
                image.was_read();
                if let Some(room) = room.get()
                    && self.layers.are_made(&unpacked.layers)
                {
                    room.settle();
                }
                made.map(Arc::new)
            }
        }
    }

    fn collect(&self, catalog: &Catalog, root: &Digest) -> Result<Ready, BundleError> {
        let closure = Closure::of(catalog, root);
        let missing =
            |digest: &Digest| BundleError::new(Fault::MissingBlob, format!("the bundle lacks {digest}"));
        let manifests = closure.manifests.iter();
        let manifests =
            manifests.map(|digest| catalog.manifests.get(digest).cloned().ok_or_else(|| missing(digest)));
        let blobs = closure.blobs.iter().map(|descriptor| {
            let blob = catalog.blobs.get(&descriptor.digest).ok_or_else(|| missing(&descriptor.digest))?;
            let body = self.shared_body(descriptor.digest, || {
                SpaceBody::verified(
                    Arc::new(blob.extent.clone()),
                    blob.size,
                    descriptor.digest,
                    self.buffering,
                )
            });
            Ok(ReadyBlob { digest: descriptor.digest, size: blob.size, body })
        });
        Ok(Ready { manifests: manifests.collect::<Result<_, _>>()?, blobs: blobs.collect::<Result<_, _>>()? })
    }

    fn shared_body(&self, digest: Digest, make: impl FnOnce() -> SpaceBody) -> Arc<dyn BlobBody> {
        let mut bodies = self.bodies.lock();
        if let Some(body) = bodies.get(&digest).and_then(Weak::upgrade) {
            return body;
        }
        let body: Arc<dyn BlobBody> = Arc::new(make());
        bodies.insert(digest, Arc::downgrade(&body));
        body
    }

    async fn make(&self, image: &Unpacked, room: &Room) -> Result<Ready, BundleError> {
        let facts = image.layers.iter().map(|layer| self.layers.facts(layer, room));
        let facts = futures_util::future::try_join_all(facts).await?;
        let manifest = synthesise(image, &facts, self.layers.method())?;
        let (config, size) = (image.config.clone(), image.config.len() as u64);
        let mut blobs = vec![ReadyBlob { digest: image.config_digest, size, body: Arc::new(config) }];
        for (layer, facts) in image.layers.iter().zip(&facts) {
            if blobs.iter().any(|known| known.digest == facts.digest) {
                continue; // the empty layer comes many times in one image
            }
            let body = Layers::body(&self.layers, layer, facts, room);
            blobs.push(ReadyBlob { digest: facts.digest, size: facts.size, body });
        }
        Ok(Ready { manifests: vec![Arc::new(manifest)], blobs })
    }
}
