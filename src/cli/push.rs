//! `push images`: the drop-in for `bmctl push images`, and the main job.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::ValueEnum;

use super::bundle::BundleArgs;
use super::interrupt::Interrupt;
use super::mirrors::MirrorArgs;
use super::output::Output;
use super::rules::RuleArgs;
use super::{Done, left_out, summary};
use crate::bundle::Accept;
use crate::clock::Instant;
use crate::compress::Method;
use crate::engine::{self, Pushed, Run, RunSettings, Verification};
use crate::exit::Exit;
use crate::registry::Access;
use crate::report::rss::PeakMemory;
use crate::report::{Document, Failure};

/// Push every image of a bundle to one or more private registries
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    bundle: BundleArgs,
    #[command(flatten)]
    mirrors: MirrorArgs,
    #[command(flatten)]
    rules: RuleArgs,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Run")]
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches of the user that have nothing to do with each other"
)]
pub(super) struct RunArgs {
    /// How plain layers of docker-archives are compressed
    #[arg(long, value_enum, default_value_t = LayerCompression::Gzip, value_name = "METHOD")]
    layer_compression: LayerCompression,
    /// Move no tag of a mirror unless all its images are complete
    #[arg(long)]
    atomic_tags: bool,
    /// Ask for every blob, also of images whose manifest the mirror has: repairs a mirror that has lost some
    #[arg(long)]
    recheck: bool,
    /// Move no tag that stands for another image
    #[arg(long)]
    no_overwrite: bool,
    /// How far it is checked that images are there before their tags move
    #[arg(long, value_enum, default_value_t = Verify::Sample, value_name = "LEVEL")]
    verify: Verify,
    /// Push the whole images of a bundle in which others are damaged
    #[arg(long)]
    allow_damaged: bool,
    /// Write a JSON report of the run here
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LayerCompression {
    /// Every runtime reads it
    Gzip,
    /// Faster and smaller; containerd 1.5, CRI-O 1.20, Docker 23 and later
    Zstd,
    /// Plain tars
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Verify {
    /// What the registry acknowledges counts
    None,
    /// Children of indexes are asked for, and of blobs that were found some are asked for a byte
    Sample,
    /// Everything of every image is read back and hashed
    Pull,
}

impl RunArgs {
    fn settings(&self, accept: Accept) -> RunSettings {
        RunSettings {
            layer_compression: match self.layer_compression {
                LayerCompression::Gzip => Method::Gzip,
                LayerCompression::Zstd => Method::Zstd,
                LayerCompression::None => Method::None,
            },
            verification: match self.verify {
                Verify::None => Verification::None,
                Verify::Sample => Verification::Sample,
                Verify::Pull => Verification::Pull,
            },
            allow_damaged: self.allow_damaged,
            recheck: self.recheck,
            no_overwrite: self.no_overwrite,
            accept,
        }
    }
}

pub(super) fn run(args: &Args, output: &Output) -> Done {
    let started = Instant::now();
    let memory = PeakMemory::watch();
    let mut document = Document::begin(args.bundle.as_given());
    let report = args.run.report.as_deref().map(ReportFile::check).transpose()?;
    let done = push(args, output, &mut document);
    document.elapsed_seconds = started.elapsed().as_secs_f64();
    document.peak_rss_bytes = memory.bytes();
    let exit = match &done {
        Ok(exit) => *exit,
        Err(failure) => {
            document.error = Some(failure.clone());
            failure.exit
        }
    };
    document.exit_code = exit.code();
    let accept = args.rules.accept.accept();
    if !document.mirrors.is_empty() {
        output.summary(&summary::table(&document));
        output.failures(&document.mirrors);
    }
    // The error has said all of a bundle that is the only one.
    if done.is_ok() || document.left_out.len() > 1 {
        output.summary(&left_out::text(&document.left_out, accept));
        output.left_out(&document.left_out, accept);
    }
    match report.map(|report| report.write(&document)) {
        // What the run itself has to say comes first.
        Some(Err(unwritten)) if exit == Exit::Complete => Err(unwritten),
        Some(Err(unwritten)) => {
            output.warn(&unwritten.message);
            done
        }
        _ => done,
    }
}

fn push(args: &Args, output: &Output, document: &mut Document) -> Done {
    let inputs = args.bundle.inputs(args.mirrors.reads_stdin())?;
    let opener = args.bundle.opener()?;
    let rules = Arc::new(args.rules.rules()?);
    let runtime = super::runtime()?;
    let interrupt = Interrupt::listen()?;
    let mut mirrors = args.mirrors.resolve(&runtime, Access::PullPush, &rules, output)?;
    for mirror in &mut mirrors {
        mirror.atomic_tags = args.run.atomic_tags;
    }
    let run = Run {
        inputs,
        opener: opener.clone(),
        mirrors,
        settings: args.run.settings(args.rules.accept.accept()),
        listeners: output.listeners(),
        cancel: interrupt.token.clone(),
    };
    interrupt.sending();
    let Pushed { outcomes, read, met, ended } = runtime.block_on(engine::push(run));
    // Threads that still wait for a part or a disk are left to end by themselves.
    runtime.shutdown_background();
    document.images = read.map_or(0, |read| read.plans.most_images());
    document.mirrors = outcomes;
    (document.left_out, document.notes) = (met.left_out, met.notes);
    document.decode = opener.decoded();
    ended
}

/// A report that takes its name when it is whole; something may be waiting for it.
struct ReportFile<'a>(&'a Path);

impl<'a> ReportFile<'a> {
    /// Before the run, so that a wrong path costs nothing. No file is left there meanwhile: it may be the bundle's folder.
    fn check(path: &'a Path) -> Result<Self, Failure> {
        if path.is_dir() || path == Path::new("-") {
            return Err(Failure::usage(format!("--report {}: name a file", path.display())));
        }
        let report = Self(path);
        let refused = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => {
                let folder = report.folder().display().to_string();
                Failure::usage(format!("--report {}: there is no folder {folder}", path.display()))
            }
            kind => Failure::usage(format!("--report {}: {kind}", path.display())),
        };
        report.create().map_err(refused)?;
        Ok(report)
    }

    fn folder(&self) -> &Path {
        let folder = self.0.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder.unwrap_or(Path::new("."))
    }

    fn create(&self) -> io::Result<tempfile::NamedTempFile> {
        // Others may read it, as any file that is made here.
        let permissions = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        tempfile::Builder::new().permissions(permissions).tempfile_in(self.folder())
    }

    fn write(&self, document: &Document) -> Result<(), Failure> {
        let failed = |error: io::Error| Failure::io(format!("--report {}", self.0.display()), &error);
        let mut json = serde_json::to_vec_pretty(document).map_err(|error| failed(error.into()))?;
        json.push(b'\n');
        let mut file = self.create().map_err(failed)?;
        io::Write::write_all(&mut file, &json).map_err(failed)?;
        file.persist(self.0).map_err(|error| failed(error.error))?;
        Ok(())
    }
}
