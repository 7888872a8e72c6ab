//! Several spaces, one after the other, as one.

use std::sync::Arc;

use bytes::Bytes;

use super::ByteSpace;
use crate::error::BundleError;

/// Spaces that follow each other.
#[derive(Debug)]
pub(crate) struct JoinedSpaces {
    /// With the offset at which each begins.
    spaces: Vec<(u64, Arc<dyn ByteSpace>)>,
    len: u64,
}

impl JoinedSpaces {
    /// These spaces, whose lengths are asked for.
    ///
    /// # Errors
    /// A length cannot be told.
    pub(crate) fn new(spaces: Vec<Arc<dyn ByteSpace>>) -> Result<Self, BundleError> {
        let mut joined = Self { spaces: Vec::with_capacity(spaces.len()), len: 0 };
        for space in spaces {
            let len = space.len()?;
            joined.spaces.push((joined.len, space));
            joined.len += len;
        }
        Ok(joined)
    }
}

impl ByteSpace for JoinedSpaces {
    fn len(&self) -> Result<u64, BundleError> {
        Ok(self.len)
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        if offset >= self.len {
            return Ok(Bytes::new());
        }
        // Of spaces that begin at the same place all but the last are empty.
        let next = self.spaces.partition_point(|(start, _)| *start <= offset);
        let (start, space) = &self.spaces[next - 1];
        space.chunk_at(offset - start, max)
    }

    fn check_intact(&self) -> Result<(), BundleError> {
        self.spaces.iter().try_for_each(|(_, space)| space.check_intact())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{read_exact, read_up_to};

    #[test]
    fn they_are_read_as_one() {
        let pieces = ["ab", "", "cde", "f"].map(|piece| Arc::new(Bytes::from(piece)) as Arc<dyn ByteSpace>);
        let joined = JoinedSpaces::new(pieces.to_vec()).unwrap();
        assert_eq!((joined.len().unwrap(), read_exact(&joined, 0, 6).unwrap()), (6, "abcdef".into()));
        assert_eq!(read_exact(&joined, 1, 4).unwrap(), "bcde");
        assert_eq!(joined.chunk_at(2, 9).unwrap(), "cde");
        assert!(joined.chunk_at(6, 1).unwrap().is_empty());
        assert_eq!(read_up_to(&joined, 4, 9).unwrap(), "ef");
    }
}
