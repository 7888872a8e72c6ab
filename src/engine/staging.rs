//! The stage of a run: filled beside the mirrors, and read instead of the bundle.
//!
//! The task that fills it follows the lists of all plans as a mirror does. It holds each image until the stage has it, and reads
//! the blobs while mirrors read the same bytes. Mirrors that begin later read from the stage (`staged_body`). Only the end of the
//! run waits for it. A fault of the stage costs time and nothing else.

pub(crate) mod entries;
mod fill;

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, OptionFuture, join_all};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, future, stream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::fill::Fill;
use super::checksums::Sums;
use super::image::{Lease, LeaseBranch};
use super::ordered_semaphore::OrderedSemaphore;
use super::prepare::Preparer;
use super::prepared::{Ready, ReadyBlob};
use super::work::{Follower, STAGE, Work};
use crate::archive::Content;
use crate::bundle::{Bundle, LayerKey, LayerRecall};
use crate::clock::Instant;
use crate::compress::LayerFacts;
use crate::error::BundleError;
use crate::locks::Mutex;
use crate::oci::Digest;
use crate::report::event::WorkStep;
use crate::report::{Event, Listeners};
use crate::stage::{NotStaged, Stage, StagedImage, StagedLayer, StagedRoot};
use crate::units::ByteCount;

/// Images under way at once.
const IMAGES_AT_ONCE: usize = 16;
/// Blobs that are written at the same time, so that one can be read while another waits for the disk.
const BLOBS_AT_ONCE: usize = 4;
/// Chunks between the reader and the writer.
const CHUNKS: usize = 2;
/// How often what is whole is listed, while images still come.
const LIST_EVERY: Duration = Duration::from_secs(2);
/// While the run waits only for the stage, it reports the progress of the stage: the first time after this long, then at this
/// interval.
const TELL_AFTER: Duration = Duration::from_secs(1);
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The task that fills the stage, begun or not.
pub(super) struct Staging {
    stop: CancellationToken,
    task: Task,
    stage: Arc<Stage>,
    works: Vec<Arc<Work>>,
    preparer: Arc<Preparer>,
    listeners: Listeners,
}

enum Task {
    Waits(BoxFuture<'static, ()>),
    Begun(JoinHandle<()>),
    None,
}

impl Staging {
    /// For all images of these lists.
    pub(super) fn new(
        stage: Arc<Stage>,
        works: &[Arc<Work>],
        preparer: &Arc<Preparer>,
        recall: &LayerRecall,
        sums: &Sums,
        listeners: &Listeners,
    ) -> Self {
        let stop = CancellationToken::new();
        let followers: Vec<Follower> = works.iter().map(|work| work.join(STAGE)).collect();
        let stager = Stager {
            stage: Arc::clone(&stage),
            works: works.to_vec(),
            preparer: Arc::clone(preparer),
            recall: recall.clone(),
            sums: sums.clone(),
            writers: OrderedSemaphore::new(BLOBS_AT_ONCE),
            claims: Mutex::default(),
        };
        let task = stager.run(followers, stop.clone());
        let (task, works) = (Task::Waits(Box::pin(task)), works.to_vec());
        Self { stop, task, stage, works, preparer: Arc::clone(preparer), listeners: listeners.clone() }
    }

    /// Reading begins.
    pub(super) fn begin(&mut self) {
        if let Task::Waits(task) = std::mem::replace(&mut self.task, Task::None) {
            self.task = Task::Begun(tokio::spawn(task));
        }
    }

    /// The mirrors have ended. Returns when all images are in the stage, or the run ends before.
    pub(super) async fn end(
        mut self,
        may_go_on: bool,
        deadline: Option<Instant>,
        cancel: &CancellationToken,
    ) {
        let Task::Begun(mut task) = std::mem::replace(&mut self.task, Task::None) else { return };
        let (mut ended, mut quiet_for) = (None, TELL_AFTER);
        while may_go_on && ended.is_none() {
            tokio::select! {
                biased;
                _ = &mut task => return,
                () = cancel.cancelled() => ended = Some("the run was interrupted"),
                Some(()) = OptionFuture::from(deadline.map(tokio::time::sleep_until)) => {
                    ended = Some("the deadline of the run has passed");
                }
                () = tokio::time::sleep(quiet_for) => {
                    let Fill { staged, total } = self.fill();
                    let (step, bytes, of) = (WorkStep::FillStage, staged, Some(total));
                    self.listeners.emit(&Event::Advanced { step, bytes, of });
                    quiet_for = TELL_EVERY;
                }
            }
        }
        self.stop.cancel();
        // A panic there was reported by its hook, and costs the run nothing.
        drop(task.await);
        if let Some(why) = ended {
            let Fill { staged, total } = self.fill();
            let (staged, total) = (ByteCount(staged), ByteCount(total));
            self.stage.note(&format!("{staged} of {total} are in it, because {why}; the next run goes on"));
        }
    }

    fn fill(&self) -> Fill {
        Fill::of(&self.stage, &self.works, &self.preparer)
    }
}

/// Ends with the run, however that ends.
impl Drop for Staging {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Why an image is not in the stage.
#[derive(Debug, thiserror::Error)]
enum NotTaken {
    #[error(transparent)]
    Bundle(#[from] BundleError),
    #[error(transparent)]
    Stage(#[from] NotStaged),
    #[error("it has no manifest")]
    NoManifest,
    #[error("a thread ended: {0}")]
    Thread(#[from] tokio::task::JoinError),
}

/// An image that is whole in the stage, and not listed yet.
struct Taken {
    content: Digest,
    root: StagedRoot,
    blobs: Vec<Digest>,
    layers: Vec<(LayerKey, LayerFacts)>,
}

struct Stager {
    stage: Arc<Stage>,
    works: Vec<Arc<Work>>,
    preparer: Arc<Preparer>,
    recall: LayerRecall,
    sums: Sums,
    writers: Arc<OrderedSemaphore>,
    /// The task that writes a blob; others that need it wait.
    claims: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
}

impl Stager {
    async fn run(self, followers: Vec<Follower>, stop: CancellationToken) {
        let mut taken = Vec::new();
        tokio::select! {
            () = self.take_all(followers, &mut taken) => {}
            () = stop.cancelled() => {}
        }
        // The stage is a bundle itself: what is not what was meant must not get a name there.
        let are_right = tokio::select! {
            biased;
            right = self.sums.are_right() => right.is_ok(),
            () = stop.cancelled() => false,
        };
        if are_right {
            self.list(&mut taken).await;
        }
    }

    async fn take_all(&self, followers: Vec<Follower>, taken: &mut Vec<Taken>) {
        let mut seen = HashSet::new();
        let lists =
            followers.into_iter().map(|follower| -> BoxStream<'static, _> { follower.images().boxed() });
        let images = stream::select_all(lists);
        // Several plans have the same image.
        let images = images.filter_map(|(_, lease)| {
            future::ready(seen.insert(lease.image.planned.content.key()).then_some(lease))
        });
        let done = images
            .map(|lease| async move { (self.image(&lease).await, lease.image.planned.name.clone()) })
            .buffer_unordered(IMAGES_AT_ONCE);
        let mut done = pin!(done);
        let mut listed = Instant::now();
        while let Some((image, name)) = done.next().await {
            match image {
                Ok(image) => taken.push(image),
                Err(why) => self.stage.left_image_out(&name, &why),
            }
            if listed.elapsed() >= LIST_EVERY && self.sums.are_known_to_be_right() {
                self.list(taken).await;
                listed = Instant::now();
            }
        }
    }

    /// Puts an image into the stage. A remembered layer that proves wrong is made again.
    async fn image(&self, lease: &Lease) -> Result<Taken, NotTaken> {
        loop {
            let ready = self.preparer.image(lease).await?;
            let taken = self.ready_image(lease, &ready).await;
            if !self.preparer.is_disproved(lease, &ready) {
                if taken.is_ok() {
                    // Mirrors that have still to read it find it in the stage.
                    lease.was_read();
                }
                return taken;
            }
        }
    }

    async fn ready_image(&self, lease: &Lease, ready: &Ready) -> Result<Taken, NotTaken> {
        let root = ready.root().ok_or(NotTaken::NoManifest)?;
        let manifests = ready.manifests.iter().map(|manifest| manifest.digest);
        let blobs: Vec<Digest> = ready.blobs.iter().map(|blob| blob.digest).chain(manifests).collect();
        self.stage.rely_on(blobs.iter().copied());
        if !self.preparer.are_staged(&ready.blobs) {
            lease.admit().await;
        }
        // What is under way is finished even when another blob has failed: it may be needed by others.
        let branches: Vec<LeaseBranch> = ready.blobs.iter().map(|_| lease.branch()).collect();
        let taking = ready.blobs.iter().zip(branches).map(|(blob, branch)| self.blob(branch, blob));
        let all = {
            let _branches_go_on = lease.suspend();
            join_all(taking).await
        };
        all.into_iter().collect::<Result<(), _>>()?;
        let (stage, manifests) = (Arc::clone(&self.stage), ready.manifests.clone());
        let written = tokio::task::spawn_blocking(move || {
            manifests.iter().try_for_each(|manifest| {
                let Some(mut writer) = stage.write(&manifest.digest, manifest.bytes.len() as u64)? else {
                    return Ok(());
                };
                writer.append(&manifest.bytes)?;
                stage.put(writer)
            })
        });
        written.await??;
        let layers = match &lease.image.planned.content {
            Content::Manifest(_) => Vec::new(),
            Content::Unpacked(unpacked) => {
                let known = |layer| Some((LayerKey::of(layer), self.preparer.layers.known(layer)?));
                unpacked.layers.iter().filter_map(known).collect()
            }
        };
        let (digest, size) = (root.digest, root.bytes.len() as u64);
        let root = StagedRoot { media_type: root.media_type.clone(), digest, size };
        Ok(Taken { content: lease.image.planned.content.key().digest(), root, blobs, layers })
    }

    async fn blob(&self, branch: LeaseBranch, blob: &ReadyBlob) -> Result<(), NotTaken> {
        let claim = Arc::clone(self.claims.lock().entry(blob.digest).or_default());
        let _claim = branch.lock(claim).await;
        if self.stage.has(&blob.digest) {
            return Ok(());
        }
        // Nobody waits for room with a permit that others need to get on.
        let _permit = loop {
            let permit = self.writers.acquire(blob.offset).await;
            if blob.body.is_ready() {
                break permit;
            }
            drop(permit);
            blob.body.prepare().await?;
        };
        let (stage, digest, size) = (Arc::clone(&self.stage), blob.digest, blob.size);
        let Some(mut writer) = tokio::task::spawn_blocking(move || stage.write(&digest, size)).await?? else {
            return Ok(());
        };
        let (chunks, mut incoming) = mpsc::channel::<bytes::Bytes>(CHUNKS);
        let stage = Arc::clone(&self.stage);
        let writing = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = incoming.blocking_recv() {
                writer.append(&chunk)?;
            }
            stage.put(writer)
        });
        let mut stream = blob.body.open(0..size);
        while let Some(chunk) = stream.next().await {
            // Who writes may have given up; it says why.
            if chunks.send(chunk?).await.is_err() {
                break;
            }
        }
        drop(chunks);
        Ok(writing.await??)
    }

    /// Lists what is whole, once the bundle has been read: only then it is known which names there are.
    async fn list(&self, taken: &mut Vec<Taken>) {
        let agreed = self.works.iter().find_map(|work| work.agreed()?.ok());
        let Some(agreed) = agreed.filter(|_| !taken.is_empty()) else { return };
        let images: Vec<StagedImage> =
            std::mem::take(taken).into_iter().map(|taken| self.listed(taken, &agreed.bundle)).collect();
        let stage = Arc::clone(&self.stage);
        // Where a thread ended without its end, what is not listed is put there again.
        drop(tokio::task::spawn_blocking(move || stage.list(&images)).await);
    }

    fn listed(&self, taken: Taken, bundle: &Bundle) -> StagedImage {
        let Taken { content, root, blobs, layers } = taken;
        let (entries, subject) = entries::of(&bundle.catalog, content);
        let layer = |(key, facts): (LayerKey, LayerFacts)| {
            let recipe = self.recall.recipe(key, bundle.identities())?;
            let LayerFacts { digest, size, media_type } = facts;
            let media_type = media_type.to_owned();
            Some(StagedLayer { recipe, diff_id: key.diff_id, digest, size, media_type })
        };
        let layers = layers.into_iter().filter_map(layer).collect();
        StagedImage { content, root, entries, subject, blobs, layers }
    }
}
