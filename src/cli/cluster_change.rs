//! How a cluster is changed: asked first, shown line by line.

use std::io::IsTerminal as _;

use super::output::Output;
use crate::cluster::api::{FieldChange, FieldOwner, How};
use crate::error::printable;
use crate::report::{Class, Failure};

/// How a cluster is changed.
#[derive(Debug, clap::Args)]
pub(super) struct HowArgs {
    /// Take fields over that another field manager owns
    #[arg(long)]
    force_conflicts: bool,
    /// Let the API server check every change and keep none
    #[arg(long)]
    dry_run: bool,
}

impl HowArgs {
    pub(super) fn how(&self) -> How {
        How { force: self.force_conflicts, dry_run: self.dry_run }
    }

    /// Whether what was shown is to be done. Asked on the terminal; `--quiet` is the answer of those who have none.
    pub(super) fn confirm(&self, output: &Output) -> Result<(), Failure> {
        if self.dry_run || output.quiet {
            return Ok(());
        }
        if !std::io::stdin().is_terminal() {
            return Err(Failure::usage("there is no terminal to ask on; nothing was changed")
                .hint("say --quiet to go on without a question, or --dry-run to have it tried"));
        }
        let answer = Output::ask("Change the cluster? [y/N] ")
            .map_err(|error| Failure::io("asking on the terminal", &error))?;
        if matches!(answer.trim(), "y" | "Y" | "yes") {
            return Ok(());
        }
        Err(Failure::new(Class::Declined, "not confirmed; nothing was changed"))
    }
}

/// What changes, a line for each value.
pub(super) fn changes(changes: &[FieldChange]) -> String {
    let line = |sign, path: &str, value: &Option<String>| {
        value.as_ref().map(|value| format!("{sign} {}: {}\n", printable(path), printable(value)))
    };
    changes
        .iter()
        .flat_map(|FieldChange { path, before, after }| [line('-', path, before), line('+', path, after)])
        .flatten()
        .collect()
}

/// Fields that are taken over from other field managers.
pub(super) fn taken(owners: &[FieldOwner]) -> String {
    let line = |owner: &FieldOwner| format!("! {} is taken over from {:?}\n", owner.field, owner.manager);
    owners.iter().map(line).collect::<Vec<_>>().concat()
}
