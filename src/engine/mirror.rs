//! The actor of one mirror: probe → upload → publish for each image, tags last.
//!
//! Many images are under way at once, in the order of the bundle, so that neighbours read the same decoded parts.
//! Requests take a permit each: uploads from one pocket, small requests from another, so that a HEAD never waits behind
//! a layer.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::book::{Book, note};
use super::outcome::{Failure, ImageFailure, Outcome, Phase};
use super::prepare::{Ready, ReadyBlob};
use super::{MirrorSettings, Run};
use crate::oci::{Digest, Manifest, Repository, Tag};
use crate::plan::PlannedImage;
use crate::registry::{Kind, Mount, Observer, Registry, RegistryError, UploadSession};
use crate::report::{Event, Listeners};
use crate::{probe, publish};

/// Images under way at once. Each costs a few small requests; the permits bound what is really in flight.
const IMAGES_AT_ONCE: usize = 32;
/// Small requests (HEADs, manifests, tags) for every upload.
const SMALL_PER_UPLOAD: usize = 4;
/// How long requests in flight may take to end after the run was told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Does everything on one mirror.
pub(super) async fn run(number: usize, settings: MirrorSettings, run: Arc<Run>) -> Outcome {
    let started = Instant::now();
    let counts = Arc::new(Counts { mirror: number, listeners: run.listeners.clone(), ..Counts::default() });
    let mut outcome = Outcome::new(settings.name.clone());
    match connect(settings, &run, &counts).await {
        Err(failure) => {
            outcome.error = Some(failure);
            // Nothing is kept for a mirror that will not come for it.
            (0..run.plan.images.len()).for_each(|index| run.preparer.done(index));
        }
        Ok(actor) => actor.work(&mut outcome).await,
    }
    let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    outcome.blobs_sent = read(&counts.blobs_sent);
    outcome.blobs_skipped = read(&counts.blobs_skipped);
    outcome.blobs_mounted = read(&counts.blobs_mounted);
    outcome.bytes_sent = read(&counts.bytes_sent);
    outcome.requests = read(&counts.requests);
    outcome.elapsed_seconds = started.elapsed().as_secs_f64();
    run.listeners.tell(&Event::Finished {
        mirror: number,
        complete: outcome.images_complete,
        failed: outcome.images_failed.len(),
        took: started.elapsed(),
    });
    outcome
}

async fn connect(settings: MirrorSettings, run: &Arc<Run>, counts: &Arc<Counts>) -> Result<Actor, Failure> {
    let mut client = settings.client;
    client.observer = Arc::clone(counts) as Arc<dyn Observer>;
    let connecting = Registry::connect(&settings.target.endpoint, client);
    let registry = tokio::select! {
        connected = connecting => connected.map_err(|error| Failure::from(&error))?,
        () = run.cancel.cancelled() => return Err(Failure::interrupted()),
    };
    run.listeners.tell(&Event::Connected { mirror: counts.mirror });
    Ok(Actor {
        registry,
        namespace: settings.target.namespace,
        run: Arc::clone(run),
        counts: Arc::clone(counts),
        uploads: Semaphore::new(settings.threads.get()),
        small: Semaphore::new(settings.threads.get() * SMALL_PER_UPLOAD),
        book: Book::default(),
        manifests: Book::default(),
        gone: AtomicBool::new(false),
        whole: Mutex::default(),
        failed: Mutex::default(),
    })
}

struct Actor {
    registry: Registry,
    namespace: Option<Repository>,
    run: Arc<Run>,
    counts: Arc<Counts>,
    uploads: Semaphore,
    small: Semaphore,
    book: Book,
    manifests: Book,
    /// The mirror can no longer be reached: what is left need not try.
    gone: AtomicBool,
    whole: Mutex<Vec<Whole>>,
    failed: Mutex<Vec<(usize, Phase, Failure)>>,
}

/// An image that is there by its digest.
struct Whole {
    index: usize,
    repository: Repository,
    root: Arc<Manifest>,
    /// How deep the root nests: 0 for an image, 1 for an index of images.
    depth: usize,
    already: bool,
    tags_to_move: Vec<Tag>,
}

impl Actor {
    async fn work(&self, outcome: &mut Outcome) {
        let images = &self.run.plan.images;
        let all =
            stream::iter(0..images.len()).for_each_concurrent(IMAGES_AT_ONCE, |index| self.image(index));
        self.until_cancelled(all).await;
        let whole = std::mem::take(&mut *self.whole.lock().unwrap_or_else(PoisonError::into_inner));
        let mut complete = Vec::new();
        self.until_cancelled(self.publish_tags(whole, outcome, &mut complete)).await;
        let mut failed = std::mem::take(&mut *self.failed.lock().unwrap_or_else(PoisonError::into_inner));
        // Requests that did not end within the grace leave images that are neither complete nor failed.
        let told: HashSet<usize> = failed.iter().map(|failed| failed.0).chain(complete).collect();
        let untold = (0..images.len()).filter(|index| !told.contains(index));
        failed.extend(untold.map(|index| (index, Phase::Upload, Failure::interrupted())));
        failed.sort_by_key(|failed| failed.0);
        outcome.images_failed = failed
            .into_iter()
            .map(|(index, phase, failure)| self.name_failure(index, phase, failure))
            .collect();
    }

    /// Work notices the cancellation at its next request; this bounds how long the present ones may take.
    async fn until_cancelled(&self, work: impl Future<Output = ()>) {
        let grace = async {
            self.run.cancel.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! { () = work => {}, () = grace => {} }
    }

    async fn image(&self, index: usize) {
        let planned = &self.run.plan.images[index];
        let result = self.bring(index, planned).await;
        self.run.preparer.done(index);
        match result {
            Ok(whole) => {
                let (image, already) = (planned.name.clone(), whole.already);
                self.run.listeners.tell(&Event::ImageWhole { mirror: self.counts.mirror, image, already });
                self.whole.lock().unwrap_or_else(PoisonError::into_inner).push(whole);
            }
            Err((phase, failure)) => self.fail(index, phase, failure),
        }
    }

    fn fail(&self, index: usize, phase: Phase, failure: Failure) {
        let image = self.run.plan.images[index].name.clone();
        self.run.listeners.tell(&Event::ImageFailed {
            mirror: self.counts.mirror,
            image,
            why: failure.message.clone(),
        });
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).push((index, phase, failure));
    }

    fn name_failure(&self, index: usize, phase: Phase, failure: Failure) -> ImageFailure {
        let planned = &self.run.plan.images[index];
        let place = planned.place(self.namespace.as_ref());
        ImageFailure { image: planned.name.clone(), place, phase, failure }
    }

    /// Everything of an image up to its digest; no tag is touched.
    async fn bring(&self, index: usize, planned: &PlannedImage) -> Result<Whole, (Phase, Failure)> {
        let broken = |error: &crate::error::BundleError| {
            self.run.note_damage(error);
            Failure::from(error)
        };
        self.check_going().map_err(|failure| (Phase::Prepare, failure))?;
        let repository = match &self.namespace {
            Some(namespace) => planned.repository.below(namespace),
            None => Ok(planned.repository.clone()),
        };
        let repository = repository.map_err(|error| (Phase::Prepare, Failure::from(&error)))?;
        let ready = self.run.preparer.image(index).await.map_err(|error| (Phase::Prepare, broken(&error)))?;
        let root =
            ready.root().ok_or_else(|| (Phase::Prepare, Failure::internal("an image without a manifest")))?;
        let presence = {
            let _permit = self.small().await.map_err(|failure| (Phase::Probe, failure))?;
            let asked = probe::image(&self.registry, &repository, &planned.tags, &root.digest).await;
            asked.map_err(|error| (Phase::Probe, self.judge(&error)))?
        };
        if presence.whole {
            let learned = self.book.note(&repository, ready.blobs.iter().map(|blob| blob.digest));
            self.counts.blobs_skipped.fetch_add(learned, Ordering::Relaxed);
            self.manifests.note(&repository, ready.manifests.iter().map(|manifest| manifest.digest));
        } else {
            self.fill(&repository, &ready).await?;
        }
        let (root, tags_to_move) = (Arc::clone(root), presence.tags_to_move);
        let depth = publish::levels(&ready.manifests).len();
        Ok(Whole { index, repository, root, depth, already: presence.whole, tags_to_move })
    }

    /// Blobs, manifests, and reading back.
    async fn fill(&self, repository: &Repository, ready: &Ready) -> Result<(), (Phase, Failure)> {
        self.blobs(repository, &ready.blobs, Trust::Ask).await.map_err(|failure| (Phase::Upload, failure))?;
        let mut published = self.publish(repository, ready).await?;
        let unknown: Vec<Vec<Digest>> =
            published.iter().filter_map(RegistryError::manifest_blob_unknown).collect();
        if !unknown.is_empty() {
            // The mirror lied, or lost something since: what it names (or all of the image) is sent without asking.
            let named: Vec<Digest> = unknown.iter().flatten().copied().collect();
            let all = unknown.iter().any(Vec::is_empty);
            let resend = ready.blobs.iter().filter(|blob| all || named.contains(&blob.digest));
            let resend: Vec<ReadyBlob> = resend.cloned().collect();
            for blob in &resend {
                self.book.forget(&blob.digest, repository).await;
            }
            for manifest in &ready.manifests {
                self.manifests.forget(&manifest.digest, repository).await;
            }
            self.blobs(repository, &resend, Trust::Nothing)
                .await
                .map_err(|failure| (Phase::Upload, failure))?;
            published = self.publish(repository, ready).await?;
        }
        match published.first() {
            Some(error) => Err((Phase::Publish, self.judge(error))),
            None => Ok(()),
        }
    }

    /// Manifests, level by level, and the root read back. Comes back with what failed on the first level that failed.
    async fn publish(
        &self,
        repository: &Repository,
        ready: &Ready,
    ) -> Result<Vec<RegistryError>, (Phase, Failure)> {
        for level in publish::levels(&ready.manifests) {
            let puts = join_all(level.iter().map(|manifest| self.manifest(repository, manifest))).await;
            let puts = puts
                .into_iter()
                .collect::<Result<Vec<_>, _>>()
                .map_err(|failure| (Phase::Publish, failure))?;
            let failed: Vec<RegistryError> = puts.into_iter().filter_map(Result::err).collect();
            if !failed.is_empty() {
                return Ok(failed);
            }
        }
        let _permit = self.small().await.map_err(|failure| (Phase::Publish, failure))?;
        let Some(root) = ready.root() else { return Ok(Vec::new()) };
        Ok(publish::read_back(&self.registry, repository, root).await.err().into_iter().collect())
    }

    /// One manifest into one repository, once: a registry that writes its links in place (distribution 2.8) refuses an
    /// index while one of its children is put again.
    async fn manifest(
        &self,
        repository: &Repository,
        manifest: &Manifest,
    ) -> Result<Result<(), RegistryError>, Failure> {
        // The permit comes first: whoever holds a page has one, and gets on.
        let _permit = self.small().await?;
        let page = self.manifests.page(&manifest.digest);
        let mut repositories = page.lock().await;
        if repositories.contains(repository) {
            return Ok(Ok(()));
        }
        let put = publish::put(&self.registry, repository, manifest).await;
        if put.is_ok() {
            note(&mut repositories, repository);
        }
        Ok(put)
    }

    async fn blobs(&self, repository: &Repository, blobs: &[ReadyBlob], trust: Trust) -> Result<(), Failure> {
        // What is under way is finished even when another blob has failed: it need not be sent again.
        let sends = blobs.iter().map(|blob| self.blob(repository, blob, trust));
        join_all(sends).await.into_iter().collect()
    }

    /// One blob into one repository: known elsewhere → mount; else, or when that is declined → HEAD → upload.
    async fn blob(&self, repository: &Repository, blob: &ReadyBlob, trust: Trust) -> Result<(), Failure> {
        let page = self.book.page(&blob.digest);
        let mut repositories = page.lock().await;
        let asks = matches!(trust, Trust::Ask);
        if asks && repositories.contains(repository) {
            return Ok(());
        }
        let mut session = None;
        if let Some(from) = repositories.first().filter(|_| asks) {
            let permit = self.small().await?;
            match self
                .registry
                .mount(repository, &blob.digest, from)
                .await
                .map_err(|error| self.judge(&error))?
            {
                Mount::Done => {
                    note(&mut repositories, repository);
                    self.counts.blobs_mounted.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                // Not every registry mounts; it may have the blob here all the same.
                Mount::Session(opened) => {
                    drop(permit);
                    if self.has(repository, &blob.digest, blob.size).await? {
                        self.registry.cancel_upload(repository, opened).await;
                        note(&mut repositories, repository);
                        self.counts.blobs_skipped.fetch_add(1, Ordering::Relaxed);
                        return Ok(());
                    }
                    session = Some(opened);
                }
            }
        } else if asks && self.has(repository, &blob.digest, blob.size).await? {
            note(&mut repositories, repository);
            self.counts.blobs_skipped.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.upload(repository, blob, session).await?;
        note(&mut repositories, repository);
        Ok(())
    }

    async fn has(&self, repository: &Repository, digest: &Digest, size: u64) -> Result<bool, Failure> {
        let _permit = self.small().await?;
        let found = self.registry.head_blob(repository, digest).await.map_err(|error| self.judge(&error))?;
        // A blob of another size under this digest is not this blob.
        Ok(found == Some(size))
    }

    async fn upload(
        &self,
        repository: &Repository,
        blob: &ReadyBlob,
        session: Option<UploadSession>,
    ) -> Result<(), Failure> {
        let mirror = self.counts.mirror;
        self.run.listeners.tell(&Event::Wanted { mirror, bytes: blob.size });
        let _permit = self.permit(&self.uploads).await?;
        let pushed = self.registry.push_blob(repository, &blob.digest, &blob.body, session).await;
        pushed.map_err(|error| self.judge(&error))?;
        self.counts.blobs_sent.fetch_add(1, Ordering::Relaxed);
        self.run.listeners.tell(&Event::Acknowledged { mirror, digest: blob.digest, bytes: blob.size });
        Ok(())
    }

    /// Tags, when all that can be whole is whole. A damaged bundle moves none; half a release is worse than none.
    async fn publish_tags(&self, mut whole: Vec<Whole>, outcome: &mut Outcome, complete: &mut Vec<usize>) {
        let failed =
            !self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_empty() || self.run.left_out;
        let damage = self.run.damage().filter(|_| !self.run.settings.allow_damaged);
        let withheld = match (&damage, failed && self.run.settings.atomic_tags) {
            (Some(error), _) => Some(Failure {
                message: format!("whole, but not tagged, because the bundle is damaged: {error}"),
                ..Failure::from(error)
            }),
            (None, true) => Some(Failure {
                class: "withheld",
                message: "whole, but not tagged, because other images of this mirror are not complete"
                    .to_owned(),
                hint: Some("run again when the others can be completed, or without --atomic-tags".to_owned()),
                exit: crate::exit::Exit::Incomplete,
            }),
            (None, false) => None,
        };
        let mut tags = 0;
        let withheld = withheld.as_ref();
        // Tags of images before tags of indexes that list them, for the reason given at `manifest`.
        whole.sort_by_key(|image| (image.depth, image.index));
        while let Some(depth) = whole.first().map(|image| image.depth) {
            let deeper = whole.split_off(whole.partition_point(|image| image.depth == depth));
            let level = std::mem::replace(&mut whole, deeper);
            let moved = stream::iter(level).map(|image| async move {
                let result = match withheld {
                    Some(failure) if !image.tags_to_move.is_empty() => Err(failure.clone()),
                    _ => self.move_tags(&image).await,
                };
                (image, result)
            });
            let mut moved = moved.buffer_unordered(IMAGES_AT_ONCE);
            while let Some((image, result)) = moved.next().await {
                match result {
                    Ok(()) => {
                        outcome.images_complete += 1;
                        complete.push(image.index);
                        tags += image.tags_to_move.len();
                        outcome.images_unchanged +=
                            usize::from(image.already && image.tags_to_move.is_empty());
                    }
                    Err(failure) => self.fail(image.index, Phase::Tag, failure),
                }
            }
        }
        self.run.listeners.tell(&Event::Tagged { mirror: self.counts.mirror, tags });
    }

    async fn move_tags(&self, image: &Whole) -> Result<(), Failure> {
        for tag in &image.tags_to_move {
            let _permit = self.small().await?;
            let moved = publish::tag(&self.registry, &image.repository, tag, &image.root).await;
            moved.map_err(|error| self.judge(&error))?;
        }
        Ok(())
    }

    async fn small(&self) -> Result<SemaphorePermit<'_>, Failure> {
        self.permit(&self.small).await
    }

    async fn permit<'a>(&self, permits: &'a Semaphore) -> Result<SemaphorePermit<'a>, Failure> {
        let permit = tokio::select! {
            permit = permits.acquire() => permit.map_err(|_| Failure::internal("the permits are gone"))?,
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
                exit: crate::exit::Exit::Unreachable,
            });
        }
        Ok(())
    }

    /// What an error means for the rest of the mirror, and for the run.
    fn judge(&self, error: &RegistryError) -> Failure {
        if let Some(bundle) = error.source_error() {
            self.run.note_damage(bundle);
            return Failure::from(bundle);
        }
        if error.kind() == Kind::Unreachable {
            self.gone.store(true, Ordering::Relaxed);
        }
        Failure::from(error)
    }
}

/// Whether the mirror is asked for a blob before it is sent.
#[derive(Debug, Clone, Copy)]
enum Trust {
    Ask,
    Nothing,
}

/// What is counted on one mirror; hears of every request.
#[derive(Debug, Default)]
struct Counts {
    mirror: usize,
    listeners: Listeners,
    blobs_sent: AtomicU64,
    blobs_skipped: AtomicU64,
    blobs_mounted: AtomicU64,
    bytes_sent: AtomicU64,
    requests: AtomicU64,
}

impl Observer for Counts {
    fn request(&self, _method: &str, _status: Option<u16>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    fn body_sent(&self, bytes: u64) {
        self.bytes_sent.fetch_add(bytes, Ordering::Relaxed);
        self.listeners.tell(&Event::Sent { mirror: self.mirror, bytes });
    }

    fn retry(&self, what: &str, why: &str, after: Duration) {
        let (what, why) = (what.to_owned(), why.to_owned());
        self.listeners.tell(&Event::Retried { mirror: self.mirror, what, why, after });
    }

    fn warning(&self, text: &str) {
        self.listeners.note(text);
    }
}
