//! Images and blobs that can be sent.

use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::error::BundleError;
use crate::locks::Mutex;
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
    /// Where it begins in what is decoded, so that blobs which lie together are sent together; 0 for what was made.
    pub(super) offset: u64,
    pub(super) body: Arc<dyn BlobBody>,
}

impl std::fmt::Debug for ReadyBlob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.digest, self.size)
    }
}

/// A value made once, well or not, however many ask for it. After a fault of this machine (a full disk may have room again
/// later) the next caller tries again. No other place decides that.
#[derive(Debug)]
pub(super) struct RetryableOnce<T>(Mutex<Cell<T>>);

type Cell<T> = Arc<OnceCell<Result<T, BundleError>>>;

impl<T> Default for RetryableOnce<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> RetryableOnce<T> {
    /// What was made, or what `make` makes of it.
    pub(super) async fn get_or_make(
        &self,
        make: impl Future<Output = Result<T, BundleError>>,
    ) -> Result<T, BundleError> {
        let cell = Arc::clone(&self.0.lock());
        let made = cell.get_or_init(|| make).await.clone();
        if made.as_ref().is_err_and(|error| error.fault().is_of_machine()) {
            let mut current = self.0.lock();
            // Unless somebody did already.
            if Arc::ptr_eq(&current, &cell) {
                *current = Cell::default();
            }
        }
        made
    }

    /// What was made, if it was, and well.
    pub(super) fn made(&self) -> Option<T> {
        self.0.lock().get()?.clone().ok()
    }

    /// Takes the value if it was made well. The next caller has it made again.
    pub(super) fn take(&self) -> Option<T> {
        let mut cell = self.0.lock();
        let made = cell.get()?.clone().ok()?;
        *cell = Cell::default();
        Some(made)
    }

    /// Gives back what was made.
    pub(super) fn clear(&self) {
        *self.0.lock() = Cell::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fault;

    #[tokio::test]
    async fn what_was_made_stays_and_only_a_fault_of_the_machine_is_tried_again() {
        let once = RetryableOnce::default();
        let failed = |fault| async move { Err::<u32, _>(BundleError::new(fault, "x")) };
        assert_eq!(once.get_or_make(failed(Fault::Io)).await.unwrap_err().fault(), Fault::Io);
        assert_eq!(once.made(), None);
        assert_eq!(once.get_or_make(async { Ok(1) }).await.unwrap(), 1);
        assert_eq!(once.get_or_make(async { Ok(2) }).await.unwrap(), 1);
        assert_eq!((once.made(), once.take(), once.take()), (Some(1), Some(1), None));
        assert_eq!(once.get_or_make(failed(Fault::Truncated)).await.unwrap_err().fault(), Fault::Truncated);
        assert_eq!(once.get_or_make(async { Ok(3) }).await.unwrap_err().fault(), Fault::Truncated);
        assert_eq!(once.take(), None, "a fault of the bundle stays");
    }
}
