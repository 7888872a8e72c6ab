//! `history`: shows the results of earlier runs.

use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Done;
use super::atomic_file::{Replaces, WholeFile};
use super::config;
use super::output::Output;
use super::state::StateFolderArgs;
use crate::error::{printable, system_words};
use crate::exit::Exit;
use crate::report::document::{HistoryDocument, RunEntry, SchemaVersion, SiteEntry};
use crate::report::{Class, Failure, html};
use crate::state::{MirrorEnd, State};
use crate::units::{ByteCount, count, human_duration};

/// Show the results of earlier runs, the latest first
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Only runs that were at this site (a name in the file of `sync`, else the registry with its namespace)
    #[arg(long, value_name = "SITE")]
    site: Option<String>,
    /// Most runs to show
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    folder: StateFolderArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Write a page for a browser here, with the trend of the runs
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    html: Option<PathBuf>,
}

pub(super) fn run(args: &Args, output: &Output) -> Done {
    let page =
        args.html.clone().map(|path| WholeFile::check("--html", path, Replaces::Reports)).transpose()?;
    let file = args.folder.file(output)?;
    let folder = args.folder.folder(file.as_ref())?;
    let hint = "name the folder that runs use: --state-dir DIR, or -c FILE with `state_dir`";
    match folder.metadata() {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(Failure::usage(format!("{} is no folder", folder.display())).hint(hint)),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let message = format!("there is no folder {}, so no run is remembered", folder.display());
            return Err(Failure::usage(message).hint(hint));
        }
        Err(error) => return Err(unreadable(&folder, &system_words(&error))),
    }
    let state = State::open(&folder);
    if !state.is_kept() {
        return Err(unreadable(&folder, &state.take_notes().join("; ")));
    }
    let runs: Vec<RunEntry> =
        state.runs(args.site.as_deref(), args.limit).into_iter().map(RunEntry::from).collect();
    state.take_notes().iter().for_each(|note| output.note(note));
    // A site that left the file may still have runs.
    if let (Some(file), Some(site), true) = (&file, &args.site, runs.is_empty()) {
        config::named(file, site)?;
    }
    if let Some(page) = page {
        let history = HistoryDocument { schema_version: SchemaVersion::One, runs };
        page.write(html::history_page(&history)?.as_bytes())?;
    } else if args.json {
        Output::document(&HistoryDocument { schema_version: SchemaVersion::One, runs })?;
    } else if runs.is_empty() {
        let of_site = args.site.as_ref().map(|site| format!(" at {}", printable(site)));
        let (of_site, folder) = (of_site.unwrap_or_default(), folder.display());
        Output::result(&format!("no run{of_site} is remembered in {folder}"))?;
    } else {
        output.note(&format!("runs that {} remembers", folder.display()));
        Output::result(&runs.iter().map(text).collect::<String>())?;
    }
    Ok(Exit::Complete)
}

/// Whether runs are remembered there cannot be told.
fn unreadable(folder: &Path, why: &str) -> Failure {
    Failure::new(Class::Io, format!("{}: the history cannot be read: {why}", folder.display()))
        .hint("run this as the user of the runs, or as root")
}

/// A line for the run, and one for each site that is not complete.
fn text(run: &RunEntry) -> String {
    let ended = match (&run.ended, run.exit_code) {
        (Some(ended), Some(exit)) => format!("to {ended}, exit {exit}"),
        _ if is_alive(run.pid) => format!("goes on (process {})", run.pid),
        _ => format!("was killed, or goes on elsewhere (no process {} here)", run.pid),
    };
    let command = run.command.as_ref().map(|command| format!("{command}: ")).unwrap_or_default();
    let mut text = format!("#{} {} {ended}: {command}{}\n", run.number, run.started, printable(&run.bundle));
    if let (Some(class), Some(message)) = (&run.class, &run.message) {
        let _ = writeln!(text, "  {} [{class}]", printable(message));
    }
    if run.ended.is_none() {
        let names: Vec<&str> = run.sites.iter().map(|site| site.name.as_str()).collect();
        let _ = writeln!(text, "  {}", printable(&names.join(", ")));
        return text;
    }
    let complete = run.sites.iter().filter(|site| is_complete(site)).count();
    let _ = writeln!(text, "  {complete} of {} complete", count(run.sites.len(), "site"));
    // Of a run with one site this says all that there is.
    let shown = run.sites.iter().filter(|site| !is_complete(site) || run.sites.len() == 1);
    shown.for_each(|site| text.push_str(&line(run, site)));
    text
}

/// Whether this machine has such a process. Another one may have its number by now.
fn is_alive(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}

fn is_complete(site: &SiteEntry) -> bool {
    site.result.as_deref() == Some(MirrorEnd::Complete.name())
}

fn line(run: &RunEntry, site: &SiteEntry) -> String {
    let SiteEntry { name, images, images_complete, blobs_sent, .. } = site;
    let result = site.result.as_deref().unwrap_or("not known");
    if run.command.is_some() {
        return format!("  {}: {result}, {images_complete}/{images} tags\n", printable(name));
    }
    let why = match (&site.class, &site.message) {
        // What is said of the run is said once.
        (Some(_), Some(message)) if run.message.as_ref() == Some(message) => String::new(),
        (Some(class), Some(message)) => format!(": {} [{class}]", printable(message)),
        _ => String::new(),
    };
    format!(
        "  {}: {result}, {images_complete}/{images} images, {} of {} sent in {}{why}\n",
        printable(name),
        count(*blobs_sent, "blob"),
        ByteCount(site.bytes_sent),
        human_duration(Duration::from_secs_f64(site.elapsed_seconds.max(0.0))),
    )
}
