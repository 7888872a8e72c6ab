//! One manifest: put by its digest or under a tag. What the registry does not confirm is read back.

use super::referrers::fallback_tag;
use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::oci::{Manifest, Repository, Tag};
use crate::registry::{Registry, RegistryError};

/// Puts a manifest by its digest. Everything it points at must be there.
pub(super) async fn put(
    registry: &Registry,
    repository: &Repository,
    manifest: &Manifest,
) -> Result<(), RegistryError> {
    let reference = manifest.digest.to_string();
    let answer =
        registry.put_manifest(repository, &reference, &manifest.media_type, manifest.bytes.clone()).await?;
    if !answer.confirmed {
        read_back(registry, repository, &reference, manifest).await?;
    }
    match &manifest.subject {
        Some(subject) if !answer.subject_honoured => {
            fallback_tag(registry, repository, manifest, &subject.digest).await
        }
        _ => Ok(()),
    }
}

/// Makes a tag point at a manifest, which is stored with it if it is not there.
pub(crate) async fn tag(
    registry: &Registry,
    repository: &Repository,
    tag: &Tag,
    root: &Manifest,
) -> Result<(), RegistryError> {
    let reference = tag.as_str();
    let answer = registry.put_manifest(repository, reference, &root.media_type, root.bytes.clone()).await?;
    if answer.confirmed {
        return Ok(());
    }
    read_back(registry, repository, reference, root).await
}

/// Reads a manifest back of which the registry did not say what it stored: what the mirror would give to a node must be
/// what the bundle holds. An error here is never tried again.
async fn read_back(
    registry: &Registry,
    repository: &Repository,
    reference: &str,
    sent: &Manifest,
) -> Result<(), RegistryError> {
    match registry.get_manifest(repository, reference, MAX_MANIFEST_BYTES).await? {
        Some(stored) if stored.bytes == sent.bytes => Ok(()),
        Some(_) => Err(RegistryError::integrity(format!(
            "{repository}@{reference}: other bytes came back than were sent"
        ))),
        None => Err(RegistryError::integrity(format!(
            "{repository}@{reference}: accepted, but not there when read back"
        ))),
    }
}
