//! `mirror set-endpoint`, `set-ca`, `set-credentials`: one change in the header of a cluster's file.

use std::path::PathBuf;

use clap::Args;

use crate::cli::output::Output;
use crate::cli::{Done, Stop, cluster};
use crate::error::printable;
use crate::exit::Exit;
use crate::mirror::cluster::edit::{Change, Edit, EditError, Edited, edit_file};

/// Which entry of which file.
#[derive(Debug, Args)]
struct Place {
    /// The cluster's configuration file; it is replaced in one step
    #[arg(long, value_name = "FILE")]
    cluster: PathBuf,
    /// The endpoint of the entry that is meant, where there are several
    #[arg(long, value_name = "ENDPOINT")]
    of: Option<String>,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct EndpointArgs {
    #[command(flatten)]
    place: Place,
    /// The new endpoint: https://HOST:PORT, or https://HOST:PORT/v2/NAMESPACE
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CaArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    path: PathOrNone,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CredentialsArgs {
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    path: PathOrNone,
}

#[derive(Debug, Args)]
struct PathOrNone {
    /// The absolute path of the file (PEM for a CA, a docker config.json for credentials)
    #[arg(value_name = "PATH", required_unless_present = "none")]
    path: Option<PathBuf>,
    /// Leave the field blank
    #[arg(long, conflicts_with = "path")]
    none: bool,
}

pub(super) fn endpoint(args: &EndpointArgs, output: &Output) -> Done {
    edit(&args.place, Change::Endpoint(args.endpoint.clone()), output)
}

pub(super) fn ca(args: &CaArgs, output: &Output) -> Done {
    edit(&args.place, Change::Ca(args.path.path.clone()), output)
}

pub(super) fn credentials(args: &CredentialsArgs, output: &Output) -> Done {
    edit(&args.place, Change::Credentials(args.path.path.clone()), output)
}

fn edit(place: &Place, change: Change, output: &Output) -> Done {
    let file = place.cluster.display();
    if let Change::Ca(Some(path)) | Change::Credentials(Some(path)) = &change
        && !path.exists()
    {
        output.warn(&format!("{} is not on this machine", path.display()));
    }
    let edited = match edit_file(&place.cluster, &Edit { of: place.of.clone(), change }) {
        Ok(edited) => edited,
        Err(EditError::File(error)) => return Err(cluster::stop(error, output)),
        Err(error) => return Err(Stop::new(Exit::Usage, format!("{file}: {error}"))),
    };
    if edited.before == edited.after {
        output.summary(&format!("{file}: says so already"));
    } else {
        output.summary(&format!("{file}:\n{}", changed(&edited)));
    }
    Ok(Exit::Complete)
}

/// The lines that differ, which are next to each other.
fn changed(edited: &Edited) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) =
        (edited.before.lines().collect(), edited.after.lines().collect());
    let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
    let left = old.len().min(new.len()) - same;
    let tail = old.iter().rev().zip(new.iter().rev()).take(left).take_while(|(old, new)| old == new).count();
    let line = |sign, line: &&str| format!("{sign} {}\n", printable(line));
    let gone = old[same..old.len() - tail].iter().map(|text| line('-', text));
    gone.chain(new[same..new.len() - tail].iter().map(|text| line('+', text))).collect()
}
