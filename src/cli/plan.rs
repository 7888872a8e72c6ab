//! `plan`: what `push images` would do, without sending anything.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};

use super::bundle::BundleArgs;
use super::mirrors::MirrorArgs;
use super::output::Output;
use super::rules::RuleArgs;
use super::{Done, Stop};
use crate::engine::forecast::{self, Forecast, Verdict};
use crate::exit::Exit;
use crate::plan::Plan;
use crate::registry::Access;
use crate::report::Listeners;
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
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args, output: &Output) -> Done {
    let paths = args.bundle.paths(args.mirrors.reads_stdin())?;
    let opener = args.bundle.opener()?;
    let rules = args.rules.rules()?;
    let runtime = super::runtime()?;
    let mirrors = args.mirrors.resolve(&runtime, Access::Pull, output)?;
    let bundle = Arc::new(opener.open(&paths, &Listeners::default())?);
    bundle.check_whole()?;
    let plan = Plan::new(&bundle.catalog, &rules)?;
    plan.check_not_empty()?;
    let forecasts = mirrors.into_iter().map(|mirror| forecast::mirror(&bundle, &plan, mirror));
    let forecasts = runtime.block_on(futures_util::future::join_all(forecasts));
    if args.json {
        let value =
            json!({"schema_version": 1, "mirrors": forecasts.iter().map(describe).collect::<Vec<_>>()});
        let text = serde_json::to_string_pretty(&value);
        Output::result(&text.map_err(|error| Stop::new(Exit::Internal, error.to_string()))?);
    } else {
        Output::result(&forecasts.iter().map(show).collect::<String>());
    }
    let failed: Vec<Exit> =
        forecasts.iter().filter_map(|forecast| forecast.error.as_ref()).map(|failure| failure.exit).collect();
    Ok(match failed.as_slice() {
        [] => Exit::Complete,
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
            Verdict::Unchanged => String::new(),
            _ if image.missing_blobs == 0 => String::new(),
            _ => format!("  {} blobs, {}", image.missing_blobs, ByteCount(image.missing_bytes)),
        };
        let _ = writeln!(out, "  {:<9}  {} -> {}{cost}", image.verdict.name(), image.name, image.place);
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
