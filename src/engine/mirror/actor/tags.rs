//! The last step on a mirror: tags, when the whole bundle has been read and all that can be whole is whole.

use std::collections::HashMap;

use futures_util::{StreamExt as _, stream};

use super::{Actor, IMAGES_AT_ONCE, Results, Untagged};
use crate::engine::image::WorkImage;
use crate::engine::mirror::probe::{self, Replaced, TagMove};
use crate::engine::mirror::publish;
use crate::engine::work::Agreed;
use crate::oci::{Digest, Tag};
use crate::registry::RegistryError;
use crate::report::outcome::{Outcome, Phase, TagReplaced, Verified, VerifiedImage};
use crate::report::{Event, Failure};

/// Images with their places in the list.
type Level = Vec<(usize, Untagged)>;

impl Actor {
    /// Moves tags. A damaged bundle moves none; half a release is worse than none.
    pub(super) async fn publish_tags(&self, agreed: &Agreed, results: &mut Results, outcome: &mut Outcome) {
        let withheld = self.withheld(agreed, results);
        let withheld = &withheld;
        let mut tags = 0;
        for level in levels(agreed, std::mem::take(&mut results.untagged)) {
            let moves = stream::iter(level).map(|(at, untagged)| async move {
                let moved = match withheld.of(self.run.work.image(at).as_deref()) {
                    Some(failure) if !untagged.tags_to_move.is_empty() => Err((Phase::Tag, failure)),
                    _ => self.verify_and_tag(at, &untagged).await,
                };
                let checked = |verified| self.check_complete(agreed, at, &untagged).map(|()| verified);
                let moved = moved.and_then(checked);
                (at, untagged, moved)
            });
            let mut moves = moves.buffer_unordered(IMAGES_AT_ONCE);
            while let Some((at, untagged, moved)) = moves.next().await {
                match moved {
                    Ok(verified) => {
                        outcome.images_complete += 1;
                        outcome.tags_replaced.extend(self.replaced(at, &untagged));
                        tags += untagged.tags_to_move.len();
                        outcome.images_unchanged += usize::from(untagged.is_unchanged());
                        outcome.images_verified.extend(self.run.work.image(at).map(|image| VerifiedImage {
                            image: image.planned.name.clone(),
                            place: image.planned.place(self.namespace.as_ref()),
                            verified,
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
        self.run.listeners.emit(&Event::Tagged { mirror: self.counts.mirror, tags });
    }

    /// Whether an image whose tags have moved is all that its names promise.
    fn check_complete(
        &self,
        agreed: &Agreed,
        at: usize,
        untagged: &Untagged,
    ) -> Result<(), (Phase, Failure)> {
        let Some(planned) = agreed.demanding.get(&at) else { return Ok(()) };
        let lost = planned.lost(&untagged.held);
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
            image.map(|image| image.planned.place_of(self.namespace.as_ref(), tag)).unwrap_or_default()
        };
        moved
            .map(|(moved, from)| TagReplaced { place: place(&moved.tag), from, to: untagged.root.digest })
            .collect()
    }

    async fn verify_and_tag(&self, at: usize, untagged: &Untagged) -> Result<Verified, (Phase, Failure)> {
        let verified = self.verify(at, untagged).await?;
        self.move_tags(at, untagged).await?;
        Ok(verified)
    }

    /// Looks whether an image is there as far as was asked for, and sends again what is not.
    async fn verify(&self, at: usize, untagged: &Untagged) -> Result<Verified, (Phase, Failure)> {
        let verifying = |failure| (Phase::Verify, failure);
        let needs = untagged.needs();
        let verified = self.verifier.image(&needs, !untagged.is_unchanged()).await.map_err(verifying)?;
        let (missing, image) = match (verified, self.run.work.image(at)) {
            (Ok(verified), _) => return Ok(verified),
            (Err(missing), Some(image)) => (missing, image),
            (Err(_), None) => return Err(verifying(Failure::internal("an image that is not listed"))),
        };
        self.run.preparer.expect(&image.planned.content);
        let mended = async {
            let ready = self.run.preparer.image(&image).await;
            let ready = ready.map_err(|error| (Phase::Prepare, Failure::from(&error)))?;
            self.verifier.mend(&self.publisher, &needs, &ready, missing).await
        };
        let mended = mended.await;
        self.run.preparer.forget(&image);
        mended
    }

    async fn move_tags(&self, at: usize, untagged: &Untagged) -> Result<(), (Phase, Failure)> {
        let tagging = |failure| (Phase::Tag, failure);
        let mut kept = None;
        for TagMove { tag, replaces } in &untagged.tags_to_move {
            if self.run.settings.no_overwrite
                && let Some(failure) = self.stands_for_another(at, untagged, tag).await.map_err(tagging)?
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
                    to: untagged.root.digest,
                });
            }
            let mut moved = self.tag(untagged, tag).await.map_err(tagging)?;
            if let Err(error) = &moved
                && let Some(unknown) = error.manifest_blob_unknown()
                && let Some(image) = self.run.work.image(at)
            {
                self.run.preparer.expect(&image.planned.content);
                let mended = self.mend(untagged, &image, unknown).await;
                self.run.preparer.forget(&image);
                mended?;
                moved = self.tag(untagged, tag).await.map_err(tagging)?;
            }
            moved.map_err(|error| tagging(self.link.judge(&error)))?;
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
            let _permit = self.link.question().await?;
            let root = &untagged.root.digest;
            let now = probe::tag(&self.link.registry, &untagged.repository, tag, root).await;
            now.map_err(|error| self.link.judge(&error))?
        };
        let image = self.run.work.image(at);
        Ok(now.zip(image).and_then(|(moved, image)| self.kept(&image, &moved)))
    }

    /// Sends once more what the mirror lacks of an image, as the registry said when its tag was to move.
    async fn mend(
        &self,
        untagged: &Untagged,
        image: &WorkImage,
        unknown: Vec<Digest>,
    ) -> Result<(), (Phase, Failure)> {
        let ready = self.run.preparer.image(image).await;
        let ready = ready.map_err(|error| (Phase::Prepare, Failure::from(&error)))?;
        let resent = self.publisher.resend(&untagged.repository, &ready, &[unknown]).await;
        resent.map_err(|failure| (Phase::Upload, failure))?;
        self.publisher.publish(&untagged.repository, &ready, true).await
    }

    async fn tag(&self, untagged: &Untagged, tag: &Tag) -> Result<Result<(), RegistryError>, Failure> {
        let _permit = self.link.question().await?;
        Ok(publish::tag(&self.link.registry, &untagged.repository, tag, &untagged.root).await)
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
