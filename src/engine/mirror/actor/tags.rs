//! The last step on a mirror: tags move when the whole bundle has been read and every image that can be complete is complete.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};

use super::withheld::Withheld;
use super::{Actor, IMAGES_AT_ONCE, Results, Untagged};
use crate::engine::image::Lease;
use crate::engine::mirror::probe::{self, Replaced, TagMove};
use crate::engine::mirror::publish;
use crate::engine::mirror::verify::Missing;
use crate::engine::prepared::Ready;
use crate::engine::work::Agreed;
use crate::oci::{Digest, Tag};
use crate::registry::RegistryError;
use crate::report::outcome::{Outcome, Phase, TagReplaced, Verified, VerifiedImage};
use crate::report::{Event, Failure};
use crate::state::PlacedTag;

/// Images with their places in the list.
type Level = Vec<(usize, Untagged)>;

/// An image that is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Checked {
    level: Verified,
    /// Something of it was lost, and was sent again.
    mended: bool,
}

impl Actor {
    /// Checks that everything behind the tags is there, and then moves them. A damaged bundle moves none; half a release is
    /// worse than none.
    pub(super) async fn publish_tags(&self, agreed: &Agreed, results: &mut Results, outcome: &mut Outcome) {
        self.run.listeners.emit(&Event::Publishes { mirror: self.transfer.counts.mirror });
        let withheld = self.withheld(agreed, results);
        let mut verified = self.verify_all(agreed, &withheld, results).await;
        self.judge_all(&withheld, &mut verified, results).await;
        // This may have shown that the mirror lacks something, that the bundle is damaged, or that the gate refuses an image.
        let withheld = self.withheld(agreed, results);
        let withheld = &withheld;
        let mut tags = 0;
        for level in levels(agreed, std::mem::take(&mut results.untagged)) {
            let level = level.into_iter().map(|(at, untagged)| (at, untagged, verified.remove(&at)));
            let moves = stream::iter(level).map(|(at, untagged, checked)| async move {
                let moved = match (withheld.of(self.run.work.image(at).as_deref()), checked) {
                    (Some(failure), _) if !untagged.tags_to_move.is_empty() => Err((Phase::Tag, failure)),
                    (_, Some(checked)) => self.move_tags(at, &untagged).await.map(|()| checked),
                    (_, None) => Err((Phase::Verify, self.stop.why())),
                };
                let complete = |checked| self.check_complete(agreed, at, &untagged).map(|()| checked);
                let moved = moved.and_then(complete);
                (at, untagged, moved)
            });
            let mut moves = moves.buffer_unordered(IMAGES_AT_ONCE);
            while let Some((at, untagged, moved)) = moves.next().await {
                match moved {
                    Ok(checked) => {
                        outcome.images_complete += 1;
                        outcome.tags_replaced.extend(self.replaced(at, &untagged));
                        tags += untagged.tags_to_move.len();
                        outcome.placed.extend(self.placed(at, &untagged));
                        outcome.images_unchanged += usize::from(untagged.is_unchanged() && !checked.mended);
                        outcome.images_verified.extend(self.run.work.image(at).map(|image| VerifiedImage {
                            image: image.planned.name.clone(),
                            place: self.place.of_image(&image.planned),
                            digest: Some(untagged.root.digest),
                            verified: checked.level,
                        }));
                        results.complete.insert(at);
                    }
                    Err((phase, failure)) => {
                        if let Some(image) = self.run.work.image(at) {
                            self.fail(results, at, &image, phase, failure);
                        }
                    }
                }
            }
        }
        self.run.listeners.emit(&Event::Tagged { mirror: self.transfer.counts.mirror, tags });
    }

    /// What is remembered of an image that is complete.
    fn placed(&self, at: usize, untagged: &Untagged) -> Vec<PlacedTag> {
        let (repository, digest) = (&untagged.repository, untagged.root.digest);
        let placed = |tag: Option<&Tag>, own| PlacedTag {
            repository: repository.clone(),
            tag: tag.cloned(),
            digest,
            own,
        };
        let tags = self.run.work.image(at).map(|image| image.planned.tags.clone()).unwrap_or_default();
        if tags.is_empty() {
            return vec![placed(None, !untagged.already)];
        }
        let is_moved = |tag: &Tag| untagged.tags_to_move.iter().any(|moved| moved.tag == *tag);
        tags.iter().map(|tag| placed(Some(tag), is_moved(tag))).collect()
    }

    /// Checks all images but those whose tags are withheld anyway, and sends again what is lost. An image that is not there in
    /// the end has failed. Those that nest least are mended first: see [`levels`].
    async fn verify_all(
        &self,
        agreed: &Agreed,
        withheld: &Withheld,
        results: &mut Results,
    ) -> HashMap<usize, Checked> {
        let (mut checked, mut failed) = (HashMap::new(), Vec::new());
        let (mut looked_at, mut lacking) = (HashMap::new(), BTreeMap::<usize, Vec<_>>::new());
        let mut looks = Vec::new();
        let mut untagged = std::mem::take(&mut results.untagged);
        for (at, untagged) in agreed.images.iter().filter_map(|at| Some((*at, untagged.remove(at)?))) {
            let image = self.run.work.image(at);
            if untagged.tags_to_move.is_empty() || withheld.of(image.as_deref()).is_none() {
                looks.push((at, untagged));
            } else {
                looked_at.insert(at, untagged);
            }
        }
        let looks = looks.into_iter().map(|(at, untagged)| async move {
            self.enter(at, Phase::Verify);
            let found = self.look(at, &untagged).await;
            (at, untagged, found)
        });
        let mut looks = stream::iter(looks).buffer_unordered(IMAGES_AT_ONCE);
        while let Some((at, untagged, found)) = looks.next().await {
            match found {
                Ok(Ok(level)) => {
                    self.enter(at, Phase::Tag);
                    checked.insert(at, Checked { level, mended: false });
                    looked_at.insert(at, untagged);
                }
                Ok(Err(missing)) => lacking.entry(untagged.depth).or_default().push((at, untagged, missing)),
                Err(failure) => failed.push((at, failure)),
            }
        }
        for level in lacking.into_values() {
            let mends = level.into_iter().map(|(at, untagged, missing)| async move {
                let mended = self.mend_missing(at, &untagged, missing).await;
                (at, untagged, mended)
            });
            let mut mends = stream::iter(mends).buffer_unordered(IMAGES_AT_ONCE);
            while let Some((at, untagged, mended)) = mends.next().await {
                match mended {
                    Ok(level) => {
                        self.enter(at, Phase::Tag);
                        checked.insert(at, Checked { level, mended: true });
                        looked_at.insert(at, untagged);
                    }
                    Err(failure) => failed.push((at, failure)),
                }
            }
        }
        results.untagged = looked_at;
        for (at, (phase, failure)) in failed {
            if let Some(image) = self.run.work.image(at) {
                self.fail(results, at, &image, phase, failure);
            }
        }
        checked
    }

    /// Whether an image whose tags have moved is all that its names promise.
    fn check_complete(
        &self,
        agreed: &Agreed,
        at: usize,
        untagged: &Untagged,
    ) -> Result<(), (Phase, Failure)> {
        let Some(planned) = agreed.demanding.get(&at) else { return Ok(()) };
        let lost = planned.lost(&untagged.manifests);
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
    fn replaced(&self, at: usize, untagged: &Untagged) -> Vec<TagReplaced> {
        let moved = untagged.tags_to_move.iter().filter_map(|moved| match moved.replaces {
            Replaced::Nothing => None,
            // Put once more where the registry does not tell what it has.
            Replaced::Manifest(from) => Some((moved, from)),
        });
        let place = |tag: &Tag| {
            let image = self.run.work.image(at);
            image.map(|image| self.place.of_tag(&image.planned, tag)).unwrap_or_default()
        };
        moved
            .map(|(moved, from)| TagReplaced { place: place(&moved.tag), from, to: untagged.root.digest })
            .collect()
    }

    /// Checks that an image is there to the level of `--verify`, and with `--atomic-tags` whether its tags may move.
    async fn look(
        &self,
        at: usize,
        untagged: &Untagged,
    ) -> Result<Result<Verified, Missing>, (Phase, Failure)> {
        if self.policy.atomic_tags && self.policy.care.no_overwrite {
            for TagMove { tag, .. } in &untagged.tags_to_move {
                let kept = self.stands_for_another(at, untagged, tag).await;
                if let Some(kept) = kept.map_err(|failure| (Phase::Tag, failure))? {
                    return Err((Phase::Tag, kept));
                }
            }
        }
        let looked = self.verifier().image(&untagged.needs(), !untagged.is_unchanged()).await;
        looked.map_err(|failure| (Phase::Verify, failure))
    }

    /// Sends again what an image was found to lack.
    async fn mend_missing(
        &self,
        at: usize,
        untagged: &Untagged,
        missing: Missing,
    ) -> Result<Verified, (Phase, Failure)> {
        let (lease, ready) = self.prepare_again(at).await?;
        self.verifier().mend(&lease, self.publisher(), &untagged.needs(), &ready, missing).await
    }

    /// An image made ready to be sent once more, as long as the lease lives.
    async fn prepare_again(&self, at: usize) -> Result<(Lease, Arc<Ready>), (Phase, Failure)> {
        let preparing = |failure| (Phase::Prepare, failure);
        let lease = self.run.work.lease(at, self.transfer.counts.mirror);
        let lease = lease.ok_or_else(|| preparing(Failure::internal("an image that is not listed")))?;
        self.transfer.link.unless_lost(lease.admit()).await.map_err(preparing)?;
        let ready =
            self.transfer.link.unless_lost(self.run.preparer.image(&lease)).await.map_err(preparing)?;
        let ready = ready.map_err(|error| preparing(Failure::from(&error)))?;
        Ok((lease, ready))
    }

    async fn move_tags(&self, at: usize, untagged: &Untagged) -> Result<(), (Phase, Failure)> {
        let tagging = |failure| (Phase::Tag, failure);
        let mut kept = None;
        for TagMove { tag, replaces } in &untagged.tags_to_move {
            if self.policy.care.no_overwrite
                && let Some(failure) = self.stands_for_another(at, untagged, tag).await.map_err(tagging)?
            {
                kept.get_or_insert(failure);
                continue;
            }
            if let (Replaced::Manifest(_), Some(image)) = (replaces, self.run.work.image(at)) {
                let moved = TagMove { tag: tag.clone(), replaces: *replaces };
                self.run.listeners.emit(&Event::Replaces {
                    mirror: self.transfer.counts.mirror,
                    place: self.place.of_tag(&image.planned, tag),
                    from: moved.replaced().unwrap_or_default(),
                    to: untagged.root.digest,
                });
            }
            let mut moved = self.tag(untagged, tag).await.map_err(tagging)?;
            if let Err(error) = &moved
                && let Some(unknown) = error.manifest_blob_unknown()
            {
                self.mend(at, untagged, unknown).await?;
                moved = self.tag(untagged, tag).await.map_err(tagging)?;
            }
            moved.map_err(|error| tagging(self.transfer.link.judge(&error)))?;
        }
        kept.map_or(Ok(()), |failure| Err(tagging(failure)))
    }

    /// Why a tag may not be moved now, whatever it was when the image was asked for: somebody may have made it since.
    async fn stands_for_another(
        &self,
        at: usize,
        untagged: &Untagged,
        tag: &Tag,
    ) -> Result<Option<Failure>, Failure> {
        let now = {
            let _permit = self.transfer.link.question().await?;
            let root = &untagged.root.digest;
            let now = probe::tag(&self.transfer.link.registry, &untagged.repository, tag, root).await;
            now.map_err(|error| self.transfer.link.judge(&error))?
        };
        let image = self.run.work.image(at);
        Ok(now.zip(image).and_then(|(moved, image)| self.kept(&image.planned, &moved)))
    }

    /// Sends once more what the mirror lacks of an image, as the registry said when its tag was to move.
    async fn mend(
        &self,
        at: usize,
        untagged: &Untagged,
        unknown: Vec<Digest>,
    ) -> Result<(), (Phase, Failure)> {
        let (lease, ready) = self.prepare_again(at).await?;
        let resent = self.publisher().resend(&lease, &untagged.repository, &ready, &[unknown]).await;
        resent.map_err(|failure| (Phase::Upload, failure))?;
        self.publisher().publish(&lease, &untagged.repository, &ready, true).await
    }

    async fn tag(&self, untagged: &Untagged, tag: &Tag) -> Result<Result<(), RegistryError>, Failure> {
        let _permit = self.transfer.link.question().await?;
        Ok(publish::tag(&self.transfer.link.registry, &untagged.repository, tag, &untagged.root).await)
    }
}

/// The images of the plan, those that nest least first: a registry that writes its links in place (distribution 2.8)
/// refuses an index while one of its children is put again.
fn levels(agreed: &Agreed, mut untagged: HashMap<usize, Untagged>) -> Vec<Level> {
    let mut levels: HashMap<usize, Level> = HashMap::new();
    for &at in agreed.images.iter() {
        if let Some(image) = untagged.remove(&at) {
            levels.entry(image.depth).or_default().push((at, image));
        }
    }
    let mut levels: Vec<(usize, Level)> = levels.into_iter().collect();
    levels.sort_by_key(|level| level.0);
    levels.into_iter().map(|level| level.1).collect()
}
