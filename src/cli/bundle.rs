//! Flags about bundles and what reading them may cost.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};

use crate::archive::Early;
use crate::compress::Method;
use crate::decode::{DecodeOptions, Decoder};
use crate::engine::{Bundle, Opening, RunSettings};
use crate::error::BundleError;
use crate::exit::Exit;
use crate::plan::Accept;
use crate::report::Failure;
use crate::report::Listeners;
use crate::source::{IoMode, SourceOptions};
use crate::state::{self, State};
use crate::units::ByteCount;

/// Flags about bundles.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bundle")]
pub(super) struct BundleArgs {
    /// Bundle: an archive, compressed or not, a folder of them, or - for standard input (repeatable)
    #[arg(long, value_name = "PATH")]
    source: Vec<PathBuf>,
    /// Folder of image files, as in `actl images push`
    #[arg(long, value_name = "DIR")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    cost: CostArgs,
}

/// What reading may cost.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bundle")]
pub(super) struct CostArgs {
    /// Memory for decoded parts and compressed layers
    #[arg(long, value_name = "BYTES", default_value = "256MiB")]
    memory: ByteCount,
    /// Memory that one decoder may take for itself (xz dictionary, zstd window)
    #[arg(long, value_name = "BYTES", default_value = "256MiB")]
    decode_memory: ByteCount,
    /// Folder for what cannot be kept in memory; its files have no name and vanish with the process
    #[arg(long, value_name = "DIR", env = "LAYERCAST_SPOOL_DIR")]
    spool_dir: Option<PathBuf>,
    /// Most disk space that spooled bundles may take, and compressed layers that wait for a mirror [default: what is free,
    /// and half of it]
    #[arg(long, value_name = "BYTES")]
    spool_limit: Option<ByteCount>,
    /// Folder for what is remembered between runs [default: as XDG and systemd have it; see README]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Remember nothing, and lock nothing
    #[arg(long, conflicts_with = "state_dir", env = "LAYERCAST_NO_STATE", value_parser = clap::builder::FalseyValueParser::new())]
    no_state: bool,
    /// How the bundle's bytes are read
    #[arg(long, value_enum, default_value_t = Io::Auto, value_name = "HOW")]
    io: Io,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Io {
    /// A memory map on local file systems, reads on network ones
    Auto,
    /// A memory map
    Map,
    /// Reads
    Pread,
}

/// Less does not hold a part for each of two cores.
const MIN_MEMORY_BYTES: u64 = 32 << 20;

/// A layer in work reads from one part while the next is decoded; with less, workers decode each other's parts anew.
const WORKER_BYTES: u64 = 48 << 20;

/// Opens bundles: the pool of threads, the decoder, and how files are read.
#[derive(Debug, Clone)]
pub(super) struct Opener {
    pub(super) pool: Arc<rayon::ThreadPool>,
    pub(super) decoder: Decoder,
    layer_workers: usize,
    memory_bytes: u64,
    spool_folder: PathBuf,
    spool_limit_bytes: u64,
    pub(super) source: SourceOptions,
    pub(super) state: Arc<State>,
    /// Where the state lies, if any is kept.
    pub(super) state_folder: Option<PathBuf>,
}

impl BundleArgs {
    /// The bundles, at least one. Standard input can be read only once.
    pub(super) fn paths(&self, stdin_is_taken: bool) -> Result<Vec<PathBuf>, Failure> {
        let paths: Vec<PathBuf> = self.source.iter().chain(&self.images).cloned().collect();
        if paths.is_empty() {
            return Err(Failure::usage("no bundle is given").hint("name one: --source PATH"));
        }
        // A mistyped path is a wrong command line; whatever else is the matter with it, opening it will tell.
        if let Some(absent) =
            paths.iter().find(|path| path.as_os_str() != "-" && matches!(path.try_exists(), Ok(false)))
        {
            let link = std::fs::read_link(absent).map(|to| format!(": it is a link to {}", to.display()));
            let link = link.unwrap_or_default();
            return Err(Failure::usage(format!("there is no {}{link}", absent.display())));
        }
        let pipes = paths.iter().filter(|path| path.as_os_str() == "-").count();
        if pipes > 1 || (pipes == 1 && stdin_is_taken) {
            return Err(Failure::usage("standard input is wanted twice")
                .hint("give the password with --password-file"));
        }
        Ok(paths)
    }

    /// The bundles as they were named, for reports.
    pub(super) fn as_given(&self) -> Vec<String> {
        self.source.iter().chain(&self.images).map(|path| path.display().to_string()).collect()
    }

    /// Whether a bundle is named at all.
    pub(super) fn is_given(&self) -> bool {
        !(self.source.is_empty() && self.images.is_empty())
    }

    pub(super) fn opener(&self) -> Result<Opener, Failure> {
        self.cost.opener()
    }
}

impl CostArgs {
    pub(super) fn opener(&self) -> Result<Opener, Failure> {
        self.opener_on(0)
    }

    /// As [`CostArgs::opener`], on so many threads; 0 stands for all cores.
    pub(super) fn opener_on(&self, threads: usize) -> Result<Opener, Failure> {
        let memory = self.memory.0;
        if memory < MIN_MEMORY_BYTES {
            return Err(Failure::usage(format!(
                "--memory {}: at least {} are needed",
                self.memory,
                ByteCount(MIN_MEMORY_BYTES)
            )));
        }
        let spool_folder = self.spool_dir.clone().unwrap_or_else(std::env::temp_dir);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = pool.thread_name(|number| format!("decode-{number}")).build();
        let pool = Arc::new(
            pool.map_err(|error| Failure::new(Exit::Internal, format!("starting threads: {error}")))?,
        );
        let spool_limit_bytes = self.spool_limit.map_or(u64::MAX, |limit| limit.0);
        // What is left of it: see `Opener::settings`.
        let options = DecodeOptions {
            memory_bytes: self.decode_memory.0,
            part_cache_bytes: memory / 8 * 5,
            spool_dir: spool_folder.clone(),
            spool_limit_bytes,
        };
        let io = match self.io {
            Io::Auto => IoMode::Auto,
            Io::Map => IoMode::Map,
            Io::Pread => IoMode::Pread,
        };
        let state_folder =
            if self.no_state { None } else { self.state_dir.clone().or_else(state::default_folder) };
        let state = state_folder.as_deref().map_or_else(State::none, State::open);
        Ok(Opener {
            state: Arc::new(state),
            state_folder,
            decoder: Decoder::new(Arc::clone(&pool), options),
            layer_workers: usize::try_from(memory / WORKER_BYTES)
                .unwrap_or(1)
                .clamp(1, pool.current_num_threads() + 1),
            pool,
            memory_bytes: memory,
            spool_folder,
            spool_limit_bytes,
            source: SourceOptions { io },
        })
    }
}

impl Opener {
    /// How a run that compresses layers this way shares the memory: five eighths for decoded parts, of which half may be
    /// found and yet unread; a quarter for compressed layers on their way; the rest for bodies of requests.
    pub(super) fn settings(&self, layer_compression: Method) -> RunSettings {
        RunSettings {
            layer_compression,
            layer_workers: self.layer_workers,
            layer_memory_bytes: self.memory_bytes / 4,
            backlog_bytes: self.memory_bytes / 16 * 5,
            body_memory_bytes: self.memory_bytes / 8,
            spool_folder: self.spool_folder.clone(),
            spool_limit_bytes: self.spool_limit_bytes,
            allow_damaged: false,
            atomic_tags: false,
            recheck: false,
            no_overwrite: false,
            accept: Accept::default(),
        }
    }

    /// The same, and nothing is known from earlier runs.
    pub(super) fn without_state(self) -> Self {
        Self { state: Arc::new(State::none()), state_folder: None, ..self }
    }

    /// Opens bundles and finds out what is in them. Blocks.
    pub(super) fn open(&self, paths: &[PathBuf], listeners: &Listeners) -> Result<Bundle, Failure> {
        Ok(self.open_and_tell(paths, listeners, &|_| {})?)
    }

    /// The same; `early` hears of archives in them as they are found.
    pub(super) fn open_and_tell(
        &self,
        paths: &[PathBuf],
        listeners: &Listeners,
        early: &Early<'_>,
    ) -> Result<Bundle, BundleError> {
        self.state.take_notes().iter().for_each(|note| listeners.note(note));
        let opening =
            Opening { decoder: self.decoder.clone(), source: self.source, state: Arc::clone(&self.state) };
        Bundle::open(paths, &opening, listeners, early)
    }
}
