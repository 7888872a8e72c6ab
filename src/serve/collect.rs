//! Garbage collection: at the start, every ten minutes, and at once when the disk is full.
//!
//! ```text
//! an idle upload                              goes after seven days, an empty one after one
//! blobs that only a deleted manifest named    their links go after ten minutes
//! content that no repository links to         goes after ten minutes
//! ```
//!
//! A client that pushes the same image again before that finds everything as it was. Blobs that never had a manifest stay:
//! their client may still be uploading the rest of the image.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use axum::body::Bytes;

use super::fsync::{entries, found, remove_durable};
use super::limits::MAX_IDLE_UPLOADS;
use super::named::named_by;
use super::sessions::SessionId;
use super::store::Store;
use crate::clock;
use crate::oci::{Algorithm, Digest, Repository};

/// How long an idle upload is kept.
pub(super) const UPLOAD_LIFETIME: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long one without any bytes is kept.
const EMPTY_UPLOAD_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// File systems may be this much ahead of our clock.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// How long other garbage is kept.
pub(super) const GRACE: Duration = Duration::from_secs(600);

impl Store {
    /// Removes garbage.
    pub(super) fn tidy(&self) -> io::Result<()> {
        self.collect(UPLOAD_LIFETIME, GRACE)?;
        self.limit_uploads(MAX_IDLE_UPLOADS)
    }

    /// Deletes what an earlier process left half done. No client is connected yet.
    pub(super) fn scrub(&self) -> io::Result<()> {
        for entry in fs::read_dir(self.root.join("tmp"))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                fs::remove_dir_all(entry.path())?;
            } else {
                fs::remove_file(entry.path())?;
            }
        }
        self.walk_repositories(&mut |folder| {
            for upload in entries(&folder.join("_uploads"))? {
                self.disk.found(upload.metadata()?.len());
            }
            Ok(())
        })?;
        self.each_content(&mut |_, path| {
            self.disk.found(fs::metadata(path)?.len());
            Ok(())
        })?;
        self.collect(UPLOAD_LIFETIME, Duration::ZERO)?;
        self.limit_uploads(MAX_IDLE_UPLOADS)
    }

    pub(super) fn collect(&self, upload_lifetime: Duration, grace: Duration) -> io::Result<()> {
        let mut linked = HashSet::new();
        self.walk_repositories(&mut |folder| {
            self.expire_uploads(&folder.join("_uploads"), upload_lifetime)?;
            self.unlink_blobs_of_deleted(folder, grace)?;
            linked.extend(links_of(folder)?);
            Ok(())
        })?;
        let mut unlinked = Vec::new();
        self.each_content(&mut |digest, path| {
            if !linked.contains(&digest) && is_older(changed(path)?, grace) {
                unlinked.push((digest, path.to_owned()));
            }
            Ok(())
        })?;
        for (digest, path) in unlinked {
            let _alone = self.deletions.write();
            if !self.is_linked(&digest)? {
                self.remove_content(&path)?;
            }
        }
        Ok(())
    }

    fn expire_uploads(&self, folder: &Path, lifetime: Duration) -> io::Result<()> {
        for upload in entries(folder)? {
            // It may end at this moment.
            let Some(metadata) = found(upload.metadata())? else { continue };
            // Last used ahead of the clock, which was set back: from now on it is idle like any other, and goes like any other.
            if metadata.modified().is_ok_and(|modified| modified > clock::wall() + CLOCK_SLACK) {
                found(fs::File::options().append(true).open(upload.path()))?
                    .map_or(Ok(()), |file| file.set_modified(clock::wall()))?;
                continue;
            }
            let lifetime = if metadata.len() == 0 { lifetime.min(EMPTY_UPLOAD_LIFETIME) } else { lifetime };
            if !is_older(metadata.modified().ok(), lifetime) {
                continue;
            }
            match upload.file_name().to_str().and_then(SessionId::parse) {
                Some(id) => drop(self.remove_idle_upload(&id, &upload.path())?),
                None => self.remove_content(&upload.path())?,
            }
        }
        Ok(())
    }

    /// Removes an upload unless a request has it; whether it was removed.
    pub(super) fn remove_idle_upload(&self, id: &SessionId, path: &Path) -> io::Result<bool> {
        let Some(_lock) = self.sessions.try_lock(id) else { return Ok(false) };
        // First the file: without it, no request makes the session anew.
        self.remove_content(path)?;
        self.sessions.forget(id);
        Ok(true)
    }

    /// Unlinks the blobs that only deleted manifests of a repository named. Where a manifest cannot be read, nobody knows what
    /// it needs, and all blobs stay.
    fn unlink_blobs_of_deleted(&self, folder: &Path, grace: Duration) -> io::Result<()> {
        let tombstones = files_of(&folder.join("_deleted"))?;
        if tombstones.is_empty() {
            return Ok(());
        }
        let _alone = self.deletions.write();
        let (mut expired, mut kept) = (Vec::new(), Vec::new());
        for (digest, tombstone) in tombstones {
            let Some(metadata) = found(fs::metadata(&tombstone))? else { continue };
            match metadata.modified() {
                Ok(deleted) if is_older(Some(deleted), grace) => expired.push((digest, tombstone, deleted)),
                _ => kept.push((digest, tombstone)),
            }
        }
        if expired.is_empty() {
            return Ok(());
        }
        kept.extend(files_of(&folder.join("_manifests"))?);
        let mut needed = HashSet::new();
        for (digest, _) in kept {
            match self.read_manifest(&digest) {
                Ok(manifest) => needed.extend(named_by(&Bytes::from(manifest))),
                Err(error) => {
                    tracing::error!(
                        repository = %folder.display(), manifest = %digest, %error,
                        "cannot read a manifest, so nothing of its repository is collected; push it again, or delete it"
                    );
                    return Ok(());
                }
            }
        }
        for (digest, tombstone, deleted) in expired {
            let named = match self.read_manifest(&digest) {
                Ok(manifest) => named_by(&Bytes::from(manifest)),
                Err(error) => {
                    tracing::warn!(
                        repository = %folder.display(), manifest = %digest, %error,
                        "cannot read a deleted manifest; the blobs that it named stay until they are deleted"
                    );
                    Vec::new()
                }
            };
            for blob in named {
                if needed.contains(&blob) {
                    continue;
                }
                let link = folder.join("_blobs").join(blob.algorithm().name()).join(blob.hex());
                // One that was pushed after the deletion belongs to something new.
                let pushed = found(fs::metadata(&link))?.and_then(|link| link.modified().ok());
                if pushed.is_some_and(|pushed| pushed <= deleted) {
                    remove_durable(&link)?;
                }
            }
            remove_durable(&tombstone)?;
        }
        Ok(())
    }

    /// Whether a manifest of a repository names this content. One that cannot be read names nothing: nobody gets it either.
    pub(super) fn is_named(&self, repository: &Repository, digest: &Digest) -> io::Result<bool> {
        for (manifest, _) in files_of(&self.repository(repository).join("_manifests"))? {
            let Ok(bytes) = self.read_manifest(&manifest) else { continue };
            if named_by(&Bytes::from(bytes)).contains(digest) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_linked(&self, digest: &Digest) -> io::Result<bool> {
        let mut linked = false;
        self.walk_repositories(&mut |folder| {
            for part in LINKS {
                linked |= folder.join(part).join(digest.algorithm().name()).join(digest.hex()).exists();
            }
            Ok(())
        })?;
        Ok(linked)
    }

    /// Removes a file that was counted. After a power cut it may be there again, and is removed again.
    pub(super) fn remove_content(&self, path: &Path) -> io::Result<()> {
        let len = found(fs::metadata(path))?.map_or(0, |metadata| metadata.len());
        if found(fs::remove_file(path))?.is_some() {
            self.disk.give_back(len);
        }
        Ok(())
    }

    fn each_content(&self, visit: &mut dyn FnMut(Digest, &Path) -> io::Result<()>) -> io::Result<()> {
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            for bucket in entries(&self.root.join("blobs").join(algorithm.name()))? {
                for content in entries(&bucket.path())? {
                    let name = content.file_name();
                    if let Ok(digest) = format!("{}:{}", algorithm.name(), name.to_string_lossy()).parse() {
                        visit(digest, &content.path())?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// Where links to content lie.
const LINKS: [&str; 3] = ["_blobs", "_manifests", "_deleted"];

fn links_of(folder: &Path) -> io::Result<Vec<Digest>> {
    let mut digests = Vec::new();
    for part in LINKS {
        digests.extend(files_of(&folder.join(part))?.into_iter().map(|(digest, _)| digest));
    }
    Ok(digests)
}

/// The digests of the links in a folder.
fn files_of(folder: &Path) -> io::Result<Vec<(Digest, PathBuf)>> {
    let mut files = Vec::new();
    for algorithm in entries(folder)? {
        for link in entries(&algorithm.path())? {
            let (algorithm, hex) = (algorithm.file_name(), link.file_name());
            let text = format!("{}:{}", algorithm.to_string_lossy(), hex.to_string_lossy());
            files.extend(text.parse().ok().map(|digest| (digest, link.path())));
        }
    }
    Ok(files)
}

/// When a file was last renamed or changed.
fn changed(path: &Path) -> io::Result<Option<SystemTime>> {
    let since = |metadata: fs::Metadata| Duration::from_secs(u64::try_from(metadata.ctime()).unwrap_or(0));
    Ok(found(fs::metadata(path))?.map(|metadata| SystemTime::UNIX_EPOCH + since(metadata)))
}

/// Whether it was that long ago; not if the time is unknown.
pub(super) fn is_older(then: Option<SystemTime>, age: Duration) -> bool {
    then.is_some_and(|then| clock::wall().duration_since(then).is_ok_and(|since| since >= age))
}
