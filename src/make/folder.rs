//! The folder beside a bundle that is being pulled: the blobs of an OCI layout, from which an interrupted pull goes on.
//!
//! A blob has its name only when all of it was written and hashed, so what has a name need not be fetched again. What came of
//! the others lies aside, and is hashed before more is added.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tempfile::NamedTempFile;

use crate::archive::blob_table::{OCI_LAYOUT, blob_path};
use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::oci::{Digest, Hasher};
use crate::report::{Class, Failure};
use crate::small_file;

/// A manifest or configuration that is kept in memory has no more.
pub(super) const MAX_DOCUMENT_BYTES: u64 = MAX_MANIFEST_BYTES;
/// Blobs that are on their way.
const INCOMPLETE: &str = "incomplete";

/// A layout on disk. While it is open no other process has it.
#[derive(Debug)]
pub(crate) struct LayoutFolder {
    root: PathBuf,
    /// Locked as long as this lives.
    _lock: File,
}

impl LayoutFolder {
    /// The folder at `root`, made where there is none.
    ///
    /// # Errors
    /// The system refuses, it is a folder of somebody else, or another process is at it.
    pub(crate) fn open(root: &Path) -> Result<Self, Failure> {
        let shown = root.display();
        let is_ours = || root.join("oci-layout").is_file();
        let is_empty = || fs::read_dir(root).is_ok_and(|mut entries| entries.next().is_none());
        if root.exists() && !is_ours() && !is_empty() {
            return Err(Failure::usage(format!(
                "{shown}: it is there, and is not what an earlier pull left"
            ))
            .hint("move it away, or name another output"));
        }
        let make = || {
            fs::create_dir_all(root.join(INCOMPLETE))?;
            fs::write(root.join("oci-layout"), OCI_LAYOUT)?;
            File::open(root)
        };
        let lock = make().map_err(|error| failed(root, &error))?;
        if lock.try_lock().is_err() {
            return Err(Failure::new(Class::Locked, format!("{shown}: another pull is at it"))
                .hint("wait until it has ended, or name another output"));
        }
        let this = Self { root: root.to_owned(), _lock: lock };
        this.sweep().map_err(|error| failed(root, &error))?;
        Ok(this)
    }

    /// Removes what was put aside under no digest: documents of a pull that was killed.
    fn sweep(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.root.join(INCOMPLETE))? {
            let entry = entry?;
            let name = entry.file_name();
            let digest = name.to_str().map(|name| name.replacen('-', ":", 1));
            if digest.is_none_or(|digest| digest.parse::<Digest>().is_err()) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Where it is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
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
        let bytes = small_file::read(&self.blob(digest), MAX_DOCUMENT_BYTES).ok()?;
        digest.matches(&bytes).then(|| bytes.into())
    }

    /// Puts a document there.
    pub(super) fn put(&self, digest: &Digest, bytes: &[u8]) -> Result<(), Failure> {
        let put = || {
            let mut file = NamedTempFile::new_in(self.root.join(INCOMPLETE))?;
            file.write_all(bytes)?;
            let path = self.blob(digest);
            path.parent().map_or(Ok(()), fs::create_dir_all)?;
            file.persist(path).map(drop).map_err(|error| error.error)
        };
        put().map_err(|error| failed(&self.root, &error))
    }

    /// The place of a blob that is to come, with what came of it before unless it is to begin `anew`. Blocks.
    pub(super) fn begin(&self, digest: &Digest, size: u64, anew: bool) -> Result<PartialBlob, Failure> {
        let aside = format!("{}-{}", digest.algorithm().name(), digest.hex());
        let aside = self.root.join(INCOMPLETE).join(aside);
        let begin = || {
            let mut file = File::options().create(true).truncate(anew).read(true).write(true).open(&aside)?;
            let mut hasher = HashWriter(digest.hasher());
            let mut written = io::copy(&mut file, &mut hasher)?;
            // Of another blob, or more than the blob has.
            if written > size {
                (written, hasher) = (0, HashWriter(digest.hasher()));
                file.set_len(0)?;
                io::Seek::rewind(&mut file)?;
            }
            Ok((file, hasher.0, written))
        };
        let (file, hasher, written) = begin().map_err(|error| failed(&self.root, &error))?;
        let (root, path) = (self.root.clone(), self.blob(digest));
        Ok(PartialBlob { file, aside, path, root, digest: *digest, size, written, hasher })
    }

    /// Removes it with all that is in it.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        fs::remove_dir_all(&self.root).map_err(|error| failed(&self.root, &error))
    }
}

/// Why a blob is not there.
#[derive(Debug)]
pub(super) enum BlobFault {
    /// Not all of it came.
    Cut,
    /// It is another blob.
    Wrong,
    /// Another try does not help.
    Here(Failure),
}

impl From<Failure> for BlobFault {
    fn from(failure: Failure) -> Self {
        Self::Here(failure)
    }
}

/// A blob of which a part is there.
#[derive(Debug)]
pub(super) struct PartialBlob {
    file: File,
    /// Where it is until it is whole.
    aside: PathBuf,
    path: PathBuf,
    root: PathBuf,
    digest: Digest,
    size: u64,
    written: u64,
    hasher: Hasher,
}

impl PartialBlob {
    /// How many of its bytes are there.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Takes the next bytes.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), BlobFault> {
        self.file.write_all(bytes).map_err(|error| failed(&self.root, &error))?;
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Gives it its name, if it is whole. What is not stays for the next time; what is another blob goes.
    pub(super) fn finish(self) -> Result<(), BlobFault> {
        if self.written < self.size {
            return Err(BlobFault::Cut);
        }
        let found = self.hasher.finish();
        let name = || {
            if found != self.digest {
                return fs::remove_file(&self.aside);
            }
            self.path.parent().map_or(Ok(()), fs::create_dir_all)?;
            fs::rename(&self.aside, &self.path)
        };
        name().map_err(|error| failed(&self.root, &error))?;
        if found == self.digest { Ok(()) } else { Err(BlobFault::Wrong) }
    }
}

struct HashWriter(Hasher);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn failed(root: &Path, error: &io::Error) -> Failure {
    Failure::io(format!("writing {}", root.display()), error)
}
