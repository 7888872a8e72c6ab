//! Uploads that are measured, and of which nothing is to stay.
//!
//! The requests are those of a push, over the same connections. The method is given, not learned, and nothing is tried again:
//! what a request meets is a result. Such an upload ends with a digest that its bytes do not have, so a registry discards them;
//! that needs no right beyond that of a push.

use std::ops::Range;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;

use super::closing::unmatched_digest;
use super::session_status::SessionStatus;
use super::{Upload, UploadSession};
use crate::clock::Instant;
use crate::oci::{Digest, Repository};
use crate::registry::body::BlobBody;
use crate::registry::cause::Cause;
use crate::registry::client::ApiRequest;
use crate::registry::error::RegistryError;
use crate::registry::quirks::Keeping;
use crate::registry::retry::Replay;
use crate::registry::{Registry, location};

/// What registries answer to a digest that the bytes do not have.
const REFUSED: [u16; 4] = [400, 404, 409, 422];
/// Part of a request that is cut off, and what is acknowledged before it.
const PROBE_BYTES: u64 = 512 << 10;

/// How the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MeasuredMethod {
    /// One PUT with all bytes, which also ends the upload.
    Put,
    /// One PATCH with all bytes, and a PUT that ends the upload.
    Patch,
    /// One PATCH with all bytes, and nothing that ends the upload.
    OpenPatch,
    /// PATCHes of so many bytes, and a PUT that ends the upload.
    Chunks(u64),
}

/// One upload.
#[derive(Clone, Copy)]
pub(crate) struct MeasuredUpload<'a> {
    pub(crate) repository: &'a Repository,
    pub(crate) body: &'a dyn BlobBody,
    /// That of the bytes, where the blob is to stay, and else another one.
    pub(crate) digest: &'a Digest,
    pub(crate) method: MeasuredMethod,
    /// Whether the body waits a moment, so that a refusal of its size can come first.
    pub(crate) holds: bool,
}

/// When the steps of an upload happened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MeasuredTimes {
    /// The first request with bytes began.
    pub(crate) began: Instant,
    /// The last answer came.
    pub(crate) ended: Instant,
    /// How long the request without bytes took that ended it; none where the bytes ended it.
    pub(crate) commit: Option<Duration>,
    /// Whether the registry took the digest.
    pub(crate) is_kept: bool,
}

impl Registry {
    /// Sends a body into a session.
    ///
    /// # Errors
    /// Whatever a request met; the session is as that left it.
    pub(crate) async fn measure_upload(
        &self,
        session: &mut UploadSession,
        measured: &MeasuredUpload<'_>,
    ) -> Result<MeasuredTimes, RegistryError> {
        let &MeasuredUpload { repository, body, digest, method, holds } = measured;
        let hold = if holds { self.transport().early_refusal_timeout() } else { Duration::ZERO };
        let upload = Upload { hold, ..Upload::plain(repository, digest, body) };
        let (len, began) = (body.len(), Instant::now());
        let part = match method {
            MeasuredMethod::Put => {
                let is_kept = self.end_upload(&upload, session, 0..len).await?;
                return Ok(MeasuredTimes { began, ended: Instant::now(), commit: None, is_kept });
            }
            MeasuredMethod::Patch | MeasuredMethod::OpenPatch => len,
            MeasuredMethod::Chunks(bytes) => bytes.clamp(1, len.max(1)),
        };
        let mut at = 0;
        while at < len {
            let range = at..len.min(at + part);
            at = range.end;
            let is_named = matches!(method, MeasuredMethod::Chunks(_));
            let next = self.append(&upload, session.location()?, range, is_named).await?;
            session.stands_at(at, next.as_ref());
        }
        let all_sent = Instant::now();
        if method == MeasuredMethod::OpenPatch {
            return Ok(MeasuredTimes { began, ended: all_sent, commit: None, is_kept: false });
        }
        let is_kept = self.end_upload(&upload, session, len..len).await?;
        Ok(MeasuredTimes { began, ended: Instant::now(), commit: Some(all_sent.elapsed()), is_kept })
    }

    /// Ends an upload with a PUT; whether its digest was taken.
    pub(super) async fn end_upload(
        &self,
        upload: &Upload<'_>,
        session: &UploadSession,
        range: Range<u64>,
    ) -> Result<bool, RegistryError> {
        let at = session.location()?;
        let url = location::with_digest(&at, upload.digest).map_err(|why| {
            let cause = Cause::Protocol(format!("an upload location that is not used: {why}"));
            self.transport().blanked(RegistryError::new("PUT", &at, cause))
        })?;
        let request = ApiRequest::new(Method::PUT, url)
            .header(CONTENT_TYPE, "application/octet-stream")
            .payload(upload.payload(range), Replay::Never)
            .also(&REFUSED);
        let reply = self.call(&upload.repository, &request).await?;
        Ok((200..300).contains(&reply.status))
    }

    /// What the registry keeps of a request that breaks off: half a megabyte is sent, and then half of a second one. None where it
    /// does not tell.
    ///
    /// # Errors
    /// It takes no PATCH, or cannot be reached.
    pub(crate) async fn probe_keeping(
        &self,
        repository: &Repository,
        session: &mut UploadSession,
        body: &dyn BlobBody,
    ) -> Result<Option<Keeping>, RegistryError> {
        let digest = unmatched_digest();
        let whole = Upload::plain(repository, &digest, body);
        let next = self.append(&whole, session.location()?, 0..PROBE_BYTES, true).await?;
        session.stands_at(PROBE_BYTES, next.as_ref());
        let end = 2 * PROBE_BYTES;
        session.sends_up_to(end);
        if self.append(&whole, session.location()?, PROBE_BYTES..end, true).await.is_ok() {
            return Err(RegistryError::internal("a body that breaks off was taken as whole"));
        }
        Ok(match self.settled_status(repository, session).await? {
            SessionStatus::Has(bytes) if bytes > PROBE_BYTES + 1 => Some(Keeping::Bytes),
            SessionStatus::Has(_) => Some(Keeping::Chunks),
            SessionStatus::Lost => Some(Keeping::Nothing),
            SessionStatus::NoOffset | SessionStatus::Untold => None,
        })
    }
}
