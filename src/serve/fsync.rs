//! Changes of files that survive a power cut, and reading what may not be there. Everything here blocks.

use std::fs::{self, File};
use std::io;
use std::path::Path;

/// `None` where there is no such file.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The entries of a folder; none where there is no folder.
pub(super) fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    found(fs::read_dir(folder))?.map_or_else(|| Ok(Vec::new()), Iterator::collect)
}

/// Removes a file for good; whether it was there.
pub(super) fn remove_durable(path: &Path) -> io::Result<bool> {
    if found(fs::remove_file(path))?.is_none() {
        return Ok(false);
    }
    sync_dir(parent(path)?)?;
    Ok(true)
}

/// Makes a folder and those above it, each of them synced into the one above.
pub(super) fn create_dir_durable(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent().filter(|above| !above.as_os_str().is_empty()) {
        create_dir_durable(above)?;
    }
    fs::create_dir(folder)?;
    sync_dir(parent(folder)?)
}

pub(super) fn sync_dir(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(super) fn parent(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(above) => Ok(above),
        None => Err(io::Error::other("the path has no folder above it")),
    }
}
