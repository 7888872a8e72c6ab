//! One image on its way to the mirrors, and what is held of it.
//!
//! In: an image of the list, and a mirror that sends it. Out: a [`Lease`]. All mirrors that need an image share one [`LeasedImage`]: its
//! manifests, its compressed layers, its share of the backlog. The last lease releases it, however that mirror ends: the image
//! is complete there, the mirror was given up, or its task panicked. A mirror that begins later has everything made again.

use std::ops::Deref;
use std::sync::{Arc, Weak};

use tokio::sync::OwnedMutexGuard;

use super::background_drop::drop_in_background;
use super::backlog::{Assigned, BacklogShare};
use super::layers::{ActiveUse, LayerLease, MirrorUse, Suspended};
use super::prepared::{Ready, RetryableOnce};
use crate::archive::Catalog;
use crate::locks::Mutex;
use crate::plan::PlannedImage;
use crate::source::Intent;

/// An image of the list.
#[derive(Debug)]
pub(super) struct WorkImage {
    pub(super) planned: PlannedImage,
    /// The catalog that has its parts.
    pub(super) catalog: Arc<Catalog>,
    leased: Mutex<Weak<LeasedImage>>,
}

impl WorkImage {
    pub(super) fn new(planned: PlannedImage, catalog: Arc<Catalog>) -> Self {
        Self { planned, catalog, leased: Mutex::default() }
    }

    /// What is held of the image; `new` where no mirror holds it yet.
    pub(super) fn hold(&self, new: impl FnOnce() -> LeasedImage) -> Arc<LeasedImage> {
        let mut leased = self.leased.lock();
        leased.upgrade().unwrap_or_else(|| {
            let new = Arc::new(new());
            *leased = Arc::downgrade(&new);
            new
        })
    }
}

/// What is held of an image while a mirror needs it.
#[derive(Debug)]
pub(super) struct LeasedImage {
    pub(super) image: Arc<WorkImage>,
    /// The image ready to be sent.
    pub(super) ready: RetryableOnce<Arc<Ready>>,
    /// Its layers, where it is one of a docker-archive.
    pub(super) layers: Option<Arc<LayerLease>>,
    /// What of the bundle may be read for it.
    needs: Vec<Intent>,
    share: BacklogShare,
}

impl LeasedImage {
    pub(super) fn new(
        image: Arc<WorkImage>,
        layers: Option<Arc<LayerLease>>,
        needs: Vec<Intent>,
        share: BacklogShare,
    ) -> Self {
        Self { image, ready: RetryableOnce::default(), layers, needs, share }
    }

    /// Its bytes have been read.
    pub(super) fn was_read(&self) {
        self.share.was_read();
    }

    /// Waits for room for the layers of the image. The waiter holds nothing that others need to go on.
    pub(super) async fn admit(&self) {
        if let Some(layers) = &self.layers {
            layers.admit().await;
        }
    }

    /// Whether [`LeasedImage::admit`] has nothing to wait for.
    pub(super) fn is_admitted(&self) -> bool {
        self.layers.as_ref().is_none_or(|layers| layers.is_admitted())
    }
}

impl Drop for LeasedImage {
    fn drop(&mut self) {
        if !self.needs.is_empty() {
            drop_in_background(std::mem::take(&mut self.needs));
        }
    }
}

/// A mirror is sending an image, and needs what is held of it.
#[derive(Debug)]
pub(super) struct Lease {
    leased: Arc<LeasedImage>,
    mirror_use: Option<MirrorUse>,
    _assigned: Option<Assigned>,
}

impl Lease {
    pub(super) fn new(leased: Arc<LeasedImage>, mirror: usize, assigned: Option<Assigned>) -> Self {
        let mirror_use = leased.layers.as_ref().map(|layers| layers.used_by(mirror));
        Self { leased, mirror_use, _assigned: assigned }
    }

    /// One of several things that are done for the image at once.
    pub(super) fn branch(&self) -> LeaseBranch {
        LeaseBranch(self.mirror_use.as_ref().map(|mirror_use| mirror_use.active().fork()))
    }

    /// The image waits for others of its mirror until the guard is dropped, unless branches of it go on. What is held of it is
    /// for those who get on meanwhile.
    pub(super) fn suspend(&self) -> Option<Suspended<'_>> {
        self.mirror_use.as_ref().map(|mirror_use| mirror_use.active().suspend())
    }

    /// A lock that another image of the mirror may have, and wait for room with.
    pub(super) async fn lock<T>(&self, lock: Arc<tokio::sync::Mutex<T>>) -> OwnedMutexGuard<T> {
        lock_suspended(self.mirror_use.as_ref().map(MirrorUse::active), lock).await
    }
}

/// Something that is done for an image beside other things.
#[derive(Debug)]
pub(super) struct LeaseBranch(Option<ActiveUse>);

impl LeaseBranch {
    /// As [`Lease::lock`].
    pub(super) async fn lock<T>(&self, lock: Arc<tokio::sync::Mutex<T>>) -> OwnedMutexGuard<T> {
        lock_suspended(self.0.as_ref(), lock).await
    }
}

async fn lock_suspended<T>(
    active: Option<&ActiveUse>,
    lock: Arc<tokio::sync::Mutex<T>>,
) -> OwnedMutexGuard<T> {
    if let Ok(free) = Arc::clone(&lock).try_lock_owned() {
        return free;
    }
    let _suspended = active.map(ActiveUse::suspend);
    lock.lock_owned().await
}

impl Deref for Lease {
    type Target = LeasedImage;

    fn deref(&self) -> &LeasedImage {
        &self.leased
    }
}
