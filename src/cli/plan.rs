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
use crate::report::document::{Action, Forecast, ImageForecast, PlanDocument, Replacement, SchemaVersion};
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
    let (mirrors, Met { left_out, notes }) =
        runtime.block_on(forecast::forecast(inputs, opener, mirrors, accept))?;
    let document = PlanDocument { schema_version: SchemaVersion, mirrors, left_out, notes };
    let (forecasts, left_out) = (&document.mirrors, &document.left_out);
    if args.json {
        Output::document(&document)?;
    } else {
        let notes = document.notes.iter().fold(String::new(), |mut out, note| {
            let _ = writeln!(out, "note: {}", printable(note));
            out
        });
        let shown: String = forecasts.iter().map(show).collect();
        Output::result(&format!("{shown}{}{notes}", left_out::text(left_out, accept)));
    }
    let failed: Vec<Exit> =
        forecasts.iter().filter_map(|forecast| forecast.error.as_ref()).map(|failure| failure.exit).collect();
    let kept = |image: &ImageForecast| args.no_overwrite && !image.replaces.is_empty();
    let short = |image: &ImageForecast| image.shortfall.is_some() || kept(image);
    let complete = if forecasts.iter().any(|forecast| forecast.images.iter().any(short)) {
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

fn show(forecast: &Forecast) -> String {
    let mut out = format!("{}\n", forecast.name);
    if let Some(error) = &forecast.error {
        let _ = writeln!(out, "  error: {}", error.message);
        return out;
    }
    for image in &forecast.images {
        let cost = match image.action {
            Action::Unchanged => String::new(),
            _ if image.missing_blobs == 0 => String::new(),
            _ => format!("  {} blobs, {}", image.missing_blobs, ByteCount(image.missing_bytes)),
        };
        let _ = writeln!(out, "  {:<9}  {} -> {}{cost}", image.action, image.name, image.place);
        for Replacement { place, from, to } in &image.replaces {
            let to = to.map_or_else(|| "what its layers will become".to_owned(), |to| to.to_string());
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
    let about = if forecast.bytes_are_exact { "" } else { "at most (layers are compressed on the way) " };
    let _ = writeln!(
        out,
        "  {} images, {about}{} to send",
        forecast.images.len(),
        ByteCount(forecast.bytes_to_send)
    );
    out
}
