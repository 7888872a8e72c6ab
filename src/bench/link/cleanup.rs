//! What a measurement leaves at a mirror: every session is closed, every blob that was taken is removed, and what stays all the
//! same is named.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};

use crate::locks::Mutex;
use crate::oci::{Digest, Repository};
use crate::registry::{CancelAnswer, Registry, RegistryError, UploadSession};
use crate::report::document::LeftBehind;

/// How long closing one session, or removing one blob, may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Sessions that are closed at the same time.
const AT_ONCE: usize = 8;
/// This many answers that a session is gone are checked; later ones are not.
const PROOFS: u64 = 3;
/// How often one request is sent where the registry wants fewer of them, and what is waited between.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// What docker-registry 2 keeps of each session that is cancelled: the state of a hash over no bytes.
const STATE_BYTES: u64 = 108;

/// What is at the mirror because of us.
#[derive(Debug, Default)]
pub(super) struct Traces {
    /// Blobs that it has, or may have.
    blobs: Mutex<Vec<(Digest, u64)>>,
    /// Sessions that could not be closed, and their bytes.
    sessions: AtomicU64,
    session_bytes: AtomicU64,
    /// Sessions that are to be closed, and their bytes.
    finished: Mutex<Vec<(UploadSession, u64)>>,
    /// Sessions that were cancelled.
    cancelled: AtomicU64,
    /// Sessions that were gone when the registry was asked after it had cancelled them.
    proofs: AtomicU64,
    /// Whether the registry judges sessions by the state in their location.
    is_by_state: AtomicBool,
}

impl Traces {
    /// A blob is about to be committed, so that it may be there whatever the answer is.
    pub(super) fn will_have(&self, digest: Digest, bytes: u64) {
        self.blobs.lock().push((digest, bytes));
    }

    /// The registry judges sessions by the state in their location.
    pub(super) fn are_by_state(&self) {
        self.is_by_state.store(true, Ordering::Relaxed);
    }

    /// A session that has served is closed later, when nothing is measured. That its digest was refused is no proof that there is
    /// nothing to close.
    pub(super) fn served(&self, session: UploadSession, bytes: u64) {
        self.finished.lock().push((session, bytes));
    }

    /// Closes those that have served; whether all are gone.
    pub(super) async fn close_served(&self, registry: &Registry, repository: &Repository) -> bool {
        let finished = std::mem::take(&mut *self.finished.lock());
        let closing =
            finished.into_iter().map(|(session, bytes)| self.close(registry, repository, session, bytes));
        stream::iter(closing)
            .buffer_unordered(AT_ONCE)
            .fold(true, |all, is_gone| async move { all && is_gone })
            .await
    }

    /// Closes a session, whatever has become of it; whether it is gone.
    pub(super) async fn close(
        &self,
        registry: &Registry,
        repository: &Repository,
        mut session: UploadSession,
        bytes: u64,
    ) -> bool {
        let closing = tokio::time::timeout(LIMIT, self.closed(registry, repository, &mut session));
        let is_gone = closing.await.unwrap_or(false);
        // What could be done is done; no second DELETE follows.
        session.finished();
        if !is_gone {
            self.sessions.fetch_add(1, Ordering::Relaxed);
            self.session_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        is_gone
    }

    async fn closed(
        &self,
        registry: &Registry,
        repository: &Repository,
        session: &mut UploadSession,
    ) -> bool {
        let answer = patiently(async || registry.cancel_upload(repository, session).await).await;
        let is_believed = self.proofs.load(Ordering::Relaxed) >= PROOFS;
        match answer {
            Ok(CancelAnswer::Removed) => {
                self.cancelled.fetch_add(1, Ordering::Relaxed);
                if is_believed {
                    return true;
                }
            }
            Ok(CancelAnswer::Unknown) => {}
            // A question would not bring it nearer.
            Ok(CancelAnswer::OutOfDate) => return false,
            Err(error) => {
                tracing::debug!(%error, "the session is ended in another way");
                if let Err(error) =
                    patiently(async || registry.refuse_upload(repository, session).await).await
                {
                    tracing::debug!(%error, "nor did that end the session");
                }
            }
        }
        let is_there = patiently(async || registry.has_upload(repository, session).await).await;
        let is_gone = is_there.is_ok_and(|is_there| !is_there);
        if is_gone {
            self.proofs.fetch_add(1, Ordering::Relaxed);
        }
        is_gone
    }

    /// Removes the blobs, and names what stays or may stay.
    pub(super) async fn remove(&self, registry: &Registry, repository: &Repository) -> Vec<LeftBehind> {
        self.close_served(registry, repository).await;
        let mut left = Vec::new();
        let blobs = std::mem::take(&mut *self.blobs.lock());
        for (digest, bytes) in blobs {
            let removing = patiently(async || registry.delete_blob(repository, &digest).await);
            let why = match tokio::time::timeout(LIMIT, removing).await {
                Ok(Ok(())) => "it was removed from the repository; a registry that frees bytes only when it collects garbage \
                               keeps them until then"
                    .to_owned(),
                Ok(Err(error)) => format!(
                    "the registry does not let this account remove it ({}): delete the repository, or let its collection of \
                     garbage free it",
                    error.answer_in_short().unwrap_or_else(|| error.to_string())
                ),
                Err(_) => format!("the registry did not answer within {} s", LIMIT.as_secs()),
            };
            left.push(LeftBehind { what: format!("{repository}@{digest}"), bytes, why });
        }
        let number = |count: &AtomicU64, of: &str| match count.load(Ordering::Relaxed) {
            0 => None,
            1 => Some((1, format!("1 {of} of {repository}"))),
            many => Some((many, format!("{many} {of}s of {repository}"))),
        };
        if let Some((_, what)) = number(&self.sessions, "upload session") {
            let bytes = self.session_bytes.load(Ordering::Relaxed);
            let why = "the registry does not let this account cancel them, or lost track of them: they expire there (docker-registry: \
                       after a week)";
            left.push(LeftBehind { what, bytes, why: why.to_owned() });
        }
        if let Some((many, what)) = number(&self.cancelled, "cancelled upload session")
            && self.is_by_state.load(Ordering::Relaxed)
        {
            let why = "docker-registry 2 keeps a file of a hundred bytes of each session that is cancelled, whoever does it, below \
                       _uploads; no upload can go on with it";
            left.push(LeftBehind { what, bytes: many * STATE_BYTES, why: why.to_owned() });
        }
        left
    }
}

/// Asks again where the registry wants fewer requests.
async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, RegistryError>) -> Result<T, RegistryError> {
    for _ in 1..TRIES {
        match ask().await {
            Err(error) if error.wants_fewer_requests() => {
                let pause = error.retry_after().unwrap_or(PAUSE).min(LONGEST_PAUSE);
                tokio::time::sleep(pause).await;
            }
            answer => return answer,
        }
    }
    ask().await
}
