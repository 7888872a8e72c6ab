//! Puts one manifest, by its digest or under a tag, and reads back what the registry does not confirm.

use super::confirm::read_back;
use super::referrers::fallback_tag;
use crate::engine::mirror::knowledge::Knowledge;
use crate::locks::Mutex;
use crate::oci::{Manifest, Repository, Tag};
use crate::registry::{Registry, RegistryError};

/// Puts a manifest by its digest. Everything it points at must be there.
pub(super) async fn put(
    registry: &Registry,
    knowledge: &Mutex<Knowledge>,
    repository: &Repository,
    manifest: &Manifest,
) -> Result<(), RegistryError> {
    let reference = manifest.digest.to_string();
    let answer =
        registry.put_manifest(repository, &reference, &manifest.media_type, manifest.bytes.clone()).await?;
    if !answer.confirmed {
        read_back(registry, repository, &reference, &manifest.bytes).await?;
    }
    match &manifest.subject {
        Some(subject) if !answer.subject_honoured => {
            fallback_tag(registry, knowledge, repository, manifest, &subject.digest).await
        }
        _ => Ok(()),
    }
}

/// Puts a manifest under a tag: the registry stores it if it lacks it, and the tag points at it.
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
    read_back(registry, repository, reference, &root.bytes).await
}
