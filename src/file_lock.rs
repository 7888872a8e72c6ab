//! Locks of files, by which processes share a folder. The kernel has them: they end with the process, however it ends.
//!
//! One that another process holds is waited for on a thread of its own, in the kernel. So a wait ends at once when the lock
//! comes free, and in time when it does not: a process that is stopped, or hangs on its disk, holds up no other for ever.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread::Builder;
use std::time::Duration;

use crossbeam::channel::bounded;
use rustix::fs::OFlags;

/// Who else may have the lock meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// All who share it.
    Shared,
    /// Nobody.
    Alone,
}

impl Sharing {
    fn try_take(self, file: &File) -> Result<(), TryLockError> {
        match self {
            Self::Shared => file.try_lock_shared(),
            Self::Alone => file.try_lock(),
        }
    }

    fn take(self, file: &File) -> io::Result<()> {
        #[allow(clippy::disallowed_methods)]
        // the thread that waits here is given up where that takes too long
        match self {
            Self::Shared => file.lock_shared(),
            Self::Alone => file.lock(),
        }
    }
}

/// Locks a file, which must be open for writing where others lock it alone. Whoever holds it is waited for as long as
/// `patience` lasts.
///
/// # Errors
/// The system refuses, or (as [`io::ErrorKind::TimedOut`]) the lock was not given back in time. The file must not be locked
/// again then: whoever waits for it in vain gives it back when he gets it.
pub(crate) fn take(file: &File, sharing: Sharing, patience: Duration) -> io::Result<()> {
    match sharing.try_take(file) {
        Ok(()) => return Ok(()),
        Err(TryLockError::Error(error)) => return Err(error),
        Err(TryLockError::WouldBlock) => {}
    }
    let waiting = file.try_clone()?;
    // Without a place in it: what is sent has come, or nobody wants it.
    let (taken, answer) = bounded(0);
    Builder::new().name("file-lock".to_owned()).spawn(move || {
        let result = sharing.take(&waiting);
        if taken.send(result).is_err() {
            // It goes with the process at the latest.
            let _ = waiting.unlock();
        }
    })?;
    answer.recv_timeout(patience).unwrap_or_else(|_| Err(not_given_back(patience)))
}

fn not_given_back(patience: Duration) -> io::Error {
    let told =
        format!("another process holds its lock and has not given it back within {} s", patience.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, told)
}

/// Says when nobody holds the lock of a file alone any more, once. Where whoever wants to know is gone by then, nothing is left
/// behind but a thread that waits.
///
/// # Errors
/// The system has no thread for it.
pub(crate) fn when_released(file: File, say: impl FnOnce() + Send + 'static) -> io::Result<()> {
    Builder::new().name("file-lock".to_owned()).spawn(move || {
        // All who wait see it at once. Where the system refuses, whoever asks for the lock hears why.
        let _ = Sharing::Shared.take(&file);
        drop(file);
        say();
    })?;
    Ok(())
}

/// A file that is locked as long as this lives, and is removed then. Where the process was killed it stays, and is not locked:
/// see [`sweep`].
#[derive(Debug)]
pub(crate) struct LockedFile {
    pub(crate) file: File,
    path: Option<PathBuf>,
}

/// How long a sweep may look at a file.
const SWEEP: Duration = Duration::from_secs(10);

impl LockedFile {
    /// A new file in this folder, for its owner alone, with a name that no other has.
    ///
    /// # Errors
    /// The system refuses it.
    pub(crate) fn create(folder: &Path) -> io::Result<Self> {
        loop {
            let path = folder.join(format!("{:016x}{:016x}", fastrand::u64(..), fastrand::u64(..)));
            let new = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&path);
            let file = match new {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                opened => opened?,
            };
            let held = Self { file, path: Some(path) };
            take(&held.file, Sharing::Alone, SWEEP)?;
            // Before it was locked it may have been taken for one of a process that was killed.
            if held.file.metadata()?.nlink() > 0 {
                return Ok(held);
            }
        }
    }

    /// Its name in the folder.
    pub(crate) fn name(&self) -> Option<&str> {
        self.path.as_ref()?.file_name()?.to_str()
    }

    /// Gives it another name, under which it stays, when its bytes are on the disk.
    ///
    /// # Errors
    /// The system refuses it.
    pub(crate) fn put(mut self, to: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        if let Some(path) = &self.path {
            fs::rename(path, to)?;
        }
        self.path = None;
        Ok(())
    }
}

impl Drop for LockedFile {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // A sweep removes it otherwise.
            let _ = fs::remove_file(path);
        }
    }
}

/// Opens what should be a file of ours. Links are not followed, and nothing is waited for.
fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    OpenOptions::new().read(true).custom_flags(flags).open(path)
}

/// Whether somebody holds this file, as far as can be seen.
pub(crate) fn is_held(path: &Path) -> bool {
    match open(path) {
        Ok(file) => file.try_lock_shared().is_err(),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Removes what killed processes left in a folder for files that are held.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        // Locked meanwhile, so that one that is new is not taken for another's.
        if let Ok(file) = open(&path)
            && file.try_lock_shared().is_ok()
        {
            // What cannot be removed is removed by the next sweep.
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn opened(path: &std::path::Path) -> File {
        File::options().read(true).write(true).open(path).unwrap()
    }

    #[test]
    fn a_lock_that_is_not_given_back_is_waited_for_in_vain_and_goes_to_the_next() {
        let named = tempfile::NamedTempFile::new().unwrap();
        let [held, waits, next] = [0; 3].map(|_| opened(named.path()));
        take(&held, Sharing::Alone, LONG).unwrap();
        for sharing in [Sharing::Shared, Sharing::Alone] {
            let error = take(&waits, sharing, Duration::from_millis(1)).unwrap_err();
            assert!(error.kind() == io::ErrorKind::TimedOut && error.to_string().contains("another process"));
        }
        drop(held);
        // Those who gave up give back what they get.
        take(&next, Sharing::Alone, LONG).unwrap();
    }

    #[test]
    fn a_file_that_is_held_outlives_a_sweep_and_goes_with_its_holder() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("killed"), "").unwrap();
        let held = LockedFile::create(folder.path()).unwrap();
        let path = folder.path().join(held.name().unwrap());
        sweep(folder.path()).unwrap();
        assert!(is_held(&path) && !is_held(&folder.path().join("killed")));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        drop(held);
        assert!(!is_held(&path) && !path.exists());
        let kept = folder.path().join("kept");
        LockedFile::create(folder.path()).unwrap().put(&kept).unwrap();
        assert!(kept.exists() && !is_held(&kept));
    }

    #[test]
    fn a_lock_is_had_when_it_is_given_back() {
        let named = tempfile::NamedTempFile::new().unwrap();
        let [held, waits] = [0; 2].map(|_| opened(named.path()));
        take(&held, Sharing::Alone, LONG).unwrap();
        let (say, said) = bounded(1);
        when_released(opened(named.path()), move || say.send(()).unwrap()).unwrap();
        assert!(said.try_recv().is_err());
        let waiting = std::thread::spawn(move || take(&waits, Sharing::Shared, LONG).map(|()| waits));
        drop(held);
        let waits = waiting.join().unwrap().unwrap();
        assert_eq!(said.recv_timeout(LONG), Ok(()));
        assert!(matches!(opened(named.path()).try_lock(), Err(TryLockError::WouldBlock)), "{waits:?}");
        take(&opened(named.path()), Sharing::Shared, LONG).unwrap();
    }
}
