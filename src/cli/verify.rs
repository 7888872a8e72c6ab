//! `verify`: is every image of a bundle complete on its mirrors?

use std::sync::Arc;
use std::time::Instant;

use super::bundle::BundleArgs;
use super::document::{Decode, Document};
use super::mirror::check::{self, NodeArgs};
use super::mirrors::MirrorArgs;
use super::output::Output;
use super::rules::RuleArgs;
use super::{Done, left_out, summary};
use crate::engine::verify;
use crate::exit::Exit;
use crate::plan::Plan;
use crate::registry::Access;
use crate::report::Failure;
use crate::report::Listeners;
use crate::report::outcome;

/// Check that every image of a bundle is complete on its mirrors
#[derive(Debug, clap::Args)]
pub(super) struct Args {
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
    /// Instead: what the containerd of a node would do for each image, as `mirror check` says it
    #[arg(long, conflicts_with_all = ["private_registry", "deep", "cacert", "client_cert", "credential_file"])]
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
    let paths = args.bundle.paths(args.mirrors.reads_stdin())?;
    let mut document = Document::begin(paths.iter().map(|path| path.display().to_string()).collect());
    let opener = args.bundle.opener()?;
    let rules = args.rules.rules()?;
    let runtime = super::runtime()?;
    let mirrors = args.mirrors.resolve(&runtime, Access::Pull, output)?;
    let mut bundle = opener.open(&paths, &Listeners::default())?;
    bundle.settle(rules.accept, false)?.iter().for_each(|note| output.note(note));
    let bundle = Arc::new(bundle);
    let plan = Plan::new(&bundle.catalog, &rules)?;
    plan.check_not_empty()?;
    let check = |mirror| verify::mirror(&bundle, &plan, rules.accept, mirror, args.deep);
    let checks = mirrors.into_iter().map(check);
    let outcomes = runtime.block_on(futures_util::future::join_all(checks));
    document.left_out = [bundle.catalog.left_out.as_slice(), &plan.left_out].concat();
    let exit = left_out::exit(outcome::exit(&outcomes), &document.left_out, rules.accept);
    document.images = plan.images.len();
    document.mirrors = outcomes;
    document.decode = Decode::of(&opener.decoder);
    document.elapsed_seconds = started.elapsed().as_secs_f64();
    document.exit_code = exit.code();
    if args.json {
        let text = serde_json::to_string_pretty(&document);
        Output::result(&text.map_err(|error| Failure::new(Exit::Internal, error.to_string()))?);
    } else {
        let left_out = left_out::text(&document.left_out, rules.accept);
        output.summary(&format!("{}{left_out}", summary::verified(&document)));
        output.failures(&document.mirrors);
        output.left_out(&document.left_out, rules.accept);
    }
    Ok(exit)
}
