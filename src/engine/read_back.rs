//! Reads a blob back from a mirror and hashes it.

use futures_util::StreamExt as _;

use crate::oci::{Digest, Repository};
use crate::registry::{FailureKind, Registry, RegistryError};

/// The size of a blob that should have `expected` bytes, once all of it was read and found to have its digest. None where it
/// is not there.
pub(super) async fn blob(
    registry: &Registry,
    repository: &Repository,
    digest: &Digest,
    expected: u64,
) -> Result<Option<u64>, RegistryError> {
    let mut body = match registry.get_blob(repository, digest, expected).await {
        Ok(body) => body,
        Err(error) if error.kind() == FailureKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let (mut hasher, mut size) = (digest.hasher(), 0);
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        size += chunk.len() as u64;
        // Off the runtime's threads: a blob can be gigabytes.
        let hashed = tokio::task::spawn_blocking(move || {
            hasher.update(&chunk);
            hasher
        });
        hasher = hashed.await.map_err(|error| RegistryError::internal(error.to_string()))?;
    }
    let found = hasher.finish();
    if found == *digest {
        return Ok(Some(size));
    }
    Err(RegistryError::integrity(format!(
        "{repository}@{digest}: other bytes came back, with digest {found}"
    )))
}
