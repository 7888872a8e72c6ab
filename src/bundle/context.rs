//! What opening bundles takes, made once for a command.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Bundle, Input, OpenObserver};
use crate::archive::{Catalog, Limits};
use crate::budget::{Budget, Shares};
use crate::clock;
use crate::compress::CpuMeters;
use crate::decode::{DecodeOptions, Decoder};
use crate::error::{BundleError, Fault};
use crate::oci::{Algorithm, Digest, Hasher};
use crate::report::document::{Compressed, Decoded, StageSeconds, Staged, Utilisation};
use crate::report::{Listeners, Outcome};
use crate::source::{self, IoMode, Source, SourceOptions};
use crate::stage::{OpenedBundle, Stage, StageFigures};
use crate::state::{BundleIdentity, Home, OpenVolume, State, WrittenCatalog};

/// What reading bundles may cost.
#[derive(Debug, Clone)]
pub(crate) struct Resources {
    /// Memory for decoded parts, compressed layers and bodies of requests.
    pub memory_bytes: u64,
    /// Memory that one decoder may take for itself.
    pub decode_memory_bytes: u64,
    /// The folder for what does not fit.
    pub spool_folder: PathBuf,
    /// The most that may be put there.
    pub spool_limit_bytes: u64,
    /// Threads that decode; 0 stands for all cores.
    pub threads: usize,
    /// How files are read.
    pub io: IoMode,
}

/// Documents that are kept while a tar is walked over take this part of the memory at most; most of them stay in the catalog.
const SHARE_FOR_DOCUMENTS: u64 = 16;

/// A layer in work reads from one part while the next is decoded; with less, workers decode each other's parts anew.
const WORKER_BYTES: u64 = 48 << 20;

/// What is read at once to take a sum.
const SUM_CHUNK_BYTES: usize = 1 << 20;

/// How much lower the priority of threads that decode and compress is than that of those that serve sockets (nice(2)).
const POOL_NICENESS: i32 = 5;

/// Opens bundles.
#[derive(Debug, Clone)]
pub(crate) struct Opener {
    /// The threads that decode and compress.
    pub pool: Arc<rayon::ThreadPool>,
    /// Opens what is compressed.
    pub decoder: Decoder,
    /// What earlier runs found in the same bundles.
    pub state: Arc<State>,
    /// What earlier runs decoded and compressed of them.
    pub stage: Option<Arc<Stage>>,
    /// What reading may cost.
    pub resources: Resources,
    /// What of it is taken.
    pub budget: Arc<Budget>,
    /// What compressing and hashing have taken.
    pub cpu: CpuMeters,
}

impl Opener {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system has no threads for us.
    pub(crate) fn new(resources: Resources, state: State) -> Result<Self, BundleError> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(resources.threads);
        // Socket threads run first, because a registry that waits leaves a core idle later. Where the system refuses the lower
        // priority, all threads run alike.
        let pool = pool.start_handler(|_| {
            let _ = rustix::process::nice(POOL_NICENESS);
        });
        let pool = pool.thread_name(|number| format!("decode-{number}")).build();
        let pool = Arc::new(
            pool.map_err(|error| BundleError::new(Fault::Io, format!("starting threads: {error}")))?,
        );
        let disk = resources.spool_limit_bytes;
        let free = free_bytes(&resources.spool_folder);
        let (layers_on_disk, parts_on_disk) = (disk.min(free / 2), disk.min(free / 4));
        let shares = Shares::of(resources.memory_bytes, disk, layers_on_disk, parts_on_disk);
        let budget = Budget::new(shares);
        let options = DecodeOptions {
            memory_bytes: resources.decode_memory_bytes,
            budget: Arc::clone(&budget),
            spool_dir: resources.spool_folder.clone(),
        };
        let decoder = Decoder::new(Arc::clone(&pool), options);
        let (state, cpu) = (Arc::new(state), CpuMeters::default());
        Ok(Self { pool, decoder, state, stage: None, resources, budget, cpu })
    }

    /// The same, with a stage.
    #[must_use]
    pub(crate) fn with_stage(self, stage: Option<Stage>) -> Self {
        Self { stage: stage.map(Arc::new), ..self }
    }

    /// Whether there is any use in knowing which bundle it is.
    pub(super) fn remembers(&self) -> bool {
        self.state.is_kept() || self.stage.is_some()
    }

    /// What is in a bundle, if the state or the stage knows it.
    pub(super) fn known_catalog(
        &self,
        bundle: &BundleIdentity,
        home: &Home,
        open: &Arc<OpenVolume>,
    ) -> Option<Catalog> {
        let staged = || {
            let written = self.stage.as_ref()?.catalog(bundle, &WrittenCatalog::reader())?;
            WrittenCatalog::from_bytes(&written)?.read(home, open)
        };
        self.state.load_catalog(bundle, home, open).or_else(staged)
    }

    /// Lets the stage know which bundle was opened, and what is in it. `written` is how its catalog is written down.
    pub(super) fn enter_stage(
        &self,
        identity: Option<&BundleIdentity>,
        path: &Path,
        catalog: &Catalog,
        written: impl FnOnce() -> Option<WrittenCatalog>,
    ) {
        let Some(stage) = self.stage.as_ref().filter(|_| catalog.has_images()) else { return };
        let path = path.display().to_string();
        let (contents, reader) = (catalog.contents(), WrittenCatalog::reader());
        let bundle = OpenedBundle { identity, path: &path, contents, reader: &reader };
        stage.enter(bundle, || written().map(WrittenCatalog::into_bytes));
    }

    /// Layers that are compressed at the same time; each reads another place of the bundle.
    pub(crate) fn layer_workers(&self) -> usize {
        let workers = usize::try_from(self.resources.memory_bytes / WORKER_BYTES).unwrap_or(1);
        workers.clamp(1, self.pool.current_num_threads() + 1)
    }

    /// Limits on what a bundle may claim, and on what is kept while it is walked over.
    pub(super) fn limits(&self) -> Limits {
        Limits { kept_bytes: self.resources.memory_bytes / SHARE_FOR_DOCUMENTS, ..Limits::default() }
    }

    /// What was decoded so far.
    pub(crate) fn decoded(&self) -> Decoded {
        let meter = self.decoder.meter();
        Decoded {
            bytes: meter.decoded_bytes(),
            parts: meter.parts_decoded(),
            spool_peak_bytes: meter.spool_high_water_bytes(),
            cpu_seconds: meter.cpu_time().as_secs_f64(),
        }
    }

    /// The totals of compressing layers so far.
    pub(crate) fn compressed(&self) -> Compressed {
        Compressed { cpu_seconds: self.cpu.compress.total().as_secs_f64() }
    }

    /// How well a run used the machine that has gone on for so long and came to this.
    pub(crate) fn utilisation(&self, elapsed: Duration, mirrors: &[Outcome]) -> Utilisation {
        let decode = self.decoder.meter().cpu_time();
        let (compress, sha256) = (self.cpu.compress.total(), self.cpu.sha256.total());
        let other = clock::process_cpu().saturating_sub(decode + compress + sha256);
        let [decode, compress, sha256, other] = [decode, compress, sha256, other].map(|it| it.as_secs_f64());
        let core_seconds = StageSeconds { decode, compress, sha256, other };
        Utilisation::of(self.pool.current_num_threads(), core_seconds, elapsed.as_secs_f64(), mirrors)
    }

    /// What the run did with the stage so far, if it has one.
    pub(crate) fn staged(&self) -> Option<Staged> {
        let stage = self.stage.as_ref()?;
        let StageFigures { images, images_left_out, blobs_written, bytes_written, .. } = stage.figures();
        let StageFigures { blobs_read, bytes_read, wrong, bundles_removed, .. } = stage.figures();
        Some(Staged {
            dir: stage.folder().display().to_string(),
            images,
            images_left_out,
            blobs_written,
            bytes_written,
            blobs_read,
            bytes_read,
            blobs_damaged: wrong,
            bundles_removed,
        })
    }

    /// The same, and nothing is known from earlier runs.
    #[must_use]
    pub(crate) fn without_state(self) -> Self {
        Self { state: Arc::new(State::none()), ..self }
    }

    /// A bundle's file as it is stored.
    ///
    /// # Errors
    /// It cannot be opened.
    pub(crate) fn file(&self, path: &Path) -> Result<Source, BundleError> {
        source::open(path, SourceOptions { io: self.resources.io })
    }

    /// The sum of a file as it was taken once, if it is the very same file still. Blocks.
    pub(crate) fn known_sum(&self, path: &Path) -> Option<Digest> {
        let file = self.file(path).ok()?;
        self.state.sum(&self.identity(&file)?)
    }

    /// The SHA-256 sum of a file; taken only where it is not known of the very same file. Blocks.
    pub(super) fn sum(&self, file: &Source) -> Result<Digest, BundleError> {
        let identity = self.identity(file);
        let known = identity.as_ref().and_then(|identity| self.state.sum(identity));
        if let Some(known) = known.filter(|known| known.algorithm() == Algorithm::Sha256) {
            return Ok(known);
        }
        let (space, mut hasher, mut offset) = (file.space(), Hasher::new(Algorithm::Sha256), 0);
        loop {
            let chunk = space.chunk_at(offset, SUM_CHUNK_BYTES)?;
            if chunk.is_empty() {
                break;
            }
            hasher.update(&chunk);
            offset += chunk.len() as u64;
        }
        file.check_unchanged()?;
        let sum = hasher.finish();
        if let Some(identity) = identity {
            self.state.remember_sum(&identity, sum);
        }
        Ok(sum)
    }

    /// Which file it is, where that is remembered at all and a later change would show.
    pub(crate) fn identity(&self, file: &Source) -> Option<BundleIdentity> {
        self.state.is_kept().then(|| BundleIdentity::of_file(file).ok().flatten()).flatten()
    }

    /// Opens bundles and finds out what is in them. Blocks, for what must be decoded to know.
    ///
    /// # Errors
    /// What is wrong with an input that is the only one and cannot be read. One of several is left out.
    pub(crate) fn open(
        &self,
        inputs: &[Input],
        listeners: &Listeners,
        observer: &dyn OpenObserver,
    ) -> Result<Bundle, BundleError> {
        self.state.take_notes().iter().for_each(|note| listeners.note(note));
        Bundle::open(inputs, self, listeners, observer)
    }
}

/// The free space of a folder's file system. One that does not report it reports when it is full.
pub(crate) fn free_bytes(folder: &Path) -> u64 {
    rustix::fs::statvfs(folder).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize))
}
