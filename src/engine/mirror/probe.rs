//! What does a mirror have already?
//!
//! In: an image's tags and root digest. Out: which tags already point at it, and whether it is there at all. A tag that
//! answers with the right digest settles both with one request. An image that has not changed costs no more than that.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use super::knowledge::Knowledge;
use super::link::MirrorLink;
use crate::locks::Mutex;
use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::oci::{Digest, Repository, Tag};
use crate::plan::PlannedImage;
use crate::registry::{FailureKind, FirstRequest, ManifestHead, Registry, RegistryError};
use crate::report::Failure;

/// Tags of one image that are asked for at the same time where nothing else limits requests.
const TAGS_AT_ONCE: usize = 4;

/// What a mirror says about an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Presence {
    /// The root manifest is there, so the mirror took everything below it.
    pub whole: bool,
    /// Tags that do not point at it yet.
    pub tags_to_move: Vec<TagMove>,
}

impl Presence {
    /// What tags say of an image: none for each that points at it. Whether it is there under its digest alone is not known
    /// then.
    fn of(answers: Vec<Option<TagMove>>) -> Self {
        let whole = answers.iter().any(Option::is_none);
        Self { whole, tags_to_move: answers.into_iter().flatten().collect() }
    }
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

/// What a mirror is asked first of an image; none where that follows from the image's content.
pub(crate) fn first_question(planned: &PlannedImage, namespace: Option<&Repository>) -> Option<FirstRequest> {
    let repository = planned.repository.below(namespace).ok()?;
    let reference = match (planned.tags.first(), &planned.content) {
        (Some(tag), _) => tag.to_string(),
        (None, content) => content.manifest_digest()?.to_string(),
    };
    Some(FirstRequest { repository, reference })
}

/// Asks about an image, by its digest only as far as that pays. It is whole if `children` are there as well.
pub(super) async fn presence(
    link: &MirrorLink,
    knowledge: &Mutex<Knowledge>,
    repository: &Repository,
    tags: &[Tag],
    root: Digest,
    children: &[Digest],
) -> Result<Presence, Failure> {
    let asked = tags.iter().map(|tag| async move {
        let _permit = link.question().await?;
        let found = self::tag(&link.registry, repository, tag, &root).await;
        found.map_err(|error| link.judge(&error))
    });
    let mut presence = Presence::of(futures_util::future::try_join_all(asked).await?);
    let has = async |digest| {
        let _permit = link.question().await?;
        self::digest(&link.registry, repository, digest).await.map_err(|error| link.judge(&error))
    };
    if !presence.whole && (tags.is_empty() || knowledge.lock().expectations.untagged_images.should_ask()) {
        presence.whole = has(&root).await?;
        knowledge.lock().expectations.untagged_images.record(presence.whole);
    }
    for child in children {
        presence.whole = presence.whole && has(child).await?;
    }
    Ok(presence)
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
    let asked = tags.iter().map(|tag| self::tag(registry, repository, tag, root));
    let answers = stream::iter(asked).buffered(TAGS_AT_ONCE).try_collect().await?;
    let mut presence = Presence::of(answers);
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
        // What it gives to nobody may be this image or another: the tag is put again.
        Some(ManifestHead { withheld: true, .. }) => None,
        // A registry that does not tell what it has is asked for it, and one that calls it by a digest of another kind.
        Some(_) => {
            let manifest = registry.get_manifest(repository, tag.as_str(), MAX_MANIFEST_BYTES).await?;
            manifest.map(|manifest| root.of_same_kind(&manifest.bytes))
        }
    };
    let is_right = found.as_ref() == Some(root);
    Ok((!is_right).then(|| TagMove { tag: tag.clone(), replaces: Replaced::Manifest(found) }))
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::http::StatusCode;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::engine::mirror::knowledge::{EarlierManifests, Expectations};
    use crate::engine::mirror::limiter::{ConcurrencyLimiter, MaxConcurrency};
    use crate::engine::stop::StopSignal;
    use crate::registry::{ClientOptions, Target};

    /// Requests under way, and the most there were.
    #[derive(Default)]
    struct UnderWay(AtomicUsize, AtomicUsize);

    /// Time moves on only when nobody has anything to do: each answer comes when no more questions do.
    #[tokio::test(start_paused = true)]
    async fn an_image_of_many_tags_asks_no_more_at_once_than_may_be_asked() {
        let under_way = Arc::new(UnderWay::default());
        let counted = Arc::clone(&under_way);
        let app = axum::Router::new().fallback(move |request: axum::extract::Request| {
            let counted = Arc::clone(&counted);
            async move {
                let now = counted.0.fetch_add(1, Ordering::SeqCst) + 1;
                counted.1.fetch_max(now, Ordering::SeqCst);
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                counted.0.fetch_sub(1, Ordering::SeqCst);
                if request.uri().path() == "/v2/" { StatusCode::OK } else { StatusCode::NOT_FOUND }
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target: Target = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        let registry = Registry::connect(&target.endpoint, ClientOptions::default()).await.unwrap();
        let most = MaxConcurrency::new(32 << 20, 1, NonZeroUsize::new(1));
        let stop = StopSignal::new(&CancellationToken::new());
        let link = MirrorLink::new(registry, Arc::new(ConcurrencyLimiter::new(most)), &stop);
        let knowledge =
            Mutex::new(Knowledge::new(Expectations::new(false, false), EarlierManifests::new(false)));
        let tags: Vec<Tag> = (0..50).map(|number| format!("v{number}").parse().unwrap()).collect();
        let repository = "team/app".parse().unwrap();
        let found = presence(&link, &knowledge, &repository, &tags, Digest::of(b""), &[]).await.unwrap();
        assert!(!found.whole && found.tags_to_move.len() == 50);
        let most = under_way.1.load(Ordering::SeqCst);
        assert!((1..=4).contains(&most), "{most} at once");
    }
}
