//! The blob of a layer as the body of a request.

use std::ops::Range;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::runtime::Handle;

use super::LayerLease;
use crate::archive::{Stored, UnpackedLayer};
use crate::compress::{LayerBlob, LayerContent, LayerFacts, Method};
use crate::engine::body::SpaceBody;
use crate::error::{BundleError, Fault};
use crate::registry::{BlobBody, BodyStream};
use crate::source::ByteSpace;

impl LayerLease {
    /// The blob of a layer, which is made when its first byte is wanted. It can be sent while the lease lives.
    pub(in crate::engine) fn body(
        self: &Arc<Self>,
        layer: &UnpackedLayer,
        facts: &LayerFacts,
    ) -> Arc<dyn BlobBody> {
        let source = LayerSource { lease: Arc::downgrade(self), layer: layer.clone(), facts: *facts };
        let space = Arc::new(source.clone());
        let is_made = layer.stored == Stored::Plain && self.layers.method() != Method::None;
        let body = if is_made {
            SpaceBody::made(space, facts.size, self.layers.buffering)
        } else {
            SpaceBody::verified(
                space,
                facts.size,
                facts.digest,
                self.layers.buffering,
                &self.layers.cpu.sha256,
            )
        };
        Arc::new(LayerBody { source, body: Arc::new(body) })
    }
}

/// Where the bytes of a layer's blob come from. It does not keep them: a layer whose mirror stands still may lose its
/// room, and is made again when the mirror reads on.
#[derive(Debug, Clone)]
struct LayerSource {
    lease: Weak<LayerLease>,
    layer: UnpackedLayer,
    facts: LayerFacts,
}

impl LayerSource {
    fn lease(&self) -> Result<Arc<LayerLease>, BundleError> {
        let ended = || BundleError::new(Fault::Cancelled, "nobody needs the image any more");
        self.lease.upgrade().ok_or_else(ended)
    }

    async fn blob(&self) -> Result<LayerBlob, BundleError> {
        self.check(self.lease()?.blob(&self.layer).await?)
    }

    /// The same for a request that is under way.
    async fn blob_under_way(&self) -> Result<LayerBlob, BundleError> {
        self.check(self.lease()?.blob_under_way(&self.layer).await?)
    }

    /// The blob must be the one that its manifest names, which may have been made from what an earlier run remembered. Where
    /// it is not, the image is made ready once more: see `Preparer::is_disproved`.
    fn check(&self, blob: LayerBlob) -> Result<LayerBlob, BundleError> {
        let Self { layer, facts, .. } = self;
        if (blob.facts.digest, blob.facts.size) == (facts.digest, facts.size) {
            return Ok(blob);
        }
        let message = format!(
            "{}: became {} of {} bytes, but was remembered as {} of {} bytes",
            layer.member, blob.facts.digest, blob.facts.size, facts.digest, facts.size
        );
        Err(BundleError::new(Fault::Io, message))
    }
}

impl ByteSpace for LayerSource {
    fn len(&self) -> Result<u64, BundleError> {
        Ok(self.facts.size)
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        let made = self.lease()?.made(&self.layer);
        let blob = match made {
            Some(blob) => blob,
            None => Handle::current().block_on(self.blob_under_way())?,
        };
        match &blob.content {
            LayerContent::Made(spill) => spill.chunk_at(offset, max),
            LayerContent::Stored(extent) => extent.chunk_at(offset, max),
        }
    }

    fn check_intact(&self) -> Result<(), BundleError> {
        self.layer.extent.check_intact()
    }
}

/// The blob of a layer, made on demand.
struct LayerBody {
    source: LayerSource,
    body: Arc<SpaceBody>,
}

impl BlobBody for LayerBody {
    fn len(&self) -> u64 {
        self.source.facts.size
    }

    fn is_ready(&self) -> bool {
        self.source.lease().is_ok_and(|lease| lease.made(&self.source.layer).is_some())
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), BundleError>> {
        self.source.blob().map(|blob| blob.map(drop)).boxed()
    }

    fn open(&self, range: Range<u64>) -> BodyStream {
        let (source, body) = (self.source.clone(), Arc::clone(&self.body));
        let start = async move {
            match source.blob_under_way().await {
                Ok(_) => body.open(range),
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        start.into_stream().flatten().boxed()
    }
}
