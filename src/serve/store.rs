//! The files of the store, and how changes of them survive a power cut.
//!
//! ```text
//! layercast-store                             says that the folder is a store, and the version of its layout
//! lock                                        held by the process that writes
//! tmp/                                        emptied at the start; also blobs that come with one request
//! blobs/sha256/ab/ab12…                       content of blobs and manifests, shared by all repositories
//! repositories/<name>/_blobs/sha256/ab12…     link: the size
//!                     _manifests/sha256/ab12… link: the size and the media type as it was sent
//!                     _tags/<tag>             the digest
//!                     _referrers/sha256/<subject>/sha256-ab12…   the descriptor of a manifest with that subject
//!                     _uploads/<session>      what has arrived so far: its length is the session's offset
//!                     _deleted/sha256/ab12…   link of a manifest that was deleted, until its blobs are collected
//! ```
//!
//! No part of a repository's name begins with an underscore, so nothing here can be mistaken for another. Everything in
//! this file blocks: it is called from threads that may wait.

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;

use super::disk::DiskUsage;
use super::error::{Refusal, ServeError};
use super::fsync::{create_dir_durable, entries, found, parent, remove_durable, sync_dir};
use super::limits::{BUFFERED_BYTES, DOCUMENTS};
use super::root;
use super::sessions::Sessions;
use crate::locks::{Mutex, RwLock};
use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::oci::{Digest, Repository};
use crate::small_file;

/// What is read at once when a file is hashed.
const HASH_BYTES: usize = 1 << 16;
/// A link or a tag is a line of a digest, a size and a media type.
pub(super) const MAX_LINK_BYTES: u64 = 1 << 16;

/// How a store is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StoreOptions {
    /// Nothing in the folder is changed. Others may read it at the same time, and one may write to it.
    pub(crate) read_only: bool,
    /// What blobs, manifests and uploads may take together.
    pub(crate) max_disk: Option<u64>,
}

/// The files of a registry. One process at a time writes to them.
#[derive(Debug)]
pub(crate) struct Store {
    pub(super) root: PathBuf,
    _lock: Option<File>,
    read_only: bool,
    pub(super) disk: DiskUsage,
    pub(super) sessions: Sessions,
    /// Turns to read or make a document.
    pub(super) documents: Semaphore,
    /// Bytes of blobs that may wait to be written.
    pub(super) buffers: Arc<Semaphore>,
    /// Work that is completed also when the client has gone.
    pub(super) tasks: TaskTracker,
    /// Locked for reading by work that depends on content which it has found, and for writing while something is deleted.
    pub(super) deletions: RwLock<()>,
    /// Locked while a folder is made, so that nobody writes into one that is not synced yet.
    folders: Mutex<()>,
}

/// What a repository knows of a blob or manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ContentLink {
    pub(super) size: u64,
    /// Manifests only.
    pub(super) media_type: Option<String>,
}

/// The kinds of content that a repository links to.
#[derive(Debug, Clone, Copy)]
pub(super) enum ContentKind {
    Blobs,
    Manifests,
}

impl Store {
    /// Opens the store in the folder `root`, and makes one where there is nothing. Deletes what an earlier process left half
    /// done, and content that no repository links to.
    pub(crate) fn open(root: &Path) -> Result<Self, ServeError> {
        Self::open_with(root, StoreOptions::default())
    }

    pub(crate) fn open_with(root: &Path, options: StoreOptions) -> Result<Self, ServeError> {
        let lock = if options.read_only {
            root::check(root)?;
            None
        } else {
            Some(root::take(root)?)
        };
        let store = Self {
            root: root.to_owned(),
            _lock: lock,
            read_only: options.read_only,
            disk: DiskUsage::new(options.max_disk),
            sessions: Sessions::default(),
            documents: Semaphore::new(DOCUMENTS),
            buffers: Arc::new(Semaphore::new(BUFFERED_BYTES)),
            tasks: TaskTracker::new(),
            deletions: RwLock::new(()),
            folders: Mutex::new(()),
        };
        if !options.read_only {
            let what = format!("{}: cannot clear what is left of an earlier process", root.display());
            store.scrub().map_err(ServeError::io(what))?;
        }
        Ok(store)
    }

    pub(super) const fn is_read_only(&self) -> bool {
        self.read_only
    }

    /// Whether the store can be used.
    pub(super) fn check(&self) -> io::Result<()> {
        fs::read_dir(self.root.join("repositories"))?;
        if !self.read_only {
            if self.disk.is_full() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.nameless_file()?.write_all(b"ok")?;
        }
        Ok(())
    }

    /// A file that vanishes with its last handle.
    pub(super) fn nameless_file(&self) -> io::Result<File> {
        if self.read_only { tempfile::tempfile() } else { tempfile::tempfile_in(self.root.join("tmp")) }
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

    fn link_path(&self, repository: &Repository, kind: ContentKind, digest: &Digest) -> PathBuf {
        let part = match kind {
            ContentKind::Blobs => "_blobs",
            ContentKind::Manifests => "_manifests",
        };
        self.repository(repository).join(part).join(digest.algorithm().name()).join(digest.hex())
    }

    /// The repository's link to this content. Content with another size than it had when it was stored counts as absent, and
    /// is replaced when it is pushed again.
    pub(super) fn link(
        &self,
        repository: &Repository,
        kind: ContentKind,
        digest: &Digest,
    ) -> io::Result<Option<ContentLink>> {
        let link = self.link_path(repository, kind, digest);
        let Some(text) = found(small_file::read_text(&link, MAX_LINK_BYTES))? else { return Ok(None) };
        let Some(link) = ContentLink::parse(&text) else { return Ok(None) };
        match found(fs::metadata(self.content_path(digest)))? {
            Some(content) if content.len() == link.size => Ok(Some(link)),
            _ => {
                tracing::error!(%repository, %digest, "the content is missing or has another size than when it was stored");
                Ok(None)
            }
        }
    }

    /// Links content that is in place to a repository.
    pub(super) fn put_link(
        &self,
        repository: &Repository,
        kind: ContentKind,
        digest: &Digest,
        link: &ContentLink,
    ) -> io::Result<()> {
        // Written also where it exists already: its time says when the content was last pushed.
        self.write_durable(&self.link_path(repository, kind, digest), link.text().as_bytes())
    }

    /// Removes the link of a repository to content; whether there was one. The content itself is collected later.
    pub(super) fn remove_link(
        &self,
        repository: &Repository,
        kind: ContentKind,
        digest: &Digest,
    ) -> io::Result<bool> {
        remove_durable(&self.link_path(repository, kind, digest))
    }

    /// Any repository's link to this content, if the content is there.
    pub(super) fn any_link(&self, kind: ContentKind, digest: &Digest) -> io::Result<Option<ContentLink>> {
        let mut found = None;
        self.walk_repositories(&mut |folder| {
            if found.is_none()
                && let Some(repository) = self.name_of(folder)
            {
                found = self.link(&repository, kind, digest)?;
            }
            Ok(())
        })?;
        Ok(found)
    }

    /// The repository's link to a manifest. A manifest whose bytes have changed on the disk counts as absent.
    pub(super) fn manifest_link(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> io::Result<Option<ContentLink>> {
        let Some(link) = self.link(repository, ContentKind::Manifests, digest)? else { return Ok(None) };
        // Not read into memory: a hundred requests may do this at the same time.
        if let Some(mut file) = found(File::open(self.content_path(digest)))?
            && hash(&mut file, digest)? == *digest
        {
            return Ok(Some(link));
        }
        tracing::error!(%repository, %digest, "the bytes of the manifest have changed on the disk; push it again");
        Ok(None)
    }

    /// The bytes of a manifest.
    ///
    /// # Errors
    /// Also where it is missing, or its bytes have changed on the disk.
    pub(super) fn read_manifest(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        let bytes = small_file::read(&self.content_path(digest), MAX_MANIFEST_BYTES)?;
        if digest.matches(&bytes) {
            return Ok(bytes);
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "its bytes have changed on the disk"))
    }

    /// Puts bytes in memory into place as content.
    pub(super) fn put_content(&self, digest: &Digest, bytes: &[u8]) -> io::Result<()> {
        let path = self.content_path(digest);
        let size = bytes.len() as u64;
        let old_size = found(fs::metadata(&path))?.map(|old| old.len());
        if old_size == Some(size) && small_file::read(&path, size)? == bytes {
            return sync_dir(parent(&path)?);
        }
        self.disk.take(size)?;
        self.write_durable(&path, bytes)?;
        self.disk.give_back(old_size.unwrap_or(0));
        Ok(())
    }

    /// Moves a finished, synced and checked file into place as content. It replaces an old one, because it has just been
    /// checked.
    pub(super) fn adopt_content(&self, digest: &Digest, file: &Path) -> io::Result<()> {
        let path = self.content_path(digest);
        let folder = parent(&path)?;
        self.create_dir(folder)?;
        fs::set_permissions(file, fs::Permissions::from_mode(0o444))?;
        let old = found(fs::metadata(&path))?.map_or(0, |old| old.len());
        fs::rename(file, &path)?;
        self.disk.give_back(old);
        sync_dir(folder)
    }

    /// Makes a folder that survives a power cut.
    pub(super) fn create_dir(&self, folder: &Path) -> io::Result<()> {
        let _one_at_a_time = self.folders.lock();
        if !self.root.is_dir() {
            // Made anew, it would be another store, and nobody would have its lock.
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the folder of the store has been moved or removed",
            ));
        }
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

    /// Removes a manifest from a repository; whether it was there. What it alone needed is collected later.
    pub(super) fn delete_manifest(&self, repository: &Repository, digest: &Digest) -> io::Result<bool> {
        let path = self.link_path(repository, ContentKind::Manifests, digest);
        let Some(text) = found(small_file::read_text(&path, MAX_LINK_BYTES))? else { return Ok(false) };
        let tombstone = self.repository(repository).join("_deleted").join(digest.algorithm().name());
        self.write_durable(&tombstone.join(digest.hex()), text.as_bytes())?;
        remove_durable(&path)
    }

    /// The names of all repositories that ever had an image, in no order.
    pub(super) fn repositories(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        self.walk_repositories(&mut |folder| {
            if folder.join("_manifests").is_dir() {
                names.extend(self.name_of(folder).map(|name| name.to_string()));
            }
            Ok(())
        })?;
        Ok(names)
    }

    fn name_of(&self, folder: &Path) -> Option<Repository> {
        folder.strip_prefix(self.root.join("repositories")).ok()?.to_str()?.parse().ok()
    }

    /// Calls `visit` with each folder that may be a repository.
    pub(super) fn walk_repositories(&self, visit: &mut dyn FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
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

/// The digest of the rest of a file, with the algorithm of `expected`.
pub(super) fn hash(file: &mut File, expected: &Digest) -> io::Result<Digest> {
    let mut hasher = expected.hasher();
    let mut buffer = vec![0; HASH_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&buffer[..n]),
        }
    }
}

impl ContentLink {
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

/// Runs work with the store's files on a thread that may block. It is completed even when the client has gone.
pub(super) async fn blocking<T, F>(store: &Arc<Store>, work: F) -> Result<T, Refusal>
where
    T: Send + 'static,
    F: FnOnce(&Store) -> io::Result<T> + Send + 'static,
{
    let owned = Arc::clone(store);
    let done = store.tasks.spawn_blocking(move || work(&owned)).await.map_err(io::Error::other)?;
    Ok(done?)
}
