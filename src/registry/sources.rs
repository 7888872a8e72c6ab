//! Mount sources: which repository of a host has a blob, so that other mirrors of the run on this host mount it and send
//! nothing.
//!
//! A source is a hint. A registry that declines a mount opens a session for the blob instead, and the source is forgotten.

use std::collections::HashMap;

use crate::locks::Mutex;
use crate::oci::{Digest, Repository};
use crate::registry::Registry;

/// A repository that has a blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlobSource {
    pub repository: Repository,
    /// The host has acknowledged the blob there in this run, or given out bytes of it.
    pub is_proven: bool,
}

/// One repository for each blob.
#[derive(Debug, Default)]
pub(super) struct BlobSources(Mutex<SourcesByBlob>);

#[derive(Debug, Default)]
struct SourcesByBlob {
    most: usize,
    sources: HashMap<Digest, BlobSource>,
}

impl BlobSources {
    /// Remembers the sources of at most this number of blobs from now on.
    pub(super) fn remember(&self, most: usize) {
        self.0.lock().most = most;
    }

    fn of(&self, digest: &Digest) -> Option<BlobSource> {
        self.0.lock().sources.get(digest).cloned()
    }

    fn note(&self, digest: Digest, repository: &Repository, is_proven: bool) {
        let mut places = self.0.lock();
        let is_full = places.sources.len() >= places.most;
        match places.sources.get_mut(&digest) {
            Some(known) if known.is_proven >= is_proven => {}
            Some(known) => *known = BlobSource { repository: repository.clone(), is_proven },
            None if is_full => {}
            None => {
                places.sources.insert(digest, BlobSource { repository: repository.clone(), is_proven });
            }
        }
    }

    fn forget(&self, digest: &Digest, repository: &Repository) {
        let mut places = self.0.lock();
        if places.sources.get(digest).is_some_and(|known| known.repository == *repository) {
            places.sources.remove(digest);
        }
    }
}

impl Registry {
    /// Another repository of this host that has a blob, by what mirrors on it have seen; none where the host does not mount.
    pub(crate) fn source_of(&self, digest: &Digest, repository: &Repository) -> Option<BlobSource> {
        let source = self.shared().blobs.of(digest).filter(|source| source.repository != *repository)?;
        self.host().quirks().takes_mounts().then_some(source)
    }

    /// Notes where a blob is.
    pub(crate) fn note_source(&self, digest: Digest, repository: &Repository, is_proven: bool) {
        self.shared().blobs.note(digest, repository, is_proven);
    }

    /// Forgets a source that does not have the blob, or does not let it be mounted.
    pub(crate) fn forget_source(&self, digest: &Digest, repository: &Repository) {
        self.shared().blobs.forget(digest, repository);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_is_kept_for_each_blob_and_what_is_proven_counts_more() {
        let sources = BlobSources::default();
        let [a, b] = ["a", "b"].map(|name| name.parse::<Repository>().unwrap());
        let [x, y] = [b"x", b"y"].map(|bytes| Digest::of(bytes));
        sources.note(x, &a, true);
        assert_eq!(sources.of(&x), None, "nobody shares the host");
        sources.remember(1);
        sources.note(x, &a, false);
        sources.note(x, &b, false);
        sources.note(y, &b, true);
        assert_eq!(sources.of(&x).map(|source| source.repository), Some(a.clone()));
        assert_eq!(sources.of(&y), None, "there is room for one");
        sources.note(x, &b, true);
        sources.note(x, &a, false);
        let proven = BlobSource { repository: b.clone(), is_proven: true };
        assert_eq!(sources.of(&x), Some(proven));
        sources.forget(&x, &a);
        assert!(sources.of(&x).is_some());
        sources.forget(&x, &b);
        assert_eq!(sources.of(&x), None);
    }
}
