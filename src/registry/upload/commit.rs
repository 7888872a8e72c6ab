//! The request that ends an upload, and finding out what became of it.

use std::ops::Range;
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE};
use reqwest::{Method, Url};

use super::send::content_range;
use super::{BlobProof, Upload};
use crate::clock::Instant;
use crate::registry::cause::Cause;
use crate::registry::client::{ApiRequest, Reply};
use crate::registry::error::RegistryError;
use crate::registry::retry::Replay;
use crate::registry::retry::driver::RetryDriver;
use crate::registry::{Registry, headers, location};

/// After this part of the time that any answer may take, a silent registry is taken to be at work on the commit, and not to
/// have lost it: 5 s of a minute.
const BUSY_PART: u32 = 12;
/// The longest pause between two questions whether it is done.
const MAX_COMMIT_DELAY: Duration = Duration::from_secs(10);

impl Registry {
    /// Commits the upload, with the bytes that did not go before.
    pub(super) async fn commit(
        &self,
        upload: &Upload<'_>,
        at: &Url,
        range: Range<u64>,
    ) -> Result<BlobProof, RegistryError> {
        let is_bare = range.is_empty() && !upload.body.is_empty();
        match self.commit_once(upload, at, range.clone()).await {
            // The bytes are all there: once more is cheap, unless it came true already.
            Err(error) if is_bare && error.is_retryable() => {
                if self.is_there_after(upload, &error).await? {
                    return Ok(BlobProof::Claimed);
                }
                self.commit_once(upload, at, range).await
            }
            outcome => outcome,
        }
    }

    async fn commit_once(
        &self,
        upload: &Upload<'_>,
        at: &Url,
        range: Range<u64>,
    ) -> Result<BlobProof, RegistryError> {
        let url = location::with_digest(at, upload.digest).map_err(|why| {
            let cause = Cause::Protocol(format!("an upload location that is not used: {why}"));
            self.transport().blanked(RegistryError::new("PUT", at, cause))
        })?;
        let mut request = ApiRequest::new(Method::PUT, url)
            .header(CONTENT_TYPE, "application/octet-stream")
            .payload(upload.payload(range.clone()), Replay::Never);
        if range.start > 0 && !range.is_empty() {
            request = request.header(CONTENT_RANGE, &content_range(&range));
        }
        let began = Instant::now();
        let error = match self.call(&upload.repository, &request).await {
            Ok(reply) => return self.committed(upload, &request, &reply).await,
            Err(error) => error,
        };
        let silent_since = upload.taken.whole_since().map(|since| since.max(began));
        let busy = self.transport().commit_timeout(0) / BUSY_PART;
        match silent_since.filter(|since| since.elapsed() >= busy) {
            Some(since) if may_be_under_way(error.cause()) => self.await_commit(upload, since, error).await,
            _ => Err(error),
        }
    }

    /// What a commit that was answered came to. Only 201 says that the blob is stored; a registry that does not check what it
    /// stores may still say what it is.
    async fn committed(
        &self,
        upload: &Upload<'_>,
        request: &ApiRequest<'_>,
        reply: &Reply,
    ) -> Result<BlobProof, RegistryError> {
        if reply.status != 201 {
            return Err(self.failed(request, Cause::NotStored { status: reply.status }));
        }
        if let Some(other) = headers::other_digest(&reply.headers, upload.digest) {
            let why = format!("the registry was sent {} and says that it has stored {other}", upload.digest);
            return Err(self.failed(request, Cause::Integrity(why)));
        }
        // One that appends what it has already, and checks nothing, has more than that now.
        if upload.resumed == 0 {
            return Ok(BlobProof::Confirmed);
        }
        match Box::pin(self.head_blob(&upload.repository, upload.digest)).await {
            Ok(Some(bytes)) if bytes == upload.body.len() => Ok(BlobProof::Confirmed),
            Ok(Some(bytes)) => {
                let (digest, size) = (upload.digest, upload.body.len());
                let why = format!("the registry has stored {bytes} bytes as {digest}, which has {size}");
                Err(self.failed(request, Cause::Integrity(why)))
            }
            Ok(None) | Err(_) => Ok(BlobProof::Claimed),
        }
    }

    /// Somebody between us and the registry did not wait for its answer: asks until the blob is there, for as long as the
    /// commit may take. Sending the bytes again would only give it more to do.
    async fn await_commit(
        &self,
        upload: &Upload<'_>,
        since: Instant,
        error: RegistryError,
    ) -> Result<BlobProof, RegistryError> {
        let end = since + self.transport().commit_timeout(upload.body.len());
        let what = format!("blob {}", upload.digest.short());
        let mut driver = RetryDriver::new(self.policy(), self.observer(), what);
        let why = format!("{error}; all bytes had been sent, so it may still be at work on them");
        while !self.is_there_after(upload, &error).await? {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(error);
            }
            let most = MAX_COMMIT_DELAY.min(left);
            driver.back_off_at_most(self.host(), most, &why, "no answer after the last byte").await;
        }
        Ok(BlobProof::Claimed)
    }
}

fn may_be_under_way(cause: &Cause) -> bool {
    match cause {
        Cause::Broken(_) => true,
        Cause::Answer(refusal) => refusal.is_of_gateway() || refusal.status == 408,
        _ => false,
    }
}
