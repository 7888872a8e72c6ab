//! Where compressed layers wait for their upload: in memory while the quota lasts, else in an unlinked file.
//!
//! Nothing ever waits for the quota, so layers in work cannot block each other.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use crate::error::{BundleError, Fault};
use crate::source::ByteSpace;

/// Bytes of memory that all compressed layers together may take.
#[derive(Debug)]
pub(crate) struct Quota {
    left: AtomicU64,
}

impl Quota {
    /// A quota of this many bytes.
    pub(crate) fn new(bytes: u64) -> Arc<Self> {
        Arc::new(Self { left: AtomicU64::new(bytes) })
    }

    /// Bytes that are not in use.
    #[cfg(test)]
    pub(crate) fn left(&self) -> u64 {
        self.left.load(Ordering::Acquire)
    }

    fn take(&self, bytes: u64) -> bool {
        self.left.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(bytes)).is_ok()
    }
}

/// Where layers may wait.
#[derive(Debug, Clone)]
pub(crate) struct SpillSettings {
    /// Memory for them.
    pub quota: Arc<Quota>,
    /// The folder for those that do not fit.
    pub folder: PathBuf,
}

/// A finished compressed layer. Its memory or disk is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Spill {
    body: Body,
    /// Kept for its drop.
    _held: Held,
}

#[derive(Debug)]
enum Body {
    /// Members with the offset at which each begins.
    Memory(Vec<(u64, Bytes)>, u64),
    File(File, u64),
}

/// Bytes of the quota in use; given back on drop, on every way out.
#[derive(Debug)]
struct Held {
    quota: Arc<Quota>,
    bytes: u64,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.quota.left.fetch_add(self.bytes, Ordering::AcqRel);
    }
}

/// Collects the members of one layer.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    settings: &'a SpillSettings,
    body: Body,
    held: Held,
}

impl<'a> Writer<'a> {
    pub(super) fn new(settings: &'a SpillSettings) -> Self {
        let held = Held { quota: Arc::clone(&settings.quota), bytes: 0 };
        Self { settings, body: Body::Memory(Vec::new(), 0), held }
    }

    pub(super) fn append(&mut self, member: Vec<u8>) -> Result<(), BundleError> {
        let bytes = member.len() as u64;
        if let Body::Memory(members, len) = &mut self.body {
            if self.held.quota.take(bytes) {
                self.held.bytes += bytes;
                members.push((*len, member.into()));
                *len += bytes;
                return Ok(());
            }
            self.move_to_file()?;
        }
        let Body::File(file, len) = &mut self.body else { return Ok(()) };
        *len += bytes;
        let written = file.write_all(&member);
        written.map_err(|error| self.failed(&error))
    }

    fn move_to_file(&mut self) -> Result<(), BundleError> {
        let Body::Memory(members, len) = &self.body else { return Ok(()) };
        let mut file = tempfile::tempfile_in(&self.settings.folder).map_err(|error| self.failed(&error))?;
        for (_, member) in members {
            file.write_all(member).map_err(|error| self.failed(&error))?;
        }
        self.body = Body::File(file, *len);
        self.held = Held { quota: Arc::clone(&self.settings.quota), bytes: 0 };
        Ok(())
    }

    fn failed(&self, error: &std::io::Error) -> BundleError {
        BundleError::io(&format!("keeping a compressed layer in {}", self.settings.folder.display()), error)
            .hint("give a folder with more room with --spool-dir, or more memory with --memory")
    }

    pub(super) fn finish(self) -> Spill {
        Spill { body: self.body, _held: self.held }
    }
}

impl ByteSpace for Spill {
    fn len(&self) -> Result<u64, BundleError> {
        match &self.body {
            Body::Memory(_, len) | Body::File(_, len) => Ok(*len),
        }
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        match &self.body {
            Body::Memory(members, len) if offset < *len => {
                let at = members.partition_point(|(start, _)| *start <= offset) - 1;
                let (start, member) = &members[at];
                let from = usize::try_from(offset - start)
                    .map_err(|_| BundleError::new(Fault::LimitExceeded, "a member of 4 GiB"))?;
                Ok(member.slice(from..member.len().min(from.saturating_add(max))))
            }
            Body::File(file, len) if offset < *len => {
                const READ_BYTES: u64 = 256 << 10;
                let n = usize::try_from((*len - offset).min(READ_BYTES)).unwrap_or(0).min(max);
                let mut buffer = vec![0; n];
                file.read_exact_at(&mut buffer, offset)
                    .map_err(|error| BundleError::io("reading a compressed layer back", &error))?;
                Ok(buffer.into())
            }
            _ => Ok(Bytes::new()),
        }
    }
}
