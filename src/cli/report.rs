//! `report`: the reports of shards become one, and a document becomes a page.

use std::path::{Path, PathBuf};

use super::atomic_file::{Replaces, WholeFile};
use super::output::Output;
use super::{Done, summary};
use crate::error::printable;
use crate::exit::Exit;
use crate::report::document::{HistoryDocument, LinkDocument};
use crate::report::merge::{self, NamedReport};
use crate::report::{Document, Failure, html};
use crate::small_file;

/// A report that is larger than this is none.
const MAX_REPORT_BYTES: u64 = 1 << 30;

/// What is done with reports.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ReportDo {
    /// Join the reports of the shards of one run, and end with the exit code of that run
    #[command(arg_required_else_help = true)]
    Merge(MergeArgs),
    /// Make a page for a browser of a report, or of what `history --json` or `bench link --json` wrote
    #[command(arg_required_else_help = true)]
    Html(HtmlArgs),
}

#[derive(Debug, clap::Args)]
pub(super) struct HtmlArgs {
    /// The report, as JSON
    #[arg(value_name = "FILE")]
    from: PathBuf,
    /// Write the page here [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct MergeArgs {
    /// Reports, or folders whose *.json are reports
    #[arg(required = true, value_name = "FILE|DIR")]
    from: Vec<PathBuf>,
    /// Write the report of the run here [default: standard output]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub(super) fn run(what: &ReportDo, output: &Output) -> Done {
    match what {
        ReportDo::Merge(args) => merge(args, output),
        ReportDo::Html(args) => page(args),
    }
}

/// A file that `--output` names.
fn written(path: Option<&PathBuf>) -> Result<Option<WholeFile>, Failure> {
    path.map(|path| WholeFile::check("--output", path.clone(), Replaces::Reports)).transpose()
}

fn page(args: &HtmlArgs) -> Done {
    let target = written(args.output.as_ref())?;
    let (name, bytes) = contents(&args.from)?;
    let page = match serde_json::from_slice::<Document>(&bytes) {
        Ok(document) => html::run_page(&document, &[])?,
        Err(error) => match other_page(&bytes) {
            Some(page) => page?,
            None => return Err(no_report(&name, &error)),
        },
    };
    match target {
        Some(target) => target.write(page.as_bytes())?,
        None => Output::result(&page)?,
    }
    Ok(Exit::Complete)
}

/// The page of a document that is not of a run.
fn other_page(bytes: &[u8]) -> Option<Result<String, Failure>> {
    let history = || Some(html::history_page(&serde_json::from_slice::<HistoryDocument>(bytes).ok()?));
    let link = || Some(html::link_page(&serde_json::from_slice::<LinkDocument>(bytes).ok()?));
    history().or_else(link)
}

fn merge(args: &MergeArgs, output: &Output) -> Done {
    let target = written(args.output.as_ref())?;
    let mut reports = Vec::new();
    for path in files(&args.from, args.output.as_deref())? {
        reports.push(read(&path)?);
    }
    let whole = merge::merge(reports)?;
    match target {
        Some(target) => {
            target.write_json(&whole)?;
            output.summary(&summary::table(&whole));
        }
        None => Output::document(&whole)?,
    }
    output.failures(&whole.mirrors, true);
    if let Some(error) = &whole.error {
        output.failed(error);
    }
    Ok(Exit::of_code(whole.exit_code).unwrap_or(Exit::Incomplete))
}

/// The reports that are meant. One that is written by this command is not one of a shard.
fn files(from: &[PathBuf], written: Option<&Path>) -> Result<Vec<PathBuf>, Failure> {
    let mut files = Vec::new();
    for path in from {
        let failed = |error: std::io::Error| Failure::unreadable(path.display(), &error);
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let before = files.len();
        for entry in path.read_dir().map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file.extension().is_some_and(|ending| ending == "json") && Some(file.as_path()) != written {
                files.push(file);
            }
        }
        if files.len() == before {
            return Err(Failure::usage(format!("there is no report (*.json) in {}", path.display()))
                .hint("name the folder that the shards write to with `sync --report`"));
        }
    }
    files.sort();
    if let Some(twice) = files.windows(2).find(|two| two[0] == two[1]) {
        let message = format!("{} is given twice, and a shard counts once", twice[0].display());
        return Err(Failure::usage(message).hint("name each report once, or its folder alone"));
    }
    Ok(files)
}

fn read(path: &Path) -> Result<NamedReport, Failure> {
    let (name, bytes) = contents(path)?;
    let report: Document = serde_json::from_slice(&bytes).map_err(|error| no_report(&name, &error))?;
    Ok((name, report))
}

/// What is called how, and what stands in it.
fn contents(path: &Path) -> Result<(String, Vec<u8>), Failure> {
    let name = printable(&path.display().to_string());
    let bytes =
        small_file::read(path, MAX_REPORT_BYTES).map_err(|error| Failure::unreadable(&name, &error))?;
    Ok((name, bytes))
}

fn no_report(name: &str, error: &serde_json::Error) -> Failure {
    Failure::usage(format!("{name}: it is not a report: {error}"))
        .hint("name what `push images --report` or `sync --report` wrote")
}
