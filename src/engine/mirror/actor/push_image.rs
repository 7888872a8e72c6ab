//! One image on its way to a mirror: probe → upload → verify → publish. Its tags come later.

use std::sync::Arc;

use futures_util::future;

use super::{Actor, Untagged};
use crate::engine::image::Lease;
use crate::engine::mirror::knowledge::Ahead;
use crate::engine::mirror::probe::{self, Presence, TagMove};
use crate::engine::mirror::publish;
use crate::engine::mirror::transfer::{Prefetch, Transfer, Trust};
use crate::engine::prepared::{Ready, ReadyBlob};
use crate::oci::{Manifest, Repository};
use crate::plan::PlannedImage;
use crate::report::Failure;
use crate::report::outcome::Phase;

impl Actor {
    /// Sends an image to the mirror, all but its tags.
    pub(super) async fn push_image(&self, at: usize, lease: &Lease) -> Result<Untagged, (Phase, Failure)> {
        let pushed = self.prepare_and_push(at, lease).await;
        // The first mirror does not wait for the others: they may have to decode some of it again.
        lease.was_read();
        pushed
    }

    /// Sends everything of an image up to its digest; touches no tag. A remembered layer that proves wrong on the way is
    /// forgotten, and the image is made ready and sent again: at most once more for each such layer.
    async fn prepare_and_push(&self, at: usize, lease: &Lease) -> Result<Untagged, (Phase, Failure)> {
        let preparing = |failure| (Phase::Prepare, failure);
        self.enter(at, Phase::Probe);
        self.base.holds(self, lease).await.map_err(|failure| (Phase::Probe, failure))?;
        loop {
            self.enter(at, Phase::Prepare);
            self.transfer.link.check().map_err(preparing)?;
            let ready =
                self.transfer.link.unless_lost(self.run.preparer.image(lease)).await.map_err(preparing)?;
            let ready = ready.map_err(|error| preparing(Failure::from(&error)))?;
            let pushed = self.push_ready(at, lease, &ready).await;
            if !self.run.preparer.is_disproved(lease, &ready) {
                return pushed;
            }
        }
    }

    async fn push_ready(
        &self,
        at: usize,
        lease: &Lease,
        ready: &Ready,
    ) -> Result<Untagged, (Phase, Failure)> {
        self.enter(at, Phase::Probe);
        let image = &lease.image;
        let repository =
            self.place.repository(&image.planned).map_err(|failure| (Phase::Prepare, failure))?;
        let Some(root) = ready.root() else {
            return Err((Phase::Prepare, Failure::internal("an image without a manifest")));
        };
        let (presence, mut prefetch) = self.probe(lease, &repository, ready, root).await;
        let lacking = presence.as_ref().ok();
        let lacking = lacking.filter(|found| !found.whole && self.all_kept(&image.planned, found).is_none());
        let sent = match lacking {
            Some(found) => {
                self.enter(at, Phase::Upload);
                Box::pin(self.inference().infer(&repository, &ready.blobs, &found.tags_to_move)).await;
                self.send(lease, &repository, &ready.blobs, &mut prefetch).await
            }
            None => Ok(()),
        };
        // Others may go on with what was begun, and is not needed.
        drop(prefetch);
        let presence = presence.map_err(|failure| (Phase::Probe, failure))?;
        // Where no tag may move there is nothing to send for.
        if let Some(kept) = self.all_kept(&image.planned, &presence) {
            return Err((Phase::Probe, kept));
        }
        sent.map_err(|failure| (Phase::Upload, failure))?;
        if presence.whole {
            self.note_whole(&repository, ready);
        }
        let unchanged = presence.whole && presence.tags_to_move.is_empty();
        if !unchanged {
            self.enter(at, Phase::Verify);
            let sampled = self.verifier().sample(lease, &repository, &ready.blobs).await;
            sampled.map_err(|failure| (Phase::Verify, failure))?;
        }
        if !presence.whole {
            self.enter(at, Phase::Publish);
            let by_tag = !image.planned.tags.is_empty() && self.policy.is_put_by_tag(root);
            if image.planned.after_subjects > 0 {
                let put = self.publisher().subjects(&repository, ready, &image.catalog).await;
                put.map_err(|failure| (Phase::Publish, failure))?;
            }
            self.publisher().publish(lease, &repository, ready, by_tag).await?;
            self.inference().remember(&repository, ready);
        }
        Ok(Untagged {
            repository,
            depth: publish::levels(&ready.manifests).len(),
            root: Arc::clone(root),
            manifests: ready.manifests.iter().map(|manifest| manifest.digest).collect(),
            blobs: ready.blobs.iter().map(|blob| (blob.digest, blob.size)).collect(),
            already: presence.whole,
            tags_to_move: presence.tags_to_move,
        })
    }

    /// What the mirror has of an image. On a long way the blobs of an image that will be lacking do not wait for the answer
    /// that it is.
    async fn probe(
        &self,
        lease: &Lease,
        repository: &Repository,
        ready: &Ready,
        root: &Manifest,
    ) -> (Result<Presence, Failure>, Prefetch<'_>) {
        let Transfer { link, knowledge, .. } = &self.transfer;
        let planned = &lease.image.planned;
        // The digest of a platform in a name: that the tag is right does not say that it is there.
        let children = planned.digests.iter().filter(|digest| **digest != root.digest);
        let children: Vec<_> =
            children.filter(|it| ready.manifests.iter().any(|own| own.digest == **it)).copied().collect();
        let probed = probe::presence(link, knowledge, repository, &planned.tags, root.digest, &children);
        let may_begin =
            link.limiter.is_far() && (lease.is_admitted() || self.run.preparer.are_staged(&ready.blobs));
        let ahead = if may_begin { knowledge.lock().expectations.of_next_image() } else { Ahead::Nothing };
        let (presence, prefetch) = if ahead == Ahead::Nothing {
            (probed.await, Prefetch::default())
        } else {
            let prefetched = async {
                Box::pin(self.inference().infer(repository, &ready.blobs, &[])).await;
                self.transfer.prefetch(repository, &ready.blobs, ahead).await
            };
            future::join(probed, prefetched).await
        };
        if let Ok(presence) = &presence {
            knowledge.lock().expectations.asked_for_image(presence.whole);
        }
        let recheck = self.policy.care.recheck;
        (presence.map(|found| Presence { whole: found.whole && !recheck, ..found }), prefetch)
    }

    /// The mirror has all of an image.
    fn note_whole(&self, repository: &Repository, ready: &Ready) {
        let Transfer { link, knowledge, counts, .. } = &self.transfer;
        let blobs = ready.blobs.iter().map(|blob| (blob.digest, blob.size));
        let (count, bytes) = knowledge.lock().blobs.note_sized(repository, blobs);
        counts.skipped(count, bytes);
        for blob in &ready.blobs {
            link.registry.note_source(blob.digest, repository, false);
        }
        let manifests = ready.manifests.iter().map(|manifest| manifest.digest);
        knowledge.lock().manifests.note(repository, manifests);
    }

    /// The blobs that the mirror lacks, when there is room for what must be made of them.
    async fn send(
        &self,
        lease: &Lease,
        repository: &Repository,
        blobs: &[ReadyBlob],
        prefetch: &mut Prefetch<'_>,
    ) -> Result<(), Failure> {
        if !lease.is_admitted() && !self.run.preparer.are_staged(blobs) {
            prefetch.return_permits();
            self.transfer.link.unless_lost(lease.admit()).await?;
        }
        self.transfer.blobs(lease, repository, blobs, Trust::Mirror, prefetch).await
    }

    /// Why `--no-overwrite` keeps all tags of an image as they are; none where one of them may move.
    fn all_kept(&self, planned: &PlannedImage, presence: &Presence) -> Option<Failure> {
        let mut kept = presence.tags_to_move.iter().map(|moved| self.kept(planned, moved));
        let first = kept.next()?;
        let all = presence.tags_to_move.len() == planned.tags.len();
        first.filter(|_| all && kept.all(|kept| kept.is_some()))
    }

    /// Why `--no-overwrite` keeps a tag as it is.
    pub(super) fn kept(&self, planned: &PlannedImage, moved: &TagMove) -> Option<Failure> {
        let now = self.policy.kept(moved)?;
        Some(Failure::tag_exists(&self.place.of_tag(planned, &moved.tag), &now))
    }
}
