//! Files of a folder: opened for each read and closed again, because a folder can hold more blobs than a process may hold
//! descriptors.

use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::file::{IoMode, SourceOptions, open};
use super::held::Identity;
use super::{ByteSpace, Source};
use crate::error::{BundleError, Fault};

/// A file that is held by its identity, not by a descriptor.
#[derive(Debug)]
pub(crate) struct LateFile {
    path: PathBuf,
    identity: Identity,
}

impl LateFile {
    /// The regular file at `path`, as it is now.
    ///
    /// # Errors
    /// As [`open`].
    pub(crate) fn new(path: &Path) -> Result<Self, BundleError> {
        let identity = open_for_reading(path)?.identity();
        Ok(Self { path: path.to_owned(), identity })
    }
}

fn open_for_reading(path: &Path) -> Result<Source, BundleError> {
    open(path, SourceOptions { io: IoMode::Pread })
}

impl ByteSpace for LateFile {
    fn len(&self) -> Result<u64, BundleError> {
        Ok(self.identity.size_bytes)
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        let file = open_for_reading(&self.path)?;
        if file.identity() != self.identity {
            let told = "bundle changed while it was read: it is another file now";
            return Err(BundleError::new(Fault::Changed, told).at(self.path.display()));
        }
        file.space().chunk_at(offset, max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_what_was_there_and_notices_what_was_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("blob");
        std::fs::write(&path, "content").unwrap();
        let file = LateFile::new(&path).unwrap();
        assert_eq!(file.chunk_at(3, 100).unwrap(), "tent");
        assert!(file.chunk_at(7, 1).unwrap().is_empty());
        std::fs::write(&path, "other content").unwrap();
        assert_eq!(file.chunk_at(0, 1).unwrap_err().fault(), Fault::Changed);
    }
}
