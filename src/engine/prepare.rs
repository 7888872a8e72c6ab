//! From an image of the plan to manifests and blobs that can be sent. Done once, whatever the number of mirrors.
//!
//! An image that has a manifest only needs its closure. One of a docker-archive gets its layers compressed and a
//! manifest made, always the same one. What was prepared is dropped when the last mirror is through with the image, and
//! what it took of memory and disk with it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OnceCell, Semaphore};

use super::body::SpaceBody;
use super::{Bundle, RunSettings};
use crate::archive::{Content, Stored, Unpacked, UnpackedLayer};
use crate::compress::{self, LayerBlob, Method, SpillSettings};
use crate::error::{BundleError, Fault};
use crate::oci::{Digest, Manifest, media_type};
use crate::plan::{Closure, Plan};
use crate::registry::BlobBody;

/// An image that can be sent.
#[derive(Debug)]
pub(super) struct Ready {
    /// Manifests and indexes, each after what it points at; the root is the last.
    pub(super) manifests: Vec<Arc<Manifest>>,
    /// Configurations and layers, in the order of the bundle.
    pub(super) blobs: Vec<ReadyBlob>,
}

impl Ready {
    /// The manifest that the tags point at.
    pub(super) fn root(&self) -> Option<&Arc<Manifest>> {
        self.manifests.last()
    }
}

/// A blob that can be sent.
#[derive(Clone)]
pub(super) struct ReadyBlob {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) body: Arc<dyn BlobBody>,
}

impl std::fmt::Debug for ReadyBlob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.digest, self.size)
    }
}

type Slot<T> = Arc<OnceCell<Result<T, BundleError>>>;

/// Prepares images on demand, each once.
pub(super) struct Preparer {
    bundle: Arc<Bundle>,
    images: Vec<ImageSlot>,
    /// Layers of docker-archives: images share them.
    layers: Mutex<HashMap<LayerKey, LayerSlot>>,
    /// Bodies by digest: mirrors and images share their verification.
    bodies: Mutex<HashMap<Digest, std::sync::Weak<dyn BlobBody>>>,
    pool: Arc<rayon::ThreadPool>,
    /// Layers in work at the same time.
    workers: Arc<Semaphore>,
    method: Method,
    spill: SpillSettings,
}

#[derive(Debug)]
struct ImageSlot {
    content: Content,
    ready: Mutex<Slot<Arc<Ready>>>,
    mirrors_left: AtomicUsize,
}

#[derive(Debug, Default)]
struct LayerSlot {
    blob: Slot<LayerBlob>,
    images_left: usize,
}

impl Preparer {
    pub(super) fn new(
        bundle: Arc<Bundle>,
        plan: &Plan,
        mirrors: usize,
        pool: Arc<rayon::ThreadPool>,
        settings: &RunSettings,
        spill: SpillSettings,
    ) -> Self {
        let mut layers: HashMap<LayerKey, LayerSlot> = HashMap::new();
        let images = plan.images.iter().map(|planned| {
            for layer in unpacked_layers(&planned.content) {
                layers.entry(layer_key(layer)).or_default().images_left += 1;
            }
            ImageSlot {
                content: planned.content.clone(),
                ready: Mutex::default(),
                mirrors_left: AtomicUsize::new(mirrors),
            }
        });
        let images = images.collect();
        let workers = Arc::new(Semaphore::new(settings.layer_workers));
        let method = settings.layer_compression;
        Self {
            bundle,
            images,
            layers: Mutex::new(layers),
            bodies: Mutex::default(),
            pool,
            workers,
            method,
            spill,
        }
    }

    /// The image at this place of the plan, ready to be sent.
    pub(super) async fn image(&self, index: usize) -> Result<Arc<Ready>, BundleError> {
        let slot = Arc::clone(&self.images[index].ready.lock().unwrap_or_else(PoisonError::into_inner));
        slot.get_or_init(|| self.prepare(&self.images[index].content)).await.clone()
    }

    /// A mirror is through with this image, well or not.
    pub(super) fn done(&self, index: usize) {
        let image = &self.images[index];
        if image.mirrors_left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        *image.ready.lock().unwrap_or_else(PoisonError::into_inner) = Slot::default();
        let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
        for layer in unpacked_layers(&image.content) {
            let Some(slot) = layers.get_mut(&layer_key(layer)) else { continue };
            slot.images_left -= 1;
            if slot.images_left == 0 {
                layers.remove(&layer_key(layer));
            }
        }
    }

    async fn prepare(&self, content: &Content) -> Result<Arc<Ready>, BundleError> {
        match content {
            Content::Manifest(root) => self.collect(root).map(Arc::new),
            Content::Unpacked(image) => self.make(image).await.map(Arc::new),
        }
    }

    fn collect(&self, root: &Digest) -> Result<Ready, BundleError> {
        let catalog = &self.bundle.catalog;
        let closure = Closure::of(catalog, root);
        let missing =
            |digest: &Digest| BundleError::new(Fault::MissingBlob, format!("the bundle lacks {digest}"));
        let manifests = closure.manifests.iter();
        let manifests =
            manifests.map(|digest| catalog.manifests.get(digest).cloned().ok_or_else(|| missing(digest)));
        let blobs = closure.blobs.iter().map(|descriptor| {
            let blob = catalog.blobs.get(&descriptor.digest).ok_or_else(|| missing(&descriptor.digest))?;
            let body = self.shared_body(descriptor.digest, || {
                Arc::new(SpaceBody::new(Arc::new(blob.extent.clone()), blob.size, descriptor.digest))
            });
            Ok(ReadyBlob { digest: descriptor.digest, size: blob.size, body })
        });
        Ok(Ready { manifests: manifests.collect::<Result<_, _>>()?, blobs: blobs.collect::<Result<_, _>>()? })
    }

    fn shared_body(&self, digest: Digest, make: impl FnOnce() -> Arc<dyn BlobBody>) -> Arc<dyn BlobBody> {
        let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(body) = bodies.get(&digest).and_then(std::sync::Weak::upgrade) {
            return body;
        }
        let body = make();
        bodies.insert(digest, Arc::downgrade(&body));
        body
    }

    async fn make(&self, image: &Unpacked) -> Result<Ready, BundleError> {
        let layers = image.layers.iter().map(|layer| self.layer(layer));
        let layers = futures_util::future::try_join_all(layers).await?;
        let manifest = synthesise(image, &layers, self.method)?;
        let config = Arc::new(image.config.clone());
        let config_size = image.config.len() as u64;
        let body = self.shared_body(image.config_digest, || {
            Arc::new(SpaceBody::new(config, config_size, image.config_digest))
        });
        let mut blobs = vec![ReadyBlob { digest: image.config_digest, size: config_size, body }];
        for blob in &layers {
            if blobs.iter().any(|known| known.digest == blob.digest) {
                continue; // the empty layer comes many times in one image
            }
            let body = self.shared_body(blob.digest, || {
                Arc::new(SpaceBody::new(Arc::clone(&blob.content), blob.size, blob.digest))
            });
            blobs.push(ReadyBlob { digest: blob.digest, size: blob.size, body });
        }
        Ok(Ready { manifests: vec![Arc::new(manifest)], blobs })
    }

    async fn layer(&self, layer: &UnpackedLayer) -> Result<LayerBlob, BundleError> {
        let slot = {
            let mut layers = self.layers.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(&layers.entry(layer_key(layer)).or_default().blob)
        };
        let work = || async {
            let _worker = self.workers.acquire().await;
            let (pool, layer, method, spill) =
                (Arc::clone(&self.pool), layer.clone(), self.method, self.spill.clone());
            let work = tokio::task::spawn_blocking(move || compress::layer(&pool, &layer, method, &spill));
            work.await.unwrap_or_else(|error| {
                Err(BundleError::new(Fault::Io, format!("compressing a layer: {error}")))
            })
        };
        slot.get_or_init(work).await.clone()
    }
}

/// The same layer may be stored in several ways, and each makes another blob.
type LayerKey = (Digest, Stored, u64);

const fn layer_key(layer: &UnpackedLayer) -> LayerKey {
    (layer.diff_id, layer.stored, layer.size)
}

fn unpacked_layers(content: &Content) -> &[UnpackedLayer] {
    match content {
        Content::Unpacked(image) => &image.layers,
        Content::Manifest(_) => &[],
    }
}

/// The registry manifest of a docker-archive's image: a function of the image and the method alone, written by hand so
/// that no library's taste in field order or spaces can ever change a digest.
fn synthesise(image: &Unpacked, layers: &[LayerBlob], method: Method) -> Result<Manifest, BundleError> {
    let docker =
        layers.iter().all(|layer| layer.media_type != media_type::OCI_LAYER_ZSTD) && method != Method::Zstd;
    let (manifest_type, config_type) = if docker {
        (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG)
    } else {
        (media_type::OCI_MANIFEST, media_type::OCI_CONFIG)
    };
    let descriptor = |media_type: &str, digest: &Digest, size: u64| {
        format!(r#"{{"mediaType":"{media_type}","size":{size},"digest":"{digest}"}}"#)
    };
    let config = descriptor(config_type, &image.config_digest, image.config.len() as u64);
    let mut json =
        format!(r#"{{"schemaVersion":2,"mediaType":"{manifest_type}","config":{config},"layers":["#);
    for (number, layer) in layers.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let layer_type = if docker { layer.media_type } else { in_oci(layer.media_type) };
        let _ = write!(json, "{comma}{}", descriptor(layer_type, &layer.digest, layer.size));
    }
    json.push_str("]}");
    Manifest::parse(json.into_bytes().into(), manifest_type)
}

/// The OCI name of a layer's media type.
fn in_oci(layer_type: &'static str) -> &'static str {
    match layer_type {
        media_type::DOCKER_LAYER => media_type::OCI_LAYER,
        media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Platform;

    #[test]
    fn a_made_manifest_is_the_same_for_ever() {
        let image = Unpacked {
            config: bytes::Bytes::from_static(b"{}"),
            config_digest: Digest::of(b"{}"),
            platform: Platform { os: "linux".into(), architecture: "amd64".into(), variant: None },
            layers: Vec::new(),
        };
        let layer = |media_type| LayerBlob {
            digest: Digest::of(b""),
            size: 3,
            media_type,
            content: Arc::new(bytes::Bytes::new()),
        };
        let gzip = synthesise(&image, &[layer(media_type::DOCKER_LAYER_GZIP)], Method::Gzip).unwrap();
        assert_eq!(
            gzip.digest.to_string(),
            "sha256:ac3de89b4d8d7ecc3ddd710897d5de8bc777af359af65001f457c0c6bf99d344"
        );
        let mixed = [layer(media_type::DOCKER_LAYER_GZIP), layer(media_type::OCI_LAYER_ZSTD)];
        let zstd = synthesise(&image, &mixed, Method::Zstd).unwrap();
        assert_eq!(zstd.media_type, media_type::OCI_MANIFEST);
        assert!(zstd.blobs().all(|blob| blob.media_type.starts_with("application/vnd.oci.")));
    }
}
