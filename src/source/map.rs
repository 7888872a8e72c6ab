//! A file as a space of bytes by a memory map: chunks are slices of the map, nothing is copied.
//!
//! In: a held file. Out: slices. A file that loses pages while it is mapped ends in [`crate::error::Fault::Changed`],
//! not in a crash: windows are populated before they are given out, where the kernel reports a loss as an error, and
//! what is lost later is caught by the [guard](super::guard).
#![allow(unsafe_code)]

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use memmap2::{Advice, Mmap};

use super::ByteSpace;
use super::guard::{self, Watch};
use super::held::HeldFile;
use crate::error::{BundleError, Fault};

/// What is populated at once. Small, so that a walk over the headers of a big archive reads little else.
const WINDOW_BYTES: usize = 64 << 10;
/// The most that is given out, and therefore read in, at once.
const CHUNK_BYTES: usize = 64 << 20;

/// A watched map. The fields are dropped in this order: unwatched first, then unmapped.
#[derive(Debug)]
struct WatchedMapping {
    watch: Watch,
    map: Mmap,
}

/// Keeps the mapping alive as long as any slice of it.
struct MappingOwner(Arc<WatchedMapping>);

impl AsRef<[u8]> for MappingOwner {
    fn as_ref(&self) -> &[u8] {
        &self.0.map
    }
}

#[derive(Debug)]
pub(super) struct MappedFile {
    held: Arc<HeldFile>,
    /// None for an empty file: a map of no bytes is an error to the kernel.
    mapping: Option<Arc<WatchedMapping>>,
    bytes: Bytes,
    /// One bit per window that was populated.
    populated: Box<[AtomicU64]>,
}

impl MappedFile {
    pub(super) fn new(held: Arc<HeldFile>) -> io::Result<Self> {
        if held.identity.size_bytes == 0 {
            return Ok(Self { held, mapping: None, bytes: Bytes::new(), populated: Box::default() });
        }
        // SAFETY: the map is read-only and private to us; other processes may write to the file or truncate it. Bytes
        // that change under us are only ever treated as untrusted data, are compared with digests, and every chunk is
        // given out after a check of the file's identity; pages that vanish are caught by the guard below.
        let map = unsafe { Mmap::map(&held.file)? };
        if map.len() as u64 != held.identity.size_bytes {
            return Err(io::Error::other("the file changed its size while it was opened"));
        }
        let watch = guard::watch(map.as_ptr() as usize, map.len())?;
        let windows = map.len().div_ceil(WINDOW_BYTES);
        let populated = (0..windows.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        let mapping = Arc::new(WatchedMapping { watch, map });
        let bytes = Bytes::from_owner(MappingOwner(Arc::clone(&mapping)));
        Ok(Self { held, mapping: Some(mapping), bytes, populated })
    }

    /// Reads the range in, so that what the disk or the file system refuses is an error here and not a signal later.
    fn populate(&self, mapping: &WatchedMapping, range: &Range<usize>) -> Result<(), BundleError> {
        let mut window = range.start / WINDOW_BYTES;
        let end = range.end.div_ceil(WINDOW_BYTES);
        while window < end {
            let first = window;
            while window < end && !self.mark(window) {
                window += 1;
            }
            if first < window {
                let offset = first * WINDOW_BYTES;
                let len = (window * WINDOW_BYTES).min(mapping.map.len()) - offset;
                match mapping.map.advise_range(Advice::PopulateRead, offset, len) {
                    Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                        (first..window).for_each(|window| self.unmark(window));
                        return Err(self.lost(offset));
                    }
                    // Anything else, such as a kernel before 5.14: the guard still stands.
                    _ => {}
                }
            }
            window += 1;
        }
        Ok(())
    }

    /// Marks the window as populated and tells whether it was before.
    fn mark(&self, window: usize) -> bool {
        let bit = 1 << (window % 64);
        self.populated[window / 64].fetch_or(bit, Ordering::Relaxed) & bit != 0
    }

    /// The window could not be populated: whoever comes next tries it again.
    fn unmark(&self, window: usize) {
        self.populated[window / 64].fetch_and(!(1 << (window % 64)), Ordering::Relaxed);
    }

    /// Pages are gone: because the file changed, or because the disk cannot read them.
    fn lost(&self, offset: usize) -> BundleError {
        match self.held.check() {
            Err(error) => error,
            Ok(()) => {
                BundleError::new(Fault::Io, format!("cannot be read near byte {offset}: input/output error"))
                    .hint("the kernel's log may name the disk")
            }
        }
    }
}

impl ByteSpace for MappedFile {
    fn len(&self) -> Result<u64, BundleError> {
        Ok(self.bytes.len() as u64)
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        let Some(mapping) = &self.mapping else { return Ok(Bytes::new()) };
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let end = self.bytes.len().min(start.saturating_add(max.min(CHUNK_BYTES)));
        self.held.check()?;
        self.populate(mapping, &(start..end))?;
        if mapping.watch.poisoned() {
            return Err(self.lost(start));
        }
        Ok(self.bytes.slice(start..end))
    }

    fn check_intact(&self) -> Result<(), BundleError> {
        match &self.mapping {
            Some(mapping) if mapping.watch.poisoned() => Err(self.lost(0)),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{IoMode, SourceOptions, open};

    #[test]
    fn a_slice_of_lost_pages_reads_as_zeros_and_poisons_the_map() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7; 1 << 20]).unwrap();
        let source = open(file.path(), SourceOptions { io: IoMode::Map }).unwrap();
        let space = source.space();
        let slice = space.chunk_at(0, 1 << 20).unwrap();
        assert_eq!(slice.as_ptr(), space.chunk_at(0, 1).unwrap().as_ptr(), "not a copy");
        file.as_file().set_len(8192).unwrap();
        // Without the guard this line ends the process.
        space.check_intact().unwrap();
        assert_eq!((slice[0], slice[900_000], slice[(1 << 20) - 1]), (7, 0, 0));
        assert_eq!(space.check_intact().unwrap_err().fault(), Fault::Changed);
        assert_eq!(space.chunk_at(0, 1).unwrap_err().fault(), Fault::Changed);
        assert_eq!(source.check_unchanged().unwrap_err().fault(), Fault::Changed);

        // Another map is not concerned, nor is a file that comes back to its size and time in vain.
        let other = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(other.path(), "fine").unwrap();
        let other = open(other.path(), SourceOptions { io: IoMode::Map }).unwrap();
        assert_eq!(other.space().chunk_at(0, 9).unwrap(), "fine");
    }

    #[test]
    fn a_poisoned_map_stays_an_error_even_if_the_file_looks_the_same_again() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7; 1 << 20]).unwrap();
        let before = file.as_file().metadata().unwrap().modified().unwrap();
        let source = open(file.path(), SourceOptions { io: IoMode::Map }).unwrap();
        let slice = source.space().chunk_at(0, 1 << 20).unwrap();
        file.as_file().set_len(0).unwrap();
        assert_eq!(slice[500_000], 0);
        file.as_file().set_len(1 << 20).unwrap();
        file.as_file().set_modified(before).unwrap();
        assert_eq!(source.space().chunk_at(0, 1).unwrap_err().fault(), Fault::Io);
        assert!(source.check_unchanged().is_err());
    }

    #[test]
    fn what_could_not_be_read_in_is_tried_again_and_never_read_as_zeros() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![7; 1 << 20]).unwrap();
        let source = open(file.path(), SourceOptions { io: IoMode::Map }).unwrap();
        let held = Arc::new(HeldFile {
            file: file.reopen().unwrap(),
            path: file.path().to_owned(),
            identity: source.identity(),
            ctime_ns: 0,
        });
        let mapped = MappedFile::new(held).unwrap();
        // The pages are gone, and nobody has looked at the file since.
        file.as_file().set_len(0).unwrap();
        let mapping = mapped.mapping.as_ref().unwrap();
        for _ in 0..2 {
            assert!(mapped.populate(mapping, &(500_000..900_000)).is_err());
        }
        mapped.check_intact().unwrap();
    }

    #[test]
    fn a_slice_outlives_its_source() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "still here").unwrap();
        let slice =
            open(file.path(), SourceOptions { io: IoMode::Map }).unwrap().space().chunk_at(6, 4).unwrap();
        assert_eq!(slice, "here");
    }
}
