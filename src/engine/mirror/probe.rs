//! What does a mirror have already?
//!
//! In: an image's tags and root digest. Out: which tags already point at it, and whether it is there at all. A tag that
//! answers with the right digest settles both with one request; that is the whole cost of an image that has not changed.

use super::knowledge::Knowledge;
use super::link::MirrorLink;
use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::oci::{Digest, Repository, Tag};
use crate::registry::{FailureKind, ManifestHead, Registry, RegistryError};
use crate::report::Failure;

/// What a mirror says about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Presence {
    /// The root manifest is there, so the mirror took everything below it.
    pub whole: bool,
    /// Tags that do not point at it yet.
    pub tags_to_move: Vec<TagMove>,
}

/// A tag that is to point at an image and does not yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TagMove {
    /// The tag.
    pub tag: Tag,
    /// What it points at now.
    pub replaces: Replaced,
}

/// What a tag points at before it is moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replaced {
    /// The tag is new.
    Nothing,
    /// Another manifest; its digest unless the registry does not tell it.
    Manifest(Option<Digest>),
}

impl TagMove {
    /// The digest that the tag points at now, in words; none where the tag is new.
    pub(crate) fn replaced(&self) -> Option<String> {
        match self.replaces {
            Replaced::Nothing => None,
            Replaced::Manifest(Some(digest)) => Some(digest.to_string()),
            Replaced::Manifest(None) => Some("an image whose digest the registry does not tell".to_owned()),
        }
    }
}

/// Asks about an image, by its digest only as far as that pays. It is whole if `children` are there as well.
pub(super) async fn presence(
    link: &MirrorLink,
    knowledge: &Knowledge,
    repository: &Repository,
    tags: &[Tag],
    root: Digest,
    children: &[Digest],
) -> Result<Presence, Failure> {
    let _permit = link.question().await?;
    let by_tags = self::tags(&link.registry, repository, tags, &root).await;
    let mut presence = by_tags.map_err(|error| link.judge(&error))?;
    let has = async |digest| {
        self::digest(&link.registry, repository, digest).await.map_err(|error| link.judge(&error))
    };
    if !presence.whole && (tags.is_empty() || knowledge.expectations().untagged_images.should_ask()) {
        presence.whole = has(&root).await?;
        knowledge.expectations().untagged_images.record(presence.whole);
    }
    for child in children {
        presence.whole = presence.whole && has(child).await?;
    }
    Ok(presence)
}

/// Asks about an image by its tags. Whether it is there under its digest alone is not known then.
async fn tags(
    registry: &Registry,
    repository: &Repository,
    tags: &[Tag],
    root: &Digest,
) -> Result<Presence, RegistryError> {
    let answers = tags.iter().map(|tag| self::tag(registry, repository, tag, root));
    let answers = futures_util::future::try_join_all(answers).await?;
    let whole = answers.iter().any(Option::is_none);
    Ok(Presence { whole, tags_to_move: answers.into_iter().flatten().collect() })
}

/// Whether a manifest is there by its digest. Other content under that digest is not what was asked for.
pub(super) async fn digest(
    registry: &Registry,
    repository: &Repository,
    digest: &Digest,
) -> Result<bool, RegistryError> {
    match registry.head_manifest(repository, &digest.to_string()).await {
        Ok(head) => Ok(head.is_some()),
        Err(error) if error.kind() == FailureKind::Integrity => {
            tracing::debug!(%error, "taken for a manifest that is not there");
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Asks about an image by its tags, and by its digest only where no tag knows it.
pub(crate) async fn image(
    registry: &Registry,
    repository: &Repository,
    tags: &[Tag],
    root: &Digest,
) -> Result<Presence, RegistryError> {
    let mut presence = self::tags(registry, repository, tags, root).await?;
    if !presence.whole {
        presence.whole = digest(registry, repository, root).await?;
    }
    Ok(presence)
}

/// Asks what a tag points at; none if that is `root`.
pub(crate) async fn tag(
    registry: &Registry,
    repository: &Repository,
    tag: &Tag,
    root: &Digest,
) -> Result<Option<TagMove>, RegistryError> {
    let found = match registry.head_manifest(repository, tag.as_str()).await? {
        None => return Ok(Some(TagMove { tag: tag.clone(), replaces: Replaced::Nothing })),
        Some(ManifestHead { digest: Some(digest), .. }) if digest.algorithm() == root.algorithm() => {
            Some(digest)
        }
        // A registry that does not tell what it has is asked for it, and one that calls it by a digest of another kind.
        Some(_) => {
            let manifest = registry.get_manifest(repository, tag.as_str(), MAX_MANIFEST_BYTES).await?;
            manifest.map(|manifest| root.of_same_kind(&manifest.bytes))
        }
    };
    let is_right = found.as_ref() == Some(root);
    Ok((!is_right).then(|| TagMove { tag: tag.clone(), replaces: Replaced::Manifest(found) }))
}
