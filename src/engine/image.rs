//! One image on its way to the mirrors.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::backlog::Unread;
use super::layers::Room;
use super::ready::{Ready, RetryableOnce};
use crate::archive::{Catalog, Content};
use crate::plan::PlannedImage;
use crate::sync::Mutex;

/// An image on its way to the mirrors.
#[derive(Debug)]
pub(super) struct WorkImage {
    pub(super) planned: PlannedImage,
    /// The catalog that has its parts.
    pub(super) catalog: Arc<Catalog>,
    /// The image ready to be sent, while a mirror needs it.
    pub(super) ready: RetryableOnce<Arc<Ready>>,
    /// Room for what `ready` needs to be made.
    pub(super) room: Mutex<Room>,
    mirrors_left: AtomicUsize,
    unread: Option<Unread>,
}

impl WorkImage {
    /// An image for `mirrors` mirrors.
    pub(super) fn new(
        planned: PlannedImage,
        catalog: Arc<Catalog>,
        mirrors: usize,
        unread: Option<Unread>,
    ) -> Self {
        Self {
            planned,
            catalog,
            ready: RetryableOnce::default(),
            room: Mutex::default(),
            mirrors_left: AtomicUsize::new(mirrors),
            unread,
        }
    }

    /// Its bytes have been read, or nobody will.
    pub(super) fn was_read(&self) {
        if let Some(unread) = &self.unread {
            unread.was_read();
        }
    }

    /// Whether `Preparer::admit` has nothing to wait for.
    pub(super) fn is_admitted(&self) -> bool {
        matches!(self.planned.content, Content::Manifest(_)) || self.room.lock().initialized()
    }

    /// A mirror is through with it; says whether it was the last one.
    pub(super) fn done(&self) -> bool {
        let last = self.mirrors_left.fetch_sub(1, Ordering::AcqRel) == 1;
        if last {
            self.was_read();
        }
        last
    }
}
