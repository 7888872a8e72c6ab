//! Makes room on a full disk. Garbage goes first, then idle uploads, the longest idle first and no more of them than needed.

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::collect::{GRACE, UPLOAD_LIFETIME, is_older};
use super::fsync::{entries, found};
use super::sessions::SessionId;
use super::store::Store;
use crate::clock::Instant;
use crate::error::is_full;

/// How long an upload may be idle, also on a full disk: its client may be between two chunks, or reconnecting.
pub(super) const UPLOAD_GRACE: Duration = Duration::from_secs(60);

/// How often the store searches for garbage, and how long it does not search at all after it found nothing.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// An upload without a request.
struct IdleUpload {
    since: SystemTime,
    len: u64,
    path: PathBuf,
    id: SessionId,
}

impl Store {
    /// Takes room that is about to be filled, and makes some where there is not enough.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`] where that is not possible.
    pub(super) fn take_room(&self, bytes: u64) -> io::Result<()> {
        self.disk.take(bytes).or_else(|full| {
            if self.make_room(|| self.disk.lacks(bytes)) { self.disk.take(bytes) } else { Err(full) }
        })
    }

    /// Makes room for bytes that the file system refused; whether any was made.
    pub(super) fn free_room(&self, bytes: u64) -> bool {
        self.make_room(|| bytes)
    }

    /// Runs `work`, which writes this many bytes, and runs it once more if the disk was full and room was made.
    pub(super) fn with_room<T>(&self, bytes: u64, work: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match work() {
            Err(error) if is_full(&error) && self.make_room(|| self.disk.lacks(bytes).max(bytes)) => work(),
            done => done,
        }
    }

    /// One at a time. After a wait for another one, nothing may be lacking any more.
    fn make_room(&self, lacking: impl Fn() -> u64) -> bool {
        let is_recent = |then: Option<Instant>| then.is_some_and(|then| then.elapsed() < LOOK_EVERY);
        let mut search = self.disk.search.lock();
        let wanted = lacking();
        if wanted == 0 {
            return true;
        }
        if is_recent(search.found_nothing) {
            return false;
        }
        let before = self.disk.used();
        if !is_recent(search.collected) {
            search.collected = Some(Instant::now());
            if let Err(error) = self.collect(UPLOAD_LIFETIME, GRACE) {
                tracing::error!(%error, "the disk is full, and garbage cannot be removed");
            }
        }
        let collected = before.saturating_sub(self.disk.used());
        let evicted = self.evict_uploads(wanted.saturating_sub(collected)).unwrap_or_else(|error| {
            tracing::error!(%error, "the disk is full, and idle uploads cannot be removed");
            0
        });
        search.found_nothing = (collected + evicted == 0).then(Instant::now);
        collected + evicted > 0
    }

    /// Removes the longest idle uploads, as many as needed; gives the number of bytes. Removes none where all of them would
    /// not be enough.
    fn evict_uploads(&self, wanted: u64) -> io::Result<u64> {
        let mut idle = self.idle_uploads()?;
        idle.retain(|upload| upload.len > 0);
        if wanted == 0 || idle.iter().map(|upload| upload.len).sum::<u64>() < wanted {
            return Ok(0);
        }
        idle.sort_by_key(|upload| upload.since);
        let (mut freed, mut uploads) = (0, 0);
        for upload in idle {
            if freed >= wanted {
                break;
            }
            if self.remove_idle_upload(&upload.id, &upload.path)? {
                freed += upload.len;
                uploads += 1;
            }
        }
        tracing::warn!(uploads, bytes = freed, "the disk is full: the longest idle uploads were removed");
        Ok(freed)
    }

    /// Removes the longest idle uploads beyond this number of idle ones. Without that, a client that opens uploads and never
    /// ends them could fill the folder with files.
    pub(super) fn limit_uploads(&self, most: usize) -> io::Result<()> {
        let mut idle = self.idle_uploads()?;
        let Some(uploads) = idle.len().checked_sub(most).filter(|excess| *excess > 0) else { return Ok(()) };
        idle.sort_by_key(|upload| upload.since);
        for upload in idle.iter().take(uploads) {
            self.remove_idle_upload(&upload.id, &upload.path)?;
        }
        tracing::warn!(uploads, "too many uploads are open: the longest idle ones were removed");
        Ok(())
    }

    fn idle_uploads(&self) -> io::Result<Vec<IdleUpload>> {
        let mut idle = Vec::new();
        self.walk_repositories(&mut |folder| {
            for upload in entries(&folder.join("_uploads"))? {
                let Some(metadata) = found(upload.metadata())? else { continue };
                let id = upload.file_name().to_str().and_then(SessionId::parse);
                if let (Some(id), Ok(since)) = (id, metadata.modified())
                    && is_older(Some(since), UPLOAD_GRACE)
                {
                    idle.push(IdleUpload { since, len: metadata.len(), path: upload.path(), id });
                }
            }
            Ok(())
        })?;
        Ok(idle)
    }
}
