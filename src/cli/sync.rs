//! `sync`: brings the sites of a file up to date with its bundles.

mod bundles;
mod time_limit;

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;

use self::time_limit::TimeLimit;
use super::bundle::CostArgs;
use super::conclusion::RunReporter;
use super::config;
use super::interrupt::Interrupt;
use super::metrics::MetricsArgs;
use super::notify::Notifier;
use super::output::Output;
use super::site_settings::SiteMirrors;
use super::sites_file::{SelectedSites, SitesArgs, accept, facts};
use super::stage::StageArgs;
use super::{Done, file_words, lock, plan, report_file};
use crate::clock::Instant;
use crate::config::{Config, IfRunning, Shard, Site, Wave};
use crate::engine::RunSettings;
use crate::engine::fleet::{
    self, Fleet, FleetBundles, FleetResult, FleetRun, FleetSchedule, IfBusy, LockedMirrors,
};
use crate::exit::Exit;
use crate::hook::gate::EarlierVerdicts;
use crate::program;
use crate::registry::Access;
use crate::report::document::{SchemaVersion, ShardEntry, SyncRun};
use crate::report::outcome::exit_of_sites;
use crate::report::{Document, Failure, Outcome};
use crate::stage::Stage;
use crate::state::{LockError, Retention};
use crate::units::{Rate, parse_duration};

/// Bring the sites of a file up to date: what cron, a timer or a Kubernetes CronJob calls
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    sites: SitesArgs,
    /// Only show what would be done, as `plan -c FILE` does
    #[arg(long, help_heading = "Run")]
    dry_run: bool,
    /// What to do with a site that another run is pushing to [default: skip]
    #[arg(long, value_enum, value_name = "WHAT", help_heading = "Run")]
    if_running: Option<IfRunning>,
    /// The most sites that are filled at the same time [default: 20]
    #[arg(long, value_name = "N", help_heading = "Run")]
    parallel_sites: Option<NonZeroUsize>,
    /// End the run after this time, whatever is left to do (exit 3), as 90m or 6h
    #[arg(long, value_name = "TIME", value_parser = parse_duration, help_heading = "Run")]
    deadline: Option<Duration>,
    /// Bandwidth limit for all sites together, as 200Mbit/s or 20MB/s
    #[arg(long, value_name = "RATE", env = "LAYERCAST_BANDWIDTH", help_heading = "Run")]
    bandwidth: Option<Rate>,
    /// Ask gates again about images that they have judged before
    #[arg(long, help_heading = "Run")]
    regate: bool,
    /// Write a report of the run here: JSON, or a page for a browser if the name ends with .html (repeatable)
    #[arg(long, value_name = "FILE", help_heading = "Run")]
    report: Vec<PathBuf>,
    /// Identifier of the run that all its shards share: `report merge` joins no others
    #[arg(long, value_name = "ID", env = "LAYERCAST_RUN", help_heading = "Run")]
    run: Option<String>,
    #[command(flatten)]
    metrics: MetricsArgs,
    #[command(flatten)]
    cost: CostArgs,
    #[command(flatten)]
    stage: StageArgs,
}

pub(super) fn run(args: &Args, output: &Output, interrupt: Interrupt) -> Done {
    let chosen = args.sites.read(output)?;
    if args.dry_run {
        return plan::sites(&chosen, &args.cost, output);
    }
    let config = &chosen.config;
    let metrics = args.metrics.or(config.metrics.textfile.clone(), config.metrics.listen);
    let metrics = metrics.writing(|path| of_shard(path, chosen.shard));
    let sources = config.sources.iter().map(|it| it.source.name.clone());
    let mut document =
        Document::begin(config.bundles.iter().map(ToString::to_string).chain(sources).collect());
    document.schema_version = SchemaVersion::Two;
    let secret_variables = config.secret_variables();
    let notifier = config.notify.clone().map(|notify| Notifier::without(notify, secret_variables));
    let (config_sha256, shard) = (args.sites.digest()?, chosen.shard);
    document.sync = Some(SyncRun {
        config: args.sites.path().display().to_string(),
        config_sha256,
        run: args.run.clone(),
        shard: shard.map(|shard| ShardEntry { index: shard.index(), count: shard.count() }),
        ..SyncRun::default()
    });
    let report = report_file::check(&args.report)?;
    let mut begun = RunReporter::now(report, metrics.begin(output)?, notifier, interrupt);
    if let Some(exposition) = &mut begun.exposition {
        exposition.keep(chosen.others());
    }
    // From here on a signal ends the run well: the report and the notification are still to be written.
    begun.interrupt.sending();
    document.notes.extend(begun.exposition.iter_mut().flat_map(|it| std::mem::take(&mut it.troubles)));
    let done = sync(args, &chosen, output, &mut document, &mut begun).map_err(file_words::failure);
    file_words::document(&mut document);
    begun.unmatched.iter_mut().for_each(|flag| *flag = file_words::text(flag).into_owned());
    if let Err(failure) = &done {
        let is_named = |site: &&Site| {
            let deferred = document.deferred.iter().map(|deferred| &deferred.name);
            deferred
                .chain(document.mirrors.iter().map(|outcome| &outcome.name))
                .any(|name| *name == site.name)
        };
        let others = chosen.sites.iter().filter(|site| !is_named(site));
        let others = others.map(|site| (site.name.as_str(), config::left_until(site)));
        let (deferred, failed) = fleet::not_reached(others, failure);
        document.deferred.extend(deferred);
        document.mirrors.extend(failed);
    }
    let place = |outcome: &Outcome| chosen.sites.iter().position(|site| site.name == outcome.name);
    document.mirrors.sort_by_key(place);
    for outcome in &mut document.mirrors {
        let site = chosen.sites.iter().find(|site| site.name == outcome.name);
        outcome.site = site.map(|site| facts(config, site));
    }
    begun.end(document, done, accept(config), output)
}

/// The file of one shard: each writes its own.
fn of_shard(path: &Path, shard: Option<Shard>) -> PathBuf {
    let Some(shard) = shard else { return path.to_owned() };
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let ending = path.extension().map(|ending| format!(".{}", ending.to_string_lossy())).unwrap_or_default();
    path.with_file_name(format!("{stem}-{}{ending}", shard.index()))
}

fn sync(
    args: &Args,
    chosen: &SelectedSites,
    output: &Output,
    document: &mut Document,
    begun: &mut RunReporter,
) -> Done {
    let SelectedSites { config, sites, shard } = chosen;
    if sites.is_empty() {
        let of_shard = shard.map(|shard| format!(" for shard {shard}")).unwrap_or_default();
        output.note(&format!("there is nothing to do{of_shard}: no site of the file is selected"));
        return Ok(Exit::Complete);
    }
    // From here on everything counts: locks that are waited for, and each bundle that is tried.
    let ends = args.deadline.or(config.deadline).and_then(|after| Instant::now().checked_add(after));
    ends.inspect(|ends| program::answer_by(*ends));
    let cost = args.cost.over(config);
    if args.if_running.is_some() && cost.wants_no_state() {
        return Err(Failure::usage("--if-running needs locks, and --no-state takes none")
            .hint("leave one of the two away (LAYERCAST_NO_STATE says --no-state too)"));
    }
    let opener = cost.opener()?;
    let names: Vec<String> = sites.iter().map(|site| site.name.clone()).collect();
    begun.exposition.iter().for_each(|exposition| exposition.expect(&opener, &names));
    let runtime = super::runtime()?;
    let if_running = args.if_running.unwrap_or(config.if_running);
    let cancel = begun.interrupt.token.clone();
    let limit = TimeLimit { runtime: &runtime, cancel: &cancel, ends };
    // The first question waits until the state is open.
    limit.keep("its state was opened", {
        let state = Arc::clone(&opener.state);
        move || state.is_kept()
    })?;
    begun.remember(&opener.state, retention(config), output);
    let places: Vec<(String, String)> =
        sites.iter().map(|site| (site.name.clone(), site.target.lock_key())).collect();
    let waits = |name: &str, error: &LockError| {
        output.note(&format!("{name}: waits until that run is done: {error}"));
    };
    let locking = fleet::lock_each(&places, &opener.state, if_busy(if_running), limit.is_over(), waits);
    let LockedMirrors { free, locks: _locks, deferred, failed, unlocked } = runtime.block_on(locking);
    let sites: Vec<&Site> = free.into_iter().map(|at| &sites[at]).collect();
    limit.check_signal()?;
    (document.deferred, document.mirrors) = (deferred, failed);
    if let Some(failure) = unlocked.or_else(|| lock::unlocked_from_the_start(&opener.state, &cost)) {
        if let Some(if_running) = args.if_running {
            let value = if_running.to_possible_value();
            let word = value.as_ref().map_or("", |value| value.get_name());
            let message = format!("--if-running {word}: {}", failure.message);
            return Err(Failure { message, ..failure });
        }
        document.notes.push(lock::warn(&failure, output));
    }
    if sites.is_empty() {
        return Ok(exit_of_sites(&document.mirrors));
    }
    let bundles = bundles::find(config, output, document)?;
    let opener = opener.with_stage(args.stage(config, &bundles, &limit, &mut document.notes, output)?);
    let bandwidth = args.bandwidth.or(config.bandwidth);
    let bundles = bundles.with_pulled(bundles::pull(config, &opener, bandwidth, &limit, output)?.inputs());
    let maker = SiteMirrors::new(config, Access::PullPush, bandwidth, output);
    let made = maker.making_repositories(cancel.clone()).all(sites);
    limit.check_signal()?;
    document.mirrors.extend(
        made.failed.into_iter().map(|(site, failure)| Outcome::not_begun(site.name.clone(), failure)),
    );
    let mut fleet = Fleet::new(FleetRun {
        bundles,
        opener: opener.clone(),
        mirrors: made.mirrors,
        schedule: args.schedule(config, &chosen.sites, document.mirrors.len(), ends),
        settings: settings(config, args.regate),
        cancel: cancel.clone(),
    });
    for line in config::waiting(config, chosen.sites.iter().filter(|site| fleet.feeds(&site.name))) {
        output.note(&line);
    }
    let display = output.display();
    let mut listeners = display.listeners();
    listeners.add(begun.recorder());
    if let Some(exposition) = &mut begun.exposition {
        exposition.follow(&runtime, &mut listeners, output);
        document.notes.append(&mut exposition.troubles);
    }
    runtime.block_on(fleet.push(&listeners));
    while let Some(warning) = fleet.replace_wrong() {
        output.alarm(&warning);
        runtime.block_on(fleet.push(&listeners));
    }
    let result = fleet.end();
    drop(display);
    // Threads that still wait for a part or a disk are left to end by themselves.
    runtime.shutdown_background();
    let exit = record(result, document, begun);
    document.decode = opener.decoded();
    document.compress = opener.compressed();
    document.utilisation = Some(opener.utilisation(begun.elapsed(), &document.mirrors));
    document.stage = opener.staged();
    exit
}

/// Puts what became of a fleet into the report, and gives the exit code.
fn record(result: FleetResult, document: &mut Document, begun: &mut RunReporter) -> Done {
    let FleetResult { outcomes, deferred, pushed, replacements, passed_over, images, met, run, ended } =
        result;
    document.mirrors.extend(outcomes);
    document.deferred.extend(deferred);
    document.images = images;
    document.left_out = met.left_out;
    document.notes.extend(replacements.into_iter().chain(met.notes));
    begun.unmatched = met.unmatched;
    begun.began(run);
    let exit = ended.map(|exit| fleet::exit(exit, &document.mirrors, passed_over.is_empty()));
    if let Some((sources, _)) = &pushed {
        document.sources.clone_from(sources);
    }
    if let Some(sync) = &mut document.sync {
        sync.bundles = pushed.map(|(_, entries)| entries).unwrap_or_default();
        sync.passed_over = passed_over;
    }
    exit
}

/// What the run does with a site that another run is pushing to.
fn if_busy(if_running: IfRunning) -> IfBusy {
    match if_running {
        IfRunning::Skip => IfBusy::Skip,
        IfRunning::Wait => IfBusy::Wait,
        IfRunning::Fail => IfBusy::Fail,
    }
}

/// How many days runs are remembered, unless the file says otherwise.
const KEPT_DAYS: u32 = 400;

/// Which runs are remembered.
fn retention(config: &Config) -> Retention {
    let kept = Retention::default();
    let days = config.kept_runs.days.unwrap_or(KEPT_DAYS);
    Retention { runs: config.kept_runs.runs.unwrap_or(kept.runs), days: Some(days) }
}

fn settings(config: &Config, regate: bool) -> RunSettings {
    RunSettings {
        layer_compression: config.layer_compression,
        allow_damaged: false,
        connect_early: false,
        accept: accept(config),
        earlier_verdicts: if regate { EarlierVerdicts::Ignored } else { EarlierVerdicts::Count },
        retention: retention(config),
    }
}

impl Args {
    /// The stage that the flags or the file name.
    fn stage(
        &self,
        config: &Config,
        bundles: &FleetBundles,
        limit: &TimeLimit<'_>,
        notes: &mut Vec<String>,
        output: &Output,
    ) -> Result<Option<Stage>, Failure> {
        let written = config.stage.as_ref();
        let dir = written.map(|stage| stage.dir.as_path());
        let stage = self.stage.over(dir, written.and_then(|stage| stage.limit_bytes));
        // Shards and later runs must find that they are the same. Links are not resolved: a mounted ConfigMap is a link to a
        // folder with another name after each change.
        let file = self.sites.path();
        let path = || std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string();
        let owner = written.and_then(|stage| stage.owner.clone()).unwrap_or_else(path);
        stage.open(bundles.paths(), Some(owner), notes, output, |open| {
            limit.keep("its stage was opened", open)
        })
    }

    /// In which order sites are filled, how many at once, and when that ends.
    fn schedule(
        &self,
        config: &Config,
        sites: &[Site],
        failed_before: usize,
        ends: Option<Instant>,
    ) -> FleetSchedule {
        let is_in = |site: &&Site, wave: &Wave| {
            wave.0.contains(&site.name) || site.groups.iter().any(|group| wave.0.contains(group))
        };
        let members = |wave: &Wave| {
            let members = sites.iter().filter(|site| is_in(site, wave));
            members.map(|site| site.name.clone()).collect()
        };
        FleetSchedule {
            parallel: Some(self.parallel_sites.unwrap_or(config.parallel_sites)),
            waves: config.waves.iter().map(members).collect(),
            max_failures: config.max_failed_sites,
            failed_before,
            deadline: ends,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shard_writes_metrics_of_its_own() {
        let shard = |index| Some(Shard::new(index, 4).unwrap());
        let path = Path::new("/m/layercast.prom");
        assert_eq!(of_shard(path, None), path);
        assert_eq!(of_shard(path, shard(3)), Path::new("/m/layercast-3.prom"));
        assert_eq!(of_shard(Path::new("layercast"), shard(0)), Path::new("layercast-0"));
    }
}
