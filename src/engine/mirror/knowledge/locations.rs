//! The repositories of one mirror in which each blob or manifest is known to be.

use std::collections::HashMap;
use std::sync::Arc;

use crate::oci::{Digest, Repository};

/// The repositories that have one blob or manifest. The lock is held while it is probed or sent, so each is sent once.
pub(crate) type Location = Arc<tokio::sync::Mutex<Vec<Repository>>>;
/// A location whose content is being probed or sent.
pub(crate) type LocationGuard = tokio::sync::OwnedMutexGuard<Vec<Repository>>;

/// Where the blobs, or the manifests, of one mirror are.
#[derive(Debug, Default)]
pub(crate) struct Locations(HashMap<Digest, Location>);

impl Locations {
    /// The location of a digest, empty at first.
    pub(crate) fn location(&mut self, digest: &Digest) -> Location {
        Arc::clone(self.0.entry(*digest).or_default())
    }

    /// Notes what an image that is complete in this repository has. A location whose lock is held is skipped: its holder finds
    /// out by itself.
    pub(crate) fn note(&mut self, repository: &Repository, digests: impl Iterator<Item = Digest>) {
        for digest in digests {
            if let Ok(mut repositories) = self.location(&digest).try_lock() {
                note(&mut repositories, repository);
            }
        }
    }

    /// The same for blobs and their sizes. Returns how many were not known to be there, and the bytes of those that were not
    /// known to be anywhere on the mirror.
    pub(crate) fn note_sized(
        &mut self,
        repository: &Repository,
        blobs: impl Iterator<Item = (Digest, u64)>,
    ) -> (u64, u64) {
        let (mut count, mut bytes) = (0, 0);
        for (digest, size) in blobs {
            let location = self.location(&digest);
            let Ok(mut repositories) = location.try_lock() else { continue };
            let is_first = repositories.is_empty();
            if note(&mut repositories, repository) {
                count += 1;
                bytes += if is_first { size } else { 0 };
            }
        }
        (count, bytes)
    }
}

/// Forgets that a repository has what is at a location, because the mirror proved not to have it.
pub(crate) async fn forget(location: Location, repository: &Repository) {
    location.lock().await.retain(|known| known != repository);
}

/// Adds a repository; returns whether it is new.
pub(crate) fn note(repositories: &mut Vec<Repository>, repository: &Repository) -> bool {
    let new = !repositories.contains(repository);
    if new {
        repositories.push(repository.clone());
    }
    new
}
