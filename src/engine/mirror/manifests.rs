//! Manifests and tags: children by digest as soon as their blobs are there, tags when the whole bundle has been read.
//!
//! An image with a tag is put by its tags alone, when they move: that stores its manifest as well and saves a request
//! for each image. Indexes need their children by digest, `--atomic-tags` wants to know that every manifest was taken
//! before the first tag moves, and a referrer must be known by its digest; those are put by digest first. Either way
//! the registry checks that what the manifest names is there, and names the digest of what it stored; one that does not
//! name it is asked to give the manifest back.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};

use super::{Actor, Agreed, Failure, IMAGES_AT_ONCE, Outcome, Phase, Trust, WorkImage};
use crate::archive::Unit;
use crate::engine::blob_locations::note;
use crate::engine::ready::{Ready, ReadyBlob};
use crate::exit::Exit;
use crate::oci::{Digest, Manifest, Repository, Tag};
use crate::plan::PlannedImage;
use crate::probe::{self, Replaced, TagMove};
use crate::publish;
use crate::registry::RegistryError;
use crate::report::Event;
use crate::report::outcome::TagReplaced;

/// An image that lacks nothing but its tags.
pub(super) struct Pushed {
    pub(super) repository: Repository,
    pub(super) root: Arc<Manifest>,
    /// How deep the root nests: 1 for an image, 2 for an index of images.
    pub(super) depth: usize,
    /// The digests of its manifests; its own is the last.
    pub(super) held: Vec<Digest>,
    pub(super) already: bool,
    pub(super) tags_to_move: Vec<TagMove>,
    /// Its tags have been moved too.
    pub(super) complete: bool,
}

type Sorted = Vec<(usize, Pushed)>;

/// Why tags may not be moved.
struct Withheld {
    /// By the archive that is damaged.
    damaged: HashMap<Unit, Failure>,
    incomplete: Option<Failure>,
}

impl Withheld {
    fn of(&self, image: Option<&WorkImage>) -> Option<Failure> {
        let damaged = image.and_then(|image| self.damaged.get(&image.planned.unit));
        damaged.or(self.incomplete.as_ref()).cloned()
    }
}

impl Actor {
    /// Whether the root is put when its tags move and not before.
    pub(super) fn is_put_by_tag(&self, image: &WorkImage, root: &Manifest) -> bool {
        !image.planned.tags.is_empty() && root.subject.is_none() && !self.run.settings.atomic_tags
    }

    /// Puts manifests by digest, the root too unless `by_tag`; mends what the mirror says it lacks.
    pub(super) async fn publish(
        &self,
        repository: &Repository,
        ready: &Ready,
        by_tag: bool,
    ) -> Result<(), (Phase, Failure)> {
        let mut failed = self.put_all(repository, ready, by_tag).await?;
        let unknown: Vec<Vec<Digest>> =
            failed.iter().filter_map(RegistryError::manifest_blob_unknown).collect();
        if !unknown.is_empty() {
            self.resend(repository, ready, &unknown).await.map_err(|failure| (Phase::Upload, failure))?;
            failed = self.put_all(repository, ready, by_tag).await?;
        }
        match failed.first() {
            Some(error) => Err((Phase::Publish, self.judge(error))),
            None => Ok(()),
        }
    }

    /// The mirror lied, or lost something since: what it names (or all of the image) is sent without asking.
    async fn resend(
        &self,
        repository: &Repository,
        ready: &Ready,
        unknown: &[Vec<Digest>],
    ) -> Result<(), Failure> {
        let named: Vec<Digest> = unknown.iter().flatten().copied().collect();
        let all = unknown.iter().any(Vec::is_empty);
        let resend = ready.blobs.iter().filter(|blob| all || named.contains(&blob.digest));
        let resend: Vec<ReadyBlob> = resend.cloned().collect();
        for blob in &resend {
            self.blob_locations.forget(&blob.digest, repository).await;
        }
        for manifest in &ready.manifests {
            self.manifests.forget(&manifest.digest, repository).await;
        }
        self.blobs(repository, &resend, Trust::Nothing).await
    }

    /// Manifests, level by level. Comes back with what failed on the first level that failed.
    async fn put_all(
        &self,
        repository: &Repository,
        ready: &Ready,
        by_tag: bool,
    ) -> Result<Vec<RegistryError>, (Phase, Failure)> {
        let root = ready.root().filter(|_| by_tag).map(|root| root.digest);
        for level in publish::levels(&ready.manifests) {
            let wanted = level.iter().filter(|manifest| Some(manifest.digest) != root);
            let puts = join_all(wanted.map(|manifest| self.manifest(repository, manifest))).await;
            let puts = puts
                .into_iter()
                .collect::<Result<Vec<_>, _>>()
                .map_err(|failure| (Phase::Publish, failure))?;
            let failed: Vec<RegistryError> = puts.into_iter().filter_map(Result::err).collect();
            if !failed.is_empty() {
                return Ok(failed);
            }
        }
        Ok(Vec::new())
    }

    /// One manifest into one repository, once: a registry that writes its links in place (distribution 2.8) refuses an
    /// index while one of its children is put again.
    async fn manifest(
        &self,
        repository: &Repository,
        manifest: &Manifest,
    ) -> Result<Result<(), RegistryError>, Failure> {
        // The permit comes first: whoever holds a location has one, and gets on.
        let permit = self.question().await?;
        let location = self.manifests.location(&manifest.digest);
        let mut repositories = location.lock().await;
        if repositories.contains(repository) {
            permit.unused();
            return Ok(Ok(()));
        }
        let put = publish::put(&self.registry, repository, manifest).await;
        if put.is_ok() {
            note(&mut repositories, repository);
        }
        Ok(put)
    }

    /// Tags, when all that can be whole is whole. A damaged bundle moves none; half a release is worse than none.
    pub(super) async fn publish_tags(&self, agreed: &Agreed, outcome: &mut Outcome) {
        let withheld = self.withheld(agreed);
        let withheld = &withheld;
        let mut tags = 0;
        for level in self.levels(agreed) {
            let moved = stream::iter(level).map(|(at, pushed)| async move {
                let result = match withheld.of(self.run.work.image(at).as_deref()) {
                    Some(failure) if !pushed.tags_to_move.is_empty() => Err((Phase::Tag, failure)),
                    _ => self.move_tags(at, &pushed).await,
                };
                let result = result.and_then(|()| self.check_complete(agreed, at, &pushed));
                (at, pushed, result)
            });
            let mut moved = moved.buffer_unordered(IMAGES_AT_ONCE);
            while let Some((at, pushed, result)) = moved.next().await {
                match result {
                    Ok(()) => {
                        outcome.images_complete += 1;
                        outcome.tags_replaced.extend(self.replaced(at, &pushed));
                        tags += pushed.tags_to_move.len();
                        outcome.images_unchanged +=
                            usize::from(pushed.already && pushed.tags_to_move.is_empty());
                        let pushed = Pushed { complete: true, ..pushed };
                        self.pushed.lock().insert(at, pushed);
                    }
                    Err((phase, failure)) => {
                        if let Some(image) = self.run.work.image(at) {
                            self.fail(at, &image, phase, failure);
                        }
                    }
                }
            }
        }
        self.run.listeners.emit(&Event::Tagged { mirror: self.counts.mirror, tags });
    }

    /// Why tags may not be moved: none of an archive that is damaged, and with `--atomic-tags` none of an incomplete
    /// mirror.
    fn withheld(&self, agreed: &Agreed) -> Withheld {
        let failed = self.failed.lock();
        let accepted = self.run.settings.accept.digest_lost;
        let loses = |at: &usize, planned: &PlannedImage| {
            let pushed = self.pushed.lock();
            !accepted && pushed.get(at).is_some_and(|pushed| planned.lost(&pushed.held).is_some())
        };
        let mut demanding = agreed.demanding.iter();
        let cannot_be = demanding.any(|(at, planned)| planned.shortfall.is_some() || loses(at, planned));
        let incomplete =
            agreed.left_out || cannot_be || agreed.images.iter().any(|at| failed.contains_key(at));
        let allowed = self.run.settings.allow_damaged;
        let damaged = if allowed { HashMap::new() } else { self.run.damage(&agreed.images) };
        let told = |(unit, failure): (Unit, Failure)| {
            let what = unit.as_deref().unwrap_or("the bundle");
            let message = format!("not tagged, because {what} is damaged: {}", failure.message);
            let hint = Some("--allow-damaged tags the images that are pushed".to_owned());
            (unit, Failure { message, hint, ..failure })
        };
        let damaged = damaged.into_iter().map(told).collect();
        let incomplete = (incomplete && self.run.settings.atomic_tags).then(|| Failure {
            class: "withheld",
            message: "not tagged, because other images of this mirror are not complete".to_owned(),
            hint: Some("run again when the others can be completed, or without --atomic-tags".to_owned()),
            exit: Exit::Incomplete,
        });
        Withheld { damaged, incomplete }
    }

    /// Whether an image whose tags have moved is all that its names promise.
    fn check_complete(&self, agreed: &Agreed, at: usize, pushed: &Pushed) -> Result<(), (Phase, Failure)> {
        let Some(planned) = agreed.demanding.get(&at) else { return Ok(()) };
        let lost = planned.lost(&pushed.held);
        let accepted = self.run.settings.accept.digest_lost;
        if let Some(error) = lost.as_ref().filter(|_| accepted) {
            self.run.listeners.note(format!("{error} (accepted)"));
        }
        match planned.shortfall.as_ref().or(lost.as_ref().filter(|_| !accepted)) {
            Some(error) => Err((Phase::Tag, Failure::from(error))),
            None => Ok(()),
        }
    }

    /// The tags of an image that stood for another one.
    fn replaced(&self, at: usize, pushed: &Pushed) -> Vec<TagReplaced> {
        let moved = pushed.tags_to_move.iter().filter_map(|moved| match moved.replaces {
            Replaced::Nothing => None,
            // Put once more where the registry does not tell what it has.
            Replaced::Manifest(from) => Some((moved, from)),
        });
        let place = |tag: &Tag| {
            let image = self.run.work.image(at);
            image.map(|image| image.planned.place_of(self.namespace.as_ref(), tag)).unwrap_or_default()
        };
        moved
            .map(|(moved, from)| TagReplaced { place: place(&moved.tag), from, to: pushed.root.digest })
            .collect()
    }

    /// Why `--no-overwrite` keeps all tags of an image as they are; none where one of them may move.
    pub(super) fn all_kept(&self, image: &WorkImage, presence: &probe::Presence) -> Option<Failure> {
        let mut kept = presence.tags_to_move.iter().map(|moved| self.kept(image, moved));
        let first = kept.next()?;
        let all = presence.tags_to_move.len() == image.planned.tags.len();
        first.filter(|_| all && kept.all(|kept| kept.is_some()))
    }

    /// Why `--no-overwrite` keeps a tag as it is.
    pub(super) fn kept(&self, image: &WorkImage, moved: &TagMove) -> Option<Failure> {
        let now = moved.replaced().filter(|_| self.run.settings.no_overwrite)?;
        let place = image.planned.place_of(self.namespace.as_ref(), &moved.tag);
        Some(Failure {
            class: "tag-exists",
            message: format!("{place} stands for {now}, and --no-overwrite keeps it"),
            hint: Some("leave the image out with --exclude, or push without --no-overwrite".to_owned()),
            exit: Exit::Incomplete,
        })
    }

    /// The images of the plan that are whole, images before the indexes that list them, for the reason at `manifest`.
    fn levels(&self, agreed: &Agreed) -> Vec<Sorted> {
        let mut pushed = std::mem::take(&mut *self.pushed.lock());
        let mut levels: HashMap<usize, Sorted> = HashMap::new();
        for &at in agreed.images.iter() {
            if let Some(image) = pushed.remove(&at) {
                levels.entry(image.depth).or_default().push((at, image));
            }
        }
        let mut levels: Vec<(usize, Sorted)> = levels.into_iter().collect();
        levels.sort_by_key(|level| level.0);
        levels.into_iter().map(|level| level.1).collect()
    }

    async fn move_tags(&self, at: usize, pushed: &Pushed) -> Result<(), (Phase, Failure)> {
        let tagging = |failure| (Phase::Tag, failure);
        let mut kept = None;
        for TagMove { tag, replaces } in &pushed.tags_to_move {
            if self.run.settings.no_overwrite
                && let Some(failure) = self.stands_for_another(at, pushed, tag).await.map_err(tagging)?
            {
                kept.get_or_insert(failure);
                continue;
            }
            if let (Replaced::Manifest(_), Some(image)) = (replaces, self.run.work.image(at)) {
                let moved = TagMove { tag: tag.clone(), replaces: *replaces };
                self.run.listeners.emit(&Event::Replaces {
                    mirror: self.counts.mirror,
                    place: image.planned.place_of(self.namespace.as_ref(), tag),
                    from: moved.replaced().unwrap_or_default(),
                    to: pushed.root.digest,
                });
            }
            let mut moved = self.tag(pushed, tag).await.map_err(tagging)?;
            if let Err(error) = &moved
                && let Some(unknown) = error.manifest_blob_unknown()
                && let Some(image) = self.run.work.image(at)
            {
                self.run.preparer.expect(&image.planned.content);
                let mended = self.mend(pushed, &image, unknown).await;
                self.run.preparer.forget(&image);
                mended?;
                moved = self.tag(pushed, tag).await.map_err(tagging)?;
            }
            moved.map_err(|error| tagging(self.judge(&error)))?;
        }
        kept.map_or(Ok(()), |failure| Err(tagging(failure)))
    }

    /// Why a tag may not be moved now, whatever it was when the image was asked for: somebody may have made it since.
    async fn stands_for_another(
        &self,
        at: usize,
        pushed: &Pushed,
        tag: &Tag,
    ) -> Result<Option<Failure>, Failure> {
        let now = {
            let _permit = self.question().await?;
            let now = probe::tag(&self.registry, &pushed.repository, tag, &pushed.root.digest).await;
            now.map_err(|error| self.judge(&error))?
        };
        let image = self.run.work.image(at);
        Ok(now.zip(image).and_then(|(moved, image)| self.kept(&image, &moved)))
    }

    /// Sends once more what the mirror lacks of an image, as the registry said when its tag was to move.
    async fn mend(
        &self,
        pushed: &Pushed,
        image: &WorkImage,
        unknown: Vec<Digest>,
    ) -> Result<(), (Phase, Failure)> {
        let ready = self.run.preparer.image(image).await;
        let ready = ready.map_err(|error| (Phase::Prepare, Failure::from(&error)))?;
        let resent = self.resend(&pushed.repository, &ready, &[unknown]).await;
        resent.map_err(|failure| (Phase::Upload, failure))?;
        self.publish(&pushed.repository, &ready, true).await
    }

    async fn tag(&self, pushed: &Pushed, tag: &Tag) -> Result<Result<(), RegistryError>, Failure> {
        let _permit = self.question().await?;
        Ok(publish::tag(&self.registry, &pushed.repository, tag, &pushed.root).await)
    }
}
