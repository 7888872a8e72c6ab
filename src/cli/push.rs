//! `push images`: the drop-in for `bmctl push images`, and the main job.

use crate::report::Failure;
use crate::sync::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::ValueEnum;

use super::bundle::{BundleArgs, Opener};
use super::document::{Decode, Document};
use super::interrupt::Interrupt;
use super::memory::{self, Memory};
use super::mirrors::MirrorArgs;
use super::output::Output;
use super::rules::RuleArgs;
use super::{Done, left_out, summary};
use crate::archive::LeftOut;
use crate::compress::Method;
use crate::engine::{self, Discoveries, Pushed, RunSettings};
use crate::error::BundleError;
use crate::exit::Exit;
use crate::plan::{Plan, Rules};
use crate::registry::Access;
use crate::report::Listeners;
use crate::report::outcome;
use crate::report::rss::PeakMemory;

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

impl RunArgs {
    fn settings(&self, opener: &Opener) -> RunSettings {
        let method = match self.layer_compression {
            LayerCompression::Gzip => Method::Gzip,
            LayerCompression::Zstd => Method::Zstd,
            LayerCompression::None => Method::None,
        };
        RunSettings {
            allow_damaged: self.allow_damaged,
            atomic_tags: self.atomic_tags,
            recheck: self.recheck,
            no_overwrite: self.no_overwrite,
            ..opener.settings(method)
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

/// What was said of the bundles while they were read: the report has it, however the run ends.
#[derive(Debug, Clone, Default)]
struct Said(Arc<Mutex<(Vec<LeftOut>, Vec<String>)>>);

impl Said {
    fn left_out(&self, left_out: &[LeftOut]) {
        self.0.lock().0 = left_out.to_vec();
    }

    fn notes(&self, notes: &[String]) {
        self.0.lock().1.extend_from_slice(notes);
    }

    fn write(&self, document: &mut Document) {
        (document.left_out, document.notes) = std::mem::take(&mut *self.0.lock());
    }
}

fn push(args: &Args, output: &Output, document: &mut Document) -> Done {
    let paths = args.bundle.paths(args.mirrors.reads_stdin())?;
    let opener = args.bundle.opener()?;
    let said = Said::default();
    let done = push_to_mirrors(args, &paths, output, &opener, &said, document);
    said.write(document);
    document.decode = Decode::of(&opener.decoder);
    match done {
        Ok(exit) => Ok(left_out::exit(exit, &document.left_out, args.rules.accept.accept())),
        Err(failure) => Err(failure),
    }
}

fn push_to_mirrors(
    args: &Args,
    paths: &[PathBuf],
    output: &Output,
    opener: &Opener,
    said: &Said,
    document: &mut Document,
) -> Done {
    let rules = args.rules.rules()?;
    let runtime = super::runtime()?;
    let interrupt = Interrupt::listen()?;
    let mut mirrors = args.mirrors.resolve(&runtime, Access::PullPush, output)?;
    let listeners = output.listeners();
    let names: Vec<String> = mirrors.iter().map(|mirror| mirror.name.clone()).collect();
    let _lock = memory::lock(opener.state_folder.as_deref(), &names, &listeners)?;
    let settings = RunSettings { accept: rules.accept, ..args.run.settings(opener) };
    let memory = Memory::new(&opener.state, settings.layer_compression);
    for mirror in &mut mirrors {
        mirror.is_new = memory.is_new(&mirror.name);
    }
    let history = memory.begin(&document.sources, &names);
    interrupt.sending();
    let reading = {
        let (paths, opener, listeners) = (paths.to_vec(), opener.clone(), listeners.clone());
        let (memory, said, allow_damaged) = (memory.clone(), said.clone(), args.run.allow_damaged);
        move |discoveries: &Discoveries| {
            let reading =
                Reading { rules: &rules, allow_damaged, listeners: &listeners, memory: &memory, said: &said };
            reading.read(&paths, &opener, discoveries)
        }
    };
    let pushing = engine::push(
        reading,
        opener.decoder.clone(),
        mirrors,
        settings,
        Arc::clone(&opener.pool),
        listeners.clone(),
        interrupt.token.clone(),
    );
    let pushed = runtime.block_on(pushing);
    // Threads that still wait for a part or a disk are left to end by themselves.
    runtime.shutdown_background();
    let done = match pushed {
        Ok(pushed) => {
            let bundles = pushed.read.as_ref().map(|read| read.0.identities().to_vec()).unwrap_or_default();
            memory.remember(&pushed.layers, &bundles);
            let damaged = pushed.damaged;
            let done = conclude(pushed, document);
            let exit = done.as_ref().map_or_else(|failure| failure.exit, |exit| *exit);
            if damaged || exit == Exit::Bundle {
                memory.doubt(&bundles);
            }
            done
        }
        Err(error) => Err(Failure::from(error)),
    };
    let exit = done.as_ref().map_or_else(|failure| failure.exit, |exit| *exit);
    memory.end(history, exit, &document.mirrors, &listeners);
    done
}

/// What reading the bundles needs to know, and whom it tells.
struct Reading<'a> {
    rules: &'a Rules,
    allow_damaged: bool,
    listeners: &'a Listeners,
    memory: &'a Memory,
    said: &'a Said,
}

impl Reading<'_> {
    /// What is in the bundles, and what goes where. Archives go to the mirrors as they are found.
    fn read(
        &self,
        paths: &[PathBuf],
        opener: &Opener,
        discoveries: &Discoveries,
    ) -> Result<engine::Read, BundleError> {
        let Self { rules, memory, said, .. } = self;
        let mut bundle = opener.open_and_tell(paths, self.listeners, &|part| {
            discoveries.know(memory.layers(part, &[]));
            discoveries.found(part, rules);
        })?;
        said.notes(&bundle.catalog.notes);
        said.left_out(&bundle.catalog.left_out);
        self.note(&bundle.settle(rules.accept, self.allow_damaged)?);
        let plan = Plan::new(&bundle.catalog, rules)?;
        let damaged = bundle
            .catalog
            .broken
            .iter()
            .map(|broken| LeftOut::unreadable(&broken.name, "a damaged image", broken.error.to_string()));
        let damaged: Vec<LeftOut> = damaged.collect();
        said.left_out(&[bundle.catalog.left_out.as_slice(), &plan.left_out, &damaged].concat());
        plan.check_not_empty()?;
        self.note(&plan.notes);
        discoveries.know(memory.layers(&bundle.catalog, bundle.identities()));
        Ok((Arc::new(bundle), Arc::new(plan)))
    }

    fn note(&self, notes: &[String]) {
        self.said.notes(notes);
        for note in notes {
            self.listeners.note(note);
        }
    }
}

/// What the run as a whole comes to, apart from what was left out.
fn conclude(pushed: Pushed, document: &mut Document) -> Done {
    let exit = outcome::exit(&pushed.outcomes);
    document.mirrors = pushed.outcomes;
    let Some((bundle, plan)) = pushed.read else { return Ok(exit) };
    document.images = plan.images.len();
    bundle.check_unchanged()?;
    let damaged = bundle.catalog.broken.iter().any(|broken| broken.unit.is_none());
    Ok(if damaged { exit.max(Exit::Bundle) } else { exit })
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
        let failed =
            |why: String| Failure::new(Exit::Internal, format!("--report {}: {why}", self.0.display()));
        let mut json = serde_json::to_vec_pretty(document).map_err(|error| failed(error.to_string()))?;
        json.push(b'\n');
        let mut file = self.create().map_err(|error| failed(error.to_string()))?;
        std::io::Write::write_all(&mut file, &json).map_err(|error| failed(error.to_string()))?;
        file.persist(self.0).map_err(|error| failed(error.to_string()))?;
        Ok(())
    }
}
