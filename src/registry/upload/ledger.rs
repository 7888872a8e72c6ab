//! The upload sessions that outlive a run, because a mirror may still have them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::BoxFuture;
use secrecy::SecretString;

use crate::oci::{Digest, Repository};

/// Which upload a session is for. It is used for no other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UploadKey {
    /// The registry, with scheme, port and the path of its API.
    pub registry: String,
    /// The repository there.
    pub repository: Repository,
    /// The blob.
    pub digest: Digest,
}

/// Which sessions help an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SessionReach {
    /// Those of its own repository.
    OwnRepository,
    /// Those of any repository of the registry: the blob is mounted from there.
    AnyRepository,
}

/// An upload session as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct StoredSession {
    /// Where the next request goes. Whoever has it may write.
    pub location: SecretString,
    /// Bytes of the blob.
    pub size: u64,
    /// How many of them the mirror has acknowledged.
    pub acknowledged: u64,
    /// How many may have arrived.
    pub sent: u64,
    /// When it was opened, in seconds since 1970.
    pub opened_at: i64,
    /// How long the mirror is trusted to keep it after its last request, in seconds.
    pub lifetime: u32,
}

/// Whether a session stands in the ledger, so that a later run can go on with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeptMark(Arc<AtomicBool>);

impl KeptMark {
    /// It stands there.
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it does.
    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Keeps the sessions of uploads between runs. It is a hint: nothing fails where it can keep nothing.
pub(crate) trait UploadLedger: Send + Sync {
    /// Takes the session of an upload for this run, if there is one that no other run has. With
    /// [`SessionReach::AnyRepository`] it may be one of the same blob in another repository, which is named in the answer.
    fn claim(
        &self,
        upload: UploadKey,
        reach: SessionReach,
    ) -> BoxFuture<'_, Option<(Repository, StoredSession)>>;

    /// Keeps how far an upload has come, and does not wait for the disk. The mark is set once that is written, and never where
    /// nothing can be kept.
    fn keep(&self, upload: UploadKey, session: StoredSession, mark: KeptMark);

    /// The session is over. Sessions of the same blob that runs left behind in other repositories of the registry go with it.
    fn forget(&self, upload: UploadKey);
}
