//! `mirror`: what nodes are told of a mirror, and what they make of it.

pub(super) mod check;
mod lint;
mod render;

use clap::Subcommand;

use super::Done;
use super::output::Output;

/// What to do about the nodes of a mirror.
#[derive(Debug, Subcommand)]
pub(super) enum MirrorDo {
    /// Write the configuration with which nodes pull from a mirror
    Render(Box<render::Args>),
    /// Find mistakes in the configuration of nodes
    Lint(lint::Args),
    /// Say for each image what a node's containerd would do: pull it from the mirror, fail over, or fail
    #[command(arg_required_else_help = true)]
    Check(Box<check::Args>),
}

pub(super) fn run(what: &MirrorDo, output: &Output) -> Done {
    match what {
        MirrorDo::Render(args) => render::run(args, output),
        MirrorDo::Lint(args) => lint::run(args),
        MirrorDo::Check(args) => check::run(args, output),
    }
}
