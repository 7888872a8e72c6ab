//! Existing blobs: whether a blob is there, its bytes, and mounts from another repository.

use futures_util::StreamExt as _;
use reqwest::Method;
use reqwest::header::RANGE;

use crate::oci::{Digest, Repository};
use crate::registry::client::{ApiRequest, Want};
use crate::registry::error::{Cause, FailureKind, RegistryError};
use crate::registry::transport::BlobStream;
use crate::registry::upload::{BlobProof, Mount};
use crate::registry::{Registry, headers};

impl Registry {
    /// The size of a blob, if it is there. `None` also where the registry will not say: then it is sent.
    pub(crate) async fn head_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<u64>, RegistryError> {
        let url = self.blob_url(repository, digest)?;
        let request = ApiRequest::new(Method::HEAD, url.clone()).also(&[400, 403, 404, 405, 501]);
        let reply = self.call(repository, &request).await?;
        match reply.status {
            400 | 403 | 404 => return Ok(None),
            405 | 501 => {}
            _ => return Ok(headers::content_length(&reply.headers)),
        }
        let request = ApiRequest::new(Method::GET, url)
            .header(RANGE, "bytes=0-0")
            .want(Want::Stream)
            .also(&[400, 403, 404, 405, 416]);
        let reply = self.call(repository, &request).await?;
        Ok(match reply.status {
            200 => headers::content_length(&reply.headers),
            // An empty blob has no first byte; its whole length stands in the refusal.
            206 | 416 => headers::whole_length(&reply.headers),
            _ => None,
        })
    }

    /// The bytes of a blob of `size` bytes, and an error at the first byte behind them: an answer need not have an end.
    /// The caller checks their digest.
    pub(crate) async fn get_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
    ) -> Result<BlobStream, RegistryError> {
        Ok(self.get_blob_from(repository, digest, size, 0).await?.1)
    }

    /// The same from the byte `from` on, and where the bytes begin: at 0 where the registry gives no part of a blob.
    pub(crate) async fn get_blob_from(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
        from: u64,
    ) -> Result<(u64, BlobStream), RegistryError> {
        let mut request = ApiRequest::new(Method::GET, self.blob_url(repository, digest)?).want(Want::Stream);
        if from > 0 {
            request = request.header(RANGE, &format!("bytes={from}-"));
        }
        let reply = self.call(repository, &request).await?;
        let is_part = reply.status == 206 && headers::first_byte(&reply.headers) == Some(from);
        let begins = if is_part { from } else { 0 };
        let Some(response) = reply.response else {
            return Ok((begins, futures_util::stream::empty().boxed()));
        };
        let blob = format!("{repository}@{digest}");
        let mut left = size - begins;
        let pieces = self.transport().stream(response).map(move |piece| {
            let piece = piece?;
            left = left.checked_sub(piece.len() as u64).ok_or_else(|| {
                RegistryError::integrity(format!(
                    "{blob}: what comes back is longer than its size, {size} bytes"
                ))
            })?;
            Ok(piece)
        });
        Ok((begins, pieces.boxed()))
    }

    /// Mounts a blob of another repository, or opens a session to send it. This fails only if the registry cannot be reached:
    /// after any other failure of a mount the blob can still be sent.
    pub(crate) async fn mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<Mount, RegistryError> {
        if self.host().quirks().mounts() {
            match self.try_mount(repository, digest, from).await {
                Ok(mount) => {
                    let mut quirks = self.host().quirks();
                    quirks.learn_mount(true);
                    quirks.learn_mounted(matches!(mount, Mount::Done(_)));
                    return Ok(mount);
                }
                Err(error) if error.kind().is_network() || error.kind() == FailureKind::Tls => {
                    return Err(error);
                }
                Err(error) => {
                    tracing::debug!(%error, "mount failed; the blob is sent instead");
                    // What is to be made first says nothing of mounts.
                    if error.status() != Some(404) || self.repository_maker().is_none() {
                        self.host().quirks().learn_mount(false);
                    }
                }
            }
        }
        self.start_upload(repository).await.map(Mount::Session)
    }

    async fn try_mount(
        &self,
        repository: &Repository,
        digest: &Digest,
        from: &Repository,
    ) -> Result<Mount, RegistryError> {
        let url = self.url(&format!("{repository}/blobs/uploads/?mount={digest}&from={from}"))?;
        let request = ApiRequest::new(Method::POST, url).for_itself();
        // A token of its own: servers that refuse two scopes must not fail the other requests.
        let scopes = self.scopes(repository).reading(from);
        let reply = self.call_with(repository, &scopes, &request).await?;
        match reply.status {
            201 if headers::other_digest(&reply.headers, digest).is_none() => {
                self.host().breaker().acknowledged();
                // Without the digest it may be the answer of somebody who does not know what a mount is.
                let is_named = headers::content_digest(&reply.headers).is_some();
                self.forget_sessions(repository, digest);
                Ok(Mount::Done(if is_named { BlobProof::Confirmed } else { BlobProof::Claimed }))
            }
            202 => self.session(repository, &request, &reply).map(Mount::Session),
            status => {
                let why = format!("answered {status} to a mount, which does not say that the blob is there");
                Err(self.failed(&request, Cause::Protocol(why)))
            }
        }
    }

    fn blob_url(&self, repository: &Repository, digest: &Digest) -> Result<url::Url, RegistryError> {
        self.url(&format!("{repository}/blobs/{digest}"))
    }
}

#[cfg(test)]
mod tests;
