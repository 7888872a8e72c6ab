//! `mirror set-endpoint`, `set-ca`, `set-credentials`: one change in the header of a cluster's file.

use std::path::{Path, PathBuf};

use clap::Args;

use super::named::{self, Look};
use crate::cli::Done;
use crate::cli::output::Output;
use crate::cluster::file::edit::{Edit, EditError, Edited, EntryEdit, edit_file};
use crate::cluster::file::{self, FileRequirements, RegistryMirror};
use crate::error::printable;
use crate::exit::Exit;
use crate::report::Failure;

/// Which entry of which file.
#[derive(Debug, Args)]
struct EntryArgs {
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
    place: EntryArgs,
    /// The new endpoint: https://HOST:PORT, or https://HOST:PORT/v2/NAMESPACE
    #[arg(value_name = "ENDPOINT")]
    endpoint: String,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CaArgs {
    #[command(flatten)]
    place: EntryArgs,
    #[command(flatten)]
    path: PathOrNone,
}

#[derive(Debug, Args)]
pub(in crate::cli) struct CredentialsArgs {
    #[command(flatten)]
    place: EntryArgs,
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
    edit(&args.place, &EntryEdit::Endpoint(args.endpoint.clone()), output)
}

pub(super) fn ca(args: &CaArgs, output: &Output) -> Done {
    edit(&args.place, &EntryEdit::Ca(args.path.path.clone()), output)
}

pub(super) fn credentials(args: &CredentialsArgs, output: &Output) -> Done {
    edit(&args.place, &EntryEdit::Credentials(args.path.path.clone()), output)
}

fn edit(place: &EntryArgs, change: &EntryEdit, output: &Output) -> Done {
    let file = place.cluster.display();
    look_at(change, output)?;
    let edited = match edit_file(&place.cluster, &Edit { of: place.of.clone(), change: change.clone() }) {
        Ok(edited) => edited,
        Err(EditError::File(error)) => return Err(crate::cli::cluster::failure(error, output)),
        Err(error) => return Err(Failure::usage(format!("{file}: {error}"))),
    };
    if edited.before == edited.after {
        output.summary(&format!("{file}: no change is needed"));
    } else {
        output.summary(&format!("{file}:\n{}", changed(&edited)));
    }
    for mirror in changed_mirrors(&place.cluster, &edited, change) {
        if let Some(file) = &mirror.pull_credential_config_path
            && let Some(why) = named::without_entry(&file.path, &mirror.host_port)
        {
            output.warn(&why);
        }
    }
    Ok(Exit::Complete)
}

/// A file that is here has to be what its place is for; one that is not may be right where it is read.
fn look_at(change: &EntryEdit, output: &Output) -> Result<(), Failure> {
    let (look, hint) = match change {
        // A path that is not whole is refused with the change.
        EntryEdit::Ca(Some(path)) if path.is_absolute() => {
            (named::ca(path), "give the file with the authority's certificate as PEM")
        }
        EntryEdit::Credentials(Some(path)) if path.is_absolute() => {
            (named::pull_credentials(path, ""), "give a docker config.json: docker login writes one")
        }
        _ => return Ok(()),
    };
    match look {
        Look::Good => {}
        Look::Unseen(why) => output.warn(&why),
        Look::Wrong(why) => return Err(Failure::usage(why).hint(hint)),
    }
    Ok(())
}

/// The entries of which a change may have made that nodes have no credentials for them.
fn changed_mirrors(file: &Path, edited: &Edited, change: &EntryEdit) -> Vec<RegistryMirror> {
    let reading = file::parse(file, &edited.after, &FileRequirements::default());
    let mut mirrors = reading.mirrors.map(|cluster| cluster.mirrors).unwrap_or_default();
    mirrors.retain(|mirror| match change {
        EntryEdit::Endpoint(endpoint) => mirror.endpoint_as_written == *endpoint,
        EntryEdit::Credentials(path) => {
            mirror.pull_credential_config_path.as_ref().map(|file| &file.path) == path.as_ref()
        }
        EntryEdit::Ca(_) => false,
    });
    mirrors
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
