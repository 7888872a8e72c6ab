//! Which runs are alive. Each locks a file of its own below the state's folder, and the kernel releases the lock however the
//! process ends. A process number would mean nothing in another container.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock;
use crate::state::folder;

/// Below the folder of the state.
const FOLDER: &str = "runs";
/// A file that is younger may belong to a run that has not locked it yet.
const GRACE: Duration = Duration::from_secs(60);

/// This run, as long as it lives.
#[derive(Debug)]
pub(super) struct Owner {
    folder: PathBuf,
    name: String,
    _locked: File,
}

impl Owner {
    pub(super) fn new(state_folder: &Path) -> io::Result<Self> {
        let folder = state_folder.join(FOLDER);
        folder::make(&folder)?;
        remove_dead(&folder);
        let name = format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..));
        let file = folder::open_file(&folder.join(&name))?;
        file.try_lock().map_err(io::Error::from)?;
        Ok(Self { folder, name, _locked: file })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether this run may take over the sessions of that one.
    pub(super) fn may_take(&self, whose: &str) -> bool {
        whose == self.name || !is_alive(&self.folder, whose)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.folder.join(&self.name));
    }
}

/// Whether a run is alive, or may be.
fn is_alive(folder: &Path, name: &str) -> bool {
    // A name is ours to choose; another one leads nowhere.
    if name.is_empty() || !name.bytes().all(|c| c.is_ascii_hexdigit()) {
        return false;
    }
    match File::open(folder.join(name)) {
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => false,
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => true,
        },
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Removes the files of runs that were killed.
fn remove_dead(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let age = entry.metadata().and_then(|metadata| metadata.modified());
        let age = age.ok().and_then(|then| clock::wall().duration_since(then).ok());
        let name = entry.file_name();
        if age.is_some_and(|age| age > GRACE) && name.to_str().is_some_and(|name| !is_alive(folder, name)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
