//! What a mirror is known to have: which blob in which of its repositories.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::oci::{Digest, Repository};

/// Where on one mirror a blob lies. Its lock is held while the blob is asked for or sent, so each is sent once.
pub(super) type Page = Arc<tokio::sync::Mutex<Vec<Repository>>>;

/// Blobs of one mirror.
#[derive(Debug, Default)]
pub(super) struct Book {
    pages: Mutex<HashMap<Digest, Page>>,
}

impl Book {
    /// The page of a blob.
    pub(super) fn page(&self, digest: &Digest) -> Page {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(pages.entry(*digest).or_default())
    }

    /// An image is whole in this repository, and with it these blobs. A page that is in use learns it elsewhere.
    pub(super) fn note(&self, repository: &Repository, blobs: impl Iterator<Item = Digest>) {
        for digest in blobs {
            if let Ok(mut repositories) = self.page(&digest).try_lock() {
                note(&mut repositories, repository);
            }
        }
    }

    /// The mirror was wrong about this blob: it is to be sent without asking.
    pub(super) async fn forget(&self, digest: &Digest, repository: &Repository) {
        self.page(digest).lock().await.retain(|known| known != repository);
    }
}

/// Adds a repository once.
pub(super) fn note(repositories: &mut Vec<Repository>, repository: &Repository) {
    if !repositories.contains(repository) {
        repositories.push(repository.clone());
    }
}
