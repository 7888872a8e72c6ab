//! Flags about the sites file: which file, which of its sites, and which of its settings flags override.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use clap::Args;

use super::config::{self, FileArgs};
use super::output::Output;
use super::registry_source::{self, SourceRegistry};
use crate::bundle::{Accept, Input};
use crate::clock;
use crate::config::{BundleFiles, Candidate, Config, NoBundle, SETTLED_AFTER_SECONDS, Shard, Site};
use crate::document::nearest;
use crate::engine::ExpectedSum;
use crate::engine::fleet::PASSED_OVER_HINT;
use crate::error::{printable, system_words};
use crate::oci::Digest;
use crate::report::outcome::SiteFacts;
use crate::report::{Class, Failure};
use crate::small_file;

/// The index that Kubernetes gives a pod of an Indexed Job.
const INDEX: &str = "JOB_COMPLETION_INDEX";

/// The sites file and the choice of its sites.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sites")]
pub(super) struct SitesArgs {
    #[command(flatten)]
    file: FileArgs,
    #[command(flatten)]
    choice: SiteChoice,
}

/// A sites file instead of flags about mirrors and names.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sites")]
pub(super) struct OptionalSites {
    /// Take sites, and bundles unless --source names some, from a sites file (docs/sites.md)
    #[arg(long, short, value_name = "FILE", conflicts_with_all = REPLACED)]
    config: Option<PathBuf>,
    #[command(flatten)]
    choice: SiteChoice,
}

/// Flags whose settings have keys in the sites file.
const REPLACED: [&str; 26] = [
    "private_registry",
    "cluster",
    "cacert",
    "client_cert",
    "client_key",
    "threads",
    "bandwidth",
    "api_path",
    "patience",
    "need_credential",
    "no_registry_credential",
    "password",
    "password_stdin",
    "password_file",
    "password_command",
    "credential_file",
    "auth_realm",
    "upload_host",
    "include",
    "exclude",
    "accept",
    "rewrite",
    "keep_host",
    "repository",
    "name",
    "name_annotation",
];

/// Which sites of the file.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sites")]
pub(super) struct SiteChoice {
    /// Only this site, whatever `enabled` says of it (repeatable)
    #[arg(long, value_name = "NAME")]
    site: Vec<String>,
    /// Not this site (repeatable)
    #[arg(long, value_name = "NAME")]
    skip_site: Vec<String>,
    /// Only the sites of this group (repeatable)
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    /// Number of workers that share the sites out among themselves; each takes those of its own shard
    #[arg(long, value_name = "N", env = SHARDS, value_parser = shard_count)]
    shards: Option<u32>,
    /// Which of them this is, from 0 [default: the completion index of a Kubernetes Job, $JOB_COMPLETION_INDEX]
    #[arg(long, value_name = "I")]
    shard: Option<u32>,
}

const SHARDS: &str = "LAYERCAST_SHARDS";

/// A number of shards, wherever it stands.
fn shard_count(text: &str) -> Result<u32, String> {
    let from = if std::env::var(SHARDS).is_ok_and(|value| value == text) {
        format!("; it stands in the variable {SHARDS}")
    } else {
        String::new()
    };
    text.parse().map_err(|_| format!("it is no number{from}"))
}

/// A sites file, and those of its sites that are meant.
#[derive(Debug)]
pub(super) struct SelectedSites {
    pub(super) config: Config,
    pub(super) sites: Vec<Site>,
    pub(super) shard: Option<Shard>,
}

impl SelectedSites {
    /// Sites that are filled in other runs of the file. Those of other shards are told of elsewhere.
    pub(super) fn others(&self) -> HashSet<String> {
        let is_ours = |site: &&Site| self.shard.is_none_or(|shard| shard.has(&site.name));
        let enabled = self.config.sites.iter().filter(|site| site.enabled).filter(is_ours);
        let mut names: HashSet<String> = enabled.map(|site| site.name.clone()).collect();
        self.sites.iter().for_each(|site| {
            names.remove(&site.name);
        });
        names
    }
}

impl SitesArgs {
    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.file.config
    }

    /// The digest of its content, in hexadecimal.
    pub(super) fn digest(&self) -> Result<String, Failure> {
        let path = self.path();
        let text = small_file::read(path, crate::document::MAX_BYTES);
        let text =
            text.map_err(|error| Failure::usage(format!("{}: {}", path.display(), system_words(&error))))?;
        Ok(Digest::of(&text).hex())
    }

    /// The file and the sites of it that are meant, in its order.
    ///
    /// # Errors
    /// Something is wrong with the file, or a flag names what is not in it.
    pub(super) fn read(&self, output: &Output) -> Result<SelectedSites, Failure> {
        self.choice.choose(self.file.read(output)?, std::env::var(INDEX).ok().as_deref())
    }
}

impl OptionalSites {
    /// The file and the sites of it that are meant; none where no file is named.
    ///
    /// # Errors
    /// As [`SitesArgs::read`], or sites are chosen of no file.
    pub(super) fn read(&self, output: &Output) -> Result<Option<SelectedSites>, Failure> {
        self.choice.read(self.config.as_deref(), output)
    }
}

impl SiteChoice {
    /// The file and the sites of it that are meant; none where no file is named.
    ///
    /// # Errors
    /// As [`SitesArgs::read`], or sites are chosen of no file.
    pub(super) fn read(
        &self,
        config: Option<&Path>,
        output: &Output,
    ) -> Result<Option<SelectedSites>, Failure> {
        let Some(path) = config else {
            let Self { site, skip_site, group, shard, .. } = self;
            let given = [
                ("--site", !site.is_empty()),
                ("--skip-site", !skip_site.is_empty()),
                ("--group", !group.is_empty()),
                ("--shard", shard.is_some()),
            ];
            return match given.iter().find(|(_, given)| *given) {
                Some((flag, _)) => {
                    Err(Failure::usage(format!("{flag} chooses sites of a file")).hint("-c FILE"))
                }
                None => Ok(None),
            };
        };
        let config = FileArgs { config: path.to_owned() }.read(output)?;
        self.choose(config, std::env::var(INDEX).ok().as_deref()).map(Some)
    }

    fn choose(&self, config: Config, index: Option<&str>) -> Result<SelectedSites, Failure> {
        let shard = self.shard(index)?;
        for name in self.site.iter().chain(&self.skip_site) {
            config::named(&config, name)?;
        }
        let groups: Vec<&str> = config.groups.iter().map(|group| group.name.as_str()).collect();
        if let Some(name) = self.group.iter().find(|name| !groups.contains(&name.as_str())) {
            let failure = Failure::usage(format!("there is no group {} in the file", printable(name)));
            return Err(match nearest(name, &groups) {
                Some(near) => failure.hint(format!("--group {near}")),
                None if groups.is_empty() => failure.hint("it has no groups: choose sites with --site NAME"),
                None => failure.hint(format!("its groups are {}", config::listed(&groups))),
            });
        }
        let names: BTreeSet<&str> = self.site.iter().map(String::as_str).collect();
        let is_meant = |site: &&Site| {
            let named = names.contains(site.name.as_str());
            let in_group = site.groups.iter().any(|group| self.group.contains(group));
            let asked_for = if self.site.is_empty() && self.group.is_empty() {
                site.enabled
            } else {
                named || (in_group && site.enabled)
            };
            asked_for
                && !self.skip_site.contains(&site.name)
                && shard.is_none_or(|shard| shard.has(&site.name))
        };
        let sites: Vec<Site> = config.sites.iter().filter(is_meant).cloned().collect();
        Ok(SelectedSites { config, sites, shard })
    }

    /// # Errors
    /// There is no such worker, or it is not known which of several this is.
    fn shard(&self, index: Option<&str>) -> Result<Option<Shard>, Failure> {
        let usage = |text: String| Failure::usage(text);
        let (count, index) = match (self.shards, self.shard, index) {
            (None, None, None) => return Ok(None),
            (None, _, _) => {
                let given = if self.shard.is_some() { "--shard".to_owned() } else { format!("${INDEX}") };
                let failure = usage(format!("{given} says which shard this is, but not how many there are"));
                return Err(
                    failure.hint("--shards N, or LAYERCAST_SHARDS=N beside `completions: N` in the manifest")
                );
            }
            (Some(_), None, None) => {
                let failure = usage(
                    "--shards says how many shards there are, but not which of them this is".to_owned(),
                );
                return Err(failure.hint(format!("--shard I, from 0; a Kubernetes Indexed Job sets {INDEX}")));
            }
            (Some(count), Some(index), _) => (count, index),
            (Some(count), None, Some(text)) => {
                let index = text
                    .parse()
                    .map_err(|_| usage(format!("{INDEX} is {}, which is no number", printable(text))))?;
                (count, index)
            }
        };
        Shard::new(index, count).map(Some).map_err(usage)
    }
}

/// The present files of the bundles.
///
/// # Errors
/// A bundle is not there, or none of its files can be taken.
pub(super) fn files_of(config: &Config) -> Result<Vec<BundleFiles>, Failure> {
    let now = clock::timestamp();
    let files = config.bundles.iter().map(|bundle| bundle.files(now));
    files.collect::<Result<Vec<_>, _>>().map_err(|error| {
        let text = error.to_string();
        match error {
            NoBundle::Nothing { .. } => {
                Failure::usage(text).hint("correct `path` in the sites file, or put the bundle there")
            }
            NoBundle::Unreadable { .. } => {
                Failure::new(Class::Io, text).hint("let this user read the file and its folder")
            }
            NoBundle::Arriving { .. } => Failure::new(Class::Arriving, text).hint(format!(
                "run again when it has not changed for {SETTLED_AFTER_SECONDS} seconds; `sites check --without-bundles` needs \
                 no bundle; without `newest: true` a file is taken whatever its age"
            )),
            NoBundle::NoneUsable { .. } => Failure::new(Class::Changed, text)
                .hint("correct the .sha256 beside it, or remove that to have the bundle taken without a sum"),
        }
    })
}

/// What the bundles of a sites file are read from.
pub(super) struct BundleInputs {
    pub(super) inputs: Vec<Input>,
    /// The sums that files must have, where one beside them says so.
    pub(super) sums: Vec<ExpectedSum>,
    /// Newer files that could not be taken.
    passed_over: Vec<String>,
}

impl BundleInputs {
    /// Inputs that flags name: nothing was chosen.
    pub(super) fn named(inputs: Vec<Input>) -> Self {
        Self { inputs, sums: Vec::new(), passed_over: Vec::new() }
    }

    /// That what was read is not the newest; nothing where it is.
    pub(super) fn passed_over(&self) -> Option<Failure> {
        let first = self.passed_over.first()?;
        Some(Failure::new(Class::PassedOver, first.clone()).hint(PASSED_OVER_HINT))
    }
}

/// The sum that a file must have, where one beside it says so.
pub(super) fn expected_sum(file: &Candidate) -> Option<ExpectedSum> {
    Some(ExpectedSum { path: file.path.clone(), sum: file.sum? })
}

/// What bundles stand for now, for those who only ask: files, and what registries list. Warnings are said.
pub(super) fn inputs(config: &Config, output: &Output) -> Result<BundleInputs, Failure> {
    let mut found = BundleInputs::named(Vec::new());
    for files in files_of(config)? {
        files.warnings.iter().for_each(|warning| output.warn(warning));
        files.passed_over.iter().for_each(|warning| output.alarm(warning));
        found.passed_over.extend(files.passed_over);
        found.sums.extend(files.taken.iter().filter_map(expected_sum));
        found.inputs.extend(files.taken.into_iter().map(|file| Input::Path(file.path)));
    }
    if !config.sources.is_empty() {
        let sources = SourceRegistry::of_file(config, None, output)?;
        found.inputs.extend(registry_source::asked(&sources, &super::runtime()?, output)?);
    }
    Ok(found)
}

/// The deviations that the file accepts.
pub(super) fn accept(config: &Config) -> Accept {
    config.accept.iter().copied().collect()
}

/// Where a site stands in the run.
pub(super) fn facts(config: &Config, site: &Site) -> SiteFacts {
    SiteFacts {
        registry: site.target.to_string(),
        groups: site.groups.clone(),
        wave: u32::try_from(config.wave(site) + 1).unwrap_or(u32::MAX),
        window: site.window.as_ref().map(ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "version: 1
bundles: [{path: b.tar}]
defaults: {registry: r.example}
groups: {north: {threads: 1}, south: {threads: 2}}
sites:
- {name: a, namespace: a, groups: [north]}
- {name: b, namespace: b, groups: [south]}
- {name: c, namespace: c, groups: [north, south], enabled: false}
- {name: d, namespace: d}
";

    fn args(site: &[&str], skip: &[&str], group: &[&str]) -> SiteChoice {
        let all = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
        SiteChoice { site: all(site), skip_site: all(skip), group: all(group), shards: None, shard: None }
    }

    fn chosen(args: &SiteChoice, index: Option<&str>) -> Result<String, String> {
        let config = crate::config::parse(std::path::Path::new("f.yaml"), FILE).config.unwrap();
        let chosen = args.choose(config, index).map_err(|failure| failure.message)?;
        Ok(chosen.sites.iter().map(|site| site.name.as_str()).collect())
    }

    #[test]
    fn sites_are_chosen_by_name_and_by_group() {
        let all =
            |site: &[&str], skip: &[&str], group: &[&str]| chosen(&args(site, skip, group), None).unwrap();
        assert_eq!(all(&[], &[], &[]), "abd");
        assert_eq!(all(&["d", "a"], &[], &[]), "ad");
        assert_eq!(all(&["c"], &[], &[]), "c", "who names a site means it");
        assert_eq!(all(&[], &["a"], &[]), "bd");
        assert_eq!(all(&[], &[], &["north"]), "a");
        assert_eq!(all(&["d"], &["b"], &["south", "north"]), "ad");
        for wrong in [args(&["e"], &[], &[]), args(&[], &["e"], &[]), args(&[], &[], &["nord"])] {
            assert!(chosen(&wrong, None).unwrap_err().contains("there is no"));
        }
    }

    #[test]
    fn a_shard_must_be_one_of_a_known_number() {
        let of = |shards, shard, index| chosen(&SiteChoice { shards, shard, ..args(&[], &[], &[]) }, index);
        let parts: Vec<String> = (0..3).map(|shard| of(Some(3), Some(shard), None).unwrap()).collect();
        let mut together: Vec<char> = parts.concat().chars().collect();
        together.sort_unstable();
        assert_eq!(together, ['a', 'b', 'd']);
        assert_eq!(of(Some(3), None, Some("1")).unwrap(), parts[1]);
        assert_eq!(of(Some(3), Some(2), Some("1")).unwrap(), parts[2], "a flag counts more");
        for (shards, shard, index) in [
            (None, None, Some("0")),
            (None, Some(0), None),
            (Some(3), None, None),
            (Some(3), Some(3), None),
            (Some(3), None, Some("x")),
        ] {
            assert!(of(shards, shard, index).is_err(), "{shards:?} {shard:?} {index:?}");
        }
    }
}
