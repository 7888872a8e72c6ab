//! A blob that is read from the stage as long as it is there, and from the bundle otherwise.

use std::ops::Range;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt as _, StreamExt as _};

use super::body::{Buffering, SpaceBody};
use crate::error::BundleError;
use crate::oci::Digest;
use crate::registry::{BlobBody, BodyStream};
use crate::stage::{Stage, StagedBlob};

/// Looks into the stage each time when it is opened: a mirror that comes late, or sends the blob once more, need not wait for
/// the bundle.
pub(super) struct StagedBody {
    place: BlobInStage,
    bundle: Arc<dyn BlobBody>,
    buffering: Buffering,
}

#[derive(Clone)]
struct BlobInStage {
    stage: Arc<Stage>,
    digest: Digest,
    size: u64,
}

impl BlobInStage {
    /// The blob, if the stage has it and it is right.
    async fn look(self) -> Option<Arc<StagedBlob>> {
        if !self.stage.has(&self.digest) {
            return None;
        }
        let look = tokio::task::spawn_blocking(move || self.stage.blob(&self.digest, self.size));
        look.await.ok().flatten()
    }
}

impl StagedBody {
    pub(super) fn new(
        stage: &Arc<Stage>,
        (digest, size): (Digest, u64),
        bundle: Arc<dyn BlobBody>,
        buffering: Buffering,
    ) -> Self {
        Self { place: BlobInStage { stage: Arc::clone(stage), digest, size }, bundle, buffering }
    }
}

impl BlobBody for StagedBody {
    fn len(&self) -> u64 {
        self.place.size
    }

    fn is_ready(&self) -> bool {
        self.place.stage.is_checked(&self.place.digest) || self.bundle.is_ready()
    }

    fn prepare(&self) -> BoxFuture<'_, Result<(), BundleError>> {
        async {
            if self.place.clone().look().await.is_some() {
                return Ok(());
            }
            self.bundle.prepare().await
        }
        .boxed()
    }

    fn open(&self, range: Range<u64>) -> BodyStream {
        let (place, bundle, buffering) = (self.place.clone(), Arc::clone(&self.bundle), self.buffering);
        let start = async move {
            let stage = Arc::clone(&place.stage);
            let size = place.size;
            match place.look().await {
                // It was hashed before its first byte is given out.
                Some(blob) => {
                    stage.was_read(range.end - range.start);
                    SpaceBody::made(blob, size, buffering).open(range)
                }
                None => bundle.open(range),
            }
        };
        start.into_stream().flatten().boxed()
    }
}
