//! `config check` and `config show`: a sites file, without a word to any site.

use std::path::PathBuf;

use clap::Subcommand;
use jiff::Timestamp;

use super::Done;
use super::output::Output;
use crate::clock;
use crate::config::{self, Config, Site};
use crate::document::{Finding, Severity, nearest};
use crate::error::printable;
use crate::exit::Exit;
use crate::report::Failure;
use crate::schedule::{Opening, Outside};
use crate::units::count;

/// Sites that are named of those that wait for others.
const MAX_NAMED: usize = 3;

/// What to do with a sites file.
#[derive(Debug, Subcommand)]
pub(super) enum ConfigDo {
    /// List the mistakes in a sites file, each with its line; asks no site
    Check(ConfigCheckArgs),
    /// Show a sites file, as it is written or resolved
    Show(ConfigShowArgs),
}

/// The sites file.
#[derive(Debug, clap::Args)]
pub(super) struct FileArgs {
    /// Sites file (docs/sites.md)
    #[arg(long, short, value_name = "FILE", env = "LAYERCAST_CONFIG")]
    pub(super) config: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(super) struct ConfigCheckArgs {
    #[command(flatten)]
    file: FileArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ConfigShowArgs {
    #[command(flatten)]
    file: FileArgs,
    /// Every site with all that it inherits, as an equivalent sites file; without it, the file as it is written
    #[arg(long)]
    resolved: bool,
    /// Only this site, with --resolved (repeatable)
    #[arg(long, value_name = "NAME", requires = "resolved")]
    site: Vec<String>,
}

pub(super) fn run(what: &ConfigDo, output: &Output) -> Done {
    match what {
        ConfigDo::Check(args) => check(args, output),
        ConfigDo::Show(args) => show(args, output),
    }
}

impl FileArgs {
    /// Reads the file. Shows its warnings; refuses a file with an error.
    pub(super) fn read(&self, output: &Output) -> Result<Config, Failure> {
        let reading = self.reading()?;
        output.findings(&reading.findings);
        reading.config.ok_or_else(|| wrong(&self.config, &reading.findings))
    }

    fn reading(&self) -> Result<config::ParsedSitesFile, Failure> {
        config::read(&self.config).map_err(|error| {
            Failure::usage(error.to_string())
                .hint("name the sites file: -c FILE; config/examples/ has some to begin with")
        })
    }
}

fn wrong(path: &std::path::Path, findings: &[Finding]) -> Failure {
    let errors = findings.iter().filter(|finding| finding.severity == Severity::Error).count();
    let path = path.display();
    let what = if errors == 1 { "one fault is".to_owned() } else { format!("{errors} faults are") };
    Failure::usage(format!("{path}: {what} in the sites file"))
        .hint("correct what is named above; docs/sites.md has all keys")
}

fn check(args: &ConfigCheckArgs, output: &Output) -> Done {
    let mut reading = args.file.reading()?;
    reading.look(&args.file.config, &|name| std::env::var_os(name));
    if args.json {
        Output::document(&reading.findings)?;
        return Ok(if reading.config.is_some() { Exit::Complete } else { Exit::Usage });
    }
    output.findings(&reading.findings);
    let config = reading.config.take().ok_or_else(|| wrong(&args.file.config, &reading.findings))?;
    for bundle in &config.bundles {
        match bundle.files(clock::timestamp()) {
            Ok(files) => files.warnings.iter().chain(&files.passed_over).for_each(|it| output.warn(it)),
            // It may come before the run does.
            Err(error) => output.warn(&error.to_string()),
        }
    }
    let enabled = config.sites.iter().filter(|site| site.enabled).count();
    let others = match config.sites.len() - enabled {
        0 => String::new(),
        1 => " (1 more is not enabled)".to_owned(),
        more => format!(" ({more} more are not enabled)"),
    };
    let summary = format!(
        "{}: {} for {}{others}\n",
        printable(&args.file.config.display().to_string()),
        count(config.bundles.len() + config.sources.len(), "bundle"),
        count(enabled, "site"),
    );
    let windows: String = config.sites.iter().filter(|site| site.enabled).filter_map(opening).collect();
    let enabled: Vec<&Site> = config.sites.iter().filter(|site| site.enabled).collect();
    let held_up = held_up(&config, &enabled).map(|line| line + "\n").unwrap_or_default();
    output.summary(&format!("{summary}{windows}{held_up}"));
    Ok(Exit::Complete)
}

/// Whether the window of a site is open, if it has one.
fn opening(site: &Site) -> Option<String> {
    let window = site.window.as_ref()?;
    let (state, until) = match window.at(clock::timestamp()) {
        Opening::Open(until) => ("open", until),
        Opening::Closed(until) => ("closed", until),
    };
    let until = until.strftime("%Y-%m-%d %H:%M UTC");
    Some(format!("{}: its window ({window}) is {state} until {until}\n", site.name))
}

/// The sites that wait for their windows or are left for a later run, a line for each, and those that wait for these because
/// their waves come later.
pub(super) fn waiting<'s>(config: &Config, sites: impl IntoIterator<Item = &'s Site>) -> Vec<String> {
    let sites: Vec<&Site> = sites.into_iter().collect();
    let own = sites.iter().filter_map(|site| waits(site));
    own.chain(held_up(config, &sites)).collect()
}

/// That sites wait for an earlier wave, because a window of that is closed.
fn held_up(config: &Config, sites: &[&Site]) -> Option<String> {
    let first =
        sites.iter().filter(|site| waits_until(site).is_some()).map(|site| config.wave(site)).min()?;
    let of_first = || sites.iter().filter(|site| config.wave(site) == first);
    let (holding, until) =
        of_first().filter_map(|site| Some((site, waits_until(site)?))).max_by_key(|it| it.1)?;
    let later: Vec<&str> =
        sites.iter().filter(|site| config.wave(site) > first).map(|site| site.name.as_str()).collect();
    let (named, more) = later.split_at(later.len().min(MAX_NAMED));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    (!later.is_empty()).then(|| {
        format!(
            "{}{more}: wait until the wave of {} is done, whose window opens {}",
            named.join(", "),
            holding.name,
            until.strftime("%Y-%m-%d %H:%M UTC")
        )
    })
}

/// When the window opens for which a site waits, if it does.
fn waits_until(site: &Site) -> Option<Timestamp> {
    let window = site.window.as_ref().filter(|window| window.outside == Outside::Wait)?;
    match window.at(clock::timestamp()) {
        Opening::Open(_) => None,
        Opening::Closed(until) => Some(until),
    }
}

/// Until when a site is left for a later run, because its window is closed under `outside: stop`.
pub(super) fn left_until(site: &Site) -> Option<Timestamp> {
    let window = site.window.as_ref().filter(|window| window.outside == Outside::Stop)?;
    match window.at(clock::timestamp()) {
        Opening::Open(_) => None,
        Opening::Closed(until) => Some(until),
    }
}

/// That a site waits for its window, or is left for a later run, if that is so.
fn waits(site: &Site) -> Option<String> {
    let window = site.window.as_ref()?;
    let Opening::Closed(until) = window.at(clock::timestamp()) else { return None };
    let until = until.strftime("%Y-%m-%d %H:%M UTC");
    Some(match window.outside {
        Outside::Wait => format!("{}: waits for its window ({window}) until {until}", site.name),
        Outside::Stop => {
            format!(
                "{}: its window ({window}) is closed until {until}: the site is left for a later run",
                site.name
            )
        }
    })
}

fn show(args: &ConfigShowArgs, output: &Output) -> Done {
    let config = args.file.read(output)?;
    if !args.resolved {
        let path = &args.file.config;
        let text = crate::small_file::read_text(path, crate::document::MAX_BYTES);
        Output::result(&text.map_err(|error| Failure::io(path.display(), &error))?)?;
        return Ok(Exit::Complete);
    }
    let all: Vec<&Site> = config.sites.iter().collect();
    let chosen = if args.site.is_empty() {
        Ok(all)
    } else {
        args.site.iter().map(|name| named(&config, name)).collect()
    };
    if let Some(folder) = crate::state::folder_of_environment().filter(|_| config.state_dir.is_some()) {
        output.note(&format!(
            "LAYERCAST_STATE_DIR names {}, and counts more than `state_dir` of the file",
            folder.display()
        ));
    }
    Output::result(&config.shown(&chosen?))?;
    Ok(Exit::Complete)
}

/// Names for people: as many as a line holds.
pub(super) fn listed(names: &[&str]) -> String {
    const MOST: usize = 10;
    match names.len() {
        0..=MOST => names.join(", "),
        all => format!("{} and {} more", names[..MOST].join(", "), all - MOST),
    }
}

/// The site of a name.
pub(super) fn named<'c>(config: &'c Config, name: &str) -> Result<&'c Site, Failure> {
    config.sites.iter().find(|site| site.name == name).ok_or_else(|| {
        let names: Vec<&str> = config.sites.iter().map(|site| site.name.as_str()).collect();
        let failure = Failure::usage(format!("there is no site {} in the file", printable(name)));
        match nearest(name, &names) {
            Some(near) => failure.hint(format!("--site {near}")),
            None => failure.hint(format!("its sites are {}", listed(&names))),
        }
    })
}
