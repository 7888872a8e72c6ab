//! Reads a manifest back where the registry did not name the digest of what it stored.

use bytes::Bytes;

use crate::oci::Repository;
use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::registry::{Registry, RegistryError};

/// Reads a manifest back of which the registry did not say what it stored: what the mirror would give to a node must be
/// what was sent. An error here is never tried again.
pub(super) async fn read_back(
    registry: &Registry,
    repository: &Repository,
    reference: &str,
    sent: &Bytes,
) -> Result<(), RegistryError> {
    let got = match registry.get_manifest(repository, reference, MAX_MANIFEST_BYTES).await {
        // It is there, and a policy keeps it from being read.
        Err(error) if error.is_withheld() => return Ok(()),
        got => got?,
    };
    match got {
        Some(stored) if stored.bytes == *sent => Ok(()),
        Some(_) => Err(RegistryError::integrity(format!(
            "{repository}@{reference}: other bytes came back than were sent: the registry or a proxy before it \
             changes content"
        ))),
        None => Err(RegistryError::integrity(format!(
            "{repository}@{reference}: accepted, but not there when read back"
        ))),
    }
}
