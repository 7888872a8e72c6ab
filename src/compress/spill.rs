//! Where compressed layers wait for their upload: in memory as far as there is some, the rest in an unlinked file.
//!
//! Nothing here ever waits, so layers in work cannot block each other: room was promised to their image before.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;

use crate::budget::{Budget, LayerBytes, LayerRoom, NoLayerRoom};
use crate::error::{BundleError, Fault};
use crate::source::ByteSpace;
use crate::units::ByteCount;

const READ_BYTES: usize = 256 << 10;

/// Where layers may wait.
#[derive(Debug, Clone)]
pub(crate) struct SpillSettings {
    /// What they may take.
    pub budget: Arc<Budget>,
    /// What was promised to the image that a layer is made for.
    pub room: Option<Arc<LayerRoom>>,
    /// The folder for what does not fit into memory.
    pub folder: PathBuf,
}

/// A finished compressed layer. Its memory and disk are given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Spill {
    /// With the offset at which each begins.
    pieces: Vec<(u64, SpilledPiece)>,
    len: u64,
    file: Option<File>,
    /// Kept for its drop.
    _taken: LayerBytes,
}

impl Drop for Spill {
    fn drop(&mut self) {
        // To close a file without a name is to give back all of it, which takes the file system a while; whoever drops a
        // layer may be one who must not wait.
        if let Some(file) = self.file.take() {
            let _ = std::thread::Builder::new().name("close-layer".to_owned()).spawn(move || drop(file));
        }
    }
}

#[derive(Debug)]
enum SpilledPiece {
    Memory(Bytes),
    /// From this offset of the file on.
    Disk(u64),
}

/// Collects the members of one layer.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    settings: &'a SpillSettings,
    pieces: Vec<(u64, SpilledPiece)>,
    len: u64,
    /// The file and its length.
    file: Option<(File, u64)>,
    taken: LayerBytes,
}

impl<'a> Writer<'a> {
    pub(super) fn new(settings: &'a SpillSettings) -> Self {
        let taken = settings.budget.layer(settings.room.clone());
        Self { settings, pieces: Vec::new(), len: 0, file: None, taken }
    }

    pub(super) fn append(&mut self, member: Vec<u8>) -> Result<(), BundleError> {
        let bytes = member.len() as u64;
        let in_memory = self.taken.grow(bytes).map_err(no_room)?;
        let start = self.len;
        self.len += bytes;
        if in_memory == bytes {
            self.pieces.push((start, SpilledPiece::Memory(member.into())));
            return Ok(());
        }
        let (first, rest) = member.split_at(usize::try_from(in_memory).unwrap_or(0));
        if !first.is_empty() {
            self.pieces.push((start, SpilledPiece::Memory(Bytes::copy_from_slice(first))));
        }
        self.write(start + in_memory, rest).map_err(|error| {
            let folder = self.settings.folder.display();
            BundleError::io(&format!("keeping a compressed layer in {folder}"), &error)
                .hint("give a folder with more room with --spool-dir, or more memory with --memory")
        })
    }

    fn write(&mut self, start: u64, bytes: &[u8]) -> std::io::Result<()> {
        if self.file.is_none() {
            self.file = Some((tempfile::tempfile_in(&self.settings.folder)?, 0));
        }
        let Some((file, len)) = &mut self.file else { return Ok(()) };
        file.write_all(bytes)?;
        // What follows on disk what is on disk is one piece with it.
        if !matches!(self.pieces.last(), Some((_, SpilledPiece::Disk(_)))) {
            self.pieces.push((start, SpilledPiece::Disk(*len)));
        }
        *len += bytes.len() as u64;
        Ok(())
    }

    pub(super) fn finish(self) -> Spill {
        let Self { pieces, len, file, taken, .. } = self;
        Spill { pieces, len, file: file.map(|(file, _)| file), _taken: taken.finished() }
    }
}

fn no_room(NoLayerRoom { limit }: NoLayerRoom) -> BundleError {
    let limit = ByteCount(limit);
    BundleError::new(Fault::Io, format!("the compressed layers of an image need more room than the {limit} there is"))
        .hint("raise --memory, of which they have a quarter, or --spool-limit, or give a folder with more room with --spool-dir")
}

impl ByteSpace for Spill {
    fn len(&self) -> Result<u64, BundleError> {
        Ok(self.len)
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        if offset >= self.len {
            return Ok(Bytes::new());
        }
        let next = self.pieces.partition_point(|(start, _)| *start <= offset);
        let end = self.pieces.get(next).map_or(self.len, |(start, _)| *start);
        let (start, piece) = &self.pieces[next - 1];
        let into = offset - start;
        match piece {
            SpilledPiece::Memory(bytes) => {
                let from = usize::try_from(into).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(from..bytes.len().min(from.saturating_add(max))))
            }
            SpilledPiece::Disk(at) => {
                let left = usize::try_from(end - offset).unwrap_or(usize::MAX);
                let mut buffer = vec![0; left.min(max).min(READ_BYTES)];
                let file = self
                    .file
                    .as_ref()
                    .ok_or_else(|| BundleError::new(Fault::Io, "a layer's file is gone"))?;
                file.read_exact_at(&mut buffer, at + into)
                    .map_err(|error| BundleError::io("reading a compressed layer back", &error))?;
                Ok(buffer.into())
            }
        }
    }
}
