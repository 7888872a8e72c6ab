//! Entries of bundles that are not pushed: their lines in the output, their exit code, and `--accept`.

use std::fmt::Write as _;

use clap::Args;

use super::output::Output;
use super::screen::say_event;
use crate::archive::{LeftOut, LeftOutClass};
use crate::bundle::{Accept, Acceptable};
use crate::error::printable;
use crate::exit::Exit;
use crate::report::document::LogEvent;

/// Entries without images that are shown; the report has all of them.
const MAX_SHOWN: usize = 20;

/// What is no failure.
#[derive(Debug, Args)]
pub(super) struct AcceptArgs {
    /// What you know of the bundle and accept: it is noted, and no failure (repeatable, or with commas)
    #[arg(long, value_enum, value_delimiter = ',', value_name = "WHAT", help_heading = "Bundle")]
    accept: Vec<Acceptable>,
}

impl AcceptArgs {
    pub(super) fn accept(&self) -> Accept {
        self.accept.iter().copied().collect()
    }
}

/// One line for each entry that was left out, the gravest first.
pub(super) fn text(left_out: &[LeftOut], accept: Accept) -> String {
    let mut out = String::new();
    let mut sorted: Vec<&LeftOut> = left_out.iter().collect();
    sorted.sort_by_key(|it| it.class);
    let grave = sorted.iter().filter(|it| it.class != LeftOutClass::NoImage).count();
    for it in sorted.iter().take(grave + MAX_SHOWN) {
        let _ = writeln!(out, "{}", line(it, accept));
    }
    if sorted.len() > grave + MAX_SHOWN {
        let _ = writeln!(out, "not taken: and {} more without images", sorted.len() - grave - MAX_SHOWN);
    }
    out
}

fn line(LeftOut { path, what, why, class, .. }: &LeftOut, accept: Accept) -> String {
    let how = match class {
        LeftOutClass::Unreadable if accept.unreadable => "not read (accepted)",
        LeftOutClass::Unreadable => "not read",
        LeftOutClass::BadReference => "no valid name",
        LeftOutClass::NoName => "no name",
        LeftOutClass::NoImage => "not taken",
    };
    format!("{how}: {}: {}: {} [{}]", printable(path), printable(what), printable(why), class.name())
}

impl Output {
    /// Shows what was left out: as JSON lines, or with `--quiet` only what makes the run incomplete. Otherwise the summary has it.
    pub(super) fn left_out(&self, left_out: &[LeftOut], accept: Accept) {
        let grave = |it: &&LeftOut| accept.exit(Exit::Complete, std::slice::from_ref(*it)) != Exit::Complete;
        for it in left_out.iter().filter(|it| !self.quiet || grave(it)) {
            if self.is_json() {
                let LeftOut { path, what, why, class, .. } = it.clone();
                say_event(LogEvent::LeftOut { path, what, why, class });
            } else if self.quiet {
                Self::say(&format!("error: {}", line(it, accept)));
            }
        }
    }
}
