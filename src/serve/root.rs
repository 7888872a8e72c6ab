//! The root folder of a store: whether a folder is one, and the lock of the process that writes to it.
//!
//! Opening a store deletes what an earlier process left half done. So a folder with other files is refused.

#[cfg(test)]
mod tests;

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use super::error::ServeError;
use super::fsync::{create_dir_durable, sync_dir};

/// The file that marks a folder as a store, and holds the version of its layout.
const MARKER: &str = "layercast-store";
const VERSION: u64 = 1;

/// The folders of a store.
const FOLDERS: [&str; 3] = ["blobs", "repositories", "tmp"];
const LOCK: &str = "lock";

/// A folder that every new ext4 file system has.
const OF_THE_FILE_SYSTEM: &str = "lost+found";

/// What a folder holds.
#[derive(Debug, PartialEq, Eq)]
enum RootContents {
    Nothing,
    Store,
    /// A store of a version of layercast that wrote no marker.
    Unmarked,
    /// A store of a later version.
    Newer(String),
    /// Other files; the names of some.
    Foreign(String),
}

/// Makes a folder a store, or opens one, and locks it. This process alone writes to it as long as it keeps the file.
pub(super) fn take(root: &Path) -> Result<File, ServeError> {
    let at = |step: &str| format!("{}: {step}", root.display());
    create_dir_durable(root).map_err(ServeError::io(at("cannot make the folder")))?;
    let is_marked = match contents(root).map_err(ServeError::io(at("cannot read the folder")))? {
        RootContents::Store => true,
        RootContents::Nothing | RootContents::Unmarked => false,
        RootContents::Newer(version) => return Err(ServeError::Newer(root.to_owned(), version)),
        RootContents::Foreign(names) => return Err(ServeError::Foreign(root.to_owned(), names)),
    };
    if !is_marked {
        mark(root).map_err(ServeError::io(at("cannot mark the folder")))?;
    }
    for folder in FOLDERS {
        create_dir_durable(&root.join(folder)).map_err(ServeError::io(at("cannot make the folder")))?;
    }
    let lock = File::create(root.join(LOCK)).map_err(ServeError::io(at("cannot make the lock")))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(ServeError::Locked(root.to_owned())),
        Err(TryLockError::Error(error)) => Err(ServeError::io(at("cannot lock it"))(error)),
    }
}

/// Checks that a folder is a store. Readers need no lock, because the writer replaces files and never changes them.
pub(super) fn check(root: &Path) -> Result<(), ServeError> {
    match contents(root).map_err(ServeError::io(format!("{}: cannot read the folder", root.display())))? {
        RootContents::Store | RootContents::Unmarked => Ok(()),
        RootContents::Nothing => Err(ServeError::NoStore(root.to_owned())),
        RootContents::Newer(version) => Err(ServeError::Newer(root.to_owned(), version)),
        RootContents::Foreign(names) => Err(ServeError::Foreign(root.to_owned(), names)),
    }
}

fn contents(root: &Path) -> io::Result<RootContents> {
    let mut names: Vec<String> = fs::read_dir(root)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<_>>()?;
    names.retain(|name| name != OF_THE_FILE_SYSTEM);
    names.sort_unstable();
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    if has(MARKER) {
        let mut version = String::new();
        File::open(root.join(MARKER))?.take(64).read_to_string(&mut version)?;
        // Empty: a process was killed between making the file and writing to it.
        return Ok(match version.trim() {
            "" => RootContents::Store,
            known if known == VERSION.to_string() => RootContents::Store,
            other => RootContents::Newer(other.to_owned()),
        });
    }
    if names.is_empty() {
        return Ok(RootContents::Nothing);
    }
    // Docker's registry has `blobs` and `repositories` too, but nothing beside them.
    if FOLDERS.iter().all(|folder| root.join(folder).is_dir()) {
        return Ok(RootContents::Unmarked);
    }
    let more = if names.len() > 3 { ", …" } else { "" };
    names.truncate(3);
    Ok(RootContents::Foreign(names.join(", ") + more))
}

fn mark(root: &Path) -> io::Result<()> {
    let mut marker = File::create(root.join(MARKER))?;
    marker.write_all(format!("{VERSION}\n").as_bytes())?;
    marker.sync_all()?;
    sync_dir(root)
}
