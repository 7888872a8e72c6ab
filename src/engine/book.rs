//! What a mirror is known to have: which blob in which of its repositories.

use crate::sync::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

use crate::oci::{Digest, Repository};

/// Where on one mirror a blob lies. Its lock is held while the blob is asked for or sent, so each is sent once.
pub(super) type Page = Arc<tokio::sync::Mutex<Vec<Repository>>>;
/// A page while its blob is asked for or sent.
pub(super) type PageInUse = tokio::sync::OwnedMutexGuard<Vec<Repository>>;

/// Blobs of one mirror.
#[derive(Debug, Default)]
pub(super) struct Book {
    pages: Mutex<HashMap<Digest, Page>>,
}

impl Book {
    /// The page of a blob.
    pub(super) fn page(&self, digest: &Digest) -> Page {
        let mut pages = self.pages.lock();
        Arc::clone(pages.entry(*digest).or_default())
    }

    /// An image is whole in this repository, and with it these blobs; gives how many of them that is news of. A page that
    /// is in use learns it elsewhere.
    pub(super) fn note(&self, repository: &Repository, blobs: impl Iterator<Item = Digest>) -> u64 {
        let learned = blobs.filter(|digest| {
            self.page(digest).try_lock().is_ok_and(|mut repositories| note(&mut repositories, repository))
        });
        learned.count() as u64
    }

    /// The mirror was wrong about this blob: it is to be sent without asking.
    pub(super) async fn forget(&self, digest: &Digest, repository: &Repository) {
        self.page(digest).lock().await.retain(|known| known != repository);
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
