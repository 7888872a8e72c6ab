//! A space that says how far it has been read.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::{ByteSpace, Certainty, Origin};
use crate::error::BundleError;

/// It is told each time so many bytes more have been read.
const STEP_BYTES: u64 = 1 << 20;

/// A space, and who hears how far it has been read.
pub(crate) struct WatchedSpace {
    space: Arc<dyn ByteSpace>,
    /// The end of what was asked for, at the furthest.
    reached: AtomicU64,
    told: Box<dyn Fn(u64) + Send + Sync>,
}

impl WatchedSpace {
    /// `told` hears how far `space` has been read, from its beginning. It may be called from anywhere and must not block.
    pub(crate) fn over(
        space: Arc<dyn ByteSpace>,
        told: impl Fn(u64) + Send + Sync + 'static,
    ) -> Arc<dyn ByteSpace> {
        Arc::new(Self { space, reached: AtomicU64::new(0), told: Box::new(told) })
    }
}

impl fmt::Debug for WatchedSpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WatchedSpace").field(&self.space).finish()
    }
}

impl ByteSpace for WatchedSpace {
    fn len(&self) -> Result<u64, BundleError> {
        self.space.len()
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        let chunk = self.space.chunk_at(offset, max)?;
        let end = offset + chunk.len() as u64;
        let before = self.reached.fetch_max(end, Ordering::Relaxed);
        if end / STEP_BYTES > before / STEP_BYTES {
            (self.told)(end);
        }
        Ok(chunk)
    }

    fn release(&self, range: Range<u64>) {
        self.space.release(range);
    }

    fn will_read(&self, range: Range<u64>, certainty: Certainty) {
        self.space.will_read(range, certainty);
    }

    fn will_not_read(&self, range: Range<u64>, certainty: Certainty) {
        self.space.will_not_read(range, certainty);
    }

    fn within(&self) -> Option<(&Arc<dyn ByteSpace>, u64)> {
        self.space.within()
    }

    fn origin(&self) -> Option<&Origin> {
        self.space.origin()
    }

    fn check_intact(&self) -> Result<(), BundleError> {
        self.space.check_intact()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locks::Mutex;

    #[test]
    fn it_says_how_far_it_was_read_in_steps_and_never_back() {
        let heard = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&heard);
        let space =
            WatchedSpace::over(Arc::new(Bytes::from(vec![0; 5 << 20])), move |at| told.lock().push(at));
        for (offset, max) in [(0, 100), (1 << 20, 10), (0, 1 << 20), (3 << 20, 2 << 20), (4 << 20, 8)] {
            space.chunk_at(offset, max).unwrap();
        }
        assert_eq!(*heard.lock(), [(1 << 20) + 10, 5 << 20]);
    }
}
