//! The repositories of one mirror in which each blob is known to be.

use crate::sync::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

use crate::oci::{Digest, Repository};

/// The repositories that have one blob. The lock is held while the blob is probed or sent, so each is sent once.
pub(super) type Location = Arc<tokio::sync::Mutex<Vec<Repository>>>;
/// A location whose blob is being probed or sent.
pub(super) type LocationGuard = tokio::sync::OwnedMutexGuard<Vec<Repository>>;

/// The blobs of one mirror.
#[derive(Debug, Default)]
pub(super) struct BlobLocations {
    locations: Mutex<HashMap<Digest, Location>>,
}

impl BlobLocations {
    /// The location of a blob, empty at first.
    pub(super) fn location(&self, digest: &Digest) -> Location {
        let mut locations = self.locations.lock();
        Arc::clone(locations.entry(*digest).or_default())
    }

    /// Notes blobs of an image that is complete in this repository, and returns how many were not known to be there. A
    /// location whose lock is held is skipped: its holder finds out by itself.
    pub(super) fn note(&self, repository: &Repository, blobs: impl Iterator<Item = Digest>) -> u64 {
        let learned = blobs.filter(|digest| {
            self.location(digest).try_lock().is_ok_and(|mut repositories| note(&mut repositories, repository))
        });
        learned.count() as u64
    }

    /// Forgets a blob that the mirror turned out not to have, so that it is sent.
    pub(super) async fn forget(&self, digest: &Digest, repository: &Repository) {
        self.location(digest).lock().await.retain(|known| known != repository);
    }
}

/// Adds a repository, and says whether it is new.
pub(super) fn note(repositories: &mut Vec<Repository>, repository: &Repository) -> bool {
    let new = !repositories.contains(repository);
    if new {
        repositories.push(repository.clone());
    }
    new
}
