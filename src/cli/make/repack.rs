//! `bundle repack`: any bundle becomes one of many parts with the catalog first.

use std::path::PathBuf;

use super::{MadeFrom, WrittenBundleArgs};
use crate::cli::Done;
use crate::cli::bundle::{self, CostArgs};
use crate::cli::interrupt::Interrupt;
use crate::cli::left_out::AcceptArgs;
use crate::cli::output::Output;
use crate::compress::Method;
use crate::make::Contents;

/// Make of any bundle one of many parts with the catalog first
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// Bundles, which become one: archives, folders, or - for standard input
    #[arg(value_name = "PATH", required = true)]
    path: Vec<PathBuf>,
    #[command(flatten)]
    output: WrittenBundleArgs,
    /// How plain layers of docker-archives are compressed
    #[arg(long, value_enum, default_value_t = Method::Gzip, value_name = "METHOD")]
    layer_compression: Method,
    /// Take the whole images of a bundle in which others are damaged
    #[arg(long)]
    allow_damaged: bool,
    #[command(flatten)]
    accept: AcceptArgs,
    #[command(flatten)]
    cost: CostArgs,
}

pub(super) fn run(args: &Args, output: &Output, interrupt: &Interrupt) -> Done {
    let accept = args.accept.accept();
    // A wrong path costs nothing.
    args.output.file(&args.path)?;
    let inputs = bundle::inputs(args.path.clone())?;
    let opener = args.cost.opener()?.without_state();
    let display = output.display();
    let mut bundle = opener.open(&inputs, &display.listeners(), &())?;
    for note in bundle.settle(accept, args.allow_damaged)? {
        output.note(&note);
    }
    let method = args.layer_compression;
    let contents = Contents::of(&bundle, &opener, method, &interrupt.token, &display.listeners())?;
    let making = MadeFrom { inputs: &args.path, contents: &contents, bundle: &bundle, fetched: None };
    super::finish(&args.output, &making, &opener, accept, interrupt, display)
}
