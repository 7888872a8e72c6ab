//! One run at a time for each mirror: two that push the same bundle to one mirror at the same time only slow each other down.
//!
//! A lock is a file below the state's folder, locked by the kernel and released by it however the process ends. The
//! file stays: to remove it would let a third run lock a file that a second one still waits for.

#[cfg(test)]
mod tests;

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;

use super::folder;
use crate::error::printable;
use crate::oci::Digest;

/// The locks of a run; given back when it is dropped.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub(crate) struct RunLock {
    _files: Vec<File>,
}

/// Why a run may not start, or could not ask.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another run has the lock.
    #[error(
        "mirror {mirror}: another run{} is pushing to it; wait for it to end, or name another folder with --state-dir",
        holder(*.pid)
    )]
    Held {
        /// The mirror, as it was given.
        mirror: String,
        /// The process that holds the lock, if it has said so yet.
        pid: Option<u32>,
    },
    /// The folder of the state cannot be used. A run may go on without a lock: two at once waste time, no more.
    #[error("locking mirror {mirror} in {folder}: {error}")]
    Unusable {
        /// The mirror, as it was given.
        mirror: String,
        /// The folder.
        folder: String,
        /// What the system says.
        error: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

impl RunLock {
    /// Locks all of these mirrors (host and namespace, as `registry.example:5000/ns`), or none of them. Never waits.
    ///
    /// # Errors
    /// [`LockError::Held`] with the first that another run holds.
    pub(crate) fn acquire(state_folder: &Path, mirrors: &[String]) -> Result<Self, LockError> {
        let mut names: Vec<&str> = mirrors.iter().map(|mirror| mirror.trim_end_matches('/')).collect();
        names.sort_unstable();
        names.dedup();
        let files = names.into_iter().map(|mirror| lock(state_folder, mirror)).collect::<Result<_, _>>()?;
        Ok(Self { _files: files })
    }
}

fn lock(state_folder: &Path, mirror: &str) -> Result<File, LockError> {
    let locks = state_folder.join("locks");
    let unusable = |error: io::Error| LockError::Unusable {
        mirror: printable(mirror),
        folder: printable(&locks.display().to_string()),
        error,
    };
    folder::make(&locks).map_err(unusable)?;
    // Names of mirrors hold slashes, and can be longer than a file's name may be.
    let name = format!("{}.lock", &Digest::of(mirror.to_ascii_lowercase().as_bytes()).hex()[..32]);
    let mut file = folder::open_file(&locks.join(name)).map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = holder_of(&mut file);
            return Err(LockError::Held { mirror: printable(mirror), pid });
        }
        Err(TryLockError::Error(error)) => return Err(unusable(error)),
    }
    // For people and for the message of the next run; the lock is the kernel's.
    let holder = format!("{}\n{mirror}\n", std::process::id());
    file.set_len(0).and_then(|()| file.write_all(holder.as_bytes())).map_err(unusable)?;
    Ok(file)
}

fn holder_of(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.take(4096).read_to_string(&mut text).ok()?;
    text.lines().next()?.parse().ok()
}
