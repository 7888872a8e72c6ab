//! `report merge`: the reports of shards become one.

use std::path::{Path, PathBuf};

use super::atomic_file::{Replaces, WholeFile};
use super::output::Output;
use super::{Done, summary};
use crate::error::printable;
use crate::exit::Exit;
use crate::report::merge::{self, NamedReport};
use crate::report::{Document, Failure};
use crate::small_file;

/// A report that is larger than this is none.
const MAX_REPORT_BYTES: u64 = 1 << 30;

/// What is done with reports.
#[derive(Debug, clap::Subcommand)]
pub(super) enum ReportDo {
    /// Join the reports of the shards of one run, and end with the exit code of that run
    #[command(arg_required_else_help = true)]
    Merge(MergeArgs),
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
    let ReportDo::Merge(args) = what;
    let target =
        args.output.clone().map(|path| WholeFile::check("--output", path, Replaces::Reports)).transpose()?;
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
    let name = printable(&path.display().to_string());
    let unusable = |why: String| Failure::usage(format!("{name}: {why}"));
    let bytes =
        small_file::read(path, MAX_REPORT_BYTES).map_err(|error| Failure::unreadable(&name, &error))?;
    let report: Document = serde_json::from_slice(&bytes).map_err(|error| {
        unusable(format!("it is not a report: {error}"))
            .hint("name what `push images --report` or `sync --report` wrote")
    })?;
    Ok((name, report))
}
