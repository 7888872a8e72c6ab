//! `mirror`: the node's side.

pub(super) mod check;

use clap::Subcommand;

use super::Done;
use super::output::Output;

/// What can be done on the node's side.
#[derive(Debug, Subcommand)]
pub(super) enum What {
    /// Say for each image what a node's containerd would do: pull it from the mirror, fail over, or fail
    #[command(arg_required_else_help = true)]
    Check(Box<check::Args>),
}

pub(super) fn run(what: &What, output: &Output) -> Done {
    match what {
        What::Check(args) => check::run(args, output),
    }
}
