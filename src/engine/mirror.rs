//! The actor of one mirror: probe → upload → publish for each image, tags last.
//!
//! Many images are under way at once, in the order of the bundle, so that neighbours read the same decoded parts; the
//! limits of [`ConcurrencyLimiter`] bound what is in flight. Images come while the bundle is still being read. Tags wait until
//! all of it has been.

mod blobs;
mod counts;
mod manifests;

use crate::sync::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;

pub(super) use self::blobs::SMALL_BYTES;
use self::blobs::{Prefetch, Trust};
use self::counts::Counts;
use self::manifests::Pushed;
use super::blob_locations::BlobLocations;
use super::concurrency::{ByDelay, ByRate, ConcurrencyLimiter, MaxConcurrency, Permit};
use super::image::WorkImage;
use super::probe_heuristic::ProbeHeuristic;
use super::ready::ReadyBlob;
use super::work::Agreed;
use super::{MirrorSettings, Run};
use crate::exit::Exit;
use crate::oci::Repository;
use crate::probe;
use crate::publish;
use crate::registry::{Kind, Observer, Registry, RegistryError};
use crate::report::Event;
use crate::report::Failure;
use crate::report::outcome::{ImageFailure, Outcome, Phase};

/// Images under way at once. Each costs a few small requests; the limiter bounds what is in flight.
const IMAGES_AT_ONCE: usize = 128;
/// How long requests in flight may take to end after the run was told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Does everything on one mirror.
pub(super) async fn run(
    number: usize,
    settings: MirrorSettings,
    max: MaxConcurrency,
    run: Arc<Run>,
) -> Outcome {
    let started = Instant::now();
    let limiter = Arc::new(ConcurrencyLimiter::new(max));
    let counts = Arc::new(Counts::new(number, run.listeners.clone(), Arc::clone(&limiter)));
    let mut outcome = Outcome::new(settings.name.clone());
    match connect(settings, &run, &counts, limiter).await {
        Err(failure) => {
            outcome.error = Some(failure);
            // Nothing is kept for a mirror that will not come for it.
            let run = Arc::clone(&run);
            tokio::spawn(async move { run.work.follow().for_each(|(_, image)| run.pass(&image)).await });
        }
        Ok(actor) => actor.work(&mut outcome).await,
    }
    counts.write(&mut outcome);
    outcome.elapsed_seconds = started.elapsed().as_secs_f64();
    run.listeners.emit(&Event::Finished {
        mirror: number,
        complete: outcome.images_complete,
        failed: outcome.images_failed.len(),
        took: started.elapsed(),
    });
    outcome
}

async fn connect(
    settings: MirrorSettings,
    run: &Arc<Run>,
    counts: &Arc<Counts>,
    limiter: Arc<ConcurrencyLimiter>,
) -> Result<Actor, Failure> {
    let mut client = settings.client;
    client.observer = Arc::clone(counts) as Arc<dyn Observer>;
    let connecting = Registry::connect(&settings.target.endpoint, client);
    let registry = tokio::select! {
        connected = connecting => connected.map_err(|error| Failure::from(&error))?,
        () = run.cancel.cancelled() => return Err(Failure::interrupted()),
    };
    run.listeners.emit(&Event::Connected { mirror: counts.mirror });
    limiter.expect(registry.round_trip());
    Ok(Actor {
        registry,
        namespace: settings.target.namespace,
        run: Arc::clone(run),
        counts: Arc::clone(counts),
        limiter,
        blob_locations: BlobLocations::default(),
        manifests: BlobLocations::default(),
        has_small_blobs: ProbeHeuristic::new(settings.is_new),
        has_images_untagged: ProbeHeuristic::new(settings.is_new),
        lacks_images: AtomicBool::new(false),
        scouts: AtomicBool::new(settings.is_new && !run.settings.recheck),
        cancels: AtomicBool::new(true),
        gone: AtomicBool::new(false),
        pushed: Mutex::default(),
        failed: Mutex::default(),
    })
}

struct Actor {
    registry: Registry,
    namespace: Option<Repository>,
    run: Arc<Run>,
    counts: Arc<Counts>,
    limiter: Arc<ConcurrencyLimiter>,
    blob_locations: BlobLocations,
    manifests: BlobLocations,
    /// Whether small blobs are there before they are sent, as a rule.
    has_small_blobs: ProbeHeuristic,
    /// Whether images are there of which no tag is, as a rule.
    has_images_untagged: ProbeHeuristic,
    /// Whether the image asked for last was not there: so the next will be lacking too, as a rule.
    lacks_images: AtomicBool,
    /// Whether one image is brought as if it were lacking before it is known whether any is.
    scouts: AtomicBool,
    /// Whether sessions that prove needless can be cancelled: not every account may.
    cancels: AtomicBool,
    /// The mirror can no longer be reached: what is left need not try.
    gone: AtomicBool,
    /// Images by their place in the list of the run.
    pushed: Mutex<HashMap<usize, Pushed>>,
    failed: Mutex<HashMap<usize, (Phase, Failure)>>,
}

impl Actor {
    async fn work(&self, outcome: &mut Outcome) {
        let images = self.run.work.follow().take_until(self.run.cancel.cancelled());
        let all = images.for_each_concurrent(IMAGES_AT_ONCE, |(at, image)| self.image(at, image));
        self.until_cancelled(all).await;
        let Some(agreed) = self.run.work.agreed() else {
            outcome.error = Some(Failure::interrupted());
            return;
        };
        self.until_cancelled(self.publish_tags(&agreed, outcome)).await;
        self.tell_failures(&agreed, outcome);
    }

    fn tell_failures(&self, agreed: &Agreed, outcome: &mut Outcome) {
        let mut failed = std::mem::take(&mut *self.failed.lock());
        // Requests that did not end within the grace leave images that are neither complete nor failed.
        let untold = self.pushed.lock();
        let complete: HashSet<usize> =
            untold.iter().filter(|(_, pushed)| pushed.complete).map(|(at, _)| *at).collect();
        for &at in agreed.images.iter().filter(|at| !complete.contains(at)) {
            let (phase, failure) =
                failed.remove(&at).unwrap_or_else(|| (Phase::Upload, Failure::interrupted()));
            let Some(image) = self.run.work.image(at) else { continue };
            outcome.images_failed.push(ImageFailure {
                image: image.planned.name.clone(),
                place: image.planned.place(self.namespace.as_ref()),
                phase,
                failure,
            });
        }
    }

    /// Work notices the cancellation at its next request; this bounds how long the present ones may take.
    async fn until_cancelled(&self, work: impl Future<Output = ()>) {
        let grace = async {
            self.run.cancel.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! { () = work => {}, () = grace => {} }
    }

    async fn image(&self, at: usize, image: Arc<WorkImage>) {
        let result = self.bring(&image).await;
        // Whoever is first is not held up by the others: they may have to decode some of it again.
        image.was_read();
        self.run.preparer.done(&image);
        match result {
            Ok(pushed) => {
                let (image, already) = (image.planned.name.clone(), pushed.already);
                self.run.listeners.emit(&Event::ImageWhole { mirror: self.counts.mirror, image, already });
                self.pushed.lock().insert(at, pushed);
            }
            Err((phase, failure)) => self.fail(at, &image, phase, failure),
        }
    }

    fn fail(&self, at: usize, image: &WorkImage, phase: Phase, failure: Failure) {
        self.run.listeners.emit(&Event::ImageFailed {
            mirror: self.counts.mirror,
            image: image.planned.name.clone(),
            why: failure.message.clone(),
        });
        self.run.note_damage(at, &failure);
        let failure = self.confined(image, failure);
        self.failed.lock().insert(at, (phase, failure));
    }

    /// Damage to one archive of several leaves the run incomplete; the others go on.
    fn confined(&self, image: &WorkImage, failure: Failure) -> Failure {
        if failure.exit != Exit::Bundle || image.planned.unit.is_none() {
            return failure;
        }
        let accepted = self.run.settings.accept.unreadable;
        Failure { exit: if accepted { Exit::Complete } else { Exit::Incomplete }, ..failure }
    }

    /// Everything of an image up to its digest; no tag is touched.
    async fn bring(&self, image: &WorkImage) -> Result<Pushed, (Phase, Failure)> {
        let preparing = |failure| (Phase::Prepare, failure);
        self.check_going().map_err(preparing)?;
        let repository = self.repository(image).map_err(preparing)?;
        let ready = tokio::select! {
            ready = self.run.preparer.image(image) => ready.map_err(|error| preparing(Failure::from(&error)))?,
            () = self.run.cancel.cancelled() => return Err(preparing(Failure::interrupted())),
        };
        let Some(root) = ready.root() else {
            return Err(preparing(Failure::internal("an image without a manifest")));
        };
        // The digest of a platform in a name: that the tag is right does not say that it is there.
        let of_children = image.planned.digests.iter().filter(|digest| **digest != root.digest);
        let of_children: Vec<_> = of_children
            .filter(|it| ready.manifests.iter().any(|held| held.digest == **it))
            .copied()
            .collect();
        let probed = self.probe(&repository, &image.planned.tags, root.digest, &of_children);
        // On a long way the blobs of an image that will be lacking do not wait for the answer that it is.
        let (presence, prefetch) = if self.limiter.is_far() && image.is_admitted() && self.will_be_lacking() {
            futures_util::future::join(probed, self.prefetch(&repository, &ready.blobs)).await
        } else {
            (probed.await, Prefetch::default())
        };
        if let Ok(presence) = &presence {
            self.lacks_images.store(!presence.whole, Ordering::Relaxed);
        }
        let presence = presence
            .map(|found| probe::Presence { whole: found.whole && !self.run.settings.recheck, ..found });
        let needs_blobs = presence
            .as_ref()
            .is_ok_and(|presence| !presence.whole && self.all_kept(image, presence).is_none());
        let sent =
            if needs_blobs { self.send(image, &repository, &ready.blobs, &prefetch).await } else { Ok(()) };
        self.cancel(&repository, prefetch).await;
        let presence = presence.map_err(|failure| (Phase::Probe, failure))?;
        // Where no tag may move there is nothing to send for.
        if let Some(kept) = self.all_kept(image, &presence) {
            return Err((Phase::Probe, kept));
        }
        sent.map_err(|failure| (Phase::Upload, failure))?;
        let by_tag = !presence.whole && self.is_put_by_tag(image, root);
        if presence.whole {
            let learned = self.blob_locations.note(&repository, ready.blobs.iter().map(|blob| blob.digest));
            self.counts.skipped(learned);
            self.manifests.note(&repository, ready.manifests.iter().map(|manifest| manifest.digest));
        } else {
            self.publish(&repository, &ready, by_tag).await?;
        }
        Ok(Pushed {
            repository,
            depth: publish::levels(&ready.manifests).len(),
            root: Arc::clone(root),
            held: ready.manifests.iter().map(|manifest| manifest.digest).collect(),
            already: presence.whole,
            tags_to_move: presence.tags_to_move,
            complete: false,
        })
    }

    /// The blobs that the mirror lacks, when there is room for what must be made of them.
    async fn send(
        &self,
        image: &WorkImage,
        repository: &Repository,
        blobs: &[ReadyBlob],
        prefetch: &Prefetch<'_>,
    ) -> Result<(), Failure> {
        let admitted = async {
            self.run.preparer.admit(image).await;
            Some(())
        };
        self.unless_cancelled(admitted).await?;
        self.blobs(repository, blobs, Trust::Ask(prefetch)).await
    }

    /// Whether the next image is to be brought as if the mirror lacked it.
    fn will_be_lacking(&self) -> bool {
        let scouts = self.scouts.swap(false, Ordering::Relaxed);
        (scouts || self.lacks_images.load(Ordering::Relaxed)) && self.cancels.load(Ordering::Relaxed)
    }

    fn repository(&self, image: &WorkImage) -> Result<Repository, Failure> {
        let repository = &image.planned.repository;
        match &self.namespace {
            Some(namespace) => repository.below(namespace).map_err(|error| Failure::from(&error)),
            None => Ok(repository.clone()),
        }
    }

    async fn probe(
        &self,
        repository: &Repository,
        tags: &[crate::oci::Tag],
        root: crate::oci::Digest,
        children: &[crate::oci::Digest],
    ) -> Result<probe::Presence, Failure> {
        let _permit = self.question().await?;
        let by_tags = probe::tags(&self.registry, repository, tags, &root).await;
        let mut presence = by_tags.map_err(|error| self.judge(&error))?;
        if !presence.whole && (tags.is_empty() || self.has_images_untagged.should_ask()) {
            presence.whole =
                probe::digest(&self.registry, repository, &root).await.map_err(|error| self.judge(&error))?;
            self.has_images_untagged.record(presence.whole);
        }
        for child in children {
            presence.whole = presence.whole
                && probe::digest(&self.registry, repository, child)
                    .await
                    .map_err(|error| self.judge(&error))?;
        }
        Ok(presence)
    }

    async fn question(&self) -> Result<Permit<'_, ByDelay>, Failure> {
        self.unless_cancelled(self.limiter.question()).await
    }

    async fn body(&self) -> Result<Permit<'_, ByRate>, Failure> {
        self.unless_cancelled(self.limiter.body()).await
    }

    async fn unless_cancelled<T>(&self, permit: impl Future<Output = Option<T>>) -> Result<T, Failure> {
        let permit = tokio::select! {
            permit = permit => permit.ok_or_else(|| Failure::internal("the permits are gone"))?,
            () = self.run.cancel.cancelled() => return Err(Failure::interrupted()),
        };
        self.check_going()?;
        Ok(permit)
    }

    fn check_going(&self) -> Result<(), Failure> {
        if self.run.cancel.is_cancelled() {
            return Err(Failure::interrupted());
        }
        if self.gone.load(Ordering::Relaxed) {
            return Err(Failure {
                class: Kind::Unreachable.class(),
                message: "the mirror could no longer be reached".to_owned(),
                hint: None,
                exit: Exit::Unreachable,
            });
        }
        Ok(())
    }

    /// What an error means for the rest of the mirror, and for the run.
    fn judge(&self, error: &RegistryError) -> Failure {
        if let Some(bundle) = error.source_error() {
            return Failure::from(bundle);
        }
        if error.kind() == Kind::Unreachable {
            self.gone.store(true, Ordering::Relaxed);
        }
        Failure::from(error)
    }
}
