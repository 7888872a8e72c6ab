//! The disk space that the store uses, and its limit.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::clock::Instant;
use crate::locks::Mutex;

/// Bytes of blobs, manifests and uploads. Links and tags are not counted.
#[derive(Debug)]
pub(super) struct DiskUsage {
    most: u64,
    used: AtomicU64,
    /// Locked while room is made.
    pub(super) search: Mutex<RoomSearch>,
}

/// When the store last tried to make room on a full disk.
#[derive(Debug, Default)]
pub(super) struct RoomSearch {
    pub(super) collected: Option<Instant>,
    pub(super) found_nothing: Option<Instant>,
}

impl DiskUsage {
    pub(super) fn new(most: Option<u64>) -> Self {
        Self { most: most.unwrap_or(u64::MAX), used: AtomicU64::new(0), search: Mutex::default() }
    }

    /// Reserves room for bytes that are about to be written.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] where less is left.
    pub(super) fn take(&self, bytes: u64) -> io::Result<()> {
        let more = |used: u64| used.checked_add(bytes).filter(|used| *used <= self.most);
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map(drop).map_err(|_| {
            io::Error::new(io::ErrorKind::StorageFull, "the store is as large as it may become (--max-disk)")
        })
    }

    /// Counts files that exist already, also past the limit.
    pub(super) fn found(&self, bytes: u64) {
        self.used.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Frees room.
    pub(super) fn give_back(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// How many of these bytes have no room.
    pub(super) fn lacks(&self, bytes: u64) -> u64 {
        self.used().saturating_add(bytes).saturating_sub(self.most)
    }

    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn is_full(&self) -> bool {
        self.used() >= self.most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_there_is() {
        let disk = DiskUsage::new(Some(10));
        disk.take(7).unwrap();
        assert_eq!(disk.take(4).unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!((disk.lacks(3), disk.lacks(4)), (0, 1));
        disk.take(3).unwrap();
        assert!(disk.is_full());
        disk.give_back(7);
        disk.take(7).unwrap();
        // A limit that came later than the files.
        disk.found(90);
        disk.take(1).unwrap_err();
        DiskUsage::new(None).take(1 << 40).unwrap();
    }
}
