//! How a blob gets in.
//!
//! ```text
//!            ┌────────── restart: new session, from the first byte ──────────┐
//!            ▼                                                               │
//!  POST ─► session ─┬► single: PUT ?digest with all bytes ──────────┬► 2xx: done
//!                   └► stream: PATCH with all bytes ► PUT ?digest ──┘► else: HEAD ─┬► there: done
//!                                                                                  ├► other method
//!                                                                                  └► give up
//! ```
//!
//! A failed commit is often a success whose answer got lost, so the registry is always asked before anything is sent
//! again; where it was silent for long before the answer got lost, it is asked for as long as the commit may take. Most
//! registries lose a session whose connection broke, and appending twice would spoil the blob, so a new try begins with a
//! new session.

mod commit;
mod session;
mod single;
mod stream;

use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::session::UploadSession;

use crate::oci::{Digest, Repository};
use crate::registry::Registry;
use crate::registry::attempts::Attempts;
use crate::registry::body::{BlobBody, Taken};
use crate::registry::error::{FailureKind, RegistryError};
use crate::registry::quirks::UploadMethod;
use crate::registry::retry::{self, Next, Trials};
use crate::registry::transport::Payload;

/// A proxy that refuses a request for its size often resets the connection while the body comes in, and its answer is
/// lost. Once that may have happened, the body waits this long for it.
const HOLD_AFTER_BREAK: Duration = Duration::from_secs(1);

/// A blob is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// What it took, all tries together.
    pub bytes_sent: u64,
}

/// What one upload is about.
struct Upload<'a> {
    repository: &'a Repository,
    digest: &'a Digest,
    body: &'a dyn BlobBody,
    taken: Arc<Taken>,
    hold: Duration,
}

impl Upload<'_> {
    /// All bytes.
    fn payload(&self) -> Payload<'_> {
        Payload::Blob { body: self.body, taken: &self.taken, hold: self.hold }
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
        let mut upload = Upload { repository, digest, body, taken: Arc::default(), hold: Duration::ZERO };
        let what = format!("blob {}", digest.short());
        let mut attempts = Attempts::new(self.policy(), self.observer(), what);
        let mut trials = Trials::default();
        // Fixed here and where it is switched: what other uploads learn meanwhile must not turn this one back.
        let mut method = self.host().quirks().upload;
        let mut given = session;
        loop {
            let mut session = match given.take() {
                Some(session) => session,
                None => self.start_upload(repository).await?,
            };
            let error = match self.send(&upload, &mut session, method).await {
                Ok(()) => {
                    session.finished();
                    if trials.switched {
                        self.host().quirks().upload = method;
                    }
                    return Ok(self.acknowledged(&upload));
                }
                Err(error) => error,
            };
            if matches!(
                error.kind(),
                FailureKind::Source
                    | FailureKind::Auth
                    | FailureKind::Denied
                    | FailureKind::Tls
                    | FailureKind::Machine
                    | FailureKind::Internal
            ) {
                session.cancel().await;
                return Err(error);
            }
            if self.is_there_after(&upload, &error).await.inspect_err(|_| session.abandoned())? {
                session.finished();
                return Ok(self.acknowledged(&upload));
            }
            match retry::after_upload(error.cause(), self.policy(), &mut trials) {
                Next::Switch => {
                    session.abandoned();
                    method = method.other();
                    self.observer().retry(
                        &format!("blob {}", digest.short()),
                        &error.to_string(),
                        Duration::ZERO,
                    );
                }
                Next::Restart if self.host().take_retry() => {
                    // One that answers 404 is gone already, and so is most often one whose connection broke.
                    if error.status().is_some_and(|status| status != 404) {
                        session.cancel().await;
                    } else {
                        session.abandoned();
                    }
                    // The wait that a registry asks for is over by now.
                    if !matches!(error.status(), Some(429 | 503)) {
                        let delay = attempts.delay();
                        attempts.wait(self.host(), delay, &error.to_string()).await;
                    }
                }
                Next::Restart | Next::GiveUp => {
                    if error.kind() == FailureKind::TooLarge && trials.switched {
                        self.host().quirks().learn_refused(body.len());
                    }
                    if error.kind().is_network() {
                        session.abandoned();
                    } else {
                        session.cancel().await;
                    }
                    return Err(error);
                }
            }
            upload.hold = if trials.broken > 0 { HOLD_AFTER_BREAK } else { Duration::ZERO };
        }
    }

    /// All bytes and the commit, once.
    async fn send(
        &self,
        upload: &Upload<'_>,
        session: &mut UploadSession,
        method: UploadMethod,
    ) -> Result<(), RegistryError> {
        match method {
            // A range of nothing cannot be written down, so an empty blob is always one PUT.
            UploadMethod::Stream if !upload.body.is_empty() => self.send_stream(upload, session).await,
            _ => self.send_single(upload, session).await,
        }
    }

    fn acknowledged(&self, upload: &Upload<'_>) -> Pushed {
        self.host().breaker().acknowledged();
        Pushed { bytes_sent: upload.taken.bytes() }
    }

    /// Whether the blob is there, although its upload has `failed`. Where that cannot be found out, the failure of the upload
    /// says more than that of the question, unless the host is gone.
    async fn is_there_after(
        &self,
        upload: &Upload<'_>,
        failed: &RegistryError,
    ) -> Result<bool, RegistryError> {
        match Box::pin(self.head_blob(upload.repository, upload.digest)).await {
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
