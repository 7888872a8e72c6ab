//! A space that knows where in the bundle it comes from, so that its place can be written down and found again.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::{ByteSpace, Certainty};
use crate::error::BundleError;

/// Where a space comes from.
#[derive(Debug, Clone)]
pub enum Origin {
    /// It is the bundle's own volume.
    Bundle,
    /// It was decoded from these bytes of the bundle.
    Decoded(Arc<dyn ByteSpace>),
    /// It is a file of the bundle, which is a folder.
    File(PathBuf),
}

/// A space and its origin.
#[derive(Debug)]
pub(crate) struct Traced {
    space: Arc<dyn ByteSpace>,
    origin: Origin,
}

impl Traced {
    /// The volume of the bundle itself.
    pub(crate) fn bundle(space: Arc<dyn ByteSpace>) -> Arc<dyn ByteSpace> {
        Arc::new(Self { space, origin: Origin::Bundle })
    }

    /// What `stored` was decoded to. Bytes that are stored as they are need no other origin than their own.
    pub(crate) fn decoded(stored: Arc<dyn ByteSpace>, space: Arc<dyn ByteSpace>) -> Arc<dyn ByteSpace> {
        if Arc::ptr_eq(&stored, &space) {
            return space;
        }
        Arc::new(Self { space, origin: Origin::Decoded(stored) })
    }

    /// A file at this path.
    pub(crate) fn file(path: &Path, space: Arc<dyn ByteSpace>) -> Arc<dyn ByteSpace> {
        Arc::new(Self { space, origin: Origin::File(path.to_owned()) })
    }
}

impl ByteSpace for Traced {
    fn len(&self) -> Result<u64, BundleError> {
        self.space.len()
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        self.space.chunk_at(offset, max)
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
        Some(&self.origin)
    }

    fn check_intact(&self) -> Result<(), BundleError> {
        self.space.check_intact()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::locks::Mutex;
    use crate::source::{Extent, Intent};

    /// Notes what it hears of reading.
    #[derive(Debug, Default)]
    struct Heard(Arc<Mutex<Log>>);

    type Log = Vec<(bool, Range<u64>)>;

    impl ByteSpace for Heard {
        fn len(&self) -> Result<u64, BundleError> {
            Ok(100)
        }

        fn chunk_at(&self, _: u64, _: usize) -> Result<Bytes, BundleError> {
            Ok(Bytes::new())
        }

        fn will_read(&self, range: Range<u64>, _: Certainty) {
            self.0.lock().push((true, range));
        }

        fn will_not_read(&self, range: Range<u64>, _: Certainty) {
            self.0.lock().push((false, range));
        }
    }

    #[test]
    fn whoever_decodes_hears_what_will_be_read_of_a_range_of_a_range() {
        let heard = Heard::default();
        let log = Arc::clone(&heard.0);
        let bundle = Traced::bundle(Arc::new(heard));
        let archive: Arc<dyn ByteSpace> = Arc::new(Extent::new(bundle, 10, 50));
        drop(Intent::to_read(&Extent::new(archive, 5, 20), Certainty::Certain));
        assert_eq!(*log.lock(), [(true, 15..35), (false, 15..35)]);
    }
}
