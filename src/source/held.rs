//! An open file that says whether it is still the one that was opened.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use crate::error::{BundleError, Fault};

/// Which file it is, and whether it is still the same: a key for what is remembered about a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Identity {
    /// The device the file lies on.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// When its content was last modified, in nanoseconds since 1970.
    pub mtime_ns: i64,
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

pub(super) const fn nanoseconds(seconds: i64, rest: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(rest)
}

/// An open file and what it was when it was opened.
#[derive(Debug)]
pub(super) struct HeldFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
    pub(super) ctime_ns: i64,
}

impl HeldFile {
    /// One `fstat`: cheap enough to come with every read.
    pub(super) fn check(&self) -> Result<(), BundleError> {
        match self.file.metadata() {
            Ok(metadata) => self.compare(Identity::of(&metadata)),
            Err(error) => Err(self.refused("fstat", &error)),
        }
    }

    pub(super) fn compare(&self, now: Identity) -> Result<(), BundleError> {
        let was = self.identity;
        if now == was {
            Ok(())
        } else if (now.device, now.inode) != (was.device, was.inode) {
            Err(self.changed("another file has taken its place"))
        } else if now.size_bytes != was.size_bytes {
            Err(self.changed(&format!("{} bytes became {}", was.size_bytes, now.size_bytes)))
        } else {
            Err(self.changed("its modification time is a new one"))
        }
    }

    pub(super) fn changed(&self, how: &str) -> BundleError {
        BundleError::new(Fault::Changed, format!("bundle changed while it was read: {how}"))
            .at(self.path.display())
            .hint("wait until the bundle is written completely, then run again")
    }

    pub(super) fn refused(&self, what: &str, error: &std::io::Error) -> BundleError {
        if error.raw_os_error() == Some(libc::ESTALE) {
            return self.changed("the file server does not know it any more");
        }
        BundleError::io(what, error).at(self.path.display())
    }
}
