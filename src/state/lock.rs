//! One run at a time for each mirror: two that push the same bundle to one mirror at the same time only slow each other down.
//!
//! A lock is a file below the state's folder, locked by the kernel and released by it however the process ends. The
//! file stays: to remove it would let a third run lock a file that a second one still waits for.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::oneshot;

use super::folder;
use crate::clock::{self, Instant};
use crate::error::{printable, system_words};
use crate::file_lock::{self, Sharing};
use crate::oci::Digest;
use crate::small_file;

/// How long to wait for a lock whose holder is ending: the kernel unmaps its memory before it releases its locks.
const DYING: Duration = Duration::from_secs(2);

/// The locks of a run; given back when it is dropped.
#[derive(Debug)]
#[must_use = "the lock is given back when this is dropped"]
pub(crate) struct RunLock {
    _files: Vec<File>,
}

/// Why a run may not start, or could not find out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    /// Another run has the lock.
    #[error(
        "another run{} is at {mirror}",
        holder.as_ref().map_or_else(String::new, |holder| format!(" ({holder})"))
    )]
    Held {
        /// The mirror, as it was given.
        mirror: String,
        /// The run that holds the lock, if it has written its name yet.
        holder: Option<Holder>,
    },
    /// The folder of the state cannot be used. A run may go on without a lock: two at once waste time, no more.
    #[error("{mirror} cannot be locked in {folder}: {}", system_words(error))]
    Unusable {
        /// The mirror, as it was given.
        mirror: String,
        /// The folder.
        folder: String,
        /// The error of the system.
        error: io::Error,
    },
}

/// Who holds a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The process.
    pub pid: u32,
    /// When it took the lock, RFC 3339.
    pub since: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // To the second: nobody compares more.
        let since = self.since.parse::<jiff::Timestamp>();
        let since = since.map(|at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string());
        write!(f, "process {} since {}", self.pid, since.unwrap_or_else(|_| printable(&self.since)))
    }
}

impl RunLock {
    /// Locks all of these mirrors (host and namespace, as `registry.example:5000/ns`), or none of them. Waits for nobody but a
    /// process that is about to be gone.
    ///
    /// # Errors
    /// [`LockError::Held`] with the first that another run holds.
    pub(crate) fn acquire(state_folder: &Path, mirrors: &[String]) -> Result<Self, LockError> {
        let mut names: Vec<&str> = mirrors.iter().map(|mirror| mirror.trim_end_matches('/')).collect();
        names.sort_unstable();
        names.dedup();
        let began = Instant::now();
        let lock = |mirror| Lockable::new(state_folder, mirror)?.lock(began);
        let locked: Vec<Lockable<'_>> = names.into_iter().map(lock).collect::<Result<_, _>>()?;
        Ok(Self { _files: locked.into_iter().map(Lockable::signed).collect() })
    }

    /// Locks each of these mirrors, as far as no other run holds it. Waits as [`RunLock::acquire`] does, once for all.
    pub(crate) fn acquire_each(state_folder: &Path, mirrors: &[String]) -> Vec<Result<Self, LockError>> {
        let began = Instant::now();
        let lock = |mirror: &String| {
            Ok(Self { _files: vec![Self::lock_one(state_folder, mirror, began)?.signed()] })
        };
        mirrors.iter().map(lock).collect()
    }

    /// Locks all of these mirrors, and waits for the runs that hold one of them, until it is `over`. Holds none while
    /// it waits: two runs that wait for each other would wait for ever, and other runs need the mirrors that are free. Says
    /// once of each mirror that it waits for it.
    ///
    /// [`LockError::Held`] remains of those that another run held to the end.
    pub(crate) async fn wait_for_each(
        state_folder: &Path,
        mirrors: &[String],
        over: impl Future<Output = ()>,
        mut waits: impl FnMut(usize, &LockError),
    ) -> Vec<Result<Self, LockError>> {
        let mut told = HashSet::new();
        let mut over = pin!(over);
        loop {
            let (at, held) = match Self::all_or_first_held(state_folder, mirrors) {
                Ok(locks) => return locks,
                Err(held) => held,
            };
            if told.insert(at) {
                waits(at, &held);
            }
            // Only the lock that is held is asked for again. To take and return the others each time would make them look
            // held to everybody else.
            tokio::select! {
                biased;
                () = &mut over => return Self::acquire_each(state_folder, mirrors),
                () = Self::released(state_folder, &mirrors[at]) => {}
            }
        }
    }

    /// Waits until no run holds this lock. Where that cannot be waited for, whoever asks for the lock hears why.
    async fn released(state_folder: &Path, mirror: &str) {
        let (say, said) = oneshot::channel();
        if let Ok(lock) = Lockable::new(state_folder, mirror.trim_end_matches('/'))
            && file_lock::when_released(lock.file, move || say.send(()).unwrap_or_default()).is_ok()
        {
            drop(said.await);
        }
    }

    fn lock_one<'m>(state_folder: &Path, mirror: &'m str, began: Instant) -> Result<Lockable<'m>, LockError> {
        Lockable::new(state_folder, mirror.trim_end_matches('/'))?.lock(began)
    }

    /// All locks that can be taken, or none and the first that another run holds. In one order for all runs, so that of two
    /// that begin at once one gets on.
    fn all_or_first_held(
        state_folder: &Path,
        mirrors: &[String],
    ) -> Result<Vec<Result<Self, LockError>>, (usize, LockError)> {
        let mut order: Vec<usize> = (0..mirrors.len()).collect();
        order.sort_by_key(|at| mirrors[*at].to_ascii_lowercase());
        let began = Instant::now();
        let mut locks = Vec::with_capacity(mirrors.len());
        for at in order {
            match Self::lock_one(state_folder, &mirrors[at], began) {
                Err(held @ LockError::Held { .. }) => return Err((at, held)),
                lock => locks.push((at, lock)),
            }
        }
        locks.sort_by_key(|(at, _)| *at);
        let signed = |lock: Lockable<'_>| Self { _files: vec![lock.signed()] };
        Ok(locks.into_iter().map(|(_, lock)| lock.map(signed)).collect())
    }
}

/// The file of a lock, open; locked by [`Lockable::lock`].
struct Lockable<'m> {
    file: File,
    mirror: &'m str,
    folder: String,
}

impl<'m> Lockable<'m> {
    fn new(state_folder: &Path, mirror: &'m str) -> Result<Self, LockError> {
        let locks = state_folder.join("locks");
        let folder = printable(&locks.display().to_string());
        let unusable =
            |error| LockError::Unusable { mirror: printable(mirror), folder: folder.clone(), error };
        folder::make(&locks).map_err(unusable)?;
        // Names of mirrors hold slashes, and can be longer than a file's name may be.
        let name = format!("{}.lock", &Digest::of(mirror.to_ascii_lowercase().as_bytes()).hex()[..32]);
        let file = folder::open_file(&locks.join(name)).map_err(unusable)?;
        Ok(Self { file, mirror, folder })
    }

    fn lock(mut self, began: Instant) -> Result<Self, LockError> {
        match self.file.try_lock() {
            Ok(()) => return Ok(self),
            Err(TryLockError::Error(error)) => return Err(self.unusable(error)),
            Err(TryLockError::WouldBlock) => {}
        }
        // One that has not said who he is either has only just got it, or cannot write on a full disk.
        let may_go = |holder: &Option<Holder>| holder.as_ref().is_none_or(|holder| is_dying(holder.pid));
        let mut holder = self.holder();
        if may_go(&holder) {
            match file_lock::take(&self.file, Sharing::Alone, DYING.saturating_sub(began.elapsed())) {
                Ok(()) => return Ok(self),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => holder = self.holder(),
                Err(error) => return Err(self.unusable(error)),
            }
        }
        Err(LockError::Held { mirror: printable(self.mirror), holder })
    }

    /// Writes who holds the lock, for the message of the next run. The lock is the kernel's: on a full disk it stays without
    /// that line.
    fn signed(mut self) -> File {
        let holder = format!("{}\n{}\n{}\n", std::process::id(), self.mirror, clock::timestamp());
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        let _ = emptied.and_then(|()| self.file.write_all(holder.as_bytes()));
        self.file
    }

    fn holder(&mut self) -> Option<Holder> {
        let mut text = String::new();
        self.file.rewind().ok()?;
        (&self.file).take(4096).read_to_string(&mut text).ok()?;
        let mut lines = text.lines();
        let pid = lines.next()?.parse().ok()?;
        Some(Holder { pid, since: lines.nth(1)?.to_owned() })
    }

    fn unusable(&self, error: io::Error) -> LockError {
        LockError::Unusable { mirror: printable(self.mirror), folder: self.folder.clone(), error }
    }
}

/// Whether a process is gone, or about to be: killed, and giving back what it had. One that cannot be seen from here, as in
/// another container, counts as gone.
fn is_dying(pid: u32) -> bool {
    /// PF_EXITING of the kernel.
    const EXITING: u64 = 4;
    let stat = small_file::read_kernel_text(Path::new(&format!("/proc/{pid}/stat")));
    let Ok(stat) = stat else { return true };
    // The name in brackets may hold anything; behind it stand the state and, five fields on, the flags.
    let mut fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let state = fields.next();
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u64>().ok());
    matches!(state, Some("Z" | "X" | "x")) || flags.is_some_and(|flags| flags & EXITING != 0)
}
