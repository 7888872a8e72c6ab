//! Making an image visible, in the one order that is safe
//! ([distribution-spec, pushing manifests](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests)):
//! blobs are there → children by digest → parents by digest → and only then tags. What is not confirmed is read back.

use std::sync::Arc;

use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::oci::{Manifest, Repository, Tag};
use crate::registry::{Registry, RegistryError};

/// Puts a manifest by its digest. Everything it points at must be there.
pub(crate) async fn put(
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

/// Images first, then indexes of images, then indexes of those. Within a level nothing depends on another.
pub(crate) fn levels(manifests: &[Arc<Manifest>]) -> Vec<Vec<&Arc<Manifest>>> {
    let mut depth = std::collections::HashMap::new();
    let mut levels: Vec<Vec<&Arc<Manifest>>> = Vec::new();
    for manifest in manifests {
        let children = manifest.children().iter();
        let level = children
            .filter_map(|child| depth.get(&child.digest))
            .max()
            .map_or(0, |deepest: &usize| deepest + 1);
        depth.insert(manifest.digest, level);
        if levels.len() <= level {
            levels.resize_with(level + 1, Vec::new);
        }
        levels[level].push(manifest);
    }
    levels
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

mod referrers;
use referrers::fallback_tag;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::oci::media_type;

    fn manifest(json: String) -> Arc<Manifest> {
        Arc::new(Manifest::parse(Bytes::from(json), media_type::OCI_MANIFEST).unwrap())
    }

    fn index(children: &[&Arc<Manifest>]) -> Arc<Manifest> {
        let list: Vec<_> = children
            .iter()
            .map(|m| {
                format!(
                    r#"{{"mediaType":"{}","digest":"{}","size":{}}}"#,
                    m.media_type,
                    m.digest,
                    m.bytes.len()
                )
            })
            .collect();
        let media_type = media_type::OCI_INDEX;
        manifest(format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{}]}}"#,
            list.join(",")
        ))
    }

    #[test]
    fn children_come_in_an_earlier_level_than_their_parents() {
        let digest = crate::oci::Digest::of(b"");
        let leaf = manifest(format!(r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":0}}}}"#));
        let inner = index(&[&leaf]);
        let root = index(&[&leaf, &inner]);
        let all = [Arc::clone(&leaf), Arc::clone(&inner), Arc::clone(&root)];
        let levels: Vec<Vec<_>> =
            levels(&all).into_iter().map(|level| level.into_iter().map(|m| m.digest).collect()).collect();
        assert_eq!(levels, [vec![leaf.digest], vec![inner.digest], vec![root.digest]]);
    }
}
