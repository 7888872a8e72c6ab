//! `verify`: is every image of a bundle complete on its mirrors?

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::bundle::BundleArgs;
use super::mirror::check::{self, NodeArgs};
use super::mirror_args::MirrorArgs;
use super::output::Output;
use super::rules::RuleArgs;
use super::site_settings::{Made, SiteMirrors};
use super::sites_file::{self, BundleInputs, OptionalSites, SelectedSites};
use super::{Done, file_words, left_out, report_file, summary};
use crate::bundle::{Accept, Input, Opener};
use crate::clock::Instant;
use crate::engine::MirrorSettings;
use crate::engine::verify::{self, VerifyResult};
use crate::registry::Access;
use crate::report::outcome::SiteFacts;
use crate::report::{Document, Failure, Outcome, RunRecorder, outcome};

/// Check that every image of a bundle is complete on its mirrors
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    sites: OptionalSites,
    #[command(flatten)]
    bundle: BundleArgs,
    #[command(flatten)]
    mirrors: MirrorArgs,
    #[command(flatten)]
    rules: RuleArgs,
    /// Read every blob back and hash it
    #[arg(long)]
    deep: bool,
    /// As JSON, in the form of the report of a push
    #[arg(long)]
    json: bool,
    /// Write a report here: JSON, or a page for a browser if the name ends with .html (repeatable)
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    /// Instead: what the containerd of a node would do for each image, as `mirror check` says it
    #[arg(long, conflicts_with_all = ["private_registry", "deep", "report", "cacert", "client_cert", "credential_file"])]
    as_node: bool,
    #[command(flatten)]
    node: NodeArgs,
}

pub(super) fn run(args: &Args, output: &Output) -> Done {
    if args.as_node {
        return check::run_for_bundle(
            &args.bundle,
            &args.rules,
            &args.node,
            args.mirrors.cluster(),
            args.json,
            output,
        );
    }
    if args.node.is_given() {
        return Err(Failure::usage("flags about a node are for verify --as-node"));
    }
    let started = Instant::now();
    let reports = report_file::check(&args.report)?;
    let asked = match args.sites.read(output)? {
        Some(chosen) => of_sites(args, &chosen, output)?,
        None => of_flags(args, output)?,
    };
    let VerifyRequest {
        runtime,
        inputs,
        passed_over,
        opener,
        mirrors,
        not_begun,
        mut sites,
        accept,
        of_file,
    } = asked;
    let mut document = Document::begin(inputs.iter().map(ToString::to_string).collect());
    let display = output.display();
    let recorder = Arc::new(RunRecorder::new(started));
    let mut listeners = display.listeners();
    listeners.add(Arc::clone(&recorder) as Arc<_>);
    let verifying = verify::verify(inputs, opener.clone(), mirrors, accept, args.deep, &listeners);
    let verified = runtime.block_on(verifying);
    drop(display);
    let VerifyResult { mut outcomes, read, met } =
        if of_file { verified.map_err(|error| file_words::failure(error.into()))? } else { verified? };
    outcomes.extend(not_begun);
    for outcome in &mut outcomes {
        outcome.site = sites.remove(&outcome.name);
    }
    met.unmatched.iter().for_each(|flag| output.warn(flag));
    (document.left_out, document.notes) = (met.left_out, met.notes);
    let mut exit = accept.exit(outcome::exit(&outcomes), &document.left_out);
    if let Some(failure) = passed_over {
        exit = exit.max(failure.exit);
        document.notes.push(failure.message);
    }
    document.images = read.plans.most_images();
    document.mirrors = outcomes;
    if of_file {
        file_words::document(&mut document);
    }
    document.decode = opener.decoded();
    document.elapsed_seconds = started.elapsed().as_secs_f64();
    document.exit_code = exit.code();
    recorder.write(&mut document);
    let written = reports.iter().try_for_each(|report| report.write(&document, &[]));
    if args.json {
        Output::document(&document)?;
    } else {
        let left_out = left_out::text(&document.left_out, accept);
        output.summary(&format!("{}{left_out}", summary::verified(&document, args.deep)));
        output.failures(&document.mirrors, output.quiet);
        output.left_out(&document.left_out, accept);
    }
    // What was found out is told before that it could not be written.
    written?;
    Ok(exit)
}

/// What is verified, and where.
struct VerifyRequest {
    runtime: tokio::runtime::Runtime,
    inputs: Vec<Input>,
    /// That the bundles are not the newest.
    passed_over: Option<Failure>,
    opener: Opener,
    mirrors: Vec<MirrorSettings>,
    /// Mirrors that cannot be asked.
    not_begun: Vec<Outcome>,
    /// Where each site stands, by its name; none where flags name mirrors.
    sites: HashMap<String, SiteFacts>,
    accept: Accept,
    /// Whether a sites file says what is asked for, and not flags.
    of_file: bool,
}

fn of_flags(args: &Args, output: &Output) -> Result<VerifyRequest, Failure> {
    let inputs = args.bundle.inputs(args.mirrors.reads_stdin())?;
    let opener = args.bundle.opener()?;
    let (rules, accept) = (Arc::new(args.rules.rules()?), args.rules.accept.accept());
    let runtime = super::runtime()?;
    let mirrors = args.mirrors.resolve(&runtime, Access::Pull, &rules, output)?;
    let (not_begun, sites) = (Vec::new(), HashMap::new());
    let passed_over = None;
    Ok(VerifyRequest {
        runtime,
        inputs,
        passed_over,
        opener,
        mirrors,
        not_begun,
        sites,
        accept,
        of_file: false,
    })
}

fn of_sites(args: &Args, chosen: &SelectedSites, output: &Output) -> Result<VerifyRequest, Failure> {
    let config = &chosen.config;
    let found = if args.bundle.is_given() {
        BundleInputs::named(args.bundle.inputs(false)?)
    } else {
        sites_file::inputs(config, output)?
    };
    let Made { mirrors, failed } =
        SiteMirrors::new(config, Access::Pull, config.bandwidth, output).all(&chosen.sites);
    let not_begun = failed.into_iter().map(|(site, failure)| Outcome::not_begun(site.name.clone(), failure));
    Ok(VerifyRequest {
        runtime: super::runtime()?,
        passed_over: found.passed_over(),
        inputs: found.inputs,
        opener: args.bundle.cost().over(config).opener()?,
        mirrors,
        not_begun: not_begun.collect(),
        sites: chosen.sites.iter().map(|site| (site.name.clone(), sites_file::facts(config, site))).collect(),
        accept: sites_file::accept(config),
        of_file: true,
    })
}
