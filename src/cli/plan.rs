//! `plan`: what `push images` or `sync` would do, without sending anything.

use std::collections::{BTreeSet, HashSet};
use std::convert;
use std::fmt::Write as _;
use std::sync::Arc;

use super::bundle::{BundleArgs, CostArgs};
use super::mirror_args::MirrorArgs;
use super::output::Output;
use super::rules::RuleArgs;
use super::site_settings::{Made, SiteMirrors};
use super::sites_file::{self, OptionalSites, SelectedSites};
use super::{Done, config, file_words, left_out};
use crate::bundle::{Accept, Input, Opener};
use crate::engine::{Met, MirrorSettings, forecast};
use crate::error::printable;
use crate::exit::Exit;
use crate::oci::Repository;
use crate::registry::Access;
use crate::report::Failure;
use crate::report::document::{Action, Forecast, ImageForecast, PlanDocument, Replacement, SchemaVersion};
use crate::units::{ByteCount, count};

/// Show what `push images`, or `sync` with -c, would do, without sending anything
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    sites: OptionalSites,
    #[command(flatten)]
    bundle: BundleArgs,
    #[command(flatten)]
    mirrors: MirrorArgs,
    #[command(flatten)]
    rules: RuleArgs,
    /// Do not overwrite tags that point to another image
    #[arg(long)]
    no_overwrite: bool,
    /// Instead: the repositories that a run would fill, one a line, for registries that do not make them by themselves; no
    /// registry is asked
    #[arg(long)]
    repositories: bool,
    /// As JSON
    #[arg(long, conflicts_with = "repositories")]
    json: bool,
}

pub(super) fn run(args: &Args, output: &Output) -> Done {
    if let Some(chosen) = args.sites.read(output)? {
        let inputs = if args.bundle.is_given() { Some(args.bundle.inputs(false)?) } else { None };
        let asked = of_sites(&chosen, inputs, args.bundle.cost(), output)?;
        if args.repositories {
            return repositories(asked);
        }
        tell_windows(&chosen, output);
        return ask(PlanRequest { json: args.json, no_overwrite: args.no_overwrite, ..asked }, output);
    }
    let inputs = args.bundle.inputs(args.mirrors.reads_stdin())?;
    let opener = args.bundle.opener()?;
    let (rules, accept) = (Arc::new(args.rules.rules()?), args.rules.accept.accept());
    let runtime = super::runtime()?;
    let mirrors = args.mirrors.resolve(&runtime, Access::Pull, &rules, output)?;
    let (no_overwrite, json) = (args.no_overwrite, args.json);
    let asked = PlanRequest {
        runtime,
        inputs,
        opener,
        mirrors,
        not_begun: Vec::new(),
        accept,
        no_overwrite,
        json,
        words: convert::identity,
    };
    if args.repositories { repositories(asked) } else { ask(asked, output) }
}

/// What must be there before a run: `HOST/REPOSITORY`, once each.
fn repositories(asked: PlanRequest) -> Done {
    let PlanRequest { runtime, inputs, opener, mirrors, not_begun, accept, .. } = asked;
    let planned = forecast::repositories(inputs, opener, &mirrors, accept);
    let (repositories, _) = runtime.block_on(planned)?;
    let of_mirror = |(mirror, repositories): (&MirrorSettings, Vec<Repository>)| {
        let host = mirror.target.endpoint.authority();
        repositories.into_iter().map(|repository| format!("{host}/{repository}\n")).collect::<Vec<_>>()
    };
    let lines: BTreeSet<String> = mirrors.iter().zip(repositories).flat_map(of_mirror).collect();
    Output::result(&lines.into_iter().collect::<String>())?;
    // A site that cannot be asked has repositories too, and they are not listed.
    match not_begun.into_iter().find_map(|forecast| forecast.error) {
        Some(failure) => Err(failure),
        None => Ok(Exit::Complete),
    }
}

/// The same for sites of a file.
pub(super) fn sites(chosen: &SelectedSites, cost: &CostArgs, output: &Output) -> Done {
    tell_windows(chosen, output);
    ask(of_sites(chosen, None, cost, output)?, output)
}

/// A run would begin these later, or not at all.
fn tell_windows(chosen: &SelectedSites, output: &Output) {
    for line in config::waiting(&chosen.config, &chosen.sites) {
        output.note(&line);
    }
}

fn of_sites(
    chosen: &SelectedSites,
    inputs: Option<Vec<Input>>,
    cost: &CostArgs,
    output: &Output,
) -> Result<PlanRequest, Failure> {
    let config = &chosen.config;
    let inputs = inputs.map_or_else(|| sites_file::inputs(config, output).map(|found| found.inputs), Ok)?;
    let Made { mirrors, failed } =
        SiteMirrors::new(config, Access::Pull, config.bandwidth, output).all(&chosen.sites);
    let not_begun = failed.into_iter().map(|(site, failure)| Forecast::failed(site.name.clone(), failure));
    Ok(PlanRequest {
        runtime: super::runtime()?,
        inputs,
        opener: cost.over(config).opener()?,
        mirrors,
        not_begun: not_begun.collect(),
        accept: sites_file::accept(config),
        no_overwrite: false,
        json: false,
        words: file_words::failure,
    })
}

/// What is asked, and how it is answered.
struct PlanRequest {
    runtime: tokio::runtime::Runtime,
    inputs: Vec<Input>,
    opener: Opener,
    mirrors: Vec<MirrorSettings>,
    /// Notes on mirrors that cannot be asked.
    not_begun: Vec<Forecast>,
    accept: Accept,
    /// All notes on a mirror.
    no_overwrite: bool,
    json: bool,
    /// Whether messages name flags or keys of the sites file.
    words: fn(Failure) -> Failure,
}

fn ask(asked: PlanRequest, output: &Output) -> Done {
    let PlanRequest { runtime, inputs, opener, mirrors, not_begun, accept, no_overwrite, json, words } =
        asked;
    let keeps = |mirror: &MirrorSettings| no_overwrite || mirror.care.no_overwrite;
    let keeping: HashSet<String> =
        mirrors.iter().filter(|mirror| keeps(mirror)).map(|mirror| mirror.name.clone()).collect();
    let asking = forecast::forecast(inputs, opener, mirrors, accept);
    let (mut mirrors, Met { left_out, notes, unmatched }) =
        runtime.block_on(asking).map_err(|error| words(Failure::from(error)))?;
    mirrors.extend(not_begun);
    for forecast in mirrors.iter_mut().filter(|forecast| keeping.contains(&forecast.name)) {
        forecast.images.iter_mut().for_each(keep_tags);
    }
    for forecast in &mut mirrors {
        forecast.error = forecast.error.take().map(words);
        forecast.images.iter_mut().for_each(|image| image.shortfall = image.shortfall.take().map(words));
    }
    let document = PlanDocument { schema_version: SchemaVersion::One, mirrors, left_out, notes };
    let (forecasts, left_out) = (&document.mirrors, &document.left_out);
    if json {
        Output::document(&document)?;
    } else {
        let notes = document.notes.iter().filter(|note| !unmatched.contains(note));
        let notes = notes.fold(String::new(), |mut out, note| {
            let _ = writeln!(out, "note: {}", printable(note));
            out
        });
        let shown: String =
            forecasts.iter().map(|forecast| show(forecast, keeping.contains(&forecast.name))).collect();
        Output::result(&format!("{shown}{}{notes}", left_out::text(left_out, accept)))?;
    }
    for flag in &unmatched {
        output.warn(flag);
    }
    let failed: Vec<Exit> =
        forecasts.iter().filter_map(|forecast| forecast.error.as_ref()).map(|failure| failure.exit).collect();
    let is_short = |image: &ImageForecast| image.shortfall.is_some();
    let complete = if forecasts.iter().any(|forecast| forecast.images.iter().any(is_short)) {
        Exit::Incomplete
    } else {
        accept.exit(Exit::Complete, left_out)
    };
    Ok(match failed.as_slice() {
        [] => complete,
        [first, rest @ ..] if failed.len() == forecasts.len() && rest.iter().all(|exit| exit == first) => {
            *first
        }
        _ => Exit::Incomplete,
    })
}

/// Tags that stand for another image stay, so the image is not complete, as a push would say.
fn keep_tags(image: &mut ImageForecast) {
    if let Some(Replacement { place, from, .. }) = image.replaces.first() {
        image.shortfall.get_or_insert_with(|| Failure::tag_exists(place, from));
    }
}

fn show(forecast: &Forecast, no_overwrite: bool) -> String {
    let mut out = format!("{}\n", forecast.name);
    if let Some(error) = &forecast.error {
        why(&mut out, "  error", error);
        return out;
    }
    for image in &forecast.images {
        let cost = match image.action {
            Action::Unchanged => String::new(),
            _ if image.missing_blobs == 0 => String::new(),
            _ => format!("  {}, {}", count(image.missing_blobs, "blob"), ByteCount(image.missing_bytes)),
        };
        let _ = writeln!(out, "  {:<9}  {} -> {}{cost}", image.action, image.name, image.place);
        for Replacement { place, from, to } in &image.replaces {
            let to = to.map_or_else(|| "what its layers will become".to_owned(), |to| to.to_string());
            let line = if no_overwrite {
                format!("{place} stays at {from}, and {to} is not tagged")
            } else {
                format!("{place} replaces {from} → {to}")
            };
            let _ = writeln!(out, "             {line}");
        }
        if let Some(shortfall) = &image.shortfall {
            why(&mut out, "             incomplete", shortfall);
        }
    }
    let about = if forecast.bytes_are_exact { "" } else { "at most (layers are compressed on the way) " };
    let _ = writeln!(
        out,
        "  {}, {about}{} to send",
        count(forecast.images.len(), "image"),
        ByteCount(forecast.bytes_to_send)
    );
    out
}

/// Why something is not what was asked for, and what to do, with the class that the exit code follows.
fn why(out: &mut String, what: &str, failure: &Failure) {
    let _ = writeln!(out, "{what}: {} [{}]", printable(&failure.message), failure.class);
    if let Some(hint) = &failure.hint {
        let indent = what.len() - what.trim_start().len();
        let _ = writeln!(out, "{:indent$}  next: {}", "", printable(hint));
    }
}
