//! Blobs of the stage. A blob is read after this run has checked its digest, and written aside before it gets its name.

use std::fs::{File, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use bytes::Bytes;

use super::folder::{StageFolder, found, open_regular, remove};
use super::{NotStaged, Stage};
use crate::error::BundleError;
use crate::file_lock::LockedFile;
use crate::oci::{Digest, Hasher};
use crate::source::ByteSpace;

const READ_BYTES: usize = 256 << 10;

/// Which file it is, and that nothing about it has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BlobFileStamp {
    device: u64,
    inode: u64,
    len: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl BlobFileStamp {
    /// Whatever has changed about it.
    fn is_same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    fn of(facts: &Metadata) -> Self {
        Self {
            device: facts.dev(),
            inode: facts.ino(),
            len: facts.len(),
            mtime: (facts.mtime(), facts.mtime_nsec()),
            ctime: (facts.ctime(), facts.ctime_nsec()),
        }
    }
}

/// A blob of the stage whose digest is right. It can be read as long as this lives, whatever leaves the stage meanwhile.
#[derive(Debug)]
pub(crate) struct StagedBlob {
    file: File,
    len: u64,
}

impl ByteSpace for StagedBlob {
    fn len(&self) -> Result<u64, BundleError> {
        Ok(self.len)
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        let left = usize::try_from(self.len.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut buffer = vec![0; left.min(max).min(READ_BYTES)];
        let read = self.file.read_exact_at(&mut buffer, offset);
        read.map_err(|error| BundleError::io("reading the stage", &error))?;
        Ok(buffer.into())
    }
}

impl Stage {
    /// Whether a blob is there, as far as is known without reading.
    pub(crate) fn has(&self, digest: &Digest) -> bool {
        self.contents.lock().blobs.contains_key(digest)
    }

    /// Whether a blob is there and was found right in this run.
    pub(crate) fn is_checked(&self, digest: &Digest) -> bool {
        self.contents.lock().blobs.get(digest).is_some_and(Option::is_some)
    }

    /// A blob of this size, if it is there and right. One that is wrong is removed, and that is noted. Blocks: what was not
    /// read in this run is read and hashed first, once for all who ask.
    pub(crate) fn blob(&self, digest: &Digest, size: u64) -> Option<Arc<StagedBlob>> {
        let once = Arc::clone(self.checks.lock().entry(*digest).or_default());
        let mut opened = once.lock();
        if let Some(blob) = opened.upgrade() {
            return Some(blob);
        }
        let blob = match self.check(digest, size) {
            Ok(blob) => blob,
            Err(error) => {
                self.note(&format!("the blob {digest} cannot be read in the stage: {error}"));
                None
            }
        };
        match &blob {
            Some(blob) => *opened = Arc::downgrade(blob),
            None => drop(self.contents.lock().blobs.remove(digest)),
        }
        blob
    }

    /// A document of at most this size, if it is there and right. Blocks.
    pub(crate) fn document(&self, digest: &Digest, max_bytes: u64) -> Option<Bytes> {
        let read = StageFolder::read_small(&self.folder.blob(digest), max_bytes).ok().flatten()?;
        digest.matches(&read).then(|| read.into())
    }

    /// Removes a blob that cannot be read although its digest was right, and notes that. Blocks.
    pub(crate) fn discard(&self, digest: &Digest, error: &BundleError) {
        let Some(once) = self.checks.lock().get(digest).map(Arc::clone) else { return };
        let mut opened = once.lock();
        *opened = Weak::new();
        // Another reader has already removed it.
        let Some(known) = self.contents.lock().blobs.remove(digest).flatten() else { return };
        let path = self.folder.blob(digest);
        let remove_it = || {
            let _change = self.folder.change()?;
            // Another run may have put a right one there.
            let now = found(std::fs::symlink_metadata(&path))?.map(|facts| BlobFileStamp::of(&facts));
            if now.is_some_and(|now| now.is_same_file(&known)) { remove(&path) } else { Ok(()) }
        };
        self.figures.wrong.fetch_add(1, Relaxed);
        self.note(&format!("the blob {digest} could not be read: {error}; the bundle is read instead"));
        self.noted("removing a blob that cannot be read", remove_it());
    }

    fn check(&self, digest: &Digest, size: u64) -> io::Result<Option<Arc<StagedBlob>>> {
        let path = self.folder.blob(digest);
        let Some(file) = open_regular(&path)? else { return Ok(None) };
        let version = BlobFileStamp::of(&file.metadata()?);
        let known = self.contents.lock().blobs.get(digest).copied().flatten();
        if known != Some(version) && (version.len != size || hash(&file, digest, version.len)? != *digest) {
            // Another run may have put the right one there meanwhile.
            let change = self.folder.change()?;
            let now = found(std::fs::symlink_metadata(&path))?.map(|facts| BlobFileStamp::of(&facts));
            if now == Some(version) {
                remove(&path)?;
            }
            drop(change);
            self.figures.wrong.fetch_add(1, Relaxed);
            self.note(&format!(
                "the blob {digest} was damaged in the stage: it is removed, and the bundle is read instead"
            ));
            return Ok(None);
        }
        self.contents.lock().blobs.insert(*digest, Some(version));
        Ok(Some(Arc::new(StagedBlob { file, len: size })))
    }

    /// A place for a blob of this size; none where it is there already. Blocks.
    ///
    /// # Errors
    /// There is no room for it.
    pub(crate) fn write(&self, digest: &Digest, size: u64) -> Result<Option<BlobWriter>, NotStaged> {
        if self.has(digest) {
            return Ok(None);
        }
        let change = self.folder.change()?;
        if let Some(facts) = found(std::fs::symlink_metadata(self.folder.blob(digest)))?
            && facts.is_file()
            && facts.len() == size
        {
            drop(change);
            self.contents.lock().blobs.entry(*digest).or_default();
            return Ok(None);
        }
        self.make_room(&change, size)?;
        let temporary = self.folder.temporary()?;
        // Others see how long it will be.
        temporary.file.set_len(size)?;
        self.took(&change, size);
        drop(change);
        Ok(Some(BlobWriter { temporary, digest: *digest, size, written: 0, hasher: digest.hasher() }))
    }

    /// Gives a blob its name, once all of it is written and right. Blocks.
    ///
    /// # Errors
    /// It is not the blob, or could not be written.
    pub(crate) fn put(&self, blob: BlobWriter) -> Result<(), NotStaged> {
        let BlobWriter { temporary, digest, size, written, hasher } = blob;
        if written != size || hasher.finish() != digest {
            return Err(NotStaged::Wrong(digest));
        }
        // Not while others wait for the lock.
        temporary.file.sync_all()?;
        let path = self.folder.blob(&digest);
        let change = self.folder.change()?;
        let file = temporary.file.try_clone()?;
        temporary.put(&path)?;
        let version = BlobFileStamp::of(&file.metadata()?);
        self.took(&change, 0);
        drop(change);
        self.contents.lock().blobs.insert(digest, Some(version));
        self.figures.blobs_written.fetch_add(1, Relaxed);
        self.figures.bytes_written.fetch_add(size, Relaxed);
        Ok(())
    }
}

/// A blob on its way into the stage. Dropped before it is put, it leaves nothing.
#[derive(Debug)]
pub(crate) struct BlobWriter {
    temporary: LockedFile,
    digest: Digest,
    size: u64,
    written: u64,
    hasher: Hasher,
}

impl BlobWriter {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// They cannot be written.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), NotStaged> {
        self.hasher.update(bytes);
        self.temporary.file.write_all(bytes)?;
        self.written += bytes.len() as u64;
        Ok(())
    }
}

fn hash(file: &File, digest: &Digest, len: u64) -> io::Result<Digest> {
    let (mut hasher, mut offset) = (digest.hasher(), 0);
    let mut buffer = vec![0; READ_BYTES];
    while offset < len {
        let read = file.read_at(&mut buffer, offset)?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        offset += read as u64;
    }
    Ok(hasher.finish())
}
