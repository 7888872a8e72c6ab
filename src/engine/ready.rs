//! Images and blobs that can be sent.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::error::BundleError;
use crate::oci::{Digest, Manifest};
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

/// Something made once, well or not, however many ask for it.
pub(super) type RetryableOnce<T> = Arc<OnceCell<Result<T, BundleError>>>;
