//! A path becomes bytes as stored.
//!
//! In: a path, or `-` for a pipe. Out: a [`ByteSpace`], the one interface through which every later stage reads, be it
//! a mapped file, a decoded volume or a range of either. Knows no formats.

mod file;
mod folder;
mod guard;
mod held;
mod joined;
mod late;
mod lazy;
mod map;
mod opened;
mod pieces;
mod pread;
mod stdin;
mod traced;
mod watched;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

pub(crate) use self::file::is_remote;
pub(crate) use self::file::{IoMode, Source, SourceOptions, open};
pub(crate) use self::folder::{FileFacts, FolderEntry, FolderEntryKind, scan_folder};
pub(crate) use self::joined::JoinedSpaces;
pub(crate) use self::late::LateFile;
pub(crate) use self::lazy::LazySpace;
pub(crate) use self::opened::OpenedOnce;
pub(crate) use self::pieces::{ListedPiece, piece_path, pieces_of, sums_path};
pub(crate) use self::stdin::stdin;
pub use self::traced::Origin;
pub(crate) use self::traced::Traced;
pub(crate) use self::watched::WatchedSpace;
use crate::error::{BundleError, Fault};

/// A finite space of bytes that many readers can read anywhere, at once.
///
/// A call may block: on the disk, on a part being decoded, on a decoder that has not come so far. Call it from threads
/// that may wait, never from a runtime's.
pub trait ByteSpace: Send + Sync + fmt::Debug {
    /// The length in bytes. Waits for the end where only the end tells.
    fn len(&self) -> Result<u64, BundleError>;

    /// Bytes from `offset` on: at least one and at most `max`; fewer where no more lie together. Empty exactly when
    /// `offset` is the end or past it. The slice is of the map itself where there is one (no copy).
    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError>;

    /// Nobody will ask for this range again: what is kept of it may go.
    fn release(&self, _range: Range<u64>) {}

    /// Somebody will read this range, or may. Taken back by as many calls of [`ByteSpace::will_not_read`]; see [`Intent`].
    fn will_read(&self, _range: Range<u64>, _certainty: Certainty) {}

    /// The opposite of [`ByteSpace::will_read`]: it was read, or will not be.
    fn will_not_read(&self, _range: Range<u64>, _certainty: Certainty) {}

    /// The space that this one is a range of, and where in it it begins; none for a space of its own.
    fn within(&self) -> Option<(&Arc<dyn ByteSpace>, u64)> {
        None
    }

    /// Where the space comes from, if it was told.
    fn origin(&self) -> Option<&Origin> {
        None
    }

    /// Whether what was given out is what the bundle holds: a page of a map that is lost later reads as zeros. To be asked
    /// before content is called damaged.
    ///
    /// # Errors
    /// What was lost, and why.
    fn check_intact(&self) -> Result<(), BundleError> {
        Ok(())
    }

    /// Whether the space has no bytes at all.
    fn is_empty(&self) -> Result<bool, BundleError> {
        Ok(self.chunk_at(0, 1)?.is_empty())
    }
}

/// Whether somebody will read a range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Certainty {
    /// He will: of what is kept, it is not what goes first.
    Certain,
    /// He may: it is kept as long as there is room.
    Possible,
    /// It was read, and may have to be once more: it is kept where it would be lost, or could only be had with all before it.
    Again,
}

/// A range of another space, as a space: an archive inside an archive, a layer inside that.
#[derive(Debug, Clone)]
pub struct Extent {
    space: Arc<dyn ByteSpace>,
    offset: u64,
    len: u64,
}

impl Extent {
    /// The `len` bytes of `space` from `offset` on; they need not be there yet.
    pub fn new(space: Arc<dyn ByteSpace>, offset: u64, len: u64) -> Self {
        Self { space, offset, len }
    }

    fn within_space(&self, range: Range<u64>) -> Range<u64> {
        self.offset + range.start..self.offset + range.end.min(self.len)
    }

    /// Where it begins in the space that is a range of no other.
    pub(crate) fn root_offset(&self) -> u64 {
        let (mut space, mut offset) = (&self.space, self.offset);
        while let Some((outer, at)) = space.within() {
            (space, offset) = (outer, offset + at);
        }
        offset
    }
}

/// Nowhere: what stands in the place of an extent that is still to be told.
impl Default for Extent {
    fn default() -> Self {
        Self { space: Arc::new(Bytes::new()), offset: 0, len: 0 }
    }
}

impl ByteSpace for Extent {
    fn len(&self) -> Result<u64, BundleError> {
        Ok(self.len)
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        let left = self.len.saturating_sub(offset);
        if left == 0 {
            return Ok(Bytes::new());
        }
        let max = usize::try_from(left).unwrap_or(usize::MAX).min(max);
        let chunk = self.space.chunk_at(self.offset + offset, max)?;
        if chunk.is_empty() {
            let at = self.offset + offset;
            return Err(BundleError::new(
                Fault::Truncated,
                format!("ends at byte {at}, {left} bytes too early"),
            ));
        }
        Ok(chunk)
    }

    fn within(&self) -> Option<(&Arc<dyn ByteSpace>, u64)> {
        Some((&self.space, self.offset))
    }

    fn check_intact(&self) -> Result<(), BundleError> {
        self.space.check_intact()
    }

    fn release(&self, range: Range<u64>) {
        self.space.release(self.within_space(range));
    }

    fn will_read(&self, range: Range<u64>, certainty: Certainty) {
        self.space.will_read(self.within_space(range), certainty);
    }

    fn will_not_read(&self, range: Range<u64>, certainty: Certainty) {
        self.space.will_not_read(self.within_space(range), certainty);
    }
}

/// Says of a range that it will be read, or may be, as long as this lives.
#[derive(Debug)]
pub(crate) struct Intent {
    space: Arc<dyn ByteSpace>,
    range: Range<u64>,
    certainty: Certainty,
}

impl Intent {
    pub(crate) fn to_read(extent: &Extent, certainty: Certainty) -> Self {
        let Extent { space, offset, len } = extent;
        Self::to_read_range(space, *offset..offset + len, certainty)
    }

    pub(crate) fn to_read_range(space: &Arc<dyn ByteSpace>, range: Range<u64>, certainty: Certainty) -> Self {
        space.will_read(range.clone(), certainty);
        Self { space: Arc::clone(space), range, certainty }
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        self.space.will_not_read(self.range.clone(), self.certainty);
    }
}

/// Up to `max` bytes from `offset` on, in one buffer; fewer only where the space ends. For small things: the caller has
/// checked `max` against a limit.
pub(crate) fn read_up_to(space: &dyn ByteSpace, offset: u64, max: usize) -> Result<Bytes, BundleError> {
    let first = space.chunk_at(offset, max)?;
    if first.len() == max || first.is_empty() {
        return Ok(first);
    }
    let mut out = Vec::with_capacity(max);
    out.extend_from_slice(&first);
    while out.len() < max {
        let chunk = space.chunk_at(offset + out.len() as u64, max - out.len())?;
        if chunk.is_empty() {
            break;
        }
        out.extend_from_slice(&chunk);
    }
    Ok(out.into())
}

/// All of `len` bytes from `offset` on; see [`read_up_to`].
///
/// # Errors
/// [`Fault::Truncated`] where the space ends before.
pub(crate) fn read_exact(space: &dyn ByteSpace, offset: u64, len: usize) -> Result<Bytes, BundleError> {
    let bytes = read_up_to(space, offset, len)?;
    if bytes.len() == len {
        return Ok(bytes);
    }
    let (at, missing) = (offset + bytes.len() as u64, len - bytes.len());
    Err(BundleError::new(Fault::Truncated, format!("ends at byte {at}, {missing} bytes too early")))
}

/// Bytes in memory are a space too.
impl ByteSpace for Bytes {
    fn len(&self) -> Result<u64, BundleError> {
        Ok(Self::len(self) as u64)
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        let len = Self::len(self);
        let start = usize::try_from(offset).unwrap_or(len).min(len);
        Ok(self.slice(start..len.min(start.saturating_add(max))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives at most three bytes at once.
    #[derive(Debug)]
    struct Morsels(Bytes);

    impl ByteSpace for Morsels {
        fn len(&self) -> Result<u64, BundleError> {
            ByteSpace::len(&self.0)
        }

        fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
            self.0.chunk_at(offset, max.min(3))
        }
    }

    #[test]
    fn bytes_are_put_together_as_far_as_there_are_any() {
        let space = Morsels(Bytes::from_static(b"0123456789"));
        assert_eq!(read_up_to(&space, 1, 7).unwrap(), "1234567");
        assert_eq!(read_up_to(&space, 8, 7).unwrap(), "89");
        assert!(read_up_to(&space, 10, 7).unwrap().is_empty());
        assert_eq!(read_exact(&space, 1, 7).unwrap(), "1234567");
        let error = read_exact(&space, 8, 7).unwrap_err();
        assert_eq!(error.fault(), Fault::Truncated);
        assert!(error.to_string().contains("ends at byte 10, 5 bytes too early"), "{error}");
    }
}
