//! The task of one mirror.
//!
//! Many images are under way at once, in the order of the bundle, so that neighbours read the same decoded parts; the
//! limiter bounds the requests in flight. Images arrive while the bundle is still being read. Tags wait until all of it has
//! been read. The task alone owns the results of images.

mod base;
mod gate;
mod tags;
mod withheld;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, future, stream};
use tokio::sync::OnceCell;

use super::counts::Counts;
use super::knowledge::{Ahead, Knowledge};
use super::link::MirrorLink;
use super::probe::{self, Presence, TagMove};
use super::publish::{self, Publisher};
use super::transfer::{Prefetch, Transfer, Trust};
use super::verify::{Needs, Sized, Verifier};
use super::vouchers::Vouchers;
use crate::engine::image::{Lease, WorkImage};
use crate::engine::prepared::{Ready, ReadyBlob};
use crate::engine::stop::StopSignal;
use crate::engine::work::{Agreed, Follower};
use crate::engine::{Care, Context};
use crate::exit::Exit;
use crate::hook::Hook;
use crate::locks::Mutex;
use crate::oci::{Digest, Manifest, Repository};
use crate::report::outcome::{ImageFailure, Outcome, Phase};
use crate::report::{Class, Event, Failure};

/// Images under way at once. Each costs a few small requests; the limiter bounds what is in flight.
const IMAGES_AT_ONCE: usize = 128;

/// Does the work of one mirror.
pub(super) struct Actor {
    pub(super) namespace: Option<Repository>,
    /// What the mirror is called, and where it is, as references begin.
    pub(super) site: String,
    pub(super) host: String,
    /// Where it is, as what is remembered of it is filed.
    pub(super) mirror: String,
    /// No tag moves unless every image of the mirror is complete.
    pub(super) atomic_tags: bool,
    pub(super) care: Care,
    /// Judges images before their tags move.
    pub(super) gate: Option<Hook>,
    pub(super) run: Arc<Context>,
    pub(super) stop: StopSignal,
    pub(super) counts: Arc<Counts>,
    pub(super) link: Arc<MirrorLink>,
    pub(super) knowledge: Arc<Knowledge>,
    pub(super) transfer: Arc<Transfer>,
    pub(super) publisher: Publisher,
    pub(super) verifier: Verifier,
    pub(super) vouchers: Vouchers,
    /// Whether it has what deltas leave to their bases; asked once.
    pub(super) base: OnceCell<Result<(), Failure>>,
    /// How far each image has come, by its place in the list of the run: work may end at any moment.
    pub(super) phases: Mutex<HashMap<usize, Phase>>,
}

/// The results of the images of one mirror, by their places in the list of the run.
#[derive(Default)]
struct Results {
    untagged: HashMap<usize, Untagged>,
    complete: HashSet<usize>,
    failed: HashMap<usize, (Phase, Failure)>,
}

/// An image that lacks nothing but its tags.
struct Untagged {
    repository: Repository,
    root: Arc<Manifest>,
    /// How deep the root nests: 1 for an image, 2 for an index of images.
    depth: usize,
    /// The digests of its manifests; its own is the last.
    held: Vec<Digest>,
    blobs: Vec<Sized>,
    already: bool,
    tags_to_move: Vec<TagMove>,
}

impl Untagged {
    /// Whether it was there before the run, tags and all.
    fn is_unchanged(&self) -> bool {
        self.already && self.tags_to_move.is_empty()
    }

    fn needs(&self) -> Needs<'_> {
        Needs { repository: &self.repository, manifests: &self.held, blobs: &self.blobs }
    }
}

impl Actor {
    pub(super) async fn work(&self, follower: Follower, outcome: &mut Outcome) {
        let mut results = Results::default();
        // What refers to other images comes after those.
        let referring = Mutex::new(BTreeMap::<usize, Vec<(usize, Lease)>>::new());
        let images = follower.images().take_until(self.stop.token().cancelled()).filter_map(|(at, lease)| {
            let after = lease.image.planned.after_subjects;
            if after == 0 {
                return future::ready(Some((at, lease)));
            }
            referring.lock().entry(after).or_default().push((at, lease));
            future::ready(None)
        });
        self.until_cancelled(self.images(images, &mut results)).await;
        for images in referring.into_inner().into_values() {
            self.until_cancelled(self.images(stream::iter(images), &mut results)).await;
        }
        let agreed = match self.run.work.agreed().unwrap_or_else(|| Err(self.stop.why())) {
            Ok(agreed) => agreed,
            Err(failure) => {
                outcome.error = Some(failure);
                return;
            }
        };
        match self.sums().await {
            Ok(()) => {
                tokio::select! {
                    biased;
                    () = self.run.note_change(&agreed) => {}
                    () = self.stop.overdue(self.link.registry.idle()) => {}
                }
                self.until_cancelled(self.publish_tags(&agreed, &mut results, outcome)).await;
                self.report_failures(&agreed, results, None, outcome);
            }
            Err(failure) => self.report_failures(&agreed, results, Some(failure), outcome),
        }
        self.vouchers.settle();
    }

    /// Waits for the sums of the bundle, unless the mirror is stopped.
    async fn sums(&self) -> Result<(), Failure> {
        tokio::select! {
            biased;
            right = self.run.sums.are_right() => right,
            () = self.stop.token().cancelled() => Err(self.stop.why()),
        }
    }

    /// Sends images, many at once.
    async fn images(&self, images: impl Stream<Item = (usize, Lease)>, results: &mut Results) {
        let brought = images
            .map(|(at, lease)| async move { (at, self.image(at, &lease).await, Arc::clone(&lease.image)) })
            .buffer_unordered(IMAGES_AT_ONCE);
        let mut brought = pin!(brought);
        while let Some((at, brought, image)) = brought.next().await {
            match brought {
                Ok(untagged) => {
                    self.run.listeners.emit(&Event::ImageWhole {
                        mirror: self.counts.mirror,
                        image: image.planned.name.clone(),
                        already: untagged.already,
                    });
                    self.enter(at, Phase::Tag);
                    results.untagged.insert(at, untagged);
                }
                Err((phase, failure)) => self.fail(results, at, &image, phase, failure),
            }
        }
    }

    /// Names each image that is not complete. `whole` is what failed the mirror as a whole.
    fn report_failures(
        &self,
        agreed: &Agreed,
        mut results: Results,
        whole: Option<Failure>,
        outcome: &mut Outcome,
    ) {
        let is_whole = results.complete.len() == agreed.images.len();
        outcome.error = whole.or_else(|| self.stop.reason().filter(|_| !is_whole));
        for &at in agreed.images.iter().filter(|at| !results.complete.contains(at)) {
            // Requests that did not end within the grace leave images that are neither complete nor failed.
            let (phase, failure) = results.failed.remove(&at).unwrap_or_else(|| {
                let phase = self.phases.lock().get(&at).copied().unwrap_or(Phase::Upload);
                (phase, outcome.error.clone().unwrap_or_else(|| self.stop.why()))
            });
            // What its window deferred was ended for a graver reason afterwards.
            let is_deferred = failure.class == Class::Deferred;
            let failure = if is_deferred { self.stop.why() } else { failure };
            let Some(image) = self.run.work.image(at) else { continue };
            outcome.images_failed.push(ImageFailure {
                image: image.planned.name.clone(),
                place: image.planned.place(self.namespace.as_ref()),
                digest: image.planned.content.manifest_digest(),
                phase,
                failure,
            });
        }
    }

    /// Work notices the cancellation at its next request; this bounds how long the present ones may take.
    async fn until_cancelled(&self, work: impl Future<Output = ()>) {
        tokio::select! { () = work => {}, () = self.stop.overdue(self.link.registry.idle()) => {} }
    }

    fn enter(&self, at: usize, phase: Phase) {
        self.phases.lock().insert(at, phase);
    }

    async fn image(&self, at: usize, lease: &Lease) -> Result<Untagged, (Phase, Failure)> {
        let brought = self.bring(at, lease).await;
        // The first mirror does not wait for the others: they may have to decode some of it again.
        lease.was_read();
        brought
    }

    fn fail(&self, results: &mut Results, at: usize, image: &WorkImage, phase: Phase, failure: Failure) {
        let (why, cause) = match failure.class {
            // The words of a gate may be long: they are shown when the run ends.
            Class::GateRefused => ("its gate refused it", "its gate refused them"),
            _ => (failure.message.as_str(), failure.cause.as_deref().unwrap_or(&failure.message)),
        };
        self.run.listeners.emit(&Event::ImageFailed {
            mirror: self.counts.mirror,
            image: image.planned.name.clone(),
            class: failure.class,
            why: why.to_owned(),
            cause: cause.to_owned(),
        });
        self.run.note_damage(image, &failure);
        let failure = self.confined(image, failure);
        results.failed.insert(at, (phase, failure));
    }

    /// Damage to one archive of several leaves the run incomplete; the others go on.
    fn confined(&self, image: &WorkImage, failure: Failure) -> Failure {
        if failure.exit != Exit::Bundle || image.planned.unit.is_none() {
            return failure;
        }
        let accepted = self.run.settings.accept.unreadable;
        Failure { exit: if accepted { Exit::Complete } else { Exit::Incomplete }, ..failure }
    }

    /// Sends everything of an image up to its digest; touches no tag. A remembered layer that proves wrong on the way is
    /// forgotten, and the image is made ready and sent again: at most once more for each such layer.
    async fn bring(&self, at: usize, lease: &Lease) -> Result<Untagged, (Phase, Failure)> {
        let preparing = |failure| (Phase::Prepare, failure);
        self.enter(at, Phase::Probe);
        self.base_is_there(lease).await.map_err(|failure| (Phase::Probe, failure))?;
        loop {
            self.enter(at, Phase::Prepare);
            self.link.check().map_err(preparing)?;
            let ready = self.link.unless_lost(self.run.preparer.image(lease)).await.map_err(preparing)?;
            let ready = ready.map_err(|error| preparing(Failure::from(&error)))?;
            let brought = self.bring_ready(at, lease, &ready).await;
            if !self.run.preparer.is_disproved(lease, &ready) {
                return brought;
            }
        }
    }

    /// Whether the mirror has what the bundles leave to their bases; asked before any image of a delta is sent.
    async fn base_is_there(&self, lease: &Lease) -> Result<(), Failure> {
        if lease.image.catalog.left_to_base.is_empty() {
            return Ok(());
        }
        let asking = async { self.ask_for_base(&self.run.work.settled().await?).await };
        self.base.get_or_init(|| asking).await.clone()
    }

    async fn bring_ready(
        &self,
        at: usize,
        lease: &Lease,
        ready: &Ready,
    ) -> Result<Untagged, (Phase, Failure)> {
        self.enter(at, Phase::Probe);
        let image = &lease.image;
        let repository = self.repository(image).map_err(|failure| (Phase::Prepare, failure))?;
        let Some(root) = ready.root() else {
            return Err((Phase::Prepare, Failure::internal("an image without a manifest")));
        };
        // The digest of a platform in a name: that the tag is right does not say that it is there.
        let children = image.planned.digests.iter().filter(|digest| **digest != root.digest);
        let children: Vec<_> =
            children.filter(|it| ready.manifests.iter().any(|held| held.digest == **it)).copied().collect();
        let tags = &image.planned.tags;
        let probed = probe::presence(&self.link, &self.knowledge, &repository, tags, root.digest, &children);
        // On a long way the blobs of an image that will be lacking do not wait for the answer that it is.
        let may_begin =
            self.link.limiter.is_far() && (lease.is_admitted() || self.run.preparer.are_staged(&ready.blobs));
        let ahead = if may_begin { self.knowledge.expectations().of_next_image() } else { Ahead::Nothing };
        let (presence, prefetch) = if ahead == Ahead::Nothing {
            (probed.await, Prefetch::default())
        } else {
            let prefetched = async {
                Box::pin(self.vouchers.ask(&repository, &ready.blobs, &[])).await;
                self.transfer.prefetch(&repository, &ready.blobs, ahead).await
            };
            future::join(probed, prefetched).await
        };
        if let Ok(presence) = &presence {
            self.knowledge.expectations().asked_for_image(presence.whole);
        }
        let presence = presence.map(|found| Presence { whole: found.whole && !self.care.recheck, ..found });
        let lacking = presence.as_ref().ok();
        let lacking = lacking.filter(|found| !found.whole && self.all_kept(image, found).is_none());
        let sent = match lacking {
            Some(found) => {
                self.enter(at, Phase::Upload);
                Box::pin(self.vouchers.ask(&repository, &ready.blobs, &found.tags_to_move)).await;
                self.send(lease, &repository, &ready.blobs, &prefetch).await
            }
            None => Ok(()),
        };
        self.transfer.cancel(prefetch).await;
        let presence = presence.map_err(|failure| (Phase::Probe, failure))?;
        // Where no tag may move there is nothing to send for.
        if let Some(kept) = self.all_kept(image, &presence) {
            return Err((Phase::Probe, kept));
        }
        sent.map_err(|failure| (Phase::Upload, failure))?;
        if presence.whole {
            let blobs = ready.blobs.iter().map(|blob| (blob.digest, blob.size));
            let (count, bytes) = self.knowledge.blobs.note_sized(&repository, blobs);
            self.counts.skipped(count, bytes);
            for blob in &ready.blobs {
                self.link.registry.note_source(blob.digest, &repository, false);
            }
            self.knowledge.manifests.note(&repository, ready.manifests.iter().map(|held| held.digest));
        }
        let unchanged = presence.whole && presence.tags_to_move.is_empty();
        if !unchanged {
            self.enter(at, Phase::Verify);
            let sampled = self.verifier.sample(lease, &repository, &ready.blobs).await;
            sampled.map_err(|failure| (Phase::Verify, failure))?;
        }
        if !presence.whole {
            self.enter(at, Phase::Publish);
            let by_tag = self.is_put_by_tag(image, root);
            if image.planned.after_subjects > 0 {
                let put = self.publisher.subjects(&repository, ready, &image.catalog).await;
                put.map_err(|failure| (Phase::Publish, failure))?;
            }
            self.publisher.publish(lease, &repository, ready, by_tag).await?;
            self.vouchers.remember(&repository, ready);
        }
        Ok(Untagged {
            repository,
            depth: publish::levels(&ready.manifests).len(),
            root: Arc::clone(root),
            held: ready.manifests.iter().map(|manifest| manifest.digest).collect(),
            blobs: ready.blobs.iter().map(|blob| (blob.digest, blob.size)).collect(),
            already: presence.whole,
            tags_to_move: presence.tags_to_move,
        })
    }

    /// The blobs that the mirror lacks, when there is room for what must be made of them.
    async fn send(
        &self,
        lease: &Lease,
        repository: &Repository,
        blobs: &[ReadyBlob],
        prefetch: &Prefetch<'_>,
    ) -> Result<(), Failure> {
        if !lease.is_admitted() && !self.run.preparer.are_staged(blobs) {
            prefetch.return_permits();
            self.link.unless_lost(lease.admit()).await?;
        }
        self.transfer.blobs(lease, repository, blobs, Trust::Mirror, prefetch).await
    }

    fn repository(&self, image: &WorkImage) -> Result<Repository, Failure> {
        Ok(image.planned.repository.below(self.namespace.as_ref())?)
    }

    /// Whether the root is put when its tags move and not before.
    fn is_put_by_tag(&self, image: &WorkImage, root: &Manifest) -> bool {
        !image.planned.tags.is_empty()
            && root.subject.is_none()
            && !self.atomic_tags
            && self.gate.is_none()
            && !self.verifier.needs_root_by_digest(!root.children().is_empty())
    }

    /// Why `--no-overwrite` keeps all tags of an image as they are; none where one of them may move.
    fn all_kept(&self, image: &WorkImage, presence: &Presence) -> Option<Failure> {
        let mut kept = presence.tags_to_move.iter().map(|moved| self.kept(image, moved));
        let first = kept.next()?;
        let all = presence.tags_to_move.len() == image.planned.tags.len();
        first.filter(|_| all && kept.all(|kept| kept.is_some()))
    }

    /// Why `--no-overwrite` keeps a tag as it is.
    fn kept(&self, image: &WorkImage, moved: &TagMove) -> Option<Failure> {
        let now = moved.replaced().filter(|_| self.care.no_overwrite)?;
        let place = image.planned.place_of(self.namespace.as_ref(), &moved.tag);
        Some(Failure::tag_exists(&place, &now))
    }
}
