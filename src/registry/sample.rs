//! Checks that the bytes of a blob can be fetched. A HEAD does not prove it: some registries answer it from a database or a cache
//! that has outlived the bytes.

use futures_util::StreamExt as _;
use reqwest::Method;
use reqwest::header::RANGE;

use crate::oci::{Digest, Repository};
use crate::registry::client::{ApiRequest, Want};
use crate::registry::error::RegistryError;
use crate::registry::{Registry, headers};

/// The result of fetching the first byte of a blob.
#[derive(Debug)]
pub(crate) enum Sampled {
    /// It came, and the blob has the right length as far as the registry says it.
    There,
    /// There is no such blob, or none of this length.
    Lost,
    /// This account may not read, or the way to the bytes is closed from here. That says nothing of the blob.
    Unknown(RegistryError),
}

impl Registry {
    /// Asks for the first byte of a blob of `size` bytes. An answer without a range is read no further than that.
    pub(crate) async fn sample_blob(&self, repository: &Repository, digest: &Digest, size: u64) -> Sampled {
        match self.first_byte(repository, digest, size).await {
            Ok(there) if there => Sampled::There,
            Ok(_) => Sampled::Lost,
            Err(error) => Sampled::Unknown(error),
        }
    }

    async fn first_byte(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
    ) -> Result<bool, RegistryError> {
        let url = self.url(&format!("{repository}/blobs/{digest}"))?;
        let request = ApiRequest::new(Method::GET, url)
            .header(RANGE, "bytes=0-0")
            .want(Want::Stream)
            .also(&[404, 410, 416]);
        let reply = match self.call(repository, &request).await {
            // It fails to give the blob, and would fail a node as well.
            Err(error) if error.status() == Some(500) => return Ok(false),
            reply => reply?,
        };
        let whole = match reply.status {
            404 | 410 => return Ok(false),
            206 | 416 => headers::whole_length(&reply.headers),
            _ => headers::content_length(&reply.headers),
        };
        if whole.is_some_and(|whole| whole != size) {
            return Ok(false);
        }
        if size == 0 || reply.status == 416 {
            // An empty blob has no first byte.
            return Ok(size == 0);
        }
        let Some(response) = reply.response else { return Ok(false) };
        let mut body = self.transport().stream(response);
        while let Some(chunk) = body.next().await {
            if !chunk?.is_empty() {
                if reply.status == 206 {
                    // Read to its end, the connection can be used again.
                    let _ = body.next().await;
                }
                return Ok(true);
            }
        }
        Ok(false)
    }
}
