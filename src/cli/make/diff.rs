//! `bundle diff`: what a new bundle has and an old one lacks.

use std::path::PathBuf;

use super::{MadeFrom, WrittenBundleArgs};
use crate::bundle::{Bundle, Opener};
use crate::cli::Done;
use crate::cli::bundle::{self, CostArgs};
use crate::cli::display::Display;
use crate::cli::interrupt::Interrupt;
use crate::cli::left_out::AcceptArgs;
use crate::cli::output::Output;
use crate::compress::Method;
use crate::make::Contents;
use crate::report::Failure;

/// Write what a new bundle has and an old one lacks, for mirrors that have the old one
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The bundle that mirrors have: an archive, a folder, or a stage
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// The bundle that they are to have
    #[arg(value_name = "NEW")]
    new: PathBuf,
    #[command(flatten)]
    output: WrittenBundleArgs,
    /// How plain layers of docker-archives are compressed: as mirrors got them
    #[arg(long, value_enum, default_value_t = Method::Gzip, value_name = "METHOD")]
    layer_compression: Method,
    #[command(flatten)]
    accept: AcceptArgs,
    #[command(flatten)]
    cost: CostArgs,
}

pub(super) fn run(args: &Args, output: &Output, interrupt: &Interrupt) -> Done {
    // A wrong path costs nothing.
    let paths = [args.old.clone(), args.new.clone()];
    args.output.file(&paths)?;
    bundle::inputs(paths.to_vec())?;
    let opener = args.cost.opener()?.without_state();
    let display = output.display();
    let read = |path: &PathBuf| read(args, path.clone(), &opener, &display, output, interrupt);
    let (_, old) = read(&args.old)?;
    let (bundle, new) = read(&args.new)?;
    let name = args.old.file_name().unwrap_or(args.old.as_os_str()).to_string_lossy().into_owned();
    let contents = new.less(&old, name);
    drop(old);
    let making = MadeFrom { inputs: &paths, contents: &contents, bundle: &bundle, fetched: None };
    super::finish(&args.output, &making, &opener, args.accept.accept(), interrupt, display)
}

fn read(
    args: &Args,
    path: PathBuf,
    opener: &Opener,
    display: &Display,
    output: &Output,
    interrupt: &Interrupt,
) -> Result<(Bundle, Contents), Failure> {
    let mut bundle = opener.open(&bundle::inputs(vec![path])?, &display.listeners(), &())?;
    for note in bundle.settle(args.accept.accept(), false)? {
        output.note(&note);
    }
    let contents =
        Contents::of(&bundle, opener, args.layer_compression, &interrupt.token, &display.listeners())?;
    Ok((bundle, contents))
}
