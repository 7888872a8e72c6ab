//! `state`: shows what is remembered between runs, without secrets.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::Done;
use super::config::FileArgs;
use super::output::Output;
use crate::config::Config;
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

/// Which folder has what runs remember.
#[derive(Debug, clap::Args)]
pub(super) struct StateFolderArgs {
    /// Take the folder of what is remembered from this sites file, as `sync` does
    #[arg(long, short, value_name = "FILE", env = "LAYERCAST_CONFIG")]
    config: Option<PathBuf>,
    /// Folder of what is remembered between runs [default: as the run has it]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl StateFolderArgs {
    /// The sites file, if one is named.
    pub(super) fn file(&self, output: &Output) -> Result<Option<Config>, Failure> {
        self.config.clone().map(|config| FileArgs { config }.read(output)).transpose()
    }

    /// The folder that is meant: what flag, environment and file say, in this order.
    pub(super) fn folder(&self, file: Option<&Config>) -> Result<PathBuf, Failure> {
        let named = self.state_dir.clone().or_else(state::folder_of_environment);
        let of_file = || file.and_then(|config| config.state_dir.clone());
        named.or_else(of_file).or_else(state::default_folder).ok_or_else(|| {
            Failure::usage("no folder of state is known, because this user has no home")
                .hint("name the one that runs use: --state-dir DIR, or -c FILE with `state_dir`")
        })
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct StateShowArgs {
    #[command(flatten)]
    folder: StateFolderArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ClearArgs {
    #[command(flatten)]
    folder: StateFolderArgs,
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
fn open(args: &StateFolderArgs, output: &Output) -> Result<(PathBuf, State), Failure> {
    let folder = args.folder(args.file(output)?.as_ref())?;
    if !folder.is_dir() {
        let message = format!("there is no folder {}, so nothing is remembered", folder.display());
        return Err(Failure::usage(message)
            .hint("name the one that runs use: --state-dir DIR, or -c FILE with `state_dir`"));
    }
    let state = State::open(&folder);
    Ok((folder, state))
}

fn show(args: &StateShowArgs, output: &Output) -> Done {
    let (folder, state) = open(&args.folder, output)?;
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
    let (folder, state) = open(&args.folder, output)?;
    let said = if let Some(registry) = &args.registry {
        let (mirrors, uploads) = state.clear_mirror(registry);
        if mirrors == 0 && uploads == 0 {
            let message = format!("{}: nothing is remembered of a registry {registry}", folder.display());
            return Err(Failure::usage(message).hint("`state show` lists those of which something is"));
        }
        format!(
            "{}: forgot {} and {}",
            printable(registry),
            if mirrors > 0 { "what was learned of it" } else { "nothing that was learned of it" },
            count(uploads, "upload"),
        )
    } else if state.clear(args.history) {
        let history = if args.history { "" } else { "; the history of runs stays (--history)" };
        format!(
            "{}: nothing is remembered any more, but for uploads that runs are at{history}",
            folder.display()
        )
    } else {
        let notes = state.take_notes().join("; ");
        return Err(Failure::usage(format!("{}: nothing was forgotten: {notes}", folder.display())));
    };
    state.take_notes().iter().for_each(|note| output.note(note));
    Output::result(&format!("{said}\n"))?;
    Ok(Exit::Complete)
}
