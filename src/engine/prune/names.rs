//! What names what in one repository: tags, indexes, and manifests that refer to others.

use std::collections::{BTreeMap, HashMap, HashSet};

use futures_util::{StreamExt as _, stream};

use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::oci::{Digest, Manifest, Repository, Tag};
use crate::registry::Registry;
use crate::report::{Class, Failure};

/// Manifests asked for at once.
const AT_ONCE: usize = 16;
/// Manifests of one repository; more are not looked through, and nothing of it goes.
const MAX_MANIFESTS: usize = 200_000;

/// The names of one repository.
#[derive(Debug)]
pub(super) struct RepositoryNames {
    repository: Repository,
    tags: BTreeMap<Tag, Digest>,
    manifests: HashMap<Digest, Manifest>,
    /// What each manifest is named by beside tags: an index that lists it, a manifest that refers to it.
    named_by: HashMap<Digest, String>,
}

impl RepositoryNames {
    /// Reads all tags, and all manifests below them.
    ///
    /// # Errors
    /// The registry does not say it, or a manifest cannot be read: something may name anything then.
    pub(super) async fn read(registry: &Registry, repository: &Repository) -> Result<Self, Failure> {
        let mut names = Self {
            repository: repository.clone(),
            tags: BTreeMap::new(),
            manifests: HashMap::new(),
            named_by: HashMap::new(),
        };
        let tags = registry.tags(repository).await?.map(|listed| listed.names).unwrap_or_default();
        let asked = tags.into_iter().map(|tag| async move {
            let found = get(registry, repository, tag.as_str()).await;
            (tag, found)
        });
        let mut rest = Vec::new();
        let mut asked = stream::iter(asked).buffer_unordered(AT_ONCE);
        while let Some((tag, found)) = asked.next().await {
            // One that went meanwhile names nothing.
            if let Some(manifest) = found? {
                names.tags.insert(tag, manifest.digest);
                rest.push(manifest);
            }
        }
        let mut seen = HashSet::new();
        while let Some(manifest) = rest.pop() {
            if !seen.insert(manifest.digest) {
                continue;
            }
            if seen.len() > MAX_MANIFESTS {
                let what = format!("{repository} has more than {MAX_MANIFESTS} manifests");
                return Err(Failure::new(Class::LimitExceeded, what));
            }
            if let Some(subject) = &manifest.subject {
                let by = format!("{}, which refers to it,", manifest.digest);
                names.named_by.entry(subject.digest).or_insert(by);
            }
            let children: Vec<Digest> = manifest.children().iter().map(|child| child.digest).collect();
            for child in &children {
                names.named_by.entry(*child).or_insert(format!("the index {}", manifest.digest));
            }
            let unseen = children.into_iter().filter(|child| !seen.contains(child));
            let asked =
                unseen.map(|child| async move { get(registry, repository, &child.to_string()).await });
            let found: Vec<_> = stream::iter(asked).buffer_unordered(AT_ONCE).collect().await;
            for child in found {
                // A blob of a build cache, or a platform that is not there.
                rest.extend(child?);
            }
            names.manifests.insert(manifest.digest, manifest);
        }
        Ok(names)
    }

    /// What a tag stands for, if it is there.
    pub(super) fn digest_of(&self, tag: &Tag) -> Option<Digest> {
        self.tags.get(tag).copied()
    }

    /// What else than this tag names a manifest.
    pub(super) fn other_name(&self, tag: &Tag, digest: &Digest) -> Option<String> {
        let other = self.tags.iter().find(|(other, stands_for)| *other != tag && *stands_for == digest);
        other.map(|(other, _)| format!("the tag {other}")).or_else(|| self.named_by.get(digest).cloned())
    }

    /// A tag was removed: whether all else that names its manifest still finds it. What a registry took with it is put back.
    ///
    /// # Errors
    /// Something was taken.
    pub(super) async fn check_others(
        &self,
        registry: &Registry,
        tag: &Tag,
        digest: &Digest,
    ) -> Result<(), Failure> {
        let others = self.tags.iter().filter(|(other, stands_for)| *other != tag && *stands_for == digest);
        let by_digest = self.named_by.contains_key(digest).then(|| digest.to_string());
        let mut lost = Vec::new();
        for other in by_digest.into_iter().chain(others.map(|(other, _)| other.to_string())) {
            if get(registry, &self.repository, &other).await?.is_none() {
                lost.push(other);
            }
        }
        let Some(manifest) = self.manifests.get(digest).filter(|_| !lost.is_empty()) else { return Ok(()) };
        for other in &lost {
            let (media_type, bytes) = (&manifest.media_type, manifest.bytes.clone());
            registry.put_manifest(&self.repository, other, media_type, bytes).await?;
        }
        let lost = lost.join(", ");
        let message = format!("the registry removed more than the tag {tag}: {lost}; that was put back");
        Err(Failure::new(Class::Registry, message))
    }
}

/// A manifest, if it is there.
async fn get(
    registry: &Registry,
    repository: &Repository,
    reference: &str,
) -> Result<Option<Manifest>, Failure> {
    let found = registry.get_manifest(repository, reference, MAX_MANIFEST_BYTES).await?;
    let Some(found) = found else { return Ok(None) };
    let manifest = Manifest::parse(found.bytes.clone(), &found.media_type).ok();
    let manifest = manifest.or_else(|| Manifest::of_unknown_type(&found.bytes, &found.media_type));
    let unread = || {
        let what = format!("{repository}:{reference} is a manifest of a kind that is not known");
        Failure::new(Class::Unsupported, what)
    };
    let manifest = manifest.ok_or_else(unread)?;
    // It may be known by a digest of another kind.
    let digest = reference.parse().unwrap_or(manifest.digest);
    Ok(Some(Manifest { digest, ..manifest }))
}
