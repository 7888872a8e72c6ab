//! The folder of the stage: what lies where, and the locks by which runs share it.
//!
//! ```text
//! stage.json            that it is a stage, and of which version
//! oci-layout index.json blobs/ALGORITHM/HEX     a plain OCI layout
//! bundles/STEM.json     the mark of a bundle; STEM.catalog beside it; STEM.lock is held by runs that use it
//! tmp/                  files that are being written, each locked by who writes it
//! change.lock           held for each change of marks, index and room
//! runs/                 a file for each run that uses the stage, held as long as it does, and as old as the run
//! ```
//!
//! Locks are the kernel's: they end with the process that holds them, however it ends.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{Access, OFlags, access};
use serde::{Deserialize, Serialize};

use super::layout;
use crate::file_lock::{self, LockedFile, Sharing};
use crate::locks::{Mutex, MutexGuard};
use crate::oci::{Algorithm, Digest};
use crate::small_file;
use crate::source::is_remote;

const VERSION: u32 = 1;
const MARKER: &str = "stage.json";
const CHANGE_LOCK: &str = "change.lock";
const MARKER_ASIDE: &str = ".stage.json.";
/// A folder at the root of a volume of its own.
const NO_CONTENT: &str = "lost+found";
const ALGORITHMS: [Algorithm; 2] = [Algorithm::Sha256, Algorithm::Sha512];

/// A change takes milliseconds, or seconds where much is removed.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// Why a folder cannot be the stage.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StageError {
    /// It holds other files and is no stage.
    #[error("{}: the folder is no stage and is not empty (there is {first:?} in it)", folder.display())]
    Foreign { folder: PathBuf, first: String },
    /// Another version made it.
    #[error("{}: it is a stage of version {version}, and this program knows version {VERSION}", folder.display())]
    OtherVersion { folder: PathBuf, version: u32 },
    /// The system refuses it.
    #[error("{}: it cannot be used: {error}", folder.display())]
    Unusable { folder: PathBuf, error: io::Error },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Marker {
    stage_version: u32,
}

/// The folder, open.
#[derive(Debug)]
pub(super) struct StageFolder {
    root: PathBuf,
    change: Mutex<Change>,
    /// This run, as others see it.
    run: LockedFile,
}

/// Which runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Runs {
    All,
    /// All but this one.
    Others,
}

/// The lock for changes.
#[derive(Debug)]
enum Change {
    Open(File),
    /// It was waited for in vain. Nobody waits for it a second time.
    GivenUp,
}

impl StageFolder {
    /// The stage at `root`; made where there is nothing.
    pub(super) fn open(root: &Path) -> Result<Self, StageError> {
        let unusable = |error| StageError::Unusable { folder: root.to_owned(), error };
        make_folder(root).map_err(unusable)?;
        let root = root.canonicalize().map_err(unusable)?;
        check_is_stage(&root)?;
        Self::made(root).map_err(unusable)
    }

    fn made(root: PathBuf) -> io::Result<Self> {
        if !root.join(MARKER).exists() {
            mark_as_stage(&root)?;
        }
        let blobs = ALGORITHMS.map(|algorithm| Path::new("blobs").join(algorithm.name()));
        let own = ["blobs", "bundles", "tmp", "runs"].map(PathBuf::from);
        own.iter().chain(&blobs).try_for_each(|name| make_own_folder(&root.join(name)))?;
        let lock = |name| lockable().create(true).truncate(false).open(root.join(name));
        let change = Mutex::new(Change::Open(lock(CHANGE_LOCK)?));
        file_lock::sweep(&root.join("runs"))?;
        let run = LockedFile::create(&root.join("runs"))?;
        let folder = Self { root, change, run };
        let layout = folder.root.join("oci-layout");
        if !layout.exists() {
            folder.write_whole(&layout, layout::OCI_LAYOUT)?;
        }
        if !folder.index().exists() {
            folder.write_whole(&folder.index(), &layout::index(&[]))?;
        }
        Ok(folder)
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn index(&self) -> PathBuf {
        self.root.join("index.json")
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs").join(digest.algorithm().name()).join(digest.hex())
    }

    /// A file of a bundle.
    pub(super) fn of_bundle(&self, stem: &str, ending: &str) -> PathBuf {
        self.root.join("bundles").join(format!("{stem}.{ending}"))
    }

    /// The stems of all marks.
    pub(super) fn stems(&self) -> io::Result<Vec<String>> {
        let mut stems = Vec::new();
        for entry in fs::read_dir(self.root.join("bundles"))? {
            let name = entry?.file_name();
            stems.extend(name.to_str().and_then(|name| name.strip_suffix(".json")).map(str::to_owned));
        }
        stems.sort_unstable();
        Ok(stems)
    }

    /// The user whose folder it is, where that is neither this one nor root.
    pub(super) fn foreign_owner(&self) -> Option<u32> {
        let folder = File::open(&self.root).ok()?;
        // A file server has users of its own.
        let owner = folder.metadata().ok().filter(|_| !is_remote(&folder))?.uid();
        is_foreign(owner, rustix::process::geteuid().as_raw()).then_some(owner)
    }

    /// Keeps all others from changing anything until the guard is dropped.
    pub(super) fn change(&self) -> io::Result<ChangeLock<'_>> {
        let mut change = self.change.lock();
        let Change::Open(file) = &mut *change else {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "another run does not give its lock back"));
        };
        match take(file, Sharing::Alone) {
            Ok(()) => Ok(ChangeLock(change)),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                *change = Change::GivenUp;
                Err(named(&self.root.join(CHANGE_LOCK), &error))
            }
            Err(error) => Err(error),
        }
    }

    /// The lock of a bundle, shared with other runs. Taking it, or removing its file, needs the change lock.
    pub(super) fn hold(&self, _: &ChangeLock<'_>, stem: &str) -> io::Result<File> {
        let path = self.of_bundle(stem, "lock");
        let file = lockable().create(true).truncate(false).open(path)?;
        take(&file, Sharing::Shared)?;
        Ok(file)
    }

    /// Whether a run holds a bundle.
    pub(super) fn is_held(&self, _: &ChangeLock<'_>, stem: &str) -> bool {
        match lockable().open(self.of_bundle(stem, "lock")) {
            Ok(file) => file.try_lock().is_err(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// Removes all files of a bundle.
    pub(super) fn forget(&self, _: &ChangeLock<'_>, stem: &str) -> io::Result<()> {
        for ending in ["json", "catalog", "lock"] {
            remove(&self.of_bundle(stem, ending))?;
        }
        sync_folder(&self.root.join("bundles"))
    }

    /// A new file that is written aside. It vanishes with its guard unless it gets its name.
    pub(super) fn temporary(&self) -> io::Result<LockedFile> {
        LockedFile::create(&self.root.join("tmp"))
    }

    /// Removes what dead runs were writing.
    pub(super) fn sweep(&self) -> io::Result<()> {
        file_lock::sweep(&self.root.join("tmp"))
    }

    /// When the first of these runs began that use the stage now.
    pub(super) fn first_run(&self, among: Runs) -> io::Result<Option<SystemTime>> {
        let mut first: Option<SystemTime> = None;
        for entry in fs::read_dir(self.root.join("runs"))? {
            let entry = entry?;
            let is_own = entry.file_name().to_str() == self.run.name();
            if !(is_own && among == Runs::Others)
                && file_lock::is_held(&entry.path())
                && let Some(facts) = found(entry.metadata())?
            {
                let began = facts.modified()?;
                first = Some(first.map_or(began, |first| first.min(began)));
            }
        }
        Ok(first)
    }

    /// Writes a file whole or not at all.
    pub(super) fn write_whole(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut temporary = self.temporary()?;
        temporary.file.write_all(bytes)?;
        temporary.put(path)?;
        path.parent().map_or(Ok(()), sync_folder)
    }

    /// Makes the names of blobs survive a power cut.
    pub(super) fn sync_blobs(&self) -> io::Result<()> {
        let folders = ALGORITHMS.iter().map(|algorithm| self.root.join("blobs").join(algorithm.name()));
        folders.into_iter().try_for_each(|folder| sync_folder(&folder))
    }

    /// The blobs and their sizes.
    pub(super) fn blobs(&self) -> io::Result<HashMap<Digest, u64>> {
        Self::blobs_of(&self.root)
    }

    /// The same of a folder that may be a stage.
    pub(super) fn blobs_of(root: &Path) -> io::Result<HashMap<Digest, u64>> {
        let mut blobs = HashMap::new();
        for algorithm in ALGORITHMS {
            for entry in fs::read_dir(root.join("blobs").join(algorithm.name()))? {
                let entry = entry?;
                let digest = entry.file_name().to_str().map(|hex| format!("{}:{hex}", algorithm.name()));
                if let Some(digest) = digest.and_then(|text| text.parse().ok())
                    && let Some(facts) = found(entry.metadata())?
                {
                    blobs.insert(digest, facts.len());
                }
            }
        }
        Ok(blobs)
    }

    /// The size of the stage, with the files that are being written.
    pub(super) fn bytes(&self) -> io::Result<u64> {
        let mut bytes = self.blobs()?.values().sum();
        for name in ["bundles", "tmp"] {
            for entry in fs::read_dir(self.root.join(name))? {
                bytes += found(entry?.metadata())?.map_or(0, |facts| facts.len());
            }
        }
        Ok(bytes)
    }

    /// Differs when any process has added or removed files since.
    pub(super) fn stamp(&self) -> io::Result<Stamp> {
        let of = |name: &str| {
            let facts = fs::metadata(self.root.join(name))?;
            Ok((facts.mtime(), facts.mtime_nsec()))
        };
        let folders = ["blobs/sha256", "blobs/sha512", "bundles", "tmp"];
        folders.iter().map(|name| of(name)).collect::<io::Result<_>>().map(Stamp)
    }

    pub(super) fn free_bytes(&self) -> u64 {
        let free = |stat: rustix::fs::StatVfs| stat.f_bavail.saturating_mul(stat.f_frsize);
        rustix::fs::statvfs(&self.root).map_or(u64::MAX, free)
    }

    /// The document at `path`, of no more than this; none where there is none.
    pub(super) fn read_small(path: &Path, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = open_regular(path)? else { return Ok(None) };
        small_file::read_from(file, max_bytes).map(Some)
    }
}

/// When the folders of the stage last changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp(Vec<(i64, i64)>);

/// The right to change something.
#[derive(Debug)]
pub(super) struct ChangeLock<'a>(MutexGuard<'a, Change>);

impl Drop for ChangeLock<'_> {
    fn drop(&mut self) {
        if let Change::Open(file) = &*self.0 {
            // It goes with the process at the latest.
            let _ = file.unlock();
        }
    }
}

/// Writes the marker of a stage whole or not at all: half of it would be refused for ever.
fn mark_as_stage(root: &Path) -> io::Result<()> {
    let text = serde_json::to_vec(&Marker { stage_version: VERSION })?;
    let aside = root.join(format!("{MARKER_ASIDE}{:016x}", fastrand::u64(..)));
    let written = (|| {
        let mut file = private().write(true).create_new(true).open(&aside)?;
        file.write_all(&text)?;
        file.sync_all()?;
        fs::rename(&aside, root.join(MARKER))
    })();
    if written.is_err() {
        let _ = fs::remove_file(&aside);
    }
    written.and_then(|()| sync_folder(root))
}

/// Whether a run could use this folder, or make it.
pub(super) fn probe(root: &Path) -> Result<(), StageError> {
    let unusable = |error: io::Error| StageError::Unusable { folder: root.to_owned(), error };
    let there = match root.canonicalize() {
        Ok(root) => {
            check_is_stage(&root)?;
            root
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let whole = std::path::absolute(root).map_err(unusable)?;
            whole.ancestors().find(|folder| folder.is_dir()).unwrap_or(&whole).to_owned()
        }
        Err(error) => return Err(unusable(error)),
    };
    access(&there, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| unusable(error.into()))
}

/// A folder is a stage if it has the marker file, or is empty.
fn check_is_stage(root: &Path) -> Result<(), StageError> {
    let unusable = |error| StageError::Unusable { folder: root.to_owned(), error };
    if let Some(text) = StageFolder::read_small(&root.join(MARKER), 4096).map_err(unusable)? {
        return match serde_json::from_slice::<Marker>(&text) {
            Ok(Marker { stage_version: VERSION }) => Ok(()),
            Ok(Marker { stage_version: version }) => {
                Err(StageError::OtherVersion { folder: root.to_owned(), version })
            }
            Err(_) => Err(StageError::Foreign { folder: root.to_owned(), first: MARKER.to_owned() }),
        };
    }
    let mut names: Vec<String> = fs::read_dir(root)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .map_err(unusable)?
        .iter()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        // Another run may be about to mark it, or was killed then.
        .filter(|name| name != NO_CONTENT && !name.starts_with(MARKER_ASIDE))
        .collect();
    names.sort_unstable();
    // Another run may have begun to make it between the two looks.
    match names.into_iter().next() {
        Some(first) if !root.join(MARKER).exists() => {
            Err(StageError::Foreign { folder: root.to_owned(), first })
        }
        _ => Ok(()),
    }
}

/// Locks a file of the stage.
fn take(file: &File, sharing: Sharing) -> io::Result<()> {
    file_lock::take(file, sharing, LOCK_PATIENCE)
}

/// The same error, with the file.
fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

/// File systems of the network lock for one alone only what is open for writing. Links are not followed.
fn lockable() -> OpenOptions {
    let mut options = private();
    options.read(true).write(true).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

pub(super) const fn is_foreign(owner: u32, me: u32) -> bool {
    owner != 0 && owner != me
}

/// Makes a folder for its owner alone; one that is there stays as it is.
fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// The same for a folder of the stage itself. Files are removed there, so it must not be a link: whoever made that may have
/// meant files of others.
fn make_own_folder(folder: &Path) -> io::Result<()> {
    make_folder(folder)?;
    if fs::symlink_metadata(folder)?.is_dir() {
        return Ok(());
    }
    let why = format!("{} is a link and no folder; remove it, and the next run makes one", folder.display());
    Err(io::Error::new(io::ErrorKind::NotADirectory, why))
}

pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

pub(super) fn remove(path: &Path) -> io::Result<()> {
    found(fs::remove_file(path)).map(|_| ())
}

/// Opens a file to read it; none where there is none. Links are not followed, and nothing is waited for: whatever else lies in
/// its place is an error.
pub(super) fn open_regular(path: &Path) -> io::Result<Option<File>> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let Some(file) = found(OpenOptions::new().read(true).custom_flags(flags).open(path))? else {
        return Ok(None);
    };
    if file.metadata()?.is_file() {
        return Ok(Some(file));
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"))
}

/// None where there is no such file, or not any more.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}
