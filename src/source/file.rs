//! A path becomes an open, identified file and the space of its bytes.
//!
//! In: the path of a regular file. Out: a [`Source`]. Never opens what could hang (pipes, devices, sockets), never reads
//! the file by itself, and notices when the file is not the one it was.

use std::fs::{File, Metadata, OpenOptions};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use super::ByteSpace;
use super::held::{HeldFile, Identity, nanoseconds};
use super::map::MappedFile;
use super::pread::PositionedFile;
use crate::error::{BundleError, Fault};

/// How the bytes of a file are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum IoMode {
    /// A memory map on local file systems, positioned reads on network ones.
    #[default]
    Auto,
    /// A memory map, wherever the file lies.
    Map,
    /// Positioned reads, wherever the file lies.
    Pread,
}

/// How a source is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SourceOptions {
    /// How its bytes are read.
    pub io: IoMode,
}

/// A bundle's file, opened once and held until the end.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    held: Arc<HeldFile>,
    space: Arc<dyn ByteSpace>,
}

impl Source {
    /// The bytes as stored.
    pub(crate) fn space(&self) -> Arc<dyn ByteSpace> {
        Arc::clone(&self.space)
    }

    /// Which file it is.
    pub(crate) fn identity(&self) -> Identity {
        self.held.identity
    }

    /// When its content or anything else about it was last changed, in nanoseconds since 1970, as it was opened. No
    /// program can set this back, unlike the time of modification.
    pub(crate) fn ctime_ns(&self) -> i64 {
        self.held.ctime_ns
    }

    /// The path it was opened by.
    pub(crate) fn path(&self) -> &Path {
        &self.held.path
    }

    /// Compares the held file, and the file its path names now, with the one that was opened.
    ///
    /// # Errors
    /// [`Fault::Changed`] when it was written to, truncated, replaced or removed.
    pub(crate) fn check_unchanged(&self) -> Result<(), BundleError> {
        self.held.check()?;
        // A map that lost pages says so; the offset does not matter.
        self.space.chunk_at(0, 1)?;
        match std::fs::metadata(&self.held.path) {
            Ok(metadata) => self.held.compare(Identity::of(&metadata)),
            Err(error) => Err(self.held.changed(&format!("its path cannot be looked up any more: {error}"))),
        }
    }
}

impl Source {
    /// Whether its path has another file now, or none, while the one that was opened is what it was: all that was read of it
    /// is right.
    pub(crate) fn is_replaced(&self) -> bool {
        let there = std::fs::metadata(&self.held.path);
        let same = there.is_ok_and(|metadata| self.held.compare(Identity::of(&metadata)).is_ok());
        !same && self.held.check().is_ok() && self.space.chunk_at(0, 1).is_ok()
    }
}

/// Opens the regular file at `path`.
///
/// # Errors
/// [`Fault::Io`] with the path when it is missing, unreadable or no regular file. Never blocks on a pipe.
pub(crate) fn open(path: &Path, options: SourceOptions) -> Result<Source, BundleError> {
    let refuse = |error: &std::io::Error| BundleError::io("cannot be opened", error).at(path.display());
    // Looked at before it is opened: opening a device can have effects of its own.
    regular(path, &std::fs::metadata(path).map_err(|e| refuse(&e))?)?;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(path)
        .map_err(|e| refuse(&e))?;
    let metadata = file.metadata().map_err(|e| refuse(&e))?;
    regular(path, &metadata)?;
    let held = Arc::new(HeldFile {
        file,
        path: path.to_owned(),
        identity: Identity::of(&metadata),
        ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    });
    let space = space_of(&held, options.io).map_err(|e| held.refused("cannot be mapped", &e))?;
    Ok(Source { held, space })
}

fn regular(path: &Path, metadata: &Metadata) -> Result<(), BundleError> {
    let kind = metadata.file_type();
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_dir() {
        "a directory"
    } else {
        "a device"
    };
    let error = BundleError::new(Fault::Io, format!("is {what}, not a regular file")).at(path.display());
    Err(if kind.is_fifo() {
        error.hint("to read from a pipe, give `-` as the bundle and redirect the pipe to standard input")
    } else {
        error
    })
}

fn space_of(held: &Arc<HeldFile>, io: IoMode) -> std::io::Result<Arc<dyn ByteSpace>> {
    if io == IoMode::Pread || (io == IoMode::Auto && is_remote(&held.file)) {
        return Ok(Arc::new(PositionedFile::new(Arc::clone(held))));
    }
    match MappedFile::new(Arc::clone(held)) {
        Ok(map) => Ok(Arc::new(map)),
        Err(error) if io == IoMode::Map => Err(error),
        // A file system without maps, or too many of them: reading works everywhere.
        Err(_) => Ok(Arc::new(PositionedFile::new(Arc::clone(held)))),
    }
}

/// Whether a page of a map of this file could get lost with a server or a process.
pub(crate) fn is_remote(file: &File) -> bool {
    const REMOTE: [u32; 9] = [
        0x6969,      // NFS
        0x517b,      // SMB
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB2
        0x6573_5546, // FUSE
        0x0102_1997, // 9p
        0x00c3_6400, // Ceph
        0x5346_414f, // AFS
        0x0bd0_0bd0, // Lustre
    ];
    // The magic numbers are 32 bits wide in a field whose width depends on the machine.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    rustix::fs::fstatfs(file).is_ok_and(|stat| REMOTE.contains(&(stat.f_type as u32)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const MODES: [IoMode; 3] = [IoMode::Auto, IoMode::Map, IoMode::Pread];

    fn bundle(content: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn every_mode_reads_the_same_bytes() {
        let content: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
        let file = bundle(&content);
        for io in MODES {
            let source = open(file.path(), SourceOptions { io }).unwrap();
            let space = source.space();
            let all = crate::source::read_exact(&*space, 0, content.len()).unwrap();
            assert!(all == content[..], "{io:?}");
            assert_eq!(space.chunk_at(999_999, 3).unwrap(), content[999_999..1_000_002]);
            assert!(space.chunk_at(content.len() as u64, 1).unwrap().is_empty());
            assert!(space.chunk_at(u64::MAX, 1).unwrap().is_empty());
            source.check_unchanged().unwrap();
        }
    }

    #[test]
    fn an_empty_file_is_an_empty_space() {
        let file = bundle(b"");
        for io in MODES {
            let source = open(file.path(), SourceOptions { io }).unwrap();
            assert!(source.space().is_empty().unwrap() && source.identity().size_bytes == 0);
            source.check_unchanged().unwrap();
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let missing = folder.path().join("missing");
        for path in [&fifo, &socket, &missing, folder.path(), Path::new("/dev/null")] as [&Path; 5] {
            let error = open(path, SourceOptions::default()).unwrap_err();
            assert_eq!(error.fault(), Fault::Io);
            assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
        }
        assert!(open(&fifo, SourceOptions::default()).unwrap_err().hint_text().unwrap().contains("`-`"));
    }

    #[test]
    fn a_change_is_noticed_in_every_mode() {
        for io in MODES {
            let file = bundle(&vec![7; 100_000]);
            let source = open(file.path(), SourceOptions { io }).unwrap();
            file.as_file().set_len(50_000).unwrap();
            assert_eq!(source.space().chunk_at(10, 10).unwrap_err().fault(), Fault::Changed);
            assert_eq!(source.check_unchanged().unwrap_err().fault(), Fault::Changed);
            assert!(!source.is_replaced());
        }
    }

    #[test]
    fn a_replaced_or_removed_file_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bundle");
        std::fs::write(&path, "first").unwrap();
        let source = open(&path, SourceOptions::default()).unwrap();
        std::fs::write(folder.path().join("next"), "other").unwrap();
        std::fs::rename(folder.path().join("next"), &path).unwrap();
        assert_eq!(source.check_unchanged().unwrap_err().fault(), Fault::Changed);
        assert!(source.is_replaced());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(source.check_unchanged().unwrap_err().fault(), Fault::Changed);
        assert!(source.is_replaced());
    }
}
