//! What does a mirror have already?
//!
//! In: an image's tags and root digest. Out: which tags already point at it, and whether it is there at all. A tag that
//! answers with the right digest settles both with one request; that is the whole cost of an image that has not changed.

use crate::oci::{Digest, Repository, Tag};
use crate::registry::{Registry, RegistryError};

/// What a mirror says about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presence {
    /// The root manifest is there, so the mirror took everything below it.
    pub whole: bool,
    /// Tags that do not point at it yet.
    pub tags_to_move: Vec<Tag>,
}

/// Asks about an image by its tags. Whether it is there under its digest alone is not known then.
pub async fn tags(
    registry: &Registry,
    repository: &Repository,
    tags: &[Tag],
    root: &Digest,
) -> Result<Presence, RegistryError> {
    let answers = tags.iter().map(|tag| points_at(registry, repository, tag, root));
    let answers = futures_util::future::try_join_all(answers).await?;
    let whole = answers.contains(&true);
    let moves = tags.iter().zip(answers).filter(|(_, right)| !right).map(|(tag, _)| tag.clone());
    Ok(Presence { whole, tags_to_move: moves.collect() })
}

/// Whether an image is there by its digest.
pub async fn digest(
    registry: &Registry,
    repository: &Repository,
    root: &Digest,
) -> Result<bool, RegistryError> {
    Ok(registry.head_manifest(repository, &root.to_string()).await?.is_some())
}

/// Asks about an image by its tags, and by its digest only where no tag knows it.
pub async fn image(
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

/// Whether a tag points at a digest. A registry that does not say is not believed.
async fn points_at(
    registry: &Registry,
    repository: &Repository,
    tag: &Tag,
    root: &Digest,
) -> Result<bool, RegistryError> {
    let head = registry.head_manifest(repository, tag.as_str()).await?;
    Ok(head.is_some_and(|head| head.digest.as_ref() == Some(root)))
}
