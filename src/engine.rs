//! The run: one bundle read once, many mirrors fed at the same time.
//!
//! In: a [`Bundle`], a [`Plan`] and [`MirrorSettings`]. Out: an [`Outcome`] for each mirror. This is the only module that
//! knows both the runtime (requests) and the pool of threads (decoding, compressing). Each mirror is an actor of its
//! own; they share the volume and the prepared images, and nothing that a slow or dead one could hold.

mod backlog;
mod body;
mod budget;
pub(crate) mod bundle;
mod failure;
pub(crate) mod forecast;
mod image;
mod layers;
mod mirror;
mod prepare;
mod ready;
mod synthesis;
pub(crate) mod verify;
mod work;

use crate::sync::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::archive::Unit;
use crate::compress::{Method, Quota, SpillSettings};
use crate::decode::Decoder;
use crate::error::{BundleError, Fault};
use crate::exit::Exit;
use crate::plan::{Accept, Plan};
use crate::registry::{ClientOptions, Target};
use crate::report::{Event, Failure, Listeners, Outcome};

use backlog::Backlog;
use budget::Budget;
pub(crate) use bundle::{Bundle, Opening};
use image::WorkImage;
use layers::Layers;
pub(crate) use layers::{KnownLayers, LayerKey};
use mirror::MaxConcurrency;
use prepare::Preparer;
pub(crate) use work::Discoveries;
use work::Work;

/// How a run behaves, whatever the mirror.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches of the user that have nothing to do with each other"
)]
pub(crate) struct RunSettings {
    /// How layers of docker-archives are compressed.
    pub layer_compression: Method,
    /// Layers that are compressed at the same time; each reads another place of the bundle.
    pub layer_workers: usize,
    /// Memory that compressed layers may wait in.
    pub layer_memory_bytes: u64,
    /// What was found in the bundle and not yet read may be so much.
    pub backlog_bytes: u64,
    /// Memory that bodies of requests may take, of all mirrors together.
    pub body_memory_bytes: u64,
    /// The folder for what does not fit.
    pub spool_folder: PathBuf,
    /// The most that may be put there.
    pub spool_limit_bytes: u64,
    /// Push the whole images of a damaged bundle.
    pub allow_damaged: bool,
    /// Move no tag of a mirror unless every image of it is complete.
    pub atomic_tags: bool,
    /// Ask for every blob, also of images whose manifest is there: a mirror may have lost some.
    pub recheck: bool,
    /// Move no tag that stands for another image.
    pub no_overwrite: bool,
    /// What is no failure.
    pub accept: Accept,
}

/// One mirror and how to talk to it.
#[derive(Debug, Clone)]
pub(crate) struct MirrorSettings {
    /// What it is called in reports.
    pub name: String,
    /// Where it is.
    pub target: Target,
    /// Certificates, credentials, time limits.
    pub client: ClientOptions,
    /// The most uploads at the same time; as many as the mirror bears where none is given.
    pub threads: Option<NonZeroUsize>,
    /// Nothing was ever brought to it, as far as is remembered. A guess that saves waiting, no more.
    pub is_new: bool,
}

/// What all mirrors of a run share.
struct Run {
    work: Arc<Work>,
    preparer: Arc<Preparer>,
    listeners: Listeners,
    cancel: CancellationToken,
    settings: RunSettings,
    /// What was found wrong with images of the bundle while they were read, by their place in the list. No tag is moved
    /// where one of them is in the plan.
    damage: Mutex<BTreeMap<usize, Failure>>,
}

impl Run {
    /// A full disk or the like is not the bundle's fault: it fails an image, not the run.
    fn note_damage(&self, at: usize, failure: &Failure) {
        if failure.exit == Exit::Bundle {
            let mut damage = self.damage.lock();
            damage.entry(at).or_insert_with(|| failure.clone());
        }
    }

    /// A mirror needs nothing of this image.
    fn pass(&self, image: &Arc<WorkImage>) -> std::future::Ready<()> {
        self.preparer.done(image);
        std::future::ready(())
    }

    /// What is wrong with images of these, by the archive that damage is confined to: the first thing for each.
    fn damage(&self, images: &[usize]) -> HashMap<Unit, Failure> {
        let damage = self.damage.lock();
        let mut units = HashMap::new();
        for (at, failure) in images.iter().filter_map(|at| Some((at, damage.get(at)?))) {
            if let Some(image) = self.work.image(*at) {
                units.entry(image.planned.unit.clone()).or_insert_with(|| failure.clone());
            }
        }
        units
    }
}

/// A bundle that was read, and what goes where.
pub(crate) type Read = (Arc<Bundle>, Arc<Plan>);

/// What a push came to.
#[derive(Debug)]
pub(crate) struct Pushed {
    /// What became of each mirror.
    pub outcomes: Vec<Outcome>,
    /// The bundle and its plan; none where reading was given up because no mirror was left, or told to.
    pub read: Option<Read>,
    /// What was found out of the blobs that layers become.
    pub layers: KnownLayers,
    /// Content of the bundle proved damaged while it was read.
    pub damaged: bool,
}

/// Reads a bundle and pushes what is found in it to every mirror, the one while the other goes on. Comes back when each
/// mirror is done, given up, or `cancel` was called.
///
/// `read` runs on a thread that may wait. It tells the [`Discoveries`] what it finds on the way, and comes back with
/// all of it and the plan; no tag moves before.
///
/// # Errors
/// Those of `read`: nothing was published then.
pub(crate) async fn push(
    read: impl FnOnce(&Discoveries) -> Result<Read, BundleError> + Send + 'static,
    decoder: Decoder,
    mirrors: Vec<MirrorSettings>,
    settings: RunSettings,
    pool: Arc<rayon::ThreadPool>,
    listeners: Listeners,
    cancel: CancellationToken,
) -> Result<Pushed, BundleError> {
    let started = Instant::now();
    let names: Vec<String> = mirrors.iter().map(|mirror| mirror.name.clone()).collect();
    listeners.emit(&Event::Started { mirrors: names.clone() });
    let spill = SpillSettings {
        quota: Quota::new(settings.layer_memory_bytes),
        folder: settings.spool_folder.clone(),
    };
    let layers = Layers::new(pool, settings.layer_workers, settings.layer_compression, spill);
    let room = settings
        .layer_memory_bytes
        .saturating_add(budget::on_disk(&settings.spool_folder, settings.spool_limit_bytes));
    let preparer = Arc::new(Preparer::new(Arc::clone(&layers), Budget::new(room)));
    let work = Arc::new(Work::new(mirrors.len()));
    let shares = mirrors.len();
    let run = Arc::new(Run { work, preparer, listeners, cancel, settings, damage: Mutex::default() });
    let actors: Vec<_> = mirrors
        .into_iter()
        .enumerate()
        .map(|(number, mirror)| {
            let max = max_concurrency(run.settings.body_memory_bytes, shares, mirror.threads);
            tokio::spawn(mirror::run(number, mirror, max, Arc::clone(&run)))
        })
        .collect();
    let stop = run.cancel.child_token();
    let discoveries = Discoveries {
        work: Arc::clone(&run.work),
        preparer: Arc::clone(&run.preparer),
        backlog: Backlog::new(run.settings.backlog_bytes),
        cancel: stop.clone(),
    };
    let agreeing = Arc::clone(&run);
    let reading = tokio::task::spawn_blocking(move || {
        let (bundle, plan) = read(&discoveries)?;
        agreeing.listeners.emit(&Event::Planned { images: plan.images.len() });
        let unreadable = bundle.lacks_something() && !agreeing.settings.accept.unreadable;
        agreeing.work.agree(&plan, &bundle.catalog, unreadable, &agreeing.preparer);
        Ok((bundle, plan))
    });
    let aborts: Vec<_> = actors.iter().map(tokio::task::JoinHandle::abort_handle).collect();
    let pushing = async {
        let mut outcomes = Vec::with_capacity(actors.len());
        for (actor, name) in actors.into_iter().zip(names) {
            // A panic takes down one mirror, not the run.
            outcomes.push(
                actor
                    .await
                    .unwrap_or_else(|error| Outcome::lost(name, &error.to_string(), started.elapsed())),
            );
        }
        outcomes
    };
    tokio::pin!(pushing, reading);
    let ended = |read: Result<Result<Read, BundleError>, tokio::task::JoinError>| {
        read.unwrap_or_else(|error| Err(BundleError::new(Fault::Io, format!("reading the bundle: {error}"))))
    };
    let (outcomes, read) = tokio::select! {
        biased;
        read = &mut reading => match ended(read) {
            Ok(read) => (pushing.await, Some(read)),
            Err(error) if run.cancel.is_cancelled() => {
                tracing::debug!(%error, "reading ended because the run was told to stop");
                (pushing.await, None)
            }
            Err(error) => {
                aborts.iter().for_each(tokio::task::AbortHandle::abort);
                run.listeners.emit(&Event::Abandoned);
                return Err(error);
            }
        },
        outcomes = &mut pushing => {
            // No mirror is left to read for. A pipe that says nothing cannot be told, and is left to itself.
            stop.cancel();
            decoder.cancel();
            match tokio::time::timeout(SHUTDOWN_GRACE, reading).await.map(ended) {
                Ok(Ok(read)) => (outcomes, Some(read)),
                Ok(Err(error)) if error.fault() != Fault::Cancelled => return Err(error),
                Ok(Err(_)) | Err(_) => (outcomes, None),
            }
        }
    };
    let damaged = !run.damage.lock().is_empty();
    Ok(Pushed { outcomes, read, layers: layers.learned(), damaged })
}

/// How long whoever reads the bundle may take to notice that nobody wants it any more.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// The highest limits of each mirror: bodies share the memory, down to one for each mirror. Beyond some forty
/// mirrors it grows with their number.
fn max_concurrency(memory_bytes: u64, mirrors: usize, threads: Option<NonZeroUsize>) -> MaxConcurrency {
    let share = memory_bytes / mirrors.max(1) as u64;
    let fit = |bytes: u64, most: usize| usize::try_from(share / bytes).unwrap_or(most).clamp(1, most);
    let threads = threads.map(NonZeroUsize::get);
    let most_questions = threads.map_or(MOST_QUESTIONS, |threads| threads * QUESTIONS_PER_THREAD);
    MaxConcurrency {
        bodies: fit(body::BUFFERED_BYTES, threads.unwrap_or(MOST_BODIES)),
        questions: fit(mirror::SMALL_BYTES * 2, most_questions).max(LEAST_QUESTIONS),
    }
}

/// Bodies on their way to one mirror at the same time.
const MOST_BODIES: usize = 32;
/// Questions to one mirror at the same time.
const MOST_QUESTIONS: usize = 256;
const LEAST_QUESTIONS: usize = 4;
/// Questions for each upload that `--threads` allows.
const QUESTIONS_PER_THREAD: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_many_mirrors_share_the_memory_until_each_has_one() {
        let max = |mirrors| max_concurrency(32 << 20, mirrors, None);
        assert_eq!([1, 4, 10, 1000].map(|mirrors| max(mirrors).bodies), [32, 10, 4, 1]);
        assert_eq!([1, 4, 10, 1000].map(|mirrors| max(mirrors).questions), [256, 64, 25, 4]);
        let narrow = max_concurrency(32 << 20, 1, NonZeroUsize::new(2));
        assert_eq!((narrow.bodies, narrow.questions), (2, 8));
    }
}
