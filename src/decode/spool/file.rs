//! The spool file itself: unlinked, sparse, counted.
//!
//! In: decoded bytes, each block once. Out: the same bytes. Every failure names the flag that can help.

use crate::locks::Mutex;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{FallocateFlags, fallocate, fstatvfs};

use crate::budget::{NoDisk, SpoolRoom};
use crate::decode::Shared;
use crate::decode::limits::mebibytes;
use crate::decode::ranges::BitSet;
use crate::error::{BundleError, Fault};
use crate::units::ByteCount;

/// What is written, counted and punched out as one.
pub(super) const BLOCK_BYTES: usize = 64 << 10;
const BLOCK: u64 = BLOCK_BYTES as u64;

/// What is left free on the file system for everybody else.
const FLOOR_BYTES: u64 = 32 << 20;
/// How many blocks are written between two looks at the free space.
const LOOK_BLOCKS: u64 = 256;

static ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

pub(super) struct SpoolFile {
    shared: Arc<Shared>,
    file: File,
    room: SpoolRoom,
    blocks: Mutex<Blocks>,
}

#[derive(Default)]
struct Blocks {
    on_disk: BitSet,
    written: u64,
    /// Bytes of the blocks on the disk.
    held: u64,
}

impl SpoolFile {
    /// Makes the file, if what will at least be in it fits where it lies, and takes the room for that.
    pub(super) fn create(shared: &Arc<Shared>, at_least_bytes: u64) -> Result<Self, BundleError> {
        let file = tempfile::tempfile_in(&shared.options.spool_dir)
            .map_err(|error| refused(shared, "a spool file cannot be made", &error))?;
        let room = shared.options.budget.spool(at_least_bytes.next_multiple_of(BLOCK)).map_err(no_disk)?;
        let spool = Self { shared: Arc::clone(shared), file, room, blocks: Mutex::default() };
        spool.check_free(at_least_bytes)?;
        Ok(spool)
    }

    /// Writes a block, or the last piece of one, at its place. Zeros are left out.
    pub(super) fn write(&self, offset: u64, block: &[u8]) -> Result<(), BundleError> {
        if *block == ZEROS[..block.len()] {
            return Ok(());
        }
        self.shared.meter.spool(BLOCK);
        let (look, lacking) = {
            let mut blocks = self.blocks.lock();
            blocks.on_disk.insert(usize::try_from(offset / BLOCK).unwrap_or(usize::MAX));
            blocks.written += 1;
            blocks.held += BLOCK;
            (blocks.written.is_multiple_of(LOOK_BLOCKS), blocks.held.saturating_sub(self.room.bytes()))
        };
        if lacking > 0 {
            self.room.grow(lacking).map_err(no_disk)?;
        }
        if look {
            self.check_free(FLOOR_BYTES)?;
        }
        self.file
            .write_all_at(block, offset)
            .map_err(|error| refused(&self.shared, "writing a spool file", &error))
    }

    /// The file is so long now, whatever was left out.
    pub(super) fn reach(&self, len: u64) -> Result<(), BundleError> {
        self.file.set_len(len).map_err(|error| refused(&self.shared, "writing a spool file", &error))
    }

    /// Nothing more will be written: gives back what was not needed.
    pub(super) fn complete(&self) {
        let held = self.blocks.lock().held;
        self.room.give_back(self.room.bytes().saturating_sub(held));
    }

    /// Bytes that are in the file.
    pub(super) fn read(&self, offset: u64, len: usize) -> Result<Bytes, BundleError> {
        let mut bytes = vec![0; len];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(|error| refused(&self.shared, "reading a spool file", &error))?;
        Ok(bytes.into())
    }

    /// Gives back the whole blocks of the range, where the file system can do that.
    pub(super) fn punch(&self, range: Range<u64>) {
        let (first, last) = (range.start.div_ceil(BLOCK), range.end / BLOCK);
        if first >= last {
            return;
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let mut blocks = self.blocks.lock();
        if fallocate(&self.file, flags, first * BLOCK, (last - first) * BLOCK).is_ok() {
            let index = |block| usize::try_from(block).unwrap_or(usize::MAX);
            let gone =
                (first..last).filter(|block| blocks.on_disk.remove(index(*block))).count() as u64 * BLOCK;
            blocks.held -= gone;
            self.shared.meter.unspool(gone);
            self.room.give_back(gone);
        }
    }

    fn check_free(&self, needed_bytes: u64) -> Result<(), BundleError> {
        // A file system that cannot tell will say so when it is full.
        let Ok(stat) = fstatvfs(&self.file) else { return Ok(()) };
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if free >= needed_bytes {
            return Ok(());
        }
        let dir = self.shared.options.spool_dir.display();
        let (needed, free) = (mebibytes(needed_bytes), mebibytes(free));
        Err(BundleError::new(
            Fault::NoSpace,
            format!("decoding needs {needed} in {dir}, where {free} are free"),
        )
        .hint("name a folder with more space with `--spool-dir DIR`"))
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        self.shared.meter.unspool(self.blocks.lock().on_disk.count() * BLOCK);
    }
}

fn no_disk(NoDisk { needed, limit }: NoDisk) -> BundleError {
    let what = format!(
        "decoding needs more spool space than the limit of {}: at least {}, with the room for layers",
        ByteCount(limit),
        ByteCount(needed)
    );
    // As it may be written, and not less than is needed.
    let kibibytes = needed.div_ceil(1 << 10);
    BundleError::new(Fault::NoSpace, what)
        .hint(format!("raise it with `--spool-limit BYTES` to {kibibytes}KiB or more"))
}

fn refused(shared: &Shared, what: &str, error: &io::Error) -> BundleError {
    BundleError::io(what, error)
        .at(shared.options.spool_dir.display())
        .hint("name a folder with enough space with `--spool-dir DIR`")
}
