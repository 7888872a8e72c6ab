//! Where things lie on the disk, and how a change of them survives a power cut.
//!
//! ```text
//! lock                                        held while the store is open
//! tmp/                                        emptied at the start
//! blobs/sha256/ab/ab12…                       content of blobs and manifests, shared by all repositories
//! repositories/<name>/_blobs/sha256/ab12…     link: the size
//!                     _manifests/sha256/ab12… link: the size and the media type as it was sent
//!                     _tags/<tag>             the digest
//!                     _referrers/sha256/<subject>/sha256-ab12…   the descriptor of a manifest with that subject
//!                     _uploads/<session>      what has arrived so far: its length is the session's offset
//! ```
//!
//! No part of a repository's name begins with an underscore, so nothing here can be mistaken for another. Everything in
//! this file blocks: it is called from threads that may wait.

use crate::sync::{Mutex, RwLock};
use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio_util::task::TaskTracker;

use super::error::{Refusal, ServeError};
use super::sessions::Sessions;
use super::stats::Stats;
use crate::oci::{Algorithm, Digest, Repository};

/// How long a session that nobody touches is kept, as the most used registry does.
const SESSION_LIFETIME: Duration = Duration::from_secs(168 * 3600);

/// The files of a registry. One process at a time.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    _lock: File,
    stats: Stats,
    pub(super) sessions: Sessions,
    /// Work that goes on when the client has gone.
    pub(super) tasks: TaskTracker,
    /// Read while a manifest is stored, written while something is deleted: what was found to be there stays there.
    pub(super) deletions: RwLock<()>,
    /// Held while a folder is made, so that nobody builds on one that is not synced yet.
    folders: Mutex<()>,
}

/// What a repository knows of a blob or manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) size: u64,
    /// Manifests only.
    pub(super) media_type: Option<String>,
}

/// The two kinds of links.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shelf {
    Blobs,
    Manifests,
}

impl Store {
    /// Opens the folder `root`, making it if need be; clears what an earlier process left half done, and content that no
    /// repository links to any more.
    pub(crate) fn open(root: &Path) -> Result<Self, ServeError> {
        let at = |step: &str| format!("{}: {step}", root.display());
        for folder in ["blobs", "repositories", "tmp"] {
            create_dir_durable(&root.join(folder)).map_err(ServeError::io(at("cannot make the folder")))?;
        }
        let lock = File::create(root.join("lock")).map_err(ServeError::io(at("cannot make the lock")))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(ServeError::Locked(root.to_owned())),
            Err(TryLockError::Error(error)) => return Err(ServeError::io(at("cannot lock it"))(error)),
        }
        let store = Self {
            root: root.to_owned(),
            _lock: lock,
            stats: Stats::default(),
            sessions: Sessions::default(),
            tasks: TaskTracker::new(),
            deletions: RwLock::new(()),
            folders: Mutex::new(()),
        };
        store.scrub().map_err(ServeError::io(at("cannot clear what is left of an earlier process")))?;
        Ok(store)
    }

    /// What was asked for since the store was opened.
    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The folder of a repository.
    pub(super) fn repository(&self, repository: &Repository) -> PathBuf {
        self.root.join("repositories").join(repository.as_str())
    }

    /// Whether anything was ever stored in the repository.
    pub(super) fn has_repository(&self, repository: &Repository) -> bool {
        let folder = self.repository(repository);
        ["_blobs", "_manifests", "_tags"].iter().any(|part| folder.join(part).is_dir())
    }

    /// Where the content of a digest lies, in whichever repository it is.
    pub(super) fn content_path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join("blobs").join(digest.algorithm().name()).join(&hex[..2]).join(hex)
    }

    fn link_path(&self, repository: &Repository, shelf: Shelf, digest: &Digest) -> PathBuf {
        let part = match shelf {
            Shelf::Blobs => "_blobs",
            Shelf::Manifests => "_manifests",
        };
        self.repository(repository).join(part).join(digest.algorithm().name()).join(digest.hex())
    }

    /// What the repository knows of this content. Content that has not the size it had when it was stored is as good as
    /// absent, and will be replaced when it comes again.
    pub(super) fn link(
        &self,
        repository: &Repository,
        shelf: Shelf,
        digest: &Digest,
    ) -> io::Result<Option<Link>> {
        let Some(text) = found(fs::read_to_string(self.link_path(repository, shelf, digest)))? else {
            return Ok(None);
        };
        let Some(link) = Link::parse(&text) else { return Ok(None) };
        match found(fs::metadata(self.content_path(digest)))? {
            Some(content) if content.len() == link.size => Ok(Some(link)),
            _ => {
                tracing::error!(%repository, %digest, "the content is missing or has another size than it had");
                Ok(None)
            }
        }
    }

    /// Makes content that is in place part of a repository.
    pub(super) fn put_link(
        &self,
        repository: &Repository,
        shelf: Shelf,
        digest: &Digest,
        link: &Link,
    ) -> io::Result<()> {
        let path = self.link_path(repository, shelf, digest);
        let text = link.text();
        if found(fs::read_to_string(&path))?.is_some_and(|old| old == text) {
            return sync_dir(parent(&path)?);
        }
        self.write_durable(&path, text.as_bytes())
    }

    /// Takes content out of a repository; whether it was there. The content itself goes at the next start.
    pub(super) fn remove_link(
        &self,
        repository: &Repository,
        shelf: Shelf,
        digest: &Digest,
    ) -> io::Result<bool> {
        remove_durable(&self.link_path(repository, shelf, digest))
    }

    /// Puts bytes in memory into place as content.
    pub(super) fn put_content(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.content_path(digest);
        match found(fs::metadata(&path))? {
            Some(old) if old.len() == bytes.len() as u64 => sync_dir(parent(&path)?),
            _ => self.write_durable(&path, bytes),
        }
    }

    /// Moves a finished, synced and checked file into place as content. One that is there already is replaced: this one
    /// has just been checked.
    pub(super) fn adopt_content(&self, digest: &Digest, file: &Path) -> io::Result<()> {
        let path = self.content_path(digest);
        let folder = parent(&path)?;
        self.create_dir(folder)?;
        fs::set_permissions(file, fs::Permissions::from_mode(0o444))?;
        fs::rename(file, &path)?;
        sync_dir(folder)
    }

    /// Makes a folder that is there after a power cut.
    pub(super) fn create_dir(&self, folder: &Path) -> io::Result<()> {
        let _one_at_a_time = self.folders.lock();
        create_dir_durable(folder)
    }

    /// Writes a small file so that after a power cut there is either the old one or the new one.
    pub(super) fn write_durable(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let folder = parent(path)?;
        self.create_dir(folder)?;
        let mut file = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o644))
            .tempfile_in(self.root.join("tmp"))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        sync_dir(folder)
    }

    /// Drops sessions that nobody has touched for a week.
    pub(super) fn expire_sessions(&self) -> io::Result<()> {
        self.walk_repositories(&mut |folder| expire_sessions(&folder.join("_uploads")))
    }

    fn scrub(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.root.join("tmp"))? {
            fs::remove_file(entry?.path())?;
        }
        let mut linked = HashSet::new();
        self.walk_repositories(&mut |folder| {
            expire_sessions(&folder.join("_uploads"))?;
            for part in ["_blobs", "_manifests"] {
                linked.extend(digests_in(&folder.join(part))?);
            }
            Ok(())
        })?;
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for bucket in entries(&self.root.join("blobs").join(algorithm.name()))? {
                for content in entries(&bucket.path())? {
                    let name = content.file_name();
                    let digest = format!("{}:{}", algorithm.name(), name.to_string_lossy()).parse();
                    if digest.is_ok_and(|digest: Digest| !linked.contains(&digest)) {
                        fs::remove_file(content.path())?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Calls `visit` with each folder that may be a repository.
    fn walk_repositories(&self, visit: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
        let mut waiting = vec![self.root.join("repositories")];
        while let Some(folder) = waiting.pop() {
            visit(&folder)?;
            for entry in entries(&folder)? {
                let is_part = entry.file_name().as_encoded_bytes().starts_with(b"_");
                if !is_part && entry.file_type()?.is_dir() {
                    waiting.push(entry.path());
                }
            }
        }
        Ok(())
    }
}

impl Link {
    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let size = lines.next()?.parse().ok()?;
        Some(Self { size, media_type: lines.next().map(str::to_owned) })
    }

    fn text(&self) -> String {
        match &self.media_type {
            Some(media_type) => format!("{}\n{media_type}\n", self.size),
            None => format!("{}\n", self.size),
        }
    }
}

/// Runs file work of the store on a thread that may block. It is done to its end even when the client has gone.
pub(super) async fn blocking<T, F>(store: &Arc<Store>, work: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: FnOnce(&Store) -> io::Result<T> + Send + 'static,
{
    let owned = Arc::clone(store);
    let done = store.tasks.spawn_blocking(move || work(&owned)).await.map_err(io::Error::other)?;
    Ok(done?)
}

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
fn create_dir_durable(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent().filter(|above| !above.as_os_str().is_empty()) {
        create_dir_durable(above)?;
    }
    fs::create_dir(folder)?;
    sync_dir(parent(folder)?)
}

fn sync_dir(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn parent(path: &Path) -> io::Result<&Path> {
    match path.parent() {
        Some(above) if above.as_os_str().is_empty() => Ok(Path::new(".")),
        Some(above) => Ok(above),
        None => Err(io::Error::other("the path has no folder above it")),
    }
}

fn expire_sessions(folder: &Path) -> io::Result<()> {
    for session in entries(folder)? {
        // A session may end while we look.
        let Some(metadata) = found(session.metadata())? else { continue };
        let age = SystemTime::now().duration_since(metadata.modified()?).unwrap_or_default();
        if age > SESSION_LIFETIME {
            found(fs::remove_file(session.path()))?;
        }
    }
    Ok(())
}

/// The digests whose links lie in a folder of links.
fn digests_in(folder: &Path) -> io::Result<Vec<Digest>> {
    let mut digests = Vec::new();
    for algorithm in entries(folder)? {
        for link in entries(&algorithm.path())? {
            let (algorithm, hex) = (algorithm.file_name(), link.file_name());
            let text = format!("{}:{}", algorithm.to_string_lossy(), hex.to_string_lossy());
            digests.extend(text.parse::<Digest>());
        }
    }
    Ok(digests)
}
