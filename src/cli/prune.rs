//! `prune` removes what layercast put on sites and no kept bundle has. `rollback` moves their tags back to an earlier bundle.

use std::fmt::Write as _;
use std::num::NonZeroUsize;

use super::bundle::CostArgs;
use super::interrupt::Interrupt;
use super::output::Output;
use super::site_settings::{Made, SiteMirrors};
use super::sites_file::{self, SelectedSites, SitesArgs};
use super::{Done, file_words};
use crate::bundle::Opener;
use crate::engine::MirrorSettings;
use crate::engine::fleet::{already_locked, no_lock};
use crate::engine::prune::{self, Choice, Judged, TagFate};
use crate::engine::rollback::{self, TagBack};
use crate::exit::Exit;
use crate::registry::Access;
use crate::report::document::{PruneDocument, PruneEntry, PruneSite, SchemaVersion};
use crate::report::{Class, Failure};
use crate::state::{LockError, MirrorEnd, MirrorResult, PlacedBundle, Placement, RunLock};
use crate::units::count;

/// Remove from sites what layercast itself put there and no kept bundle has
#[derive(Debug, clap::Args)]
pub(super) struct PruneArgs {
    #[command(flatten)]
    sites: SitesArgs,
    /// Complete bundles that stay, the last ones; those of the sites file stay in any case [default: `keep_bundles` of the site,
    /// else 3]
    #[arg(long, value_name = "N")]
    keep_bundles: Option<NonZeroUsize>,
    /// Remove what is shown without this
    #[arg(long)]
    yes: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    cost: CostArgs,
}

/// Move the tags of sites back to what an earlier bundle had, if all of it is still there
#[derive(Debug, clap::Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    sites: SitesArgs,
    /// The bundle, by its path or the name of its file
    #[arg(long, value_name = "BUNDLE")]
    to: String,
    /// Move the tags that are shown without this
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    cost: CostArgs,
}

/// The sites of a command, and the means to reach them.
struct Reached {
    runtime: tokio::runtime::Runtime,
    opener: Opener,
    mirrors: Vec<MirrorSettings>,
    selected: SelectedSites,
    /// Whoever changes something keeps other runs away meanwhile.
    _lock: Option<RunLock>,
}

fn reach(sites: &SitesArgs, cost: &CostArgs, acts: bool, output: &Output) -> Result<Reached, Failure> {
    let selected = sites.read(output)?;
    let cost = cost.over(&selected.config);
    let opener = cost.opener()?;
    if !opener.state.is_kept() {
        return Err(Failure::usage(
            "nothing is remembered here, so it is not known what layercast put on a site",
        )
        .hint("name the folder that runs use: --state-dir DIR, or `state_dir` in the sites file"));
    }
    let access = if acts { Access::PullPush } else { Access::Pull };
    let config = &selected.config;
    let Made { mirrors, failed } =
        SiteMirrors::new(config, access, config.bandwidth, output).all(&selected.sites);
    if let Some((site, failure)) = failed.into_iter().next() {
        let message = format!("{}: {}", site.name, failure.message);
        return Err(file_words::failure(Failure { message, ..failure }));
    }
    let places: Vec<String> = mirrors.iter().map(|mirror| mirror.target.lock_key()).collect();
    let lock = match acts.then(|| opener.state.lock(&places)).transpose() {
        Ok(lock) => lock.flatten(),
        Err(error @ LockError::Held { .. }) => return Err(already_locked(&error)),
        Err(error) => return Err(no_lock(&error)),
    };
    Ok(Reached { runtime: super::runtime()?, opener, mirrors, selected, _lock: lock })
}

pub(super) fn run(args: &PruneArgs, output: &Output, interrupt: &Interrupt) -> Done {
    let reached = reach(&args.sites, &args.cost, args.yes, output)?;
    let Reached { runtime, opener, mirrors, selected, .. } = &reached;
    let unknown = |failure: Failure| {
        let message =
            format!("{}; what the sites file still needs is not known, and nothing goes", failure.message);
        file_words::failure(Failure { message, ..failure })
    };
    let found = sites_file::inputs(&selected.config, output)?;
    if let Some(failure) = found.passed_over() {
        return Err(unknown(failure));
    }
    let accept = sites_file::accept(&selected.config);
    let configured = runtime
        .block_on(prune::configured(found.inputs, opener.clone(), mirrors, accept))
        .map_err(unknown)?;
    interrupt.sending();
    let mut sites = Vec::new();
    for (mirror, names) in mirrors.iter().zip(&configured) {
        let place = mirror.target.lock_key();
        let keep = args.keep_bundles(selected, &mirror.name);
        let chosen = prune::choose(&opener.state.bundles_of(&place), keep, names);
        let pruned =
            chosen.map_err(|why| Failure::usage(format!("nothing goes: {why}")).exit(Exit::Incomplete));
        let pruned = pruned.and_then(|choice| {
            let pruning = prune::prune(mirror.clone(), &choice, args.yes, &interrupt.token);
            runtime.block_on(pruning).map(|judged| (choice, judged))
        });
        if let Ok((_, judged)) = &pruned
            && args.yes
        {
            let gone = judged.iter().filter(|it| it.fate == TagFate::Gone).map(|it| it.tag.clone());
            opener.state.removed(&place, gone.collect());
        }
        sites.push(described(mirror, pruned));
    }
    opener.state.take_notes().iter().for_each(|note| output.note(note));
    let exits = sites.iter().map(|site: &PruneSite| match &site.error {
        Some(failure) => failure.exit,
        None if site.tags.iter().any(|tag| tag.fate == "failed") => Exit::Incomplete,
        None => Exit::Complete,
    });
    let exit = if interrupt.token.is_cancelled() {
        Exit::Interrupted
    } else {
        exits.max().unwrap_or(Exit::Complete)
    };
    if args.yes {
        let removed = |site: &PruneSite| {
            let gone = site.tags.iter().filter(|tag| tag.fate == "gone").count();
            let failed = site.tags.iter().filter(|tag| tag.fate == "failed").count();
            (site.name.clone(), tags_result(gone, gone + failed, site.error.is_none() && failed == 0))
        };
        let mut kept: Vec<usize> =
            mirrors.iter().map(|mirror| args.keep_bundles(selected, &mirror.name)).collect();
        kept.sort_unstable();
        kept.dedup();
        let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
        let bundles = if kept == ["1"] { "bundle" } else { "bundles" };
        let what = format!("all but the last {} {bundles} and those of the sites file", kept.join(" or "));
        opener.state.record_command("prune", &what, exit, sites.iter().map(removed).collect());
    }
    let document = PruneDocument {
        schema_version: SchemaVersion::One,
        removed: args.yes,
        sites,
        exit_code: exit.code(),
    };
    if args.json {
        Output::document(&document)?;
    } else {
        Output::result(&text(&document))?;
    }
    Ok(exit)
}

/// Bundles that stay unless somebody says otherwise.
const KEPT_BUNDLES: usize = 3;

impl PruneArgs {
    /// How many bundles stay on a site.
    fn keep_bundles(&self, selected: &SelectedSites, site: &str) -> usize {
        let written = || selected.sites.iter().find(|it| it.name == site)?.keep_bundles;
        self.keep_bundles.or_else(written).map_or(KEPT_BUNDLES, NonZeroUsize::get)
    }
}

fn described(mirror: &MirrorSettings, pruned: Result<(Choice, Vec<Judged>), Failure>) -> PruneSite {
    let name = mirror.name.clone();
    let (choice, judged) = match pruned {
        Ok(pruned) => pruned,
        Err(failure) => {
            return PruneSite { name, kept: Vec::new(), tags: Vec::new(), error: Some(failure) };
        }
    };
    let tags = judged.into_iter().map(|Judged { tag, fate }| {
        let (fate, why) = match fate {
            TagFate::Goes => ("goes", None),
            TagFate::TagGoes(named) => ("tag-goes", Some(format!("{named} names its digest too"))),
            TagFate::Gone => ("gone", None),
            TagFate::Stays(why) => ("stays", Some(why)),
            TagFate::Failed(why) => ("failed", Some(why)),
        };
        PruneEntry { place: tag.to_string(), digest: tag.digest, fate: fate.to_owned(), why }
    });
    PruneSite { name, kept: choice.kept, tags: tags.collect(), error: None }
}

fn text(document: &PruneDocument) -> String {
    let mut text = String::new();
    let mut waiting = 0;
    for PruneSite { name, kept, tags, error } in &document.sites {
        if let Some(failure) = error {
            let hint = failure.hint.as_ref().map(|hint| format!("; next: {hint}")).unwrap_or_default();
            let _ = writeln!(text, "{name}: {}{hint}", failure.message);
            continue;
        }
        let _ = writeln!(text, "{name}: kept: {}", kept.join(", "));
        for PruneEntry { place, digest, fate, why } in tags {
            let word = match fate.as_str() {
                "goes" => "goes",
                "tag-goes" => "goes where tags go alone",
                "gone" => "gone",
                "failed" => "not removed",
                _ => "stays",
            };
            waiting += usize::from(matches!(fate.as_str(), "goes" | "tag-goes"));
            let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            let _ = writeln!(text, "  {word}  {place} {digest}{why}");
        }
        if tags.is_empty() {
            let _ = writeln!(text, "  nothing that layercast put there is without a kept bundle");
        }
    }
    if waiting > 0 {
        let _ = writeln!(text, "{} would go; next: the same with --yes", count(waiting, "tag"));
    }
    text
}

pub(super) fn run_rollback(args: &RollbackArgs, output: &Output) -> Done {
    let reached = reach(&args.sites, &args.cost, args.yes, output)?;
    let (mut exit, mut text, mut results) = (Exit::Complete, String::new(), Vec::new());
    for mirror in &reached.mirrors {
        let bundles = reached.opener.state.bundles_of(&mirror.target.lock_key());
        let moved = bundle_of(&bundles, &args.to).and_then(|bundle| {
            let moving = rollback::rollback(mirror.clone(), bundle, args.yes);
            reached.runtime.block_on(moving).map(|back| (bundle, back))
        });
        let name = &mirror.name;
        match moved {
            Ok((bundle, back)) => {
                let tags = count(back.len(), "tag");
                results.push((name.clone(), tags_result(back.len(), back.len(), true)));
                let word = if args.yes { "moved back to" } else { "would go back to" };
                let _ = writeln!(text, "{name}: {tags} {word} {}", bundle.path);
                for TagBack { tag, from } in back {
                    let from = from.map_or_else(|| "nothing".to_owned(), |from| from.to_string());
                    let _ = writeln!(text, "  {tag} {from} → {}", tag.digest);
                }
                if args.yes {
                    let PlacedBundle { path, tags, .. } = bundle.clone();
                    // Its files are known already.
                    let placement = Placement { path, files: Vec::new(), complete: true, tags };
                    reached.opener.state.placed(mirror.target.lock_key(), placement);
                }
            }
            Err(failure) => {
                exit = exit.max(failure.exit);
                results.push((name.clone(), tags_result(0, 0, false)));
                output.failed(&Failure { message: format!("{name}: {}", failure.message), ..failure });
            }
        }
    }
    reached.opener.state.take_notes().iter().for_each(|note| output.note(note));
    if args.yes {
        reached.opener.state.record_command("rollback", &args.to, exit, results);
    }
    Output::result(&text)?;
    if args.yes && exit == Exit::Complete {
        output.note(AFTER_ROLLBACK);
    }
    Ok(exit)
}

/// What the history says of a site: so many tags of so many.
fn tags_result(done: usize, of: usize, is_complete: bool) -> MirrorResult {
    let end = if is_complete { MirrorEnd::Complete } else { MirrorEnd::Incomplete };
    let (images, images_complete) = (of as u64, done as u64);
    MirrorResult { end: Some(end), images, images_complete, ..MirrorResult::default() }
}

/// What to know after a rollback.
const AFTER_ROLLBACK: &str = "the next `sync` with this file moves these tags forward again, unless `bundles` names the earlier \
                              bundle, or the site is not enabled, by then";

/// The bundle of this name that a site was given last.
fn bundle_of<'b>(bundles: &'b [PlacedBundle], name: &str) -> Result<&'b PlacedBundle, Failure> {
    let is_named = |bundle: &&PlacedBundle| {
        bundle.path == name || bundle.path.rsplit('/').next().is_some_and(|file| file == name)
    };
    let Some(bundle) = bundles.iter().find(is_named) else {
        let known: Vec<&str> = bundles.iter().map(|bundle| bundle.path.as_str()).collect();
        return Err(Failure::usage(format!("{name} is no bundle that it was given")).hint(format!(
            "it was given {}",
            if known.is_empty() { "none".to_owned() } else { known.join(", ") }
        )));
    };
    if !bundle.complete {
        return Err(Failure::usage(format!("{name} was never complete there")).hint("name another bundle"));
    }
    if !bundle.whole {
        let message =
            format!("{name} is not whole there any more: tags of it were removed. No tag was moved");
        return Err(Failure::new(Class::Missing, message).hint("push that bundle again"));
    }
    Ok(bundle)
}
