//! How a blob gets in.
//!
//! ```text
//!            ┌────────── restart: new session, from the first byte ──────────┐
//!            ▼                                                               │
//!  POST ─► session ─┬► PUT ?digest with all bytes ─────────┬► 2xx: done       │
//!                   └► PATCH with all bytes ► PUT ?digest ─┘► else: HEAD ─┬► there: done
//!                                                                        ├► other method
//!                                                                        └► give up
//! ```
//!
//! A failed commit is often a success whose answer got lost, so the registry is always asked before anything is sent
//! again. Most registries lose a session whose connection broke, and appending twice would spoil the blob, so a new try
//! begins with a new session.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, LOCATION};
use reqwest::{Method, Url};

use crate::oci::{Digest, Repository};
use crate::registry::body::BlobBody;
use crate::registry::client::{Reply, Request};
use crate::registry::error::{Cause, Kind, RegistryError};
use crate::registry::retry::{self, Next, Replay, Trials};
use crate::registry::transport::Payload;
use crate::registry::{Registry, headers, location};

/// How long a courtesy may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// A proxy that refuses a request for its size often resets the connection while the body comes in, and its answer is
/// lost. Once that may have happened, the body waits this long for it.
const HOLD_AFTER_BREAK: Duration = Duration::from_secs(1);

/// An upload that the registry waits for.
pub struct UploadSession {
    location: Url,
}

/// A blob is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pushed {
    /// What it took, all tries together.
    pub bytes_sent: u64,
}

impl fmt::Debug for UploadSession {
    // The location is a permission to write.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UploadSession(…)")
    }
}

/// What one upload is about.
struct Upload<'a> {
    repository: &'a Repository,
    digest: &'a Digest,
    body: &'a dyn BlobBody,
    taken: Arc<AtomicU64>,
    hold: Duration,
}

impl Registry {
    /// Sends a blob, into `session` if there is one.
    ///
    /// # Errors
    /// An error of the body ([`Kind::Source`]) ends the upload at once: nothing is committed and nothing retried.
    pub async fn push_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        body: &Arc<dyn BlobBody>,
        session: Option<UploadSession>,
    ) -> Result<Pushed, RegistryError> {
        let taken: Arc<AtomicU64> = Arc::default();
        let done = || Pushed { bytes_sent: taken.load(Ordering::Relaxed) };
        let mut delays = self.policy().delays();
        let mut trials = Trials::default();
        let mut given = session;
        loop {
            let session = match given.take() {
                Some(session) => session,
                None => self.start_upload(repository).await?,
            };
            let hold = if trials.broken > 0 { HOLD_AFTER_BREAK } else { Duration::ZERO };
            let upload = Upload { repository, digest, body: body.as_ref(), taken: Arc::clone(&taken), hold };
            let by_patch = self.host().wants_patch() != trials.switched;
            let error = match self.send(&upload, session.location.clone(), by_patch).await {
                Ok(()) => {
                    if trials.switched {
                        self.host().learn_patch(by_patch);
                    }
                    return Ok(done());
                }
                Err(error) => error,
            };
            if matches!(error.kind(), Kind::Source | Kind::Auth | Kind::Denied | Kind::Tls | Kind::Internal) {
                self.cancel_upload(repository, session).await;
                return Err(error);
            }
            if self.is_there(&upload).await? {
                return Ok(done());
            }
            let next = retry::after_upload(error.cause(), self.policy(), &mut trials);
            let delay = match next {
                Next::Switch => Duration::ZERO,
                Next::Restart if self.host().take_retry() => {
                    // One that answers 404 is gone already.
                    if error.status().is_some_and(|status| status != 404) {
                        self.cancel_upload(repository, session).await;
                    }
                    delays.next().unwrap_or(self.policy().max_delay)
                }
                Next::Restart | Next::GiveUp => {
                    if !error.kind().is_network() {
                        self.cancel_upload(repository, session).await;
                    }
                    return Err(error);
                }
            };
            self.observer().retry(&format!("blob {}", digest.short()), &error.to_string(), delay);
            tokio::time::sleep(delay).await;
        }
    }

    /// Opens a session, to be used or cancelled.
    pub(crate) async fn start_upload(&self, repository: &Repository) -> Result<UploadSession, RegistryError> {
        let request = Request::new(Method::POST, self.url(&format!("{repository}/blobs/uploads/"))?);
        let reply = self.call(repository, &request).await?;
        self.session(&request, &reply)
    }

    /// The session that an answer opened.
    pub(super) fn session(
        &self,
        request: &Request<'_>,
        reply: &Reply,
    ) -> Result<UploadSession, RegistryError> {
        let location = self.location(request, reply)?;
        let missing =
            || request.failed(Cause::Protocol("an upload was opened without a Location".to_owned()));
        Ok(UploadSession { location: location.ok_or_else(missing)? })
    }

    /// Tells the registry that nothing more will come. Best effort: most tokens do not allow it, and sessions expire. False
    /// if the registry does not take such requests from this account.
    pub(crate) async fn cancel_upload(&self, repository: &Repository, session: UploadSession) -> bool {
        let request = Request::new(Method::DELETE, session.location).payload(Payload::Empty, Replay::Never);
        match tokio::time::timeout(CANCEL_TIMEOUT, self.call(repository, &request)).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => {
                tracing::debug!(%error, "the upload was not cancelled and will expire");
                !matches!(error.status(), Some(401 | 403 | 405))
            }
            Err(_) => {
                tracing::debug!("the upload was not cancelled in time and will expire");
                true
            }
        }
    }

    /// All bytes and the commit, once.
    async fn send(
        &self,
        upload: &Upload<'_>,
        mut location: Url,
        by_patch: bool,
    ) -> Result<(), RegistryError> {
        let all = Payload::Blob { body: upload.body, taken: &upload.taken, hold: upload.hold };
        // A range of nothing cannot be written down, so an empty blob is always one PUT.
        if !by_patch || upload.body.is_empty() {
            return self.commit(upload, &location, all).await;
        }
        let request = Request::new(Method::PATCH, location.clone())
            .header(CONTENT_TYPE, "application/octet-stream")
            .payload(all, Replay::Never);
        let reply = self.call(upload.repository, &request).await?;
        if let Some(next) = self.location(&request, &reply)? {
            location = next;
        }
        match self.commit(upload, &location, Payload::Empty).await {
            // The bytes are all there: once more is cheap, unless it came true already.
            Err(error) if error.is_retryable() => {
                if self.is_there(upload).await? {
                    return Ok(());
                }
                self.commit(upload, &location, Payload::Empty).await
            }
            outcome => outcome,
        }
    }

    async fn commit(
        &self,
        upload: &Upload<'_>,
        location: &Url,
        payload: Payload<'_>,
    ) -> Result<(), RegistryError> {
        let url = location::with_digest(location, upload.digest).map_err(|why| {
            RegistryError::new(
                "PUT",
                location,
                Cause::Protocol(format!("an upload location that is not used: {why}")),
            )
        })?;
        let request = Request::new(Method::PUT, url)
            .header(CONTENT_TYPE, "application/octet-stream")
            .payload(payload, Replay::Never);
        self.call(upload.repository, &request).await.map(drop)
    }

    async fn is_there(&self, upload: &Upload<'_>) -> Result<bool, RegistryError> {
        Ok(self.head_blob(upload.repository, upload.digest).await? == Some(upload.body.len()))
    }

    /// Where the next request of an upload goes, if an answer says so.
    fn location(&self, request: &Request<'_>, reply: &Reply) -> Result<Option<Url>, RegistryError> {
        let Some(text) = headers::text(&reply.headers, LOCATION) else { return Ok(None) };
        let resolved = location::upload(&reply.url, text, self.endpoint(), self.allows_foreign_uploads());
        let url = resolved.map_err(|why| {
            request.failed(Cause::Protocol(format!("an upload location that is not used: {why}")))
        })?;
        let downgraded =
            reply.url.scheme() == "https" && text.get(..5).is_some_and(|s| s.eq_ignore_ascii_case("http:"));
        let text = "calls itself http:// behind TLS (set its external URL or X-Forwarded-Proto)";
        if downgraded && self.host().is_news(text) {
            self.observer().warning(&format!("{} {text}", self.endpoint()));
        }
        Ok(Some(url))
    }
}
