//! `bench`: what this machine makes of a bundle, and what the links to mirrors bear.

mod compare;
mod link;
mod link_text;

use std::fmt::Write as _;
use std::path::PathBuf;

pub(super) use self::compare::{CompareArgs, compare};
pub(super) use self::link::{LinkArgs, link};
use super::Done;
use super::bundle::{self, CostArgs};
use super::output::Output;
use crate::bench::{self, DecodeFigures, LayerTreatment};
use crate::decode::StructureKind;
use crate::error::printable;
use crate::exit::Exit;
use crate::report::Failure;
use crate::report::document::{CoreRates, DecodeDocument, PushBudgets, SchemaVersion};
use crate::units::ByteCount;

/// Decode a bundle once, keep nothing, and say where a push would spend its time
#[derive(Debug, clap::Args)]
pub(super) struct DecodeArgs {
    /// Bundle: a file
    #[arg(value_name = "BUNDLE")]
    path: PathBuf,
    /// Threads that decode [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    #[command(flatten)]
    cost: CostArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

const WAYS: [(LayerTreatment, &str); 3] = [
    (LayerTreatment::AsStored, "layers pushed as they are stored"),
    (LayerTreatment::Gzip, "plain layers pushed with gzip"),
    (LayerTreatment::Zstd, "plain layers pushed with zstd"),
];

pub(super) fn decode(args: &DecodeArgs, output: &Output) -> Done {
    bundle::inputs(vec![args.path.clone()])?;
    if args.path.is_dir() {
        let message = format!("{} is a folder, and one file is decoded", args.path.display());
        return Err(Failure::usage(message).hint("name one archive in it"));
    }
    args.cost.check_spool()?;
    let opener = args.cost.opener_on(args.threads.map_or(0, usize::from))?;
    let display = output.display();
    let figures = bench::decode(&opener, &args.path, &display.listeners())?;
    drop(display);
    if args.json {
        Output::document(&describe(args, &figures))?;
    } else {
        Output::result(&show(args, &figures))?;
    }
    Ok(Exit::Complete)
}

fn describe(args: &DecodeArgs, figures: &DecodeFigures) -> DecodeDocument {
    let (once, rates) = (&figures.once, &figures.rates);
    let structure = &once.structure;
    // What was too fast to measure has no number in JSON.
    let finite = |rate: f64| rate.is_finite().then_some(rate);
    DecodeDocument {
        schema_version: SchemaVersion::One,
        path: args.path.clone(),
        format: structure.format.name().to_owned(),
        kind: structure.kind.name().to_owned(),
        parts: structure.parts,
        largest_part_bytes: structure.largest_part_bytes,
        stored_bytes: structure.stored_bytes,
        decoded_bytes: once.decoded_bytes,
        threads: figures.threads,
        seconds: once.elapsed.as_secs_f64(),
        busy_seconds: once.busy.as_secs_f64(),
        pool_busy_share: figures.pool_busy_share(),
        bytes_per_second: figures.decode_rate(),
        bytes_per_second_per_core: figures.decode_rate_per_core(),
        one_core: CoreRates {
            sha256_bytes_per_second: finite(rates.sha256),
            gzip_bytes_per_second: finite(rates.gzip),
            gzip_ratio: rates.gzip_ratio,
            zstd_bytes_per_second: finite(rates.zstd),
            zstd_ratio: rates.zstd_ratio,
        },
        push: PushBudgets {
            as_stored: figures.budget(LayerTreatment::AsStored),
            gzip: figures.budget(LayerTreatment::Gzip),
            zstd: figures.budget(LayerTreatment::Zstd),
        },
    }
}

fn show(args: &DecodeArgs, figures: &DecodeFigures) -> String {
    let (once, rates) = (&figures.once, &figures.rates);
    let stored = ByteCount(once.structure.stored_bytes.unwrap_or(0));
    let mut out = String::new();
    let path = printable(&args.path.display().to_string());
    let _ = writeln!(out, "{path}: {stored}, {}", once.structure);
    match (figures.decode_rate(), figures.decode_rate_per_core()) {
        (Some(all), Some(core)) => {
            let decoders = if once.structure.kind == StructureKind::Blocks { figures.threads } else { 1 };
            let _ = writeln!(
                out,
                "decoded {} in {:.2} s: {} in all, {} per core, {decoders} at once, the threads busy for {:.0} % of the time",
                ByteCount(once.decoded_bytes),
                once.elapsed.as_secs_f64(),
                per_second(all),
                per_second(core),
                figures.pool_busy_share() * 100.0,
            );
        }
        _ => out.push_str("nothing to decode\n"),
    }
    let _ = writeln!(
        out,
        "one core, on a sample of it: sha256 {}, gzip {} (to {:.0} %), zstd {} (to {:.0} %)\n",
        per_second(rates.sha256),
        per_second(rates.gzip),
        rates.gzip_ratio * 100.0,
        per_second(rates.zstd),
        rates.zstd_ratio * 100.0,
    );
    let _ = writeln!(out, "what a push costs on {} threads, registry and network aside:", figures.threads);
    for (layers, what) in WAYS {
        let budget = figures.budget(layers);
        let stages = budget.core_seconds.by_stage();
        let stages = stages.map(|(stage, seconds)| format!("{stage} {seconds:.2}"));
        let _ = writeln!(
            out,
            "  {what:34} {:7.2} s at best; core-seconds: {}; bottleneck: {}",
            budget.seconds_at_best,
            stages.join(", "),
            budget.bottleneck,
        );
    }
    out
}

fn per_second(rate: f64) -> String {
    format!("{:.0} MB/s", rate / 1e6)
}
