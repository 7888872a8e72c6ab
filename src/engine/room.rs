//! Room for what is made of docker-archives while it waits for the mirrors.
//!
//! In: how many bytes the layers of an image are. Out: a place, given in the order of asking and given back on drop. So
//! many images are under way at once as fit in memory and on the disk: a slow mirror holds up the others only when
//! that is used up. An image that is larger than all of it gets all of it.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What room is counted in.
const UNIT_BYTES: u64 = 64 << 10;

/// All the room there is.
#[derive(Debug)]
pub(super) struct Room {
    units: Arc<Semaphore>,
    most: u32,
}

/// A place in it.
pub(super) type Place = Option<OwnedSemaphorePermit>;

impl Room {
    pub(super) fn new(bytes: u64) -> Self {
        let most = u32::try_from((bytes / UNIT_BYTES).max(1)).unwrap_or(u32::MAX);
        let units = usize::try_from(most).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(units)), most }
    }

    /// Waits for a place of so many bytes.
    pub(super) async fn take(&self, bytes: u64) -> Place {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.most);
        // It is never closed.
        Arc::clone(&self.units).acquire_many_owned(units).await.ok()
    }
}

/// What may be put into `folder`: half of what is free there, and no more than `limit_bytes`.
pub(super) fn on_disk(folder: &Path, limit_bytes: u64) -> u64 {
    // A file system that cannot tell will say so when it is full.
    let free =
        rustix::fs::statvfs(folder).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    limit_bytes.min(free / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn places_are_given_in_order_and_one_that_is_too_large_gets_all() {
        let room = Room::new(10 * UNIT_BYTES);
        let small = room.take(UNIT_BYTES).now_or_never().expect("there is room");
        let mut huge = Box::pin(room.take(1 << 40));
        assert!((&mut huge).now_or_never().is_none(), "the small one has a place");
        assert!(room.take(UNIT_BYTES).now_or_never().is_none(), "nobody overtakes");
        drop(small);
        let huge = huge.now_or_never().expect("alone it has all the room");
        assert!(room.take(UNIT_BYTES).now_or_never().is_none());
        drop(huge);
        assert!(room.take(UNIT_BYTES).now_or_never().flatten().is_some());
    }
}
