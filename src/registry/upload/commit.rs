//! The request that ends an upload, and finding out what became of it.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::CONTENT_TYPE;

use super::{Upload, UploadSession};
use crate::clock::Instant;
use crate::registry::attempts::Attempts;
use crate::registry::cause::Cause;
use crate::registry::client::ApiRequest;
use crate::registry::error::RegistryError;
use crate::registry::retry::Replay;
use crate::registry::transport::Payload;
use crate::registry::{Registry, location};

/// After this part of the time that any answer may take, a silent registry is taken to be at work on the commit, and not to
/// have lost it: 5 s of a minute.
const BUSY_PART: u32 = 12;
/// The longest pause between two questions whether it is done.
const MAX_COMMIT_DELAY: Duration = Duration::from_secs(10);

impl Registry {
    /// Commits the upload, with its bytes if they did not go before.
    pub(super) async fn commit(
        &self,
        upload: &Upload<'_>,
        session: &UploadSession,
        payload: Payload<'_>,
    ) -> Result<(), RegistryError> {
        let at = session.location()?;
        let url = location::with_digest(&at, upload.digest).map_err(|why| {
            let cause = Cause::Protocol(format!("an upload location that is not used: {why}"));
            self.transport().blanked(RegistryError::new("PUT", &at, cause))
        })?;
        let request = ApiRequest::new(Method::PUT, url)
            .header(CONTENT_TYPE, "application/octet-stream")
            .payload(payload, Replay::Never);
        let began = Instant::now();
        let Err(error) = self.call(upload.repository, &request).await else { return Ok(()) };
        let silent_since = upload.taken.whole_since().map(|since| since.max(began));
        let busy = self.transport().commit_timeout(0) / BUSY_PART;
        match silent_since.filter(|since| since.elapsed() >= busy) {
            Some(since) if may_be_under_way(error.cause()) => self.await_commit(upload, since, error).await,
            _ => Err(error),
        }
    }

    /// Somebody between us and the registry did not wait for its answer: asks until the blob is there, for as long as the
    /// commit may take. Sending the bytes again would only give it more to do.
    async fn await_commit(
        &self,
        upload: &Upload<'_>,
        since: Instant,
        error: RegistryError,
    ) -> Result<(), RegistryError> {
        let end = since + self.transport().commit_timeout(upload.body.len());
        let what = format!("blob {}", upload.digest.short());
        let mut attempts = Attempts::new(self.policy(), self.observer(), what);
        let why = format!("{error}; all bytes had been sent, so it may still be at work on them");
        while !self.is_there_after(upload, &error).await? {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(error);
            }
            let delay = attempts.delay().min(MAX_COMMIT_DELAY).min(left);
            attempts.wait(self.host(), delay, &why).await;
        }
        Ok(())
    }
}

fn may_be_under_way(cause: &Cause) -> bool {
    match cause {
        Cause::Broken(_) => true,
        Cause::Answer(refusal) => refusal.is_of_gateway() || refusal.status == 408,
        _ => false,
    }
}
