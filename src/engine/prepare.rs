//! From an image of the bundle to manifests and blobs that can be sent. Done once, whatever the number of mirrors.
//!
//! An image that has a manifest only needs its closure. An image of a docker-archive gets a synthesised manifest, always the
//! same one, which needs the digests of its compressed layers; see `layers`. The holders of the image ([`LeasedImage`]) own the
//! result, and the last of them releases it.

use crate::locks::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::backlog::BacklogShare;
use super::body::{Buffering, SpaceBody};
use super::image::{LeasedImage, WorkImage};
use super::layers::{LayerLease, Layers};
use super::prepared::{Ready, ReadyBlob};
use super::staged_body::StagedBody;
use super::synthesis::synthesise;
use crate::archive::{Catalog, Content, Unpacked};
use crate::budget::Budget;
use crate::clock::CpuTime;
use crate::compress::LayerFacts;
use crate::error::{BundleError, Fault};
use crate::oci::Digest;
use crate::plan::Closure;
use crate::registry::BlobBody;
use crate::source::{Certainty, Intent};
use crate::stage::Stage;

/// Prepares images on demand, each once.
#[derive(Debug)]
pub(super) struct Preparer {
    /// Layers of docker-archives: images share them.
    pub(super) layers: Arc<Layers>,
    /// Bodies by digest: mirrors and images share their verification.
    bodies: Mutex<HashMap<Digest, Weak<dyn BlobBody>>>,
    buffering: Buffering,
    /// The CPU time of hashing blobs.
    sha256: Arc<CpuTime>,
    budget: Arc<Budget>,
    /// Where blobs are looked for before the bundle is read.
    stage: Option<Arc<Stage>>,
}

impl Preparer {
    pub(super) fn new(
        layers: Arc<Layers>,
        buffering: Buffering,
        sha256: Arc<CpuTime>,
        budget: Arc<Budget>,
        stage: Option<Arc<Stage>>,
    ) -> Self {
        Self { layers, bodies: Mutex::default(), buffering, sha256, budget, stage }
    }

    /// Whether all of these blobs are in the stage, as far as is known: nothing need be made, and no room for it.
    pub(super) fn are_staged(&self, blobs: &[ReadyBlob]) -> bool {
        self.stage.as_ref().is_some_and(|stage| blobs.iter().all(|blob| stage.has(&blob.digest)))
    }

    /// A body that is read from the stage as long as it is there.
    fn or_staged(&self, digest: Digest, size: u64, body: Arc<dyn BlobBody>) -> Arc<dyn BlobBody> {
        match &self.stage {
            Some(stage) => Arc::new(StagedBody::new(stage, (digest, size), body, self.buffering)),
            None => body,
        }
    }

    /// An image was found that may have to be made: spools leave room for its largest layer.
    pub(super) fn announce(&self, content: &Content) {
        if let Content::Unpacked(image) = content {
            let largest = image.layers.iter().map(|layer| self.layers.most_bytes(layer)).max();
            self.budget.expect_layer(largest.unwrap_or(0));
        }
    }

    /// What is held of an image. `share` is its share of the backlog where nobody holds it yet.
    pub(super) fn hold(&self, image: &Arc<WorkImage>, share: BacklogShare) -> Arc<LeasedImage> {
        image.hold(|| {
            let (layers, needs) = match &image.planned.content {
                Content::Unpacked(unpacked) => (Some(self.layers.lease(&unpacked.layers)), Vec::new()),
                Content::Manifest(root) => (None, self.needs(&image.catalog, root)),
            };
            LeasedImage::new(Arc::clone(image), layers, needs, share)
        })
    }

    /// The image, ready to be sent, but for the bytes of layers of which all is known that its manifest says.
    pub(super) async fn image(&self, leased: &LeasedImage) -> Result<Arc<Ready>, BundleError> {
        leased.ready.get_or_make(self.prepare(leased)).await
    }

    /// Whether an image was made ready from what was remembered of its layers, and a layer became something else since. It
    /// is made ready once more when it is asked for again.
    pub(super) fn is_disproved(&self, leased: &LeasedImage, ready: &Ready) -> bool {
        let Content::Unpacked(unpacked) = &leased.image.planned.content else { return false };
        let names = |facts: LayerFacts| {
            ready.blobs.iter().any(|it| (it.digest, it.size) == (facts.digest, facts.size))
        };
        let disproved = unpacked.layers.iter().any(|layer| !self.layers.known(layer).is_none_or(names));
        if disproved {
            leased.ready.clear();
        }
        disproved
    }

    async fn prepare(&self, leased: &LeasedImage) -> Result<Arc<Ready>, BundleError> {
        let image = &leased.image;
        match (&image.planned.content, &leased.layers) {
            (Content::Manifest(root), _) => self.collect(&image.catalog, root).map(Arc::new),
            (Content::Unpacked(unpacked), Some(layers)) => {
                if !layers.are_known() {
                    layers.admit().await;
                }
                let made = self.make(unpacked, layers).await;
                leased.was_read();
                made.map(Arc::new)
            }
            (Content::Unpacked(_), None) => {
                Err(BundleError::new(Fault::Io, "internal error: an image without its layers"))
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
                let (digest, extent) = (descriptor.digest, Arc::new(blob.extent.clone()));
                let body = SpaceBody::verified(extent, blob.size, digest, self.buffering, &self.sha256);
                self.or_staged(digest, blob.size, Arc::new(body))
            });
            Ok::<_, BundleError>(ReadyBlob {
                digest: descriptor.digest,
                size: blob.size,
                offset: blob.extent.root_offset(),
                body,
            })
        });
        Ok(Ready { manifests: manifests.collect::<Result<_, _>>()?, blobs: blobs.collect::<Result<_, _>>()? })
    }

    /// What of the bundle may be read for an image: mirrors may have some of it, and the stage has what it has. Should a blob
    /// prove damaged there, its parts alone are decoded.
    fn needs(&self, catalog: &Catalog, root: &Digest) -> Vec<Intent> {
        let is_staged = |digest: &Digest| self.stage.as_ref().is_some_and(|stage| stage.has(digest));
        let blobs = Closure::of(catalog, root).blobs;
        let digests = blobs.iter().map(|descriptor| &descriptor.digest).filter(|digest| !is_staged(digest));
        let blobs = digests.filter_map(|digest| catalog.blobs.get(digest));
        blobs.map(|blob| Intent::to_read(&blob.extent, Certainty::Possible)).collect()
    }

    fn shared_body(&self, digest: Digest, make: impl FnOnce() -> Arc<dyn BlobBody>) -> Arc<dyn BlobBody> {
        let mut bodies = self.bodies.lock();
        if let Some(body) = bodies.get(&digest).and_then(Weak::upgrade) {
            return body;
        }
        let body = make();
        bodies.insert(digest, Arc::downgrade(&body));
        body
    }

    async fn make(&self, image: &Unpacked, layers: &Arc<LayerLease>) -> Result<Ready, BundleError> {
        let facts = image.layers.iter().map(|layer| layers.facts(layer));
        let facts = futures_util::future::try_join_all(facts).await?;
        let manifest = synthesise(image, &facts, self.layers.method())?;
        let (config, size) = (image.config.clone(), image.config.len() as u64);
        let mut blobs =
            vec![ReadyBlob { digest: image.config_digest, size, offset: 0, body: Arc::new(config) }];
        for (layer, facts) in image.layers.iter().zip(&facts) {
            if blobs.iter().any(|known| known.digest == facts.digest) {
                continue; // the empty layer comes many times in one image
            }
            let body = self.or_staged(facts.digest, facts.size, layers.body(layer, facts));
            blobs.push(ReadyBlob { digest: facts.digest, size: facts.size, offset: 0, body });
        }
        Ok(Ready { manifests: vec![Arc::new(manifest)], blobs })
    }
}
