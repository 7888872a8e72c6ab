//! An opened volume: the decoded space, and the structure of the file.

use std::fmt;
use std::sync::Arc;

use super::limits::mebibytes;
use crate::error::BundleError;
use crate::source::ByteSpace;
use crate::units::count;

/// Decoded bytes as one space.
#[derive(Debug, Clone)]
pub struct Volume {
    /// The decoded bytes.
    pub space: Arc<dyn ByteSpace>,
    /// How the file is built.
    pub structure: Structure,
}

impl Volume {
    /// Bytes that are not compressed.
    pub(super) fn plain(stored: Arc<dyn ByteSpace>) -> Result<Self, BundleError> {
        let len = stored.len()?;
        let structure = Structure {
            format: Format::Plain,
            kind: StructureKind::Plain,
            parts: 1,
            largest_part_bytes: len,
            stored_bytes: Some(len),
            decoded_bytes: Some(len),
        };
        Ok(Self { space: stored, structure })
    }
}

/// How a file is built, for `inspect`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Structure {
    /// What it is compressed with.
    pub format: Format,
    /// How it is read.
    pub kind: StructureKind,
    /// How many parts can be decoded alone; 1 where the whole must be decoded in order, or more were not counted.
    pub parts: usize,
    /// The decoded size of the largest part, or a bound for it; 0 where nothing tells.
    pub largest_part_bytes: u64,
    /// The size as stored; None for a pipe.
    pub stored_bytes: Option<u64>,
    /// The decoded size, where the file tells it.
    pub decoded_bytes: Option<u64>,
}

/// A compression format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Not compressed.
    Plain,
    /// xz.
    Xz,
    /// Zstandard.
    Zstd,
    /// gzip.
    Gzip,
    /// gzip in members of at most 64 KiB that name their sizes.
    Bgzf,
    /// bzip2.
    Bzip2,
}

impl Format {
    /// Its name, for people and reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Bgzf => "bgzf",
            Self::Bzip2 => "bzip2",
        }
    }

    /// What one of its parts is called.
    pub(super) const fn part_name(self) -> &'static str {
        match self {
            Self::Plain | Self::Bzip2 => "part",
            Self::Xz => "xz block",
            Self::Zstd => "zstd frames, part",
            Self::Gzip | Self::Bgzf => "gzip members, part",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How a volume is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StructureKind {
    /// The stored bytes are the volume.
    Plain,
    /// Independent parts, decoded as they are wanted.
    Blocks,
    /// Decoded once, in order, into a spool file.
    Spool,
}

impl StructureKind {
    /// Its name, for reports.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Blocks => "blocks",
            Self::Spool => "spool",
        }
    }
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            StructureKind::Plain => f.write_str("not compressed"),
            StructureKind::Blocks => {
                let largest = mebibytes(self.largest_part_bytes);
                let Self { format, parts, .. } = self;
                write!(f, "{format}, {} of at most {largest}, decoded on all cores", count(*parts, "part"))
            }
            StructureKind::Spool => {
                write!(f, "{}, decoded in order by one core into a spool file", self.format)
            }
        }
    }
}
