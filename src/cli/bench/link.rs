//! `bench link`: flags become terms, one mirror after the other is measured, and what was found is said and written.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::link_text;
use crate::bench::{self, LackingBytes, LinkTerms, Soak};
use crate::bundle::{Accept, Input, Opener};
use crate::cli::atomic_file::{Replaces, WholeFile};
use crate::cli::bundle::{self, CostArgs};
use crate::cli::interrupt::Interrupt;
use crate::cli::mirror_args::MirrorArgs;
use crate::cli::output::Output;
use crate::cli::site_settings::{Made, SiteMirrors};
use crate::cli::sites_file::SiteChoice;
use crate::cli::{Done, report_file, runtime};
use crate::clock::{self, Instant};
use crate::engine::{MirrorSettings, forecast};
use crate::exit::Exit;
use crate::oci::Repository;
use crate::plan::Rules;
use crate::registry::{Access, BandwidthLimiter, MirrorMemory};
use crate::report::Failure;
use crate::report::document::{Forecast, LinkDocument, LinkTarget, SchemaVersion};
use crate::report::outcome::common_exit;
use crate::units::{ByteCount, Rate, parse_seconds};

const DEFAULT_BYTES: u64 = 1 << 30;
/// What is sent to a mirror that keeps it for longer than the measurement takes, where nobody has consented to more.
const BYTES_WHERE_KEPT: u64 = 64 << 20;
/// Less measures nothing.
const LEAST_BYTES: u64 = 4 << 20;

/// Measure the links to mirrors: what they bear, what holds them back, and which settings to use
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct LinkArgs {
    /// Mirrors, measured one after the other
    #[arg(value_name = "HOST[:PORT][/NAMESPACE]")]
    targets: Vec<String>,
    /// Measure sites of a sites file instead (docs/sites.md)
    #[arg(long, short, value_name = "FILE", help_heading = "Sites",
          conflicts_with_all = ["targets", "private_registry", "cluster", "cacert", "client_cert", "client_key", "bandwidth",
                                "api_path", "credential_file", "need_credential"])]
    config: Option<PathBuf>,
    #[command(flatten)]
    choice: SiteChoice,
    #[command(flatten)]
    terms: TermArgs,
    /// How long a push of this bundle would take now (repeatable)
    #[arg(long, value_name = "PATH")]
    bundle: Vec<PathBuf>,
    /// Keep what was found out of each mirror, so that the next run begins with it
    #[arg(long)]
    apply: bool,
    /// Write the figures here as JSON, for `bench compare` and `report html`
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a report here: a page for a browser where the name ends with .html, else JSON as --json (repeatable)
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    #[command(flatten)]
    mirrors: MirrorArgs,
    #[command(flatten)]
    cost: CostArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Measurement")]
struct TermArgs {
    /// Most bytes that may go over each link, both ways together [default: 1GiB]
    #[arg(long, value_name = "BYTES")]
    bytes: Option<ByteCount>,
    /// How long each link may be measured
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = parse_seconds)]
    seconds: Duration,
    /// Most bytes a second, as 20Mbit/s or 2MB/s
    #[arg(long, value_name = "RATE")]
    max_rate: Option<Rate>,
    /// Repository to use [default: layercast-bench below the namespace]
    #[arg(long, value_name = "NAME")]
    repository: Option<Repository>,
    /// Find out what the mirror keeps of a request that breaks off
    #[arg(long)]
    probe_resume: bool,
    /// Hold the best setting up for 30 seconds
    #[arg(long)]
    soak: bool,
}

impl TermArgs {
    /// What it may cost; may ask on the terminal for more than the usual.
    fn terms(&self) -> Result<LinkTerms, Failure> {
        let bytes = self.bytes.map_or(DEFAULT_BYTES, |bytes| bytes.0);
        if bytes < LEAST_BYTES {
            let text =
                format!("--bytes {}: at least {} are needed", ByteCount(bytes), ByteCount(LEAST_BYTES));
            return Err(Failure::usage(text));
        }
        if self.seconds < Duration::from_secs(1) {
            return Err(Failure::usage("--seconds: at least one second is needed"));
        }
        let soak = match (self.soak, self.bytes) {
            (false, _) => Soak::No,
            (true, None) if std::io::stdin().is_terminal() && asks_for_more()? => Soak::Whole,
            // A limit that was given is consent up to there, and no further.
            (true, _) => Soak::Within,
        };
        let time = if soak == Soak::No { self.seconds } else { self.seconds + Duration::from_secs(30) };
        Ok(LinkTerms {
            bytes,
            bytes_where_kept: self.bytes.map_or(BYTES_WHERE_KEPT, |bytes| bytes.0),
            time,
            repository: self.repository.clone(),
            probes_resume: self.probe_resume,
            soak,
            own_limit: self.max_rate.map(|rate| rate.0),
        })
    }
}

fn asks_for_more() -> Result<bool, Failure> {
    let question = format!(
        "30 seconds at full rate may take more than {}. Let it take as much as it needs? [y/N] ",
        ByteCount(DEFAULT_BYTES)
    );
    let answer = Output::ask(&question).map_err(|error| Failure::io("asking on the terminal", &error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

pub(in crate::cli) fn link(mut args: LinkArgs, output: &Output, interrupt: &Interrupt) -> Done {
    let terms = args.terms.terms()?;
    let json =
        args.json.take().map(|path| WholeFile::check("--json", path, Replaces::Reports)).transpose()?;
    let reports = report_file::check(&args.report)?;
    args.mirrors.add(std::mem::take(&mut args.targets));
    let runtime = runtime()?;
    let Prepared { mut mirrors, failed, opener, inputs } = prepare(&args, &runtime, output)?;
    if let Some(rate) = args.terms.max_rate {
        let limiter = Arc::new(BandwidthLimiter::new(rate));
        for mirror in &mut mirrors {
            mirror.client.bandwidth.push(Arc::clone(&limiter));
        }
    }
    if args.apply && !opener.state.is_kept() {
        return Err(Failure::usage("--apply keeps what was found out, and there is no state to keep it in")
            .hint("name a folder that this user may write: --state-dir DIR"));
    }
    let (started, began) = (clock::timestamp(), Instant::now());
    let lacking = lacking(&args, &runtime, inputs, &opener, &mirrors)?;
    interrupt.sending();
    let mut targets: Vec<LinkTarget> = failed;
    let mut is_interrupted = false;
    for (number, mirror) in mirrors.iter().enumerate() {
        if is_interrupted {
            break;
        }
        output.note(&format!(
            "{}: measuring for up to {} s with up to {}",
            mirror.name,
            terms.time.as_secs(),
            ByteCount(terms.bytes)
        ));
        let lacking = lacking.get(number).and_then(|lacking| lacking.as_ref().ok());
        let display = output.display();
        let listeners = display.listeners();
        let measuring = bench::measure(mirror, &terms, lacking, listeners, interrupt.token.clone());
        let (target, interrupted) = runtime.block_on(measuring);
        drop(display);
        is_interrupted |= interrupted;
        if args.apply && !interrupted && target.error.is_none() {
            let memory = Arc::clone(&opener.state) as Arc<dyn MirrorMemory>;
            runtime.block_on(bench::keep(mirror, &target, memory))?;
        }
        targets.push(target);
    }
    for (target, lacking) in targets.iter_mut().rev().zip(lacking.iter().rev()) {
        if let Err(failure) = lacking {
            target.notes.push(format!("how long the bundle takes is not known: {}", failure.message));
        }
    }
    let exits = targets.iter().filter_map(|target| target.error.as_ref()).map(|failure| failure.exit);
    let exit = if is_interrupted { Exit::Interrupted } else { common_exit(exits) };
    let document = LinkDocument {
        schema_version: SchemaVersion::One,
        layercast_version: env!("CARGO_PKG_VERSION").to_owned(),
        started: started.to_string(),
        elapsed_seconds: began.elapsed().as_secs_f64(),
        targets,
        exit_code: exit.code(),
    };
    // Connections that nobody needs are left to end by themselves.
    runtime.shutdown_background();
    if let Some(file) = json {
        file.write_json(&document)?;
    }
    for report in reports {
        report.write_links(&document)?;
    }
    Output::result(&link_text::show(&document))?;
    Ok(exit)
}

/// What is measured, and with what.
struct Prepared {
    mirrors: Vec<MirrorSettings>,
    /// Sites that cannot be asked.
    failed: Vec<LinkTarget>,
    opener: Opener,
    inputs: Vec<Input>,
}

fn prepare(args: &LinkArgs, runtime: &tokio::runtime::Runtime, output: &Output) -> Result<Prepared, Failure> {
    let inputs = if args.bundle.is_empty() { Vec::new() } else { bundle::inputs(args.bundle.clone())? };
    if let Some(chosen) = args.choice.read(args.config.as_deref(), output)? {
        let config = &chosen.config;
        let Made { mirrors, failed } =
            SiteMirrors::new(config, Access::PullPush, config.bandwidth, output).all(&chosen.sites);
        let failed = failed.into_iter().map(|(site, failure)| LinkTarget {
            name: site.name.clone(),
            place: site.target.to_string(),
            error: Some(failure),
            ..LinkTarget::default()
        });
        let opener = args.cost.over(config).opener()?;
        return Ok(Prepared { mirrors, failed: failed.collect(), opener, inputs });
    }
    let opener = args.cost.opener()?;
    let rules = Arc::new(Rules::default());
    let mirrors = args.mirrors.resolve(runtime, Access::PullPush, &rules, output).map_err(|failure| {
        let is_missing = failure.message == "no registry is given";
        if is_missing {
            failure.hint("name one: bench link HOST[:PORT][/NAMESPACE], or -c FILE")
        } else {
            failure
        }
    })?;
    Ok(Prepared { mirrors, failed: Vec::new(), opener, inputs })
}

/// What each mirror lacks of the bundles; nothing where none is named.
fn lacking(
    args: &LinkArgs,
    runtime: &tokio::runtime::Runtime,
    inputs: Vec<Input>,
    opener: &Opener,
    mirrors: &[MirrorSettings],
) -> Result<Vec<Result<LackingBytes, Failure>>, Failure> {
    if inputs.is_empty() {
        return Ok(Vec::new());
    }
    let bundles: Vec<String> = args.bundle.iter().map(|path| path.display().to_string()).collect();
    let asked = forecast::forecast(inputs, opener.clone(), mirrors.to_vec(), Accept::default());
    let (forecasts, _) = runtime.block_on(asked)?;
    let of = |forecast: Forecast| match forecast.error {
        Some(failure) => Err(failure),
        None => Ok(LackingBytes {
            bundles: bundles.clone(),
            bytes: forecast.bytes_to_send,
            blobs: forecast.images.iter().map(|image| image.missing_blobs as u64).sum(),
            is_exact: forecast.bytes_are_exact,
        }),
    };
    Ok(forecasts.into_iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: LinkArgs,
    }

    fn terms(words: &[&str]) -> Result<LinkTerms, Failure> {
        Line::try_parse_from([&["x"], words].concat()).unwrap().args.terms.terms()
    }

    #[test]
    fn a_limit_that_is_given_is_consent_and_without_a_terminal_the_usual_one_is_kept() {
        assert_eq!(terms(&["r"]).unwrap().bytes, DEFAULT_BYTES);
        assert_eq!(terms(&["r", "--bytes", "8MiB"]).unwrap().bytes, 8 << 20);
        assert!(terms(&["r", "--bytes", "1MiB"]).unwrap_err().message.contains("at least 4.0 MiB"));
        let soak = terms(&["r", "--soak", "--bytes", "8MiB"]).unwrap();
        assert_eq!((soak.soak, soak.time), (Soak::Within, Duration::from_secs(150)));
        assert!(terms(&["r", "--seconds", "0"]).is_err());
    }
}
