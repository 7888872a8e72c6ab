//! `push images`: the drop-in for `bmctl push images`, and the main job.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::bundle::BundleArgs;
use super::conclusion::RunReporter;
use super::interrupt::Interrupt;
use super::metrics::MetricsArgs;
use super::mirror_args::MirrorArgs;
use super::notify::Notifier;
use super::output::Output;
use super::registry_source::PulledSources;
use super::rules::RuleArgs;
use super::source_args::SourceArgs;
use super::stage::StageArgs;
use super::{Done, lock, report_file};
use crate::bundle::{Accept, Input};
use crate::compress::Method;
use crate::engine::fleet::{already_locked, no_lock};
use crate::engine::{self, Care, Locks, PushResult, Run, RunSettings, Schedule, Verification};
use crate::hook::Hook;
use crate::hook::gate::EarlierVerdicts;
use crate::registry::Access;
use crate::report::{Document, Outcome};
use crate::state::{LockError, Retention};
use crate::units::parse_seconds;

/// Push every image of a bundle to one or more private registries
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    bundle: BundleArgs,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    stage: StageArgs,
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
    #[arg(long, value_enum, default_value_t = Method::Gzip, value_name = "METHOD")]
    layer_compression: Method,
    /// Move no tag of a mirror unless all its images are complete
    #[arg(long)]
    atomic_tags: bool,
    /// Ask for every blob, also of images whose manifest the mirror has: repairs a mirror that has lost some
    #[arg(long)]
    recheck: bool,
    /// Do not overwrite tags that point to another image
    #[arg(long)]
    no_overwrite: bool,
    /// How far it is checked that images are there before their tags move
    #[arg(long, value_enum, default_value_t = Verification::Sample, value_name = "LEVEL")]
    verify: Verification,
    /// Push the whole images of a bundle in which others are damaged
    #[arg(long)]
    allow_damaged: bool,
    /// Write a report of the run here: JSON, or a page for a browser if the name ends with .html (repeatable)
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    /// Ask this command of the shell about each image before its tags move: it finds the image under $LAYERCAST_REFERENCE, and
    /// any exit code but 0 leaves the tags as they are
    #[arg(long, value_name = "COMMAND")]
    gate: Option<String>,
    /// How long the gate may take for an image
    #[arg(long, value_name = "TIME", default_value = "10m", requires = "gate", value_parser = parse_seconds)]
    gate_timeout: Duration,
    /// Ask the gate again about images that it has judged before
    #[arg(long)]
    regate: bool,
    /// Give the report to this command of the shell, on its standard input, or post it to this URL, when the run has ended
    #[arg(long, value_name = "COMMAND|URL")]
    notify: Option<String>,
    /// Most runs that `history` remembers
    #[arg(long, value_name = "N", default_value_t = Retention::default().runs, value_parser = clap::value_parser!(u32).range(1..))]
    keep_runs: u32,
    /// Days for which it remembers them [default: no limit]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep_days: Option<u32>,
    #[command(flatten)]
    metrics: MetricsArgs,
}

impl RunArgs {
    fn care(&self) -> Care {
        Care { verification: self.verify, recheck: self.recheck, no_overwrite: self.no_overwrite }
    }

    fn settings(&self, accept: Accept) -> RunSettings {
        RunSettings {
            layer_compression: self.layer_compression,
            allow_damaged: self.allow_damaged,
            connect_early: true,
            accept,
            earlier_verdicts: if self.regate { EarlierVerdicts::Ignored } else { EarlierVerdicts::Count },
            retention: Retention { runs: self.keep_runs, days: self.keep_days },
        }
    }
}

pub(super) fn run(args: &Args, output: &Output, interrupt: Interrupt) -> Done {
    let mut document = Document::begin(args.bundle.as_given());
    let report = report_file::check(&args.run.report)?;
    let notifier = args.run.notify.as_deref().map(Notifier::new).transpose()?;
    let mut begun = RunReporter::now(report, args.run.metrics.wanted().begin(output)?, notifier, interrupt);
    let done = push(args, output, &mut document, &mut begun);
    begun.end(document, done, args.rules.accept.accept(), output)
}

fn push(args: &Args, output: &Output, document: &mut Document, begun: &mut RunReporter) -> Done {
    let mut inputs = args.bundle.files(args.mirrors.reads_stdin())?;
    let sources = args.source.registries(args.bundle.registries(), output)?;
    let stage =
        args.stage
            .open(inputs.iter().map(Input::path), None, &mut document.notes, output, |open| Ok(open()))?;
    let opener = args.bundle.opener()?.with_stage(stage);
    let settings = args.run.settings(args.rules.accept.accept());
    begun.remember(&opener.state, settings.retention, output);
    let rules = Arc::new(args.rules.rules()?);
    let runtime = super::runtime()?;
    let resolved = args.mirrors.resolve(&runtime, Access::PullPush, &rules, output);
    let mut mirrors = resolved.inspect_err(|failure| {
        // What is wrong with credentials or certificates ends the run before there is a plan, for these mirrors.
        let failed = |name: String| Outcome { error: Some(failure.clone()), ..Outcome::new(name) };
        document.mirrors = args.mirrors.names().into_iter().map(failed).collect();
    })?;
    for mirror in &mut mirrors {
        mirror.atomic_tags = args.run.atomic_tags;
        mirror.care = args.run.care();
        mirror.gate = args.run.gate.as_ref().map(|command| Hook::new(command, args.run.gate_timeout));
    }
    // Removed when the run has ended.
    let pulled = if sources.is_empty() {
        PulledSources::default()
    } else {
        begun.interrupt.sending();
        let display = output.display();
        let (cancel, listeners) = (&begun.interrupt.token, display.listeners());
        runtime.block_on(PulledSources::pull(&sources, &opener, cancel, &listeners, output))?
    };
    inputs.extend(pulled.inputs());
    let names: Vec<String> = mirrors.iter().map(|mirror| mirror.name.clone()).collect();
    begun.exposition.iter().for_each(|exposition| exposition.expect(&opener, &names));
    let places: Vec<String> = mirrors.iter().map(|mirror| mirror.target.lock_key()).collect();
    let mut unlocked = lock::unlocked_from_the_start(&opener.state, args.bundle.cost());
    let _locks = match opener.state.lock(&places) {
        Ok(locks) => locks,
        Err(error @ LockError::Held { .. }) => {
            let failure = already_locked(&error);
            let failed = |name| Outcome { error: Some(failure.clone()), ..Outcome::new(name) };
            document.mirrors = names.into_iter().map(failed).collect();
            return Err(failure);
        }
        Err(error) => {
            unlocked = Some(no_lock(&error));
            None
        }
    };
    if let Some(failure) = unlocked {
        document.notes.push(lock::warn(&failure, output));
    }
    let display = output.display();
    let mut listeners = display.listeners();
    listeners.add(begun.recorder());
    if let Some(exposition) = &mut begun.exposition {
        exposition.follow(&runtime, &mut listeners, output);
    }
    let run = Run {
        inputs,
        opener: opener.clone(),
        sums: Vec::new(),
        mirrors,
        schedule: Schedule::default(),
        locks: Locks::Held,
        number: None,
        settings,
        listeners,
        cancel: begun.interrupt.token.clone(),
    };
    begun.interrupt.sending();
    let PushResult { outcomes, read, met, ended, run, .. } = runtime.block_on(engine::push(run));
    drop(display);
    // Threads that still wait for a part or a disk are left to end by themselves.
    runtime.shutdown_background();
    document.images = read.map_or(0, |read| read.plans.most_images());
    document.mirrors = outcomes;
    document.notes.extend(met.notes);
    (document.left_out, begun.unmatched) = (met.left_out, met.unmatched);
    begun.began(run);
    document.decode = opener.decoded();
    document.compress = opener.compressed();
    document.utilisation = Some(opener.utilisation(begun.elapsed(), &document.mirrors));
    document.stage = opener.staged();
    ended
}
