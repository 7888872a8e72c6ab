//! `sites check`: could every site be filled now? Asked the day before.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;

use clap::Subcommand;
use futures_util::{StreamExt as _, stream};

use super::Done;
use super::bundle::CostArgs;
use super::output::Output;
use super::site_mirror::{Made, SiteMirrors};
use super::sites_file::{self, Chosen, SitesArgs};
use crate::archive::Image;
use crate::bundle::{Bundle, Opener, free_bytes};
use crate::config::{Config, Site};
use crate::decode::StructureKind;
use crate::engine::{MirrorSettings, forecast, readiness};
use crate::error::printable;
use crate::exit::Exit;
use crate::oci::Repository;
use crate::registry::Access;
use crate::report::document::{Aspect, CheckEntry, CheckState, SchemaVersion, SiteCheck, SitesDocument};
use crate::report::{Class, Failure};
use crate::stage::Stage;
use crate::units::ByteCount;

/// Repositories that are named of those that are missing; JSON has all.
const MAX_NAMED: usize = 5;

/// What to do with sites.
#[derive(Debug, Subcommand)]
pub(super) enum SitesDo {
    /// Look the day before whether every site could be filled: the way there, TLS, login, the right to push, repositories,
    /// clocks and disks. Nothing is sent
    #[command(arg_required_else_help = true)]
    Check(Box<CheckArgs>),
}

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
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
    let Chosen { config, sites, .. } = args.sites.read(output)?;
    let cost = args.cost.over(&config);
    let opener = cost.opener()?;
    let runtime = super::runtime()?;
    let Made { mirrors, failed } =
        SiteMirrors::new(&config, Access::PullPush, config.bandwidth, output).all(&sites);
    let (repositories, bundle) = if args.without_bundles {
        (mirrors.iter().map(|_| Vec::new()).collect(), None)
    } else {
        let inputs = sites_file::inputs(&config, output)?;
        let accept = sites_file::accept(&config);
        let planned = forecast::repositories(inputs, opener.clone(), &mirrors, accept);
        let (repositories, bundle) = runtime.block_on(planned)?;
        (repositories, Some(bundle))
    };
    let looked = runtime.block_on(look(mirrors, repositories, config.parallel_sites.get()));
    let mut checks: Vec<SiteCheck> = looked.into_iter().chain(failed.into_iter().map(not_asked)).collect();
    for check in &mut checks {
        let site = sites.iter().find(|site| site.name == check.name);
        check.place = site.map(|site| site.target.to_string()).unwrap_or_default();
    }
    checks.sort_by_key(|check| sites.iter().position(|site| site.name == check.name));
    let machine = disks(&config, &opener, bundle.as_deref());
    let exit = exit(&checks, &machine);
    let document =
        SitesDocument { schema_version: SchemaVersion::One, machine, sites: checks, exit_code: exit.code() };
    if args.json {
        Output::document(&document)?;
    } else {
        Output::result(&text(&document));
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
        SiteCheck { name, place: String::new(), checks: readiness::look(mirror, &repositories).await }
    });
    stream::iter(looks).buffered(at_once).collect().await
}

/// A site whose own settings keep it from being asked.
fn not_asked((site, Failure { class, message, hint, .. }): (&Site, Failure)) -> SiteCheck {
    let what = if class == Class::Auth { Aspect::Login } else { Aspect::Settings };
    let entry = CheckEntry {
        what,
        state: CheckState::Failed,
        message,
        class: Some(class),
        hint,
        repositories: Vec::new(),
    };
    SiteCheck { name: site.name.clone(), place: String::new(), checks: vec![entry] }
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
    let spool_entry = room(spool, "spool", decoded.filter(|_| known));
    let stage = config.stage.as_ref().map(|stage| {
        let needed = bundle.map(|bundle| stage_bytes(bundle).min(stage.limit_bytes.unwrap_or(u64::MAX)));
        let held = Stage::bytes_in(&stage.dir);
        // It is made in the folder above when a run needs it.
        let made_in = stage.dir.parent().filter(|_| !stage.dir.exists()).unwrap_or(&stage.dir);
        room(made_in, "stage", needed.map(|needed| needed.saturating_sub(held)))
    });
    std::iter::once(spool_entry).chain(stage).collect()
}

/// The most that a stage takes for a bundle: what compressing saves is not known yet.
fn stage_bytes(bundle: &Bundle) -> u64 {
    let catalog = &bundle.catalog;
    let layers = catalog.images.iter().flat_map(Image::unpacked_layers);
    let layers: HashMap<_, _> = layers.map(|layer| (layer.diff_id, layer.size)).collect();
    layers.values().sum::<u64>() + catalog.blobs.values().map(|blob| blob.size).sum::<u64>()
}

fn room(folder: &Path, what: &str, needed: Option<u64>) -> CheckEntry {
    let (free, shown) = (free_bytes(folder), folder.display());
    let has = format!("{what} {shown}: {} free", ByteCount(free));
    let (state, message) = match needed {
        _ if !folder.is_dir() => (CheckState::Failed, format!("{what} {shown}: there is no such folder")),
        None => (CheckState::Good, format!("{has}; what is needed is not known")),
        Some(0) => (CheckState::Good, format!("{has}, nothing needed")),
        Some(needed) if needed <= free => (CheckState::Good, format!("{has}, {} needed", ByteCount(needed))),
        Some(needed) => (CheckState::Failed, format!("{has}, {} needed", ByteCount(needed))),
    };
    let is_bad = state == CheckState::Failed;
    let hint = format!(
        "make room, or name another folder: {what}{}",
        if what == "spool" { "_dir" } else { ": {dir: …}" }
    );
    CheckEntry {
        what: Aspect::Disk,
        state,
        message,
        class: is_bad.then_some(Class::NoSpace),
        hint: is_bad.then_some(hint),
        repositories: Vec::new(),
    }
}

/// What a run would end with, as far as it can be seen.
fn exit(sites: &[SiteCheck], machine: &[CheckEntry]) -> Exit {
    if machine.iter().any(|entry| entry.state == CheckState::Failed) {
        return Exit::Internal;
    }
    let failed: Vec<Exit> = sites
        .iter()
        .filter_map(|site| site.checks.iter().find(|check| check.state == CheckState::Failed)?.class)
        .map(Class::exit)
        .collect();
    match failed.as_slice() {
        [] => Exit::Complete,
        [first, rest @ ..] if rest.iter().all(|exit| exit == first) => *first,
        _ => Exit::Incomplete,
    }
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
    let failed = document.sites.iter().filter(|site| site.state() == CheckState::Failed).count();
    let _ = writeln!(out, "{} sites, {failed} of which could not be filled now", document.sites.len());
    out
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
