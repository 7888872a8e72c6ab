//! Decoded parts on the disk: those that memory has no room for while somebody still wants them.
//!
//! In: a part that is about to leave memory. Out: its bytes, for all later readers, without decoding it again. One unlinked file
//! holds the parts of a decoder; the range of a part is punched out when nobody wants the part any more. A fault here costs
//! only time: the part is decoded again.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rustix::fs::{FallocateFlags, fallocate, fstatfs, fstatvfs};

use crate::budget::{Budget, SpilledBytes};
use crate::decode::Meter;

/// Where a part begins is a multiple of this, so that all of it can be punched out.
const ALIGNMENT: u64 = 64 << 10;
/// What is left free on the file system for everybody else.
const FLOOR_BYTES: u64 = 64 << 20;
/// File systems that are memory themselves (tmpfs, ramfs; linux/magic.h).
const MEMORY_FILE_SYSTEMS: [rustix::fs::FsWord; 2] = [0x0102_1994, 0x8584_58f6];

/// The file.
#[derive(Debug)]
pub(super) struct SpillFile {
    file: File,
    /// Where the next part begins.
    end: AtomicU64,
    meter: Arc<Meter>,
}

/// A part in the file.
#[derive(Debug)]
pub(crate) struct SpilledPart {
    file: Arc<SpillFile>,
    start: u64,
    len: usize,
    /// Kept for its drop.
    _room: SpilledBytes,
}

impl SpillFile {
    /// A file in this folder, if keeping parts there costs no memory and can be undone.
    pub(super) fn create(folder: &Path, meter: &Arc<Meter>) -> Option<Self> {
        let file = tempfile::tempfile_in(folder).ok()?;
        let kind = fstatfs(&file).ok()?.f_type;
        if MEMORY_FILE_SYSTEMS.contains(&kind) {
            return None;
        }
        file.write_all_at(&[1; 4096], 0).ok()?;
        punch(&file, 0..ALIGNMENT).ok()?;
        Some(Self { file, end: AtomicU64::new(0), meter: Arc::clone(meter) })
    }

    /// Writes a part, if the budget and the file system have room for it.
    pub(super) fn write(self: &Arc<Self>, part: &[u8], budget: &Arc<Budget>) -> Option<SpilledPart> {
        let takes = (part.len() as u64).next_multiple_of(ALIGNMENT);
        let stat = fstatvfs(&self.file).ok()?;
        if stat.f_bavail.saturating_mul(stat.f_frsize) < takes + FLOOR_BYTES {
            return None;
        }
        let room = budget.spill(takes)?;
        let start = self.end.fetch_add(takes, Ordering::Relaxed);
        self.meter.spool(takes);
        // From here on its drop undoes it.
        let spilled = SpilledPart { file: Arc::clone(self), start, len: part.len(), _room: room };
        self.file.write_all_at(part, start).ok()?;
        Some(spilled)
    }
}

impl SpilledPart {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the part; the range lies in it.
    pub(crate) fn read(&self, range: Range<usize>) -> io::Result<Bytes> {
        let mut bytes = vec![0; range.len()];
        self.file.file.read_exact_at(&mut bytes, self.start + range.start as u64)?;
        Ok(bytes.into())
    }

    pub(super) fn disk_bytes(&self) -> u64 {
        (self.len as u64).next_multiple_of(ALIGNMENT)
    }
}

impl Drop for SpilledPart {
    fn drop(&mut self) {
        let takes = self.disk_bytes();
        // It could be done when the file was made. Where it fails now, the file goes with the run.
        let _ = punch(&self.file.file, self.start..self.start + takes);
        self.file.meter.unspool(takes);
    }
}

fn punch(file: &File, range: Range<u64>) -> rustix::io::Result<()> {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(file, flags, range.start, range.end - range.start)
}
