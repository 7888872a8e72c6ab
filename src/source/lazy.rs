//! A space that is opened on its first read: for volumes whose decoder would start at once.

use crate::locks::Mutex;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::opened::OpenedOnce;
use super::{ByteSpace, Certainty};
use crate::error::BundleError;

type OpenFn = dyn Fn() -> Result<Arc<dyn ByteSpace>, BundleError> + Send + Sync;

/// What a reader announced about a range.
#[derive(Debug, Clone, Copy)]
enum Said {
    Released,
    Wanted(Certainty),
    Unwanted(Certainty),
}

/// A space that is opened when it is first read. Who reads first opens it, the others wait; a fault of the bundle is kept.
pub(crate) struct LazySpace {
    open: Box<OpenFn>,
    space: OpenedOnce<Arc<dyn ByteSpace>>,
    /// What was said of ranges before there was a space that could hear it.
    said: Mutex<Vec<(Said, Range<u64>)>>,
}

impl LazySpace {
    /// The space that `open` gives.
    pub(crate) fn new(
        open: impl Fn() -> Result<Arc<dyn ByteSpace>, BundleError> + Send + Sync + 'static,
    ) -> Self {
        Self { open: Box::new(open), space: OpenedOnce::default(), said: Mutex::default() }
    }

    fn space(&self) -> Result<&Arc<dyn ByteSpace>, BundleError> {
        if let Some(space) = self.space.get() {
            return Ok(space);
        }
        let space = self.space.get_or_open(|| (self.open)())?;
        self.pass_on();
        Ok(space)
    }

    fn say(&self, said: Said, range: Range<u64>) {
        self.said.lock().push((said, range));
        self.pass_on();
    }

    /// Tells the space what was said, once there is one.
    fn pass_on(&self) {
        if let Some(space) = self.space.get() {
            let mut all = self.said.lock();
            for (said, range) in all.drain(..) {
                match said {
                    Said::Released => space.release(range),
                    Said::Wanted(certainty) => space.will_read(range, certainty),
                    Said::Unwanted(certainty) => space.will_not_read(range, certainty),
                }
            }
        }
    }
}

impl ByteSpace for LazySpace {
    fn len(&self) -> Result<u64, BundleError> {
        self.space()?.len()
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        self.space()?.chunk_at(offset, max)
    }

    fn release(&self, range: Range<u64>) {
        self.say(Said::Released, range);
    }

    fn will_read(&self, range: Range<u64>, certainty: Certainty) {
        self.say(Said::Wanted(certainty), range);
    }

    fn will_not_read(&self, range: Range<u64>, certainty: Certainty) {
        self.say(Said::Unwanted(certainty), range);
    }

    fn check_intact(&self) -> Result<(), BundleError> {
        self.space.get().map_or(Ok(()), |space| space.check_intact())
    }
}

impl fmt::Debug for LazySpace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazySpace").field("space", &self.space).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::Fault;

    #[derive(Debug, Default)]
    struct Watched(Arc<Mutex<Vec<Range<u64>>>>);

    impl ByteSpace for Watched {
        fn len(&self) -> Result<u64, BundleError> {
            Ok(100)
        }

        fn chunk_at(&self, _: u64, _: usize) -> Result<Bytes, BundleError> {
            Ok(Bytes::from_static(b"x"))
        }

        fn release(&self, range: Range<u64>) {
            self.0.lock().push(range);
        }
    }

    #[test]
    fn it_is_opened_once_and_hears_what_was_released_before() {
        let (opened, released) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Vec::new())));
        let space = LazySpace::new({
            let (opened, released) = (Arc::clone(&opened), Arc::clone(&released));
            move || {
                opened.fetch_add(1, Ordering::Relaxed);
                Ok(Arc::new(Watched(Arc::clone(&released))))
            }
        });
        space.release(0..10);
        assert!(space.space.get().is_none() && released.lock().is_empty());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert_eq!(space.chunk_at(0, 1).unwrap(), "x"));
            }
        });
        space.release(10..20);
        assert_eq!(opened.load(Ordering::Relaxed), 1);
        assert_eq!(*released.lock(), [0..10, 10..20]);
    }

    #[test]
    fn what_cannot_be_opened_stays_an_error() {
        let space = LazySpace::new(|| Err(BundleError::new(Fault::CorruptCompression, "damaged")));
        for _ in 0..2 {
            assert_eq!(space.chunk_at(0, 1).unwrap_err().fault(), Fault::CorruptCompression);
        }
        assert_eq!(space.len().unwrap_err().fault(), Fault::CorruptCompression);
    }
}
