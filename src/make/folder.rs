//! The folder beside a bundle that is being pulled: an OCI layout that grows, and from which an interrupted pull goes on.
//!
//! A blob has its name only when all of it was written and hashed, so what has a name need not be fetched again.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;

use super::layout::{self, IndexEntry, OCI_LAYOUT};
use crate::archive::blob_table::blob_path;
use crate::oci::Digest;
use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::report::{Class, Failure};
use crate::small_file;

/// Blobs that are on their way.
const TEMPORARY: &str = "incomplete";

/// A layout on disk.
#[derive(Debug)]
pub(crate) struct LayoutFolder {
    root: PathBuf,
}

impl LayoutFolder {
    /// The folder at `root`, made where there is none. What an earlier run left unfinished in it is removed.
    ///
    /// # Errors
    /// The system refuses, or it is a folder of somebody else.
    pub(crate) fn open(root: &Path) -> Result<Self, Failure> {
        let this = Self { root: root.to_owned() };
        let is_ours = || root.join("oci-layout").is_file();
        let is_empty = || fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_none());
        if root.exists() && !is_ours() && !is_empty() {
            return Err(Failure::usage(format!(
                "{}: it is there, and is not what an earlier pull left",
                root.display()
            ))
            .hint("move it away, or name another output"));
        }
        let make = || {
            fs::create_dir_all(root)?;
            fs::write(root.join("oci-layout"), OCI_LAYOUT)?;
            match fs::remove_dir_all(root.join(TEMPORARY)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            fs::create_dir(root.join(TEMPORARY))
        };
        make().map_err(|error| this.failed(&error))?;
        Ok(this)
    }

    /// Where it is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    fn failed(&self, error: &io::Error) -> Failure {
        Failure::io(format!("writing {}", self.root.display()), error)
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join(blob_path(digest))
    }

    /// Whether a blob of this size is there.
    pub(super) fn has(&self, digest: &Digest, size: u64) -> bool {
        fs::metadata(self.blob(digest)).is_ok_and(|facts| facts.is_file() && facts.len() == size)
    }

    /// A document that is there and right.
    pub(super) fn document(&self, digest: &Digest) -> Option<Bytes> {
        let bytes = small_file::read(&self.blob(digest), MAX_MANIFEST_BYTES).ok()?;
        digest.matches(&bytes).then(|| bytes.into())
    }

    /// Puts a document there.
    pub(super) fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Failure> {
        let put = || {
            let file = NamedTempFile::new_in(self.root.join(TEMPORARY))?;
            fs::write(file.path(), bytes)?;
            self.name(file, digest)
        };
        put().map_err(|error| self.failed(&error))
    }

    fn name(&self, file: NamedTempFile, digest: &Digest) -> io::Result<()> {
        let path = self.blob(digest);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        file.persist(path).map(drop).map_err(|error| error.error)
    }

    /// Puts the bytes of a stream there, if they are the blob.
    ///
    /// # Errors
    /// The stream ends or breaks, it is another blob, or the disk refuses.
    pub(super) async fn receive<E>(
        &self,
        digest: &Digest,
        size: u64,
        mut bytes: impl Stream<Item = Result<Bytes, E>> + Unpin,
    ) -> Result<(), NotReceived<E>> {
        let disk = |error: io::Error| NotReceived::Here(self.failed(&error));
        let temporary = NamedTempFile::new_in(self.root.join(TEMPORARY)).map_err(disk)?;
        let mut file = tokio::fs::File::from_std(temporary.reopen().map_err(disk)?);
        let (mut hasher, mut received) = (digest.hasher(), 0_u64);
        while let Some(chunk) = bytes.next().await {
            let chunk = chunk.map_err(NotReceived::Stream)?;
            hasher.update(&chunk);
            received += chunk.len() as u64;
            file.write_all(&chunk).await.map_err(disk)?;
        }
        file.flush().await.map_err(disk)?;
        if received < size {
            return Err(NotReceived::Cut(received));
        }
        let found = hasher.finish();
        if found != *digest {
            let what = format!("what the registry gives for {digest} has the digest {found}");
            return Err(NotReceived::Here(Failure::new(Class::Integrity, what)));
        }
        self.name(temporary, digest).map_err(disk)
    }

    /// Lists what is whole.
    pub(super) fn list(&self, entries: &[IndexEntry]) -> Result<(), Failure> {
        let write = || {
            fs::remove_dir_all(self.root.join(TEMPORARY))?;
            let mut file = NamedTempFile::new_in(&self.root)?;
            io::Write::write_all(&mut file, &layout::index(entries, None))?;
            file.persist(self.root.join("index.json")).map(drop).map_err(|error| error.error)
        };
        write().map_err(|error| self.failed(&error))
    }

    /// Removes the blobs that are not needed, of an earlier pull.
    pub(super) fn keep(&self, needed: &HashSet<Digest>) -> Result<(), Failure> {
        let remove = || {
            for algorithm in fs::read_dir(self.root.join("blobs"))? {
                let algorithm = algorithm?;
                for blob in fs::read_dir(algorithm.path())? {
                    let blob = blob?;
                    let text = format!("{}:{}", algorithm.file_name().display(), blob.file_name().display());
                    if text.parse::<Digest>().is_ok_and(|digest| !needed.contains(&digest)) {
                        fs::remove_file(blob.path())?;
                    }
                }
            }
            Ok(())
        };
        remove().map_err(|error| self.failed(&error))
    }

    /// Removes it with all that is in it.
    pub(crate) fn remove(self) -> Result<(), Failure> {
        fs::remove_dir_all(&self.root).map_err(|error| self.failed(&error))
    }
}

/// Why a blob is not there.
#[derive(Debug)]
pub(super) enum NotReceived<E> {
    /// The stream broke.
    Stream(E),
    /// The stream ended after so many bytes.
    Cut(u64),
    /// Another try does not help.
    Here(Failure),
}
