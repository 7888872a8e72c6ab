//! The run: one bundle read once, many mirrors fed at the same time.
//!
//! In: a [`Bundle`], a [`Plan`] and [`MirrorSettings`]. Out: an [`Outcome`] for each mirror. This is the only module that
//! knows both the runtime (requests) and the pool of threads (decoding, compressing). Each mirror is an actor of its
//! own; they share the volume and the prepared images, and nothing that a slow or dead one could hold.

mod body;
mod book;
pub mod bundle;
pub mod forecast;
mod mirror;
pub mod outcome;
mod prepare;
pub mod verify;

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use crate::compress::{Method, Quota, SpillSettings};
use crate::error::BundleError;
use crate::exit::Exit;
use crate::plan::Plan;
use crate::registry::{ClientOptions, Target};
use crate::report::{Event, Listeners};

pub use bundle::Bundle;
pub use outcome::{ImageFailure, Outcome, Phase};
use prepare::Preparer;

/// How a run behaves, whatever the mirror.
#[derive(Debug, Clone)]
pub struct RunSettings {
    /// How layers of docker-archives are compressed.
    pub layer_compression: Method,
    /// Layers that are compressed at the same time; each reads another place of the bundle.
    pub layer_workers: usize,
    /// Memory that compressed layers may wait in.
    pub layer_memory_bytes: u64,
    /// Memory that bodies of requests may take, of all mirrors together.
    pub body_memory_bytes: u64,
    /// The folder for what does not fit.
    pub spool_folder: PathBuf,
    /// Push the whole images of a damaged bundle.
    pub allow_damaged: bool,
    /// Move no tag of a mirror unless every image of it is complete.
    pub atomic_tags: bool,
}

/// One mirror and how to talk to it.
#[derive(Debug, Clone)]
pub struct MirrorSettings {
    /// What it is called in reports.
    pub name: String,
    /// Where it is.
    pub target: Target,
    /// Certificates, credentials, time limits.
    pub client: ClientOptions,
    /// Uploads at the same time.
    pub threads: NonZeroUsize,
}

/// What all mirrors of a run share.
struct Run {
    plan: Arc<Plan>,
    preparer: Preparer,
    listeners: Listeners,
    cancel: CancellationToken,
    settings: RunSettings,
    /// Damaged images of the bundle are not in the plan.
    left_out: bool,
    /// What was found wrong with the bundle while it was read. From then on no tag is moved.
    damage: Mutex<Option<BundleError>>,
}

impl Run {
    /// A full disk or the like is not the bundle's fault: it fails an image, not the run.
    fn note_damage(&self, error: &BundleError) {
        if error.fault().exit() != Exit::Bundle {
            return;
        }
        let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
        damage.get_or_insert_with(|| error.clone());
    }

    fn damage(&self) -> Option<BundleError> {
        self.damage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Pushes the planned images to every mirror, and comes back when each is done, given up, or `cancel` was called.
pub async fn push(
    bundle: Arc<Bundle>,
    plan: Arc<Plan>,
    mirrors: Vec<MirrorSettings>,
    settings: RunSettings,
    pool: Arc<rayon::ThreadPool>,
    listeners: Listeners,
    cancel: CancellationToken,
) -> Vec<Outcome> {
    let names = mirrors.iter().map(|mirror| mirror.name.clone()).collect();
    listeners.tell(&Event::Started { mirrors: names, images: plan.images.len() });
    let share = uploads_per_mirror(settings.body_memory_bytes, mirrors.len());
    let spill = SpillSettings {
        quota: Quota::new(settings.layer_memory_bytes),
        folder: settings.spool_folder.clone(),
    };
    let left_out = !bundle.catalog.broken.is_empty();
    let preparer = Preparer::new(bundle, &plan, mirrors.len(), pool, &settings, spill);
    let run =
        Arc::new(Run { left_out, plan, preparer, listeners, cancel, settings, damage: Mutex::new(None) });
    let actors: Vec<_> = mirrors
        .into_iter()
        .enumerate()
        .map(|(number, mut mirror)| {
            mirror.threads = mirror.threads.min(share);
            (mirror.name.clone(), tokio::spawn(mirror::run(number, mirror, Arc::clone(&run))))
        })
        .collect();
    let started = Instant::now();
    let mut outcomes = Vec::with_capacity(actors.len());
    for (name, actor) in actors {
        // A panic takes down one mirror, not the run.
        outcomes.push(
            actor.await.unwrap_or_else(|error| Outcome::lost(name, &error.to_string(), started.elapsed())),
        );
    }
    outcomes
}

/// How many uploads at once each mirror may have: what their bodies hold does not grow with the number of mirrors.
fn uploads_per_mirror(memory_bytes: u64, mirrors: usize) -> NonZeroUsize {
    let uploads = usize::try_from(memory_bytes / body::BUFFERED_BYTES).unwrap_or(usize::MAX);
    NonZeroUsize::new(uploads / mirrors.max(1)).unwrap_or(NonZeroUsize::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_many_mirrors_take_no_more_memory_than_those_of_one() {
        let uploads = |mirrors| uploads_per_mirror(32 << 20, mirrors).get();
        assert_eq!([uploads(1), uploads(4), uploads(10), uploads(1000)], [42, 10, 4, 1]);
    }
}
