//! Bounds the bytes that the walk has found in the bundle and nobody has read yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::locks::Mutex;

/// How much was found and not yet read: one permit for each KiB.
#[derive(Debug)]
pub(super) struct Backlog {
    room: Arc<Semaphore>,
    limit: u32,
    /// A mirror has all images that were found for it.
    idle: Arc<Notify>,
}

/// A share of the backlog, given back when the bytes have been read, or on drop. All that read the same bytes have it
/// together: the first sets the pace.
#[derive(Debug, Clone, Default)]
pub(super) struct BacklogShare(Arc<Mutex<Option<OwnedSemaphorePermit>>>);

impl BacklogShare {
    /// The bytes have been read.
    pub(super) fn was_read(&self) {
        self.0.lock().take();
    }
}

impl Backlog {
    pub(super) fn new(limit_bytes: u64) -> Arc<Self> {
        let limit = kibibytes(limit_bytes).max(1);
        Arc::new(Self { room: Arc::new(Semaphore::new(limit as usize)), limit, idle: Arc::default() })
    }

    /// Counts the images that a mirror still has to get.
    pub(super) fn workload(&self) -> Workload {
        Workload(Arc::new(Images { left: AtomicUsize::new(0), idle: Arc::clone(&self.idle) }))
    }

    /// Waits until there is room; one image alone always fits. The reader does not wait where that helps no mirror, or a mirror
    /// has nothing to do meanwhile: `holds_back` decides, and is asked again whenever a mirror becomes idle. `None` when the
    /// run ends. Called on a thread that may block.
    pub(super) fn enter(
        &self,
        bytes: u64,
        cancel: &CancellationToken,
        holds_back: impl Fn() -> bool,
    ) -> Option<BacklogShare> {
        let wanted = kibibytes(bytes).min(self.limit);
        let room = Arc::clone(&self.room);
        let taken = |permit| BacklogShare(Arc::new(Mutex::new(Some(permit))));
        Handle::current().block_on(async {
            let mut entered = std::pin::pin!(room.acquire_many_owned(wanted));
            loop {
                tokio::select! {
                    biased;
                    permit = &mut entered => return permit.ok().map(taken),
                    () = cancel.cancelled() => return None,
                    () = std::future::ready(()), if !holds_back() => return Some(BacklogShare::default()),
                    () = self.idle.notified() => {}
                }
            }
        })
    }
}

/// How many of the images that were found a mirror still has to get.
#[derive(Debug)]
pub(super) struct Workload(Arc<Images>);

#[derive(Debug)]
struct Images {
    left: AtomicUsize,
    idle: Arc<Notify>,
}

impl Workload {
    pub(super) fn is_idle(&self) -> bool {
        self.0.left.load(Ordering::SeqCst) == 0
    }

    /// Counts one more image, until the mirror has it or gave it up.
    pub(super) fn assign(&self) -> Assigned {
        self.0.left.fetch_add(1, Ordering::SeqCst);
        Assigned(Arc::clone(&self.0))
    }
}

/// An image that a mirror still has to get.
#[derive(Debug)]
pub(super) struct Assigned(Arc<Images>);

impl Drop for Assigned {
    fn drop(&mut self) {
        if self.0.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_one();
        }
    }
}

fn kibibytes(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn whoever_reads_waits_for_those_who_bring_unless_one_of_them_has_nothing_to_do() {
        let (backlog, cancel) = (Backlog::new(4 << 10), CancellationToken::new());
        let workload = Arc::new(backlog.workload());
        let enter = |bytes| {
            let (backlog, cancel, workload) = (Arc::clone(&backlog), cancel.clone(), Arc::clone(&workload));
            tokio::task::spawn_blocking(move || backlog.enter(bytes, &cancel, || !workload.is_idle()))
        };
        let image = workload.assign();
        let first = enter(1 << 20).await.unwrap().expect("one always fits");
        let second = enter(1 << 10);
        first.was_read();
        let _second = second.await.unwrap().unwrap();
        let third = enter(1 << 20);
        tokio::task::yield_now().await;
        assert!(!third.is_finished());
        drop(image);
        third.await.unwrap().expect("nobody is served by waiting");
        let _image = workload.assign();
        let fourth = enter(1 << 20);
        cancel.cancel();
        assert!(fourth.await.unwrap().is_none());
    }
}
