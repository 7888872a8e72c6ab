//! `plan`: what `push images` would do, without sending anything.

use std::fmt::Write as _;
use std::sync::Arc;

use super::bundle::BundleArgs;
use super::mirrors::MirrorArgs;
use super::output::Output;
use super::rules::RuleArgs;
use super::{Done, left_out};
use crate::engine::Met;
use crate::engine::forecast;
use crate::error::printable;
use crate::exit::Exit;
use crate::registry::Access;
use crate::report::Failure;
use crate::report::document::{Action, Forecast, ImageForecast, PlanDocument, Replacement, SchemaVersion};
use crate::units::{ByteCount, count};

/// Show what `push images` would do, without sending anything
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    bundle: BundleArgs,
    #[command(flatten)]
    mirrors: MirrorArgs,
    #[command(flatten)]
    rules: RuleArgs,
    /// Move no tag that stands for another image
    #[arg(long)]
    no_overwrite: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, output: &Output) -> Done {
    let inputs = args.bundle.inputs(args.mirrors.reads_stdin())?;
    let opener = args.bundle.opener()?;
    let (rules, accept) = (Arc::new(args.rules.rules()?), args.rules.accept.accept());
    let runtime = super::runtime()?;
    let mirrors = args.mirrors.resolve(&runtime, Access::Pull, &rules, output)?;
    let (mut mirrors, Met { left_out, notes, unmatched }) =
        runtime.block_on(forecast::forecast(inputs, opener, mirrors, accept))?;
    if args.no_overwrite {
        mirrors.iter_mut().flat_map(|forecast| &mut forecast.images).for_each(keep_tags);
    }
    let document = PlanDocument { schema_version: SchemaVersion, mirrors, left_out, notes };
    let (forecasts, left_out) = (&document.mirrors, &document.left_out);
    if args.json {
        Output::document(&document)?;
    } else {
        let notes = document.notes.iter().filter(|note| !unmatched.contains(note));
        let notes = notes.fold(String::new(), |mut out, note| {
            let _ = writeln!(out, "note: {}", printable(note));
            out
        });
        let shown: String = forecasts.iter().map(|forecast| show(forecast, args.no_overwrite)).collect();
        Output::result(&format!("{shown}{}{notes}", left_out::text(left_out, accept)));
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
