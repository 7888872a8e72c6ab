//! `plan`: what `push images` would do, without sending anything.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};

use super::bundle::BundleArgs;
use super::mirrors::MirrorArgs;
use super::output::Output;
use super::rules::RuleArgs;
use super::{Done, left_out};
use crate::engine::Met;
use crate::engine::forecast::{self, Action, Forecast, ImageForecast};
use crate::error::printable;
use crate::exit::Exit;
use crate::registry::Access;
use crate::report::Failure;
use crate::units::ByteCount;

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
    let (forecasts, Met { left_out, notes }) =
        runtime.block_on(forecast::forecast(inputs, opener, mirrors, accept))?;
    if args.json {
        let value = json!({
            "schema_version": 1, "mirrors": forecasts.iter().map(describe).collect::<Vec<_>>(), "left_out": left_out,
            "notes": notes,
        });
        let text = serde_json::to_string_pretty(&value);
        Output::result(&text.map_err(|error| Failure::new(Exit::Internal, error.to_string()))?);
    } else {
        let notes = notes.iter().fold(String::new(), |mut out, note| {
            let _ = writeln!(out, "note: {}", printable(note));
            out
        });
        let shown: String = forecasts.iter().map(show).collect();
        Output::result(&format!("{shown}{}{notes}", left_out::text(&left_out, accept)));
    }
    let failed: Vec<Exit> =
        forecasts.iter().filter_map(|forecast| forecast.error.as_ref()).map(|failure| failure.exit).collect();
    let kept = |image: &ImageForecast| args.no_overwrite && !image.replaces.is_empty();
    let short = |image: &ImageForecast| image.shortfall.is_some() || kept(image);
    let complete = if forecasts.iter().any(|forecast| forecast.images.iter().any(short)) {
        Exit::Incomplete
    } else {
        accept.exit(Exit::Complete, &left_out)
    };
    Ok(match failed.as_slice() {
        [] => complete,
        [first, rest @ ..] if failed.len() == forecasts.len() && rest.iter().all(|exit| exit == first) => {
            *first
        }
        _ => Exit::Incomplete,
    })
}

fn describe(forecast: &Forecast) -> Value {
    let images: Vec<Value> = forecast
        .images
        .iter()
        .map(|image| {
            json!({
                "image": image.name, "place": image.place, "verdict": image.verdict.name(),
                "replaces": image.replaces.iter().map(|(place, from)| json!({
                    "place": place, "from": from, "to": image.digest,
                })).collect::<Vec<_>>(),
                "shortfall": image.shortfall,
                "missing_blobs": image.missing_blobs, "missing_bytes": image.missing_bytes,
            })
        })
        .collect();
    json!({
        "name": forecast.name, "images": images, "bytes_to_send": forecast.bytes_to_send,
        "bytes_are_exact": forecast.exact, "error": forecast.error,
    })
}

fn show(forecast: &Forecast) -> String {
    let mut out = format!("{}\n", forecast.name);
    if let Some(error) = &forecast.error {
        let _ = writeln!(out, "  error: {}", error.message);
        return out;
    }
    for image in &forecast.images {
        let cost = match image.verdict {
            Action::Unchanged => String::new(),
            _ if image.missing_blobs == 0 => String::new(),
            _ => format!("  {} blobs, {}", image.missing_blobs, ByteCount(image.missing_bytes)),
        };
        let _ = writeln!(out, "  {:<9}  {} -> {}{cost}", image.verdict.name(), image.name, image.place);
        for (place, from) in &image.replaces {
            let to =
                image.digest.map_or_else(|| "what its layers will become".to_owned(), |to| to.to_string());
            let _ = writeln!(out, "             {place} replaces {from} → {to}");
        }
        if let Some(shortfall) = &image.shortfall {
            let _ = writeln!(
                out,
                "             incomplete: {} [{}]",
                printable(&shortfall.message),
                shortfall.class
            );
        }
    }
    let about = if forecast.exact { "" } else { "at most (layers are compressed on the way) " };
    let _ = writeln!(
        out,
        "  {} images, {about}{} to send",
        forecast.images.len(),
        ByteCount(forecast.bytes_to_send)
    );
    out
}
