//! `mirror`: the configuration by which nodes use a mirror.

mod apply;
pub(super) mod check;
mod edit;
pub(super) mod flags;
mod lint;
mod named;
mod render;
mod targets;

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
    /// Show where a cluster's nodes pull from, and what is wrong with its configuration file
    Targets(targets::Args),
    /// Change the endpoint of a mirror in a cluster's configuration file
    SetEndpoint(edit::EndpointArgs),
    /// Change the CA certificate of a mirror in a cluster's configuration file
    SetCa(edit::CaArgs),
    /// Change the pull credentials of a mirror in a cluster's configuration file
    SetCredentials(edit::CredentialsArgs),
    /// Apply rendered objects to a Kubernetes cluster, and wait until every node has them
    #[command(arg_required_else_help = true)]
    Apply(Box<apply::Args>),
}

pub(super) fn run(what: &MirrorDo, output: &Output) -> Done {
    match what {
        MirrorDo::Render(args) => render::run(args, output),
        MirrorDo::Lint(args) => lint::run(args),
        MirrorDo::Check(args) => check::run(args, output),
        MirrorDo::Targets(args) => targets::run(args, output),
        MirrorDo::SetEndpoint(args) => edit::endpoint(args, output),
        MirrorDo::SetCa(args) => edit::ca(args, output),
        MirrorDo::SetCredentials(args) => edit::credentials(args, output),
        MirrorDo::Apply(args) => apply::run(args, output),
    }
}
