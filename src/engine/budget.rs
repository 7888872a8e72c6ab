//! The budget of compressed layers: memory and disk for layers of docker-archives that wait for the mirrors.
//!
//! In: the bytes that the layers of an image need. Out: a [`Reservation`], granted in the order of asking and returned on
//! drop. Images are prepared as long as the budget lasts, so a slow mirror holds up the others only when it is used up.
//! An image larger than the budget gets all of it.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The unit of the semaphore, which counts in `u32`.
const UNIT_BYTES: u64 = 64 << 10;

/// Bytes that can be reserved.
#[derive(Debug)]
pub(super) struct Budget {
    units: Arc<Semaphore>,
    most: u32,
}

/// Reserved bytes; dropping it returns them.
pub(super) type Reservation = Option<OwnedSemaphorePermit>;

impl Budget {
    pub(super) fn new(bytes: u64) -> Self {
        let most = u32::try_from((bytes / UNIT_BYTES).max(1)).unwrap_or(u32::MAX);
        let units = usize::try_from(most).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Self { units: Arc::new(Semaphore::new(units)), most }
    }

    /// Waits until `bytes` can be reserved.
    pub(super) async fn reserve(&self, bytes: u64) -> Reservation {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.most);
        // It is never closed.
        Arc::clone(&self.units).acquire_many_owned(units).await.ok()
    }
}

/// Bytes that may be written to `folder`: half of the free space, and at most `limit_bytes`.
pub(super) fn on_disk(folder: &Path, limit_bytes: u64) -> u64 {
    // A file system that does not report its free space reports when it is full.
    let free =
        rustix::fs::statvfs(folder).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    limit_bytes.min(free / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn reservations_are_granted_in_order_and_one_larger_than_the_budget_gets_all() {
        let budget = Budget::new(10 * UNIT_BYTES);
        let small = budget.reserve(UNIT_BYTES).now_or_never().expect("there is room");
        let mut huge = Box::pin(budget.reserve(1 << 40));
        assert!((&mut huge).now_or_never().is_none(), "the small one is reserved");
        assert!(budget.reserve(UNIT_BYTES).now_or_never().is_none(), "nobody overtakes");
        drop(small);
        let huge = huge.now_or_never().expect("nothing else is reserved");
        assert!(budget.reserve(UNIT_BYTES).now_or_never().is_none());
        drop(huge);
        assert!(budget.reserve(UNIT_BYTES).now_or_never().flatten().is_some());
    }
}
