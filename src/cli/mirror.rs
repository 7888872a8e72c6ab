//! `mirror`: the node's side of a mirror.

mod edit;
mod targets;

use clap::Subcommand;

use super::Done;
use super::output::Output;

#[derive(Debug, Subcommand)]
pub(super) enum What {
    /// Show where a cluster's nodes pull from, and what is wrong with its configuration file
    Targets(targets::Args),
    /// Change the endpoint of a mirror in a cluster's configuration file
    SetEndpoint(edit::EndpointArgs),
    /// Change the CA certificate of a mirror in a cluster's configuration file
    SetCa(edit::CaArgs),
    /// Change the pull credentials of a mirror in a cluster's configuration file
    SetCredentials(edit::CredentialsArgs),
}

pub(super) fn run(what: &What, output: &Output) -> Done {
    match what {
        What::Targets(args) => targets::run(args, output),
        What::SetEndpoint(args) => edit::endpoint(args, output),
        What::SetCa(args) => edit::ca(args, output),
        What::SetCredentials(args) => edit::credentials(args, output),
    }
}
