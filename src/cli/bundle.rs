//! Flags about bundles and what reading them may cost.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::budget::{MIN_MEMORY_BYTES, default_memory_bytes};
use crate::bundle::{Input, Opener, Resources};
use crate::config::{Config, RegistrySource};
use crate::report::Failure;
use crate::source::IoMode;
use crate::state::{self, State};
use crate::units::ByteCount;

/// Flags about bundles.
#[derive(Debug, Args)]
#[command(next_help_heading = "Bundle")]
pub(super) struct BundleArgs {
    /// Bundle: an archive, compressed or not, a folder of them, or - for standard input (repeatable); for `push images` also
    /// registry:HOST[:PORT][/NAMESPACE][@LIST], the images of a registry, of which LIST is a file with a name on each line
    #[arg(long, value_name = "PATH")]
    source: Vec<PathBuf>,
    /// Folder of image files, as in `actl images push`
    #[arg(long, value_name = "DIR")]
    images: Vec<PathBuf>,
    #[command(flatten)]
    cost: CostArgs,
}

/// The resources for reading.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Bundle")]
pub(super) struct CostArgs {
    /// Memory for decoded parts and compressed layers [default: a quarter of the machine's or the container's, from 256 MiB to
    /// 1 GiB, and at most half of the container's]
    #[arg(long, value_name = "BYTES")]
    memory: Option<ByteCount>,
    /// Memory that one decoder may take for itself (xz dictionary, zstd window)
    #[arg(long, value_name = "BYTES", default_value = "256MiB")]
    decode_memory: ByteCount,
    /// Folder for what cannot be kept in memory; its files have no name and vanish with the process
    #[arg(long, value_name = "DIR", env = "LAYERCAST_SPOOL_DIR")]
    spool_dir: Option<PathBuf>,
    /// Most disk space that spooled bundles and compressed layers that wait for a mirror may take together [default: what is
    /// free; layers at most half of it]
    #[arg(long, value_name = "BYTES")]
    spool_limit: Option<ByteCount>,
    /// Folder for what is remembered between runs [default: $LAYERCAST_STATE_DIR, else as systemd and XDG
    /// have it; see docs/push.md]
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

impl BundleArgs {
    /// The bundles, at least one. Standard input can be read only once.
    pub(super) fn inputs(&self, stdin_is_taken: bool) -> Result<Vec<Input>, Failure> {
        self.check_given()?;
        Self::inputs_of(self.source.iter().chain(&self.images).cloned().collect(), stdin_is_taken)
    }

    /// Those that are files or folders; there may be none beside [`Self::registries`].
    pub(super) fn files(&self, stdin_is_taken: bool) -> Result<Vec<Input>, Failure> {
        self.check_given()?;
        let files = self.source.iter().filter(|path| RegistrySource::of(path).is_none());
        Self::inputs_of(files.chain(&self.images).cloned().collect(), stdin_is_taken)
    }

    fn check_given(&self) -> Result<(), Failure> {
        if self.is_given() {
            return Ok(());
        }
        Err(Failure::usage("no bundle is given").hint("name one: --source PATH"))
    }

    fn inputs_of(paths: Vec<PathBuf>, stdin_is_taken: bool) -> Result<Vec<Input>, Failure> {
        let inputs = inputs(paths)?;
        if stdin_is_taken && inputs.iter().any(is_stdin) {
            return Err(Failure::usage("standard input is wanted twice")
                .hint("give the password with --password-file"));
        }
        Ok(inputs)
    }

    /// The bundles as they were named, for reports.
    pub(super) fn as_given(&self) -> Vec<String> {
        self.source.iter().chain(&self.images).map(|path| path.display().to_string()).collect()
    }

    /// Those that are registries.
    pub(super) fn registries(&self) -> Vec<RegistrySource> {
        self.source.iter().filter_map(|path| RegistrySource::of(path)).collect()
    }

    /// Whether a bundle is named at all.
    pub(super) fn is_given(&self) -> bool {
        !(self.source.is_empty() && self.images.is_empty())
    }

    pub(super) fn opener(&self) -> Result<Opener, Failure> {
        self.cost.opener()
    }

    /// What reading may cost.
    pub(super) fn cost(&self) -> &CostArgs {
        &self.cost
    }
}

/// Bundles by their paths. Standard input can be read only once.
pub(super) fn inputs(paths: Vec<PathBuf>) -> Result<Vec<Input>, Failure> {
    // A mistyped path is a wrong command line; whatever else is the matter with it, opening it will tell.
    let is_absent = |path: &&PathBuf| path.as_os_str() != "-" && matches!(path.try_exists(), Ok(false));
    if let Some(absent) = paths.iter().find(is_absent) {
        let link = std::fs::read_link(absent).map(|to| format!(": it is a link to {}", to.display()));
        let link = link.unwrap_or_default();
        return Err(Failure::usage(format!("there is no {}{link}", absent.display()))
            .hint("correct the path, or put the bundle there"));
    }
    let inputs: Vec<Input> = paths.into_iter().map(Input::Path).collect();
    if inputs.iter().filter(|input| is_stdin(input)).count() > 1 {
        return Err(Failure::usage("standard input is wanted twice").hint("give - once"));
    }
    Ok(inputs)
}

fn is_stdin(input: &Input) -> bool {
    matches!(input, Input::Path(path) if path.as_os_str() == "-")
}

impl CostArgs {
    pub(super) fn opener(&self) -> Result<Opener, Failure> {
        self.check_spool()?;
        self.opener_on(0)
    }

    /// Checks that the spool folder exists, if one was named.
    pub(super) fn check_spool(&self) -> Result<(), Failure> {
        if let Some(folder) = self.spool_dir.as_deref().filter(|folder| !folder.is_dir()) {
            let shown = folder.display();
            return Err(Failure::usage(format!("there is no folder {shown} to spool to"))
                .hint(format!("make it (mkdir -p {shown}), or name another one: --spool-dir DIR, or `spool_dir` in the sites file")));
        }
        Ok(())
    }

    /// Whether nothing is to be remembered, nor locked.
    pub(super) const fn wants_no_state(&self) -> bool {
        self.no_state
    }

    /// The same with the settings of a sites file, which count less than a flag or the environment.
    pub(super) fn over(&self, config: &Config) -> Self {
        let state_dir = || state::folder_of_environment().or_else(|| config.state_dir.clone());
        Self {
            memory: self.memory.or(config.memory_bytes.map(ByteCount)),
            spool_dir: self.spool_dir.clone().or_else(|| config.spool_dir.clone()),
            spool_limit: self.spool_limit.or(config.spool_limit_bytes.map(ByteCount)),
            state_dir: self.state_dir.clone().or_else(state_dir),
            ..self.clone()
        }
    }

    /// Where runs are remembered and mirrors locked.
    pub(super) fn state_folder(&self) -> Option<PathBuf> {
        if self.no_state { None } else { self.state_dir.clone().or_else(state::default_folder) }
    }

    /// As [`CostArgs::opener`], on this number of threads; 0 stands for all cores.
    pub(super) fn opener_on(&self, threads: usize) -> Result<Opener, Failure> {
        let memory = self.memory.map_or_else(default_memory_bytes, |memory| memory.0);
        if memory < MIN_MEMORY_BYTES {
            return Err(Failure::usage(format!(
                "--memory {}: at least {} are needed",
                ByteCount(memory),
                ByteCount(MIN_MEMORY_BYTES)
            )));
        }
        let resources = Resources {
            memory_bytes: memory,
            decode_memory_bytes: self.decode_memory.0,
            spool_folder: self.spool_dir.clone().unwrap_or_else(std::env::temp_dir),
            spool_limit_bytes: self.spool_limit.map_or(u64::MAX, |limit| limit.0),
            threads,
            io: match self.io {
                Io::Auto => IoMode::Auto,
                Io::Map => IoMode::Map,
                Io::Pread => IoMode::Pread,
            },
        };
        let state = self.state_folder().as_deref().map_or_else(State::none, State::open);
        Ok(Opener::new(resources, state)?)
    }
}
