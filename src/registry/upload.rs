//! Uploads a blob.
//!
//! ```text
//!            ┌────────── restart: new session, from the first byte ──────────┐
//!            ▼                                                               │
//!  POST ─► session ─┬► single: PUT ?digest with all bytes ──────────┬► 201: done
//!                   ├► stream: PATCH with all bytes ► PUT ?digest ──┤
//!                   └► chunks: PATCH … PATCH ► PUT ?digest ─────────┘► else: HEAD ─┬► there: done
//!                      ▲                                                           ├► other method
//!                      └─ resume: GET <session> says how much has arrived ◄────────┤
//!                                                                                  └► give up
//! ```
//!
//! A failed commit is often a success whose answer got lost, so the registry is always asked before anything is sent
//! again; where it was silent for long before the answer got lost, it is asked for as long as the commit may take. Bytes
//! whose answer got lost are never sent again blindly: appending twice would spoil the blob. The registry is asked how much it
//! has of the session, and the upload goes on there; where the session is lost with its connection, as at most registries,
//! a new try begins with a new one. What a mirror keeps is remembered ([`quirks`](crate::registry::quirks)).
//!
//! What is sent next is decided in [`next_request`], where it goes on in [`offset`], both pure.

mod closing;
mod commit;
mod failures;
mod ledger;
mod measured;
mod next_request;
pub(super) mod offset;
mod recovery;
mod resume;
mod send;
mod session;
mod session_status;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::closing::{CancelAnswer, unmatched_digest};
use self::failures::{UploadDecision, UploadFailures};
pub(crate) use self::ledger::{KeptMark, SessionReach, StoredSession, UploadKey, UploadLedger};
pub(crate) use self::measured::{MeasuredMethod, MeasuredTimes, MeasuredUpload};
use self::send::InterruptedUpload;
pub(crate) use self::session::{BlobProof, Mount, UploadSession};

use crate::oci::{Digest, Repository};
use crate::registry::Registry;
use crate::registry::body::{BlobBody, TransferredBytes};
use crate::registry::error::{FailureKind, RegistryError};
use crate::registry::quirks::Keeping;
use crate::registry::retry::driver::RetryDriver;
use crate::registry::transport::{BlobPart, Payload};

/// What is sent of a smaller blob costs no more than asking for it.
const RESUMABLE_BYTES: u64 = 256 << 10;

/// A blob is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// What it took, all tries together.
    pub bytes_sent: u64,
    /// What the registry had of it from an earlier run, and was not sent again.
    pub bytes_found: u64,
    /// How often it went on where it was, after its connection broke or in another run.
    pub resumed: u32,
    /// What says that it is there.
    pub(crate) proof: BlobProof,
}

/// What became of a blob that is in the repository of its session.
enum Landed {
    /// It is where it is wanted.
    There(BlobProof),
    /// It is sent again, into this session of the repository that is to have it.
    Elsewhere(UploadSession),
}

/// What one upload is about.
struct Upload<'a> {
    /// Where the session is: not always the repository that is to have the blob (see [`resume`]).
    repository: Repository,
    digest: &'a Digest,
    body: &'a dyn BlobBody,
    taken: Arc<TransferredBytes>,
    hold: Duration,
    bytes_found: u64,
    resumed: u32,
    /// Chunks that reached the other side and were dropped there.
    dropped: u32,
}

impl<'a> Upload<'a> {
    /// One that begins.
    fn plain(repository: &Repository, digest: &'a Digest, body: &'a dyn BlobBody) -> Self {
        let (taken, hold) = (Arc::default(), Duration::ZERO);
        Self {
            repository: repository.clone(),
            digest,
            body,
            taken,
            hold,
            bytes_found: 0,
            resumed: 0,
            dropped: 0,
        }
    }

    fn payload(&self, range: std::ops::Range<u64>) -> Payload<'_> {
        if range.is_empty() && !self.body.is_empty() {
            return Payload::Empty;
        }
        Payload::Blob(BlobPart { body: self.body, range, taken: &self.taken, hold: self.hold })
    }

    /// What an earlier session had is sent again.
    fn begins_anew_in(&mut self, repository: &Repository) {
        self.repository = repository.clone();
        (self.bytes_found, self.resumed) = (0, 0);
    }

    fn what(&self) -> String {
        format!("blob {}", self.digest.short())
    }
}

impl Registry {
    /// Sends a blob, into `session` if there is one.
    ///
    /// # Errors
    /// An error of the body ([`FailureKind::Source`]) ends the upload at once: nothing is committed and nothing retried.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        body: &Arc<dyn BlobBody>,
        session: Option<UploadSession>,
    ) -> Result<Pushed, RegistryError> {
        let body = body.as_ref();
        let mut upload = Upload::plain(repository, digest, body);
        let pushed = self.push(&mut upload, session, repository).await;
        // Of a blob that is not there nothing was sent that counts.
        upload.taken.goes_on_at(if pushed.is_ok() { body.len() } else { 0 }, self.observer());
        pushed
    }

    async fn push(
        &self,
        upload: &mut Upload<'_>,
        session: Option<UploadSession>,
        repository: &Repository,
    ) -> Result<Pushed, RegistryError> {
        let mut driver = RetryDriver::new(self.policy(), self.observer(), upload.what());
        let mut trials = UploadFailures::default();
        // Fixed here and where it is switched: what other uploads learn meanwhile must not turn this one back.
        let mut method = self.host().quirks().upload;
        let mut given = session;
        if let Some(earlier) = self.earlier_session(upload).await
            && let Some(needless) = given.replace(earlier)
        {
            needless.cancel().await;
        }
        loop {
            let mut session = if let Some(session) = given.take() {
                session
            } else {
                upload.begins_anew_in(repository);
                self.start_upload(repository).await?
            };
            let stopped = match self.send(upload, &mut session, method).await {
                Ok(proof) => {
                    if trials.switched {
                        self.host().quirks().upload = method;
                    }
                    match self.landed(upload, session, repository, proof).await? {
                        Landed::There(proof) => return Ok(self.acknowledged(upload, proof)),
                        Landed::Elsewhere(opened) => given = Some(opened),
                    }
                    continue;
                }
                Err(stopped) => stopped,
            };
            match stopped.error.kind() {
                // The account has lost its right to the repository of an earlier run; it is the other one that matters.
                FailureKind::Auth | FailureKind::Denied if upload.repository != *repository => {
                    self.forget(upload);
                    session.abandoned();
                    continue;
                }
                // The session is committed, to something else.
                FailureKind::Integrity => {
                    self.forget(upload);
                    session.finished();
                    return Err(stopped.error);
                }
                FailureKind::Source => {
                    self.cancel(upload, session).await;
                    return Err(stopped.error);
                }
                // A later run may have the right to push.
                FailureKind::Auth
                | FailureKind::Denied
                | FailureKind::Tls
                | FailureKind::Machine
                | FailureKind::Internal => {
                    if session.is_kept() {
                        session.abandoned();
                    } else {
                        self.cancel(upload, session).await;
                    }
                    return Err(stopped.error);
                }
                _ => {}
            }
            if stopped.may_be_committed()
                && self.is_there_after(upload, &stopped.error).await.inspect_err(|_| session.abandoned())?
            {
                match self.landed(upload, session, repository, BlobProof::Claimed).await? {
                    Landed::There(proof) => return Ok(self.acknowledged(upload, proof)),
                    Landed::Elsewhere(opened) => given = Some(opened),
                }
                continue;
            }
            let then = self.after_failure(upload, &mut session, &stopped, &mut trials).await;
            self.remember();
            let InterruptedUpload { error, .. } = stopped;
            match then.inspect_err(|_| session.abandoned())? {
                UploadDecision::Resume => {
                    upload.resumed += 1;
                    if trials.has_none() {
                        driver = RetryDriver::new(self.policy(), self.observer(), upload.what());
                    }
                    self.back_off(&mut driver, &error).await;
                    given = Some(session);
                }
                UploadDecision::SwitchMethod => {
                    self.close(upload, session, &error).await;
                    method = method.other();
                    let cause = error.cause().in_short();
                    self.observer().retry(&upload.what(), &error.to_string(), &cause, Duration::ZERO);
                }
                UploadDecision::Restart if self.host().take_retry() => {
                    self.close(upload, session, &error).await;
                    self.back_off(&mut driver, &error).await;
                }
                UploadDecision::Restart | UploadDecision::GiveUp => {
                    if session.is_kept() && error.is_retryable() || error.kind() == FailureKind::Unreachable {
                        session.abandoned();
                    } else {
                        self.close(upload, session, &error).await;
                    }
                    return Err(error);
                }
            }
            upload.hold =
                if trials.broken > 0 { self.transport().early_refusal_timeout() } else { Duration::ZERO };
        }
    }

    /// The blob is in the repository of its session. The one that is to have it takes it over from there; where the registry
    /// does not do that, comes back with the session in which all of it is sent again.
    async fn landed(
        &self,
        upload: &mut Upload<'_>,
        session: UploadSession,
        wanted_in: &Repository,
        proof: BlobProof,
    ) -> Result<Landed, RegistryError> {
        self.forget(upload);
        session.finished();
        if upload.repository == *wanted_in {
            return Ok(Landed::There(proof));
        }
        match self.mount(wanted_in, upload.digest, &upload.repository).await? {
            Mount::Done(BlobProof::Confirmed) => Ok(Landed::There(proof)),
            Mount::Done(BlobProof::Claimed) => Ok(Landed::There(BlobProof::Claimed)),
            Mount::Session(opened) => {
                upload.begins_anew_in(wanted_in);
                Ok(Landed::Elsewhere(opened))
            }
        }
    }

    /// Closes a session in which nothing more is sent.
    async fn close(&self, upload: &Upload<'_>, mut session: UploadSession, error: &RegistryError) {
        // One that answers 404 is gone already, and so is any whose connection broke, where that is known of the mirror.
        let is_broken = error.kind().is_network();
        if error.status() == Some(404) || is_broken && self.keeping() == Keeping::Nothing {
            self.forget(upload);
            session.abandoned();
        } else if is_broken {
            // What is still on its way is waited for, and the blob does not wait for that.
            self.forget(upload);
            session.cancel_aside();
        } else {
            self.cancel(upload, session).await;
        }
    }

    async fn cancel(&self, upload: &Upload<'_>, session: UploadSession) {
        self.forget(upload);
        session.cancel().await;
    }

    /// Waits before the next request of the upload.
    async fn back_off(&self, driver: &mut RetryDriver<'_>, error: &RegistryError) {
        // The pause that a registry asks for is over by now.
        if !matches!(error.status(), Some(429 | 503)) {
            driver.back_off(self.host(), &error.to_string(), &error.cause().in_short()).await;
        }
    }

    fn acknowledged(&self, upload: &Upload<'_>, proof: BlobProof) -> Pushed {
        self.host().breaker().acknowledged();
        self.host().quirks().learn_dropped(upload.dropped);
        self.remember();
        let Upload { bytes_found, resumed, .. } = *upload;
        Pushed { bytes_sent: upload.taken.bytes(), bytes_found, resumed, proof }
    }

    /// Whether the blob is there, although its upload has `failed`. Where that cannot be found out, the failure of the upload
    /// says more than that of the question, unless the host is gone.
    async fn is_there_after(
        &self,
        upload: &Upload<'_>,
        failed: &RegistryError,
    ) -> Result<bool, RegistryError> {
        match Box::pin(self.head_blob(&upload.repository, upload.digest)).await {
            Ok(size) => Ok(size == Some(upload.body.len())),
            Err(asking) if asking.kind() == FailureKind::Unreachable => Err(asking.after(failed)),
            Err(asking) => {
                tracing::debug!(%asking, "whether the blob is there was not found out");
                Err(failed.clone())
            }
        }
    }
}

#[cfg(test)]
mod tests;
