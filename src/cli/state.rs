//! `state`: shows what is remembered between runs, without secrets.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::Done;
use super::output::Output;
use crate::error::printable;
use crate::exit::Exit;
use crate::registry::quirks_in_words;
use crate::report::Failure;
use crate::report::document::StateDocument;
use crate::state::{self, State};
use crate::units::{ByteCount, count};

/// What is done with it.
#[derive(Debug, clap::Subcommand)]
pub(super) enum StateDo {
    /// Show what is remembered between runs: of bundles, of registries, of uploads that broke off
    Show(StateShowArgs),
    /// Forget it: the next run costs what a first run costs, and blobs whose upload broke off begin anew
    Clear(ClearArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct StateShowArgs {
    /// Folder of what is remembered between runs [default: as the run has it]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ClearArgs {
    /// Folder of what is remembered between runs [default: as the run has it]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Only what was learned of this registry, and its uploads that broke off
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with = "history")]
    registry: Option<String>,
    /// The history of runs as well
    #[arg(long)]
    history: bool,
}

pub(super) fn run(what: &StateDo, output: &Output) -> Done {
    match what {
        StateDo::Show(args) => show(args, output),
        StateDo::Clear(args) => clear(args, output),
    }
}

/// The state in a folder that is there.
fn open(folder: Option<&Path>) -> Result<(PathBuf, State), Failure> {
    let folder = folder.map(Path::to_owned).or_else(state::default_folder);
    let hint = "name the one that runs use: --state-dir DIR";
    let folder = folder.ok_or_else(|| Failure::usage("no folder of state is known").hint(hint))?;
    if !folder.is_dir() {
        let message = format!("there is no folder {}, so nothing is remembered", folder.display());
        return Err(Failure::usage(message).hint(hint));
    }
    let state = State::open(&folder);
    Ok((folder, state))
}

fn show(args: &StateShowArgs, output: &Output) -> Done {
    let (folder, state) = open(args.state_dir.as_deref())?;
    let folder = folder.display().to_string();
    let (contents, mirrors, uploads) = (state.contents(), state.mirrors(), state.kept_uploads());
    let document = StateDocument::new(folder, contents, mirrors, uploads, quirks_in_words);
    state.take_notes().iter().for_each(|note| output.note(note));
    if args.json {
        Output::document(&document)?;
    } else {
        Output::result(&text(&document))?;
    }
    Ok(Exit::Complete)
}

fn text(document: &StateDocument) -> String {
    let mut text = format!(
        "{}\n  {}, {} of docker-archives, {} of gates, {} on registries, {}\n",
        printable(&document.folder),
        count(document.bundles, "bundle"),
        count(document.layers, "layer"),
        count(document.gate_verdicts, "verdict"),
        count(document.manifests, "manifest"),
        count(document.runs, "run"),
    );
    for mirror in &document.mirrors {
        let server = if mirror.server.is_empty() {
            String::new()
        } else {
            format!(" ({})", printable(&mirror.server))
        };
        let does = if mirror.does.is_empty() {
            "nothing out of the ordinary".to_owned()
        } else {
            mirror.does.join("; ")
        };
        let _ = writeln!(text, "{}{server}: {does}; until {}", printable(&mirror.registry), mirror.expires);
    }
    for upload in &document.uploads {
        let _ = writeln!(
            text,
            "{}: upload of {}@{}: {} of {} acknowledged at {}; until {}",
            printable(&upload.registry),
            upload.repository,
            upload.digest,
            ByteCount(upload.bytes_acknowledged),
            ByteCount(upload.bytes),
            upload.used,
            upload.expires,
        );
    }
    text
}

fn clear(args: &ClearArgs, output: &Output) -> Done {
    let (folder, state) = open(args.state_dir.as_deref())?;
    let said = if let Some(registry) = &args.registry {
        let (mirrors, uploads) = state.clear_mirror(registry);
        format!(
            "{}: forgot {} and {}",
            printable(registry),
            if mirrors > 0 { "what was learned of it" } else { "nothing that was learned of it" },
            count(uploads, "upload"),
        )
    } else if state.clear(args.history) {
        let history = if args.history { "" } else { "; the history of runs stays (--history)" };
        format!("{}: nothing is remembered any more{history}", folder.display())
    } else {
        let notes = state.take_notes().join("; ");
        return Err(Failure::usage(format!("{}: nothing was forgotten: {notes}", folder.display())));
    };
    state.take_notes().iter().for_each(|note| output.note(note));
    Output::result(&format!("{said}\n"))?;
    Ok(Exit::Complete)
}
