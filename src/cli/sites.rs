//! `sites check`: checks the day before a run whether every site could be filled.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use futures_util::{StreamExt as _, stream};

use super::atomic_file::{Replaces, WholeFile};
use super::bundle::CostArgs;
use super::output::Output;
use super::site_settings::{Made, SiteMirrors};
use super::sites_file::{self, SelectedSites, SitesArgs};
use super::{Done, file_words};
use crate::archive::Image;
use crate::bundle::{Bundle, Opener, free_bytes};
use crate::config::{Config, Site, StageSettings};
use crate::decode::StructureKind;
use crate::engine::{MirrorSettings, check_sums, forecast, preflight};
use crate::error::{printable, system_words};
use crate::exit::Exit;
use crate::oci::Repository;
use crate::registry::Access;
use crate::report::document::{Aspect, CheckEntry, CheckState, SchemaVersion, SiteCheck, SitesDocument};
use crate::report::outcome::common_exit;
use crate::report::{Class, Failure};
use crate::stage::{Stage, StageError};
use crate::units::{ByteCount, count};

/// Repositories that are named of those that are missing; JSON has all.
const MAX_NAMED: usize = 5;

/// What to do with sites.
#[derive(Debug, Subcommand)]
pub(super) enum SitesDo {
    /// Look the day before whether every site could be filled: the way there, TLS, login, the right to push, repositories,
    /// clocks and disks. Nothing is sent
    Check(Box<SitesCheckArgs>),
}

#[derive(Debug, clap::Args)]
pub(super) struct SitesCheckArgs {
    #[command(flatten)]
    sites: SitesArgs,
    /// Do not read the bundles: repositories, the right to push and the room that is needed stay unknown
    #[arg(long)]
    without_bundles: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cost: CostArgs,
}

pub(super) fn run(what: &SitesDo, output: &Output) -> Done {
    let SitesDo::Check(args) = what;
    let SelectedSites { config, sites, .. } = args.sites.read(output)?;
    let cost = args.cost.over(&config);
    // A spool folder that is not there is one of the things to be told.
    let opener = cost.opener_on(0)?;
    let runtime = super::runtime()?;
    let Made { mirrors, failed } =
        SiteMirrors::new(&config, Access::PullPush, config.bandwidth, output).all(&sites);
    let none = || mirrors.iter().map(|_| Vec::new()).collect();
    let mut passed_over = None;
    let planned = if args.without_bundles {
        Ok((none(), None))
    } else {
        let accept = sites_file::accept(&config);
        sites_file::inputs(&config, output).and_then(|found| {
            passed_over = found.passed_over();
            check_sums(&found.sums, &opener)?;
            let planned = forecast::repositories(found.inputs, opener.clone(), &mirrors, accept);
            let (repositories, bundle) = runtime.block_on(planned)?;
            Ok((repositories, Some(bundle)))
        })
    };
    // Without a bundle there is still the way to the sites to look at.
    let (repositories, bundle, unread) = match planned {
        Ok((repositories, bundle)) => (repositories, bundle, None),
        Err(failure) => {
            (none(), None, Some(CheckEntry::failed(Aspect::Bundle, file_words::failure(failure))))
        }
    };
    let looked = runtime.block_on(look(mirrors, repositories, config.parallel_sites.get()));
    let mut checks: Vec<SiteCheck> = looked.into_iter().chain(failed.into_iter().map(not_asked)).collect();
    for check in &mut checks {
        let site = sites.iter().find(|site| site.name == check.name);
        check.place = site.map(|site| site.target.to_string()).unwrap_or_default();
    }
    for check in checks.iter_mut().flat_map(|site| &mut site.checks) {
        check.message = file_words::text(&check.message).into_owned();
        check.hint = check.hint.as_deref().map(|hint| file_words::text(hint).into_owned());
    }
    checks.sort_by_key(|check| sites.iter().position(|site| site.name == check.name));
    let state = cost.state_folder().map(|folder| state_folder(&folder));
    let disks = disks(&config, &opener, bundle.as_deref());
    let metrics = config.metrics.textfile.clone().and_then(metrics_file);
    let passed_over = passed_over.map(|failure| CheckEntry::failed(Aspect::Bundle, failure));
    let machine: Vec<CheckEntry> =
        unread.into_iter().chain(passed_over).chain(state).chain(metrics).chain(disks).collect();
    let exit = exit(&checks, &machine);
    let document =
        SitesDocument { schema_version: SchemaVersion::One, machine, sites: checks, exit_code: exit.code() };
    if args.json {
        Output::document(&document)?;
    } else {
        Output::result(&text(&document))?;
    }
    Ok(exit)
}

async fn look(
    mirrors: Vec<MirrorSettings>,
    repositories: Vec<Vec<Repository>>,
    at_once: usize,
) -> Vec<SiteCheck> {
    let looks = mirrors.into_iter().zip(repositories).map(|(mirror, repositories)| async move {
        let name = mirror.name.clone();
        SiteCheck { name, place: String::new(), checks: preflight::look(mirror, &repositories).await }
    });
    stream::iter(looks).buffered(at_once).collect().await
}

/// A site whose own settings keep it from being asked.
fn not_asked((site, failure): (&Site, Failure)) -> SiteCheck {
    let what = if failure.class == Class::Auth { Aspect::Login } else { Aspect::Settings };
    SiteCheck {
        name: site.name.clone(),
        place: String::new(),
        checks: vec![CheckEntry::failed(what, failure)],
    }
}

/// Checks that the metrics of a run could be written; otherwise a run would warn.
fn metrics_file(path: PathBuf) -> Option<CheckEntry> {
    let failure = WholeFile::check("metrics.textfile", path, Replaces::Metrics).err()?;
    Some(CheckEntry { state: CheckState::Warning, class: None, ..CheckEntry::failed(Aspect::Disk, failure) })
}

/// Checks that runs can be remembered and sites locked. A run goes on without either.
fn state_folder(folder: &Path) -> CheckEntry {
    let shown = folder.display();
    let (state, message, hint) = match crate::state::probe(folder) {
        Ok(()) => (CheckState::Good, format!("state {shown}: runs are remembered, and sites locked"), None),
        Err(error) => (
            CheckState::Warning,
            format!("state {shown}: {}: no run is remembered, and no site locked", system_words(&error)),
            Some("let this user write there, or name another folder: state_dir, or --state-dir".to_owned()),
        ),
    };
    CheckEntry { what: Aspect::Disk, state, message, class: None, hint, repositories: Vec::new() }
}

/// Whether there is room for what does not fit into memory, and for the stage.
fn disks(config: &Config, opener: &Opener, bundle: Option<&Bundle>) -> Vec<CheckEntry> {
    let spool = opener.resources.spool_folder.as_path();
    let decoded = bundle.map(|bundle| {
        let structures = bundle.parts.iter().filter_map(|part| part.structure.as_ref());
        let spooled = structures.filter(|structure| structure.kind == StructureKind::Spool);
        spooled.filter_map(|structure| structure.decoded_bytes).sum::<u64>()
    });
    let known = bundle.is_some_and(|bundle| bundle.parts.iter().all(|part| part.structure.is_some()));
    let spool_entry = room(spool, spool, "spool", decoded.filter(|_| known));
    std::iter::once(spool_entry).chain(config.stage.as_ref().map(|stage| stage_room(stage, bundle))).collect()
}

/// Whether the stage has room. Where it has too little the run goes on without it, so that is a warning.
fn stage_room(StageSettings { dir, limit_bytes, .. }: &StageSettings, bundle: Option<&Bundle>) -> CheckEntry {
    match Stage::probe(dir) {
        Ok(()) => {}
        Err(error @ StageError::Unusable { .. }) => {
            let failure = Failure::usage(format!("stage {error}: the run would go on without it"));
            let entry = CheckEntry::failed(Aspect::Disk, failure);
            return CheckEntry { state: CheckState::Warning, class: None, ..entry };
        }
        // A run refuses it.
        Err(error) => {
            let failure = Failure::usage(format!("stage {error}"));
            return CheckEntry::failed(
                Aspect::Disk,
                failure.hint("name an empty folder, or one that is not there yet: stage: {dir: …}"),
            );
        }
    }
    let needed = bundle.map(|bundle| stage_bytes(bundle).min(limit_bytes.unwrap_or(u64::MAX)));
    let needed = needed.map(|needed| needed.saturating_sub(Stage::bytes_in(dir)));
    // A run makes it, below what is there.
    let whole = std::path::absolute(dir).unwrap_or_else(|_| dir.clone());
    let there = whole.ancestors().find(|folder| folder.is_dir()).unwrap_or(&whole);
    let entry = room(dir, there, "stage", needed);
    if entry.state != CheckState::Failed {
        return entry;
    }
    let message = format!("{}: what finds no room is not kept", entry.message);
    CheckEntry { state: CheckState::Warning, message, ..entry }
}

/// The most that a stage takes for a bundle: what compressing saves is not known yet.
fn stage_bytes(bundle: &Bundle) -> u64 {
    let catalog = &bundle.catalog;
    let layers = catalog.images.iter().flat_map(Image::unpacked_layers);
    let layers: HashMap<_, _> = layers.map(|layer| (layer.diff_id, layer.size)).collect();
    layers.values().sum::<u64>() + catalog.blobs.values().map(|blob| blob.size).sum::<u64>()
}

/// The room of a folder, which is that of another one where it is not there yet.
fn room(folder: &Path, there: &Path, what: &str, needed: Option<u64>) -> CheckEntry {
    let (free, shown) = (free_bytes(there), folder.display());
    let key = if what == "spool" { "spool_dir" } else { "stage: {dir: …}" };
    if !there.is_dir() {
        let failure = Failure::usage(format!("{what} {shown}: there is no such folder"));
        return CheckEntry::failed(
            Aspect::Disk,
            failure.hint(format!("make it (mkdir -p {shown}), or name another one: {key}")),
        );
    }
    let has = format!("{what} {shown}: {} free", ByteCount(free));
    let message = match needed {
        None => format!("{has}; what is needed is not known"),
        Some(0) => format!("{has}, nothing needed"),
        Some(needed) => format!("{has}, {} needed", ByteCount(needed)),
    };
    if needed.is_some_and(|needed| needed > free) {
        let failure = Failure::new(Class::NoSpace, message);
        return CheckEntry::failed(
            Aspect::Disk,
            failure.hint(format!("make room, or name another folder: {key}")),
        );
    }
    CheckEntry {
        what: Aspect::Disk,
        state: CheckState::Good,
        message,
        class: None,
        hint: None,
        repositories: Vec::new(),
    }
}

/// The exit code that a run would end with, as far as it can be known.
fn exit(sites: &[SiteCheck], machine: &[CheckEntry]) -> Exit {
    let first_failed =
        |checks: &[CheckEntry]| checks.iter().find(|check| check.state == CheckState::Failed)?.class;
    // What is wrong with this machine or the bundle is wrong for every site.
    if let Some(class) = first_failed(machine) {
        return class.exit();
    }
    common_exit(sites.iter().filter_map(|site| first_failed(&site.checks)).map(Class::exit))
}

fn text(document: &SitesDocument) -> String {
    let mut out = String::new();
    let width = document.sites.iter().map(|site| site.name.chars().count()).max().unwrap_or(0);
    for site in &document.sites {
        let _ = writeln!(out, "{}  {:width$}  {}", word(site.state()), site.name, site.place);
        site.checks.iter().for_each(|check| line(check, &mut out));
    }
    for check in &document.machine {
        let _ = writeln!(out, "{}  {}", word(check.state), printable(&check.message));
        next(check, &mut out);
    }
    let _ = writeln!(out, "{}", conclusion(document));
    out
}

/// How many could be filled.
fn conclusion(document: &SitesDocument) -> String {
    let all = count(document.sites.len(), "site");
    let failed = document.sites.iter().filter(|site| site.state() == CheckState::Failed).count();
    let machine: Vec<&str> = document
        .machine
        .iter()
        .filter(|check| check.state == CheckState::Failed)
        .map(|check| if check.what == Aspect::Bundle { "the bundles" } else { "this machine" })
        .collect();
    match (machine.first(), failed) {
        (Some(what), 0) => format!("{all}: none could be filled now, because of {what}"),
        (Some(what), failed) => {
            format!(
                "{all}: none could be filled now, because of {what}; {failed} also for a reason of its own"
            )
        }
        (None, 0) => format!("{all}: all could be filled now"),
        (None, failed) => format!("{all}: {failed} could not be filled now"),
    }
}

/// Of what is good one line is enough, and of what is not there is more to say.
fn line(check: &CheckEntry, out: &mut String) {
    let _ = writeln!(out, "  {}  {}: {}", word(check.state), check.what.name(), printable(&check.message));
    for repository in check.repositories.iter().take(MAX_NAMED) {
        let _ = writeln!(out, "          {repository}");
    }
    next(check, out);
}

fn next(check: &CheckEntry, out: &mut String) {
    if let Some(hint) = &check.hint {
        let _ = writeln!(out, "          next: {}", printable(hint));
    }
}

const fn word(state: CheckState) -> &'static str {
    match state {
        CheckState::Good => "ok    ",
        CheckState::Warning => "warn  ",
        CheckState::Failed => "FAILED",
    }
}
