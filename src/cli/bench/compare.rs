//! `bench compare`: before and after.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::bench;
use crate::cli::Done;
use crate::cli::output::Output;
use crate::error::{printable, system_words};
use crate::exit::Exit;
use crate::report::Failure;
use crate::report::document::{ChangeVerdict, CompareDocument, FigureChange, LinkDocument, LinkLimit};
use crate::small_file;

/// A document of a thousand mirrors with all their samples is smaller.
const MAX_DOCUMENT_BYTES: u64 = 256 << 20;

/// Hold two measurements of `bench link` against each other: which changes are real
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct CompareArgs {
    /// The earlier measurement: a file that `bench link --json` wrote
    #[arg(value_name = "BEFORE.json")]
    before: PathBuf,
    /// The later one
    #[arg(value_name = "AFTER.json")]
    after: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(in crate::cli) fn compare(args: &CompareArgs) -> Done {
    let compared = bench::compare(&read(&args.before)?, &read(&args.after)?);
    if compared.targets.is_empty() {
        let failure = Failure::usage("the two measurements have no mirror in common");
        return Err(failure.hint("measure the same sites, or mirrors that are written alike, both times"));
    }
    if args.json {
        Output::document(&compared)?;
    } else {
        Output::result(&show(&compared))?;
    }
    Ok(Exit::Complete)
}

fn read(path: &Path) -> Result<LinkDocument, Failure> {
    let named = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let text = small_file::read(path, MAX_DOCUMENT_BYTES).map_err(|error| named(system_words(&error)))?;
    serde_json::from_slice(&text).map_err(|error| {
        named(format!("it is no measurement of a link: {error}"))
            .hint("give files that `bench link --json FILE` wrote")
    })
}

fn show(compared: &CompareDocument) -> String {
    let mut out = String::new();
    let real = compared.targets.iter().flat_map(|target| &target.figures);
    let count = |verdict| real.clone().filter(|figure| figure.verdict == verdict).count();
    let (better, worse) = (count(ChangeVerdict::Better), count(ChangeVerdict::Worse));
    let _ = match (better, worse) {
        (0, 0) => writeln!(out, "no significant difference"),
        (better, worse) => writeln!(out, "{better} better, {worse} worse, by more than chance"),
    };
    for target in &compared.targets {
        let _ = writeln!(out, "{}", printable(&target.name));
        for figure in &target.figures {
            let _ = writeln!(out, "  {}", line(figure));
        }
        match (target.limit_before, target.limit_after) {
            (Some(before), Some(after)) if before != after => {
                let _ = writeln!(out, "  held back by {}, was {}", name(after), name(before));
            }
            _ => {}
        }
    }
    for (names, which) in [(&compared.only_before, "before"), (&compared.only_after, "after")] {
        if !names.is_empty() {
            let _ = writeln!(out, "only {which}: {}", printable(&names.join(", ")));
        }
    }
    out
}

fn line(figure: &FigureChange) -> String {
    let (what, scale, unit) = match figure.figure.as_str() {
        "rtt_seconds" => ("round trip", 1e3, "ms"),
        "cold_seconds" => ("new connection", 1e3, "ms"),
        "mount_seconds" => ("mount", 1e3, "ms"),
        "small_blobs_per_second" => ("small blobs", 1.0, "a second"),
        "upload" => ("upload", 8e-6, "Mbit/s"),
        _ => ("download", 8e-6, "Mbit/s"),
    };
    let verdict = match figure.verdict {
        ChangeVerdict::Better => "better",
        ChangeVerdict::Worse => "WORSE",
        ChangeVerdict::Same => "no significant difference",
        ChangeVerdict::Unknown => "too few samples to tell",
    };
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    format!(
        "{what:15} {:9.1} → {:9.1} {unit:8}  {:+6.1} % ({:+.1} to {:+.1})  {verdict}",
        figure.before * scale,
        figure.after * scale,
        percent(figure.ratio),
        percent(figure.ratio_low),
        percent(figure.ratio_high),
    )
}

/// A limit in words.
pub(super) const fn name(limit: LinkLimit) -> &'static str {
    match limit {
        LinkLimit::RoundTrip => "the round trip",
        LinkLimit::Bandwidth => "the bandwidth",
        LinkLimit::Server => "the registry",
        LinkLimit::RequestSize => "the size that requests may have",
        LinkLimit::RateLimit => "the number of requests a second that are taken",
        LinkLimit::ClientCpu => "this machine",
    }
}
