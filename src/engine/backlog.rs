//! Bounds the bytes that were found in the bundle and not yet read.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::sync::Mutex;

/// How much was found and not yet read: one permit for each KiB.
#[derive(Debug)]
pub(super) struct Backlog {
    room: Arc<Semaphore>,
    limit: u32,
}

/// A share of the backlog, given back when the bytes have been read, or on drop. All that read the same bytes have it
/// together: the first sets the pace.
#[derive(Debug, Clone)]
pub(super) struct Unread(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl Unread {
    /// The bytes have been read, or nobody will.
    pub(super) fn was_read(&self) {
        self.0.lock().take();
    }
}

impl Backlog {
    pub(super) fn new(limit_bytes: u64) -> Arc<Self> {
        let limit = kibibytes(limit_bytes).max(1);
        Arc::new(Self { room: Arc::new(Semaphore::new(limit as usize)), limit })
    }

    /// Waits until there is room; one image alone always fits. `None` when told to stop. Called on a thread that may wait.
    pub(super) fn enter(&self, bytes: u64, cancel: &CancellationToken) -> Option<Unread> {
        let wanted = kibibytes(bytes).min(self.limit);
        let room = Arc::clone(&self.room);
        Handle::current().block_on(async {
            tokio::select! {
                biased;
                permit = room.acquire_many_owned(wanted) => permit.ok().map(|permit| Unread(Arc::new(Mutex::new(Some(permit))))),
                () = cancel.cancelled() => None,
            }
        })
    }
}

fn kibibytes(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}
