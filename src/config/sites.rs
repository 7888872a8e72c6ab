//! The resolved file: sites with all of their settings, and the settings of the run.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::bundles::BundlePath;
use super::registry_source::RegistrySource;
use super::values::IfRunning;
use crate::bundle::Acceptable;
use crate::compress::Method;
use crate::engine::Verification;
use crate::hook::notify::Notify;
use crate::plan::Rules;
use crate::registry::Target;
use crate::schedule::Window;
use crate::units::Rate;

/// What a sites file says.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub bundles: Vec<BundlePath>,
    /// Registries whose images are bundles too. They come after the files.
    pub sources: Vec<SourceSettings>,
    pub stage: Option<StageSettings>,
    pub state_dir: Option<PathBuf>,
    pub spool_dir: Option<PathBuf>,
    pub spool_limit_bytes: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub parallel_sites: NonZeroUsize,
    pub deadline: Option<Duration>,
    /// Of the run.
    pub bandwidth: Option<Rate>,
    pub metrics: MetricsSettings,
    pub layer_compression: Method,
    pub accept: Vec<Acceptable>,
    pub if_running: IfRunning,
    pub waves: Vec<Wave>,
    pub max_failed_sites: Option<NonZeroUsize>,
    pub notify: Option<Notify>,
    pub kept_runs: KeptRuns,
    pub groups: Vec<Group>,
    /// In the order of the file, those that are not enabled among them.
    pub sites: Vec<Site>,
}

/// What is kept for sites that come later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StageSettings {
    pub dir: PathBuf,
    pub limit_bytes: Option<u64>,
    /// Whose bundles the file keeps there, unless that is the path of the file.
    pub owner: Option<String>,
}

/// Where figures for Prometheus go.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MetricsSettings {
    pub textfile: Option<PathBuf>,
    pub listen: Option<SocketAddr>,
}

/// How long past runs are remembered, as far as the file says it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KeptRuns {
    pub runs: Option<u32>,
    pub days: Option<u32>,
}

/// Names of sites and groups that come before others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wave(pub Vec<String>);

/// A group of sites.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    pub name: String,
    /// Of all its sites together.
    pub shared_bandwidth: Option<Rate>,
}

/// A site with all that holds for it.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub name: String,
    /// In the order in which they are inherited from.
    pub groups: Vec<String>,
    pub enabled: bool,
    pub target: Target,
    pub credentials: SiteCredentials,
    pub auth_realms: Vec<String>,
    pub upload_hosts: Vec<String>,
    pub ca_file: Option<PathBuf>,
    pub client_certificate: Option<ClientCertificateFiles>,
    /// Sites that say the same share them.
    pub rules: Arc<Rules>,
    pub threads: Option<NonZeroUsize>,
    pub retries: Option<u32>,
    pub patience: Option<Duration>,
    pub bandwidth: Option<Rate>,
    pub window: Option<Window>,
    pub atomic_tags: bool,
    pub care: SiteCare,
    pub gate: Option<Gate>,
    /// A command of the shell.
    pub on_missing_repository: Option<String>,
    /// Complete bundles that `prune` leaves, the last ones.
    pub keep_bundles: Option<NonZeroUsize>,
}

/// A registry whose images are a bundle, with how it is asked.
#[derive(Debug, Clone)]
pub(crate) struct SourceSettings {
    pub(crate) source: RegistrySource,
    /// It is talked to as a site is.
    pub(crate) registry: Site,
}

/// How far the word of a site is trusted, and whether what it has may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SiteCare {
    pub no_overwrite: bool,
    pub recheck: bool,
    pub verify: Verification,
}

/// What judges images before their tags move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gate {
    /// A command of the shell.
    pub command: String,
    /// How long it may take for an image.
    pub timeout: Duration,
}

/// Where a client certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClientCertificateFiles {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Where the credentials of a site are. Never a secret itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SiteCredentials {
    /// In the usual files of docker and podman.
    Usual,
    /// The site wants none.
    Anonymous,
    /// In a docker config.json.
    DockerConfig(PathBuf),
    /// A user, and where the password is.
    User { name: String, password: PasswordSource },
    /// The program docker-credential-NAME has them.
    Helper(String),
}

/// Where a password is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum PasswordSource {
    /// The first line of a file.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
    /// The first line of what a command of the shell writes.
    Command(String),
}

impl Config {
    /// The place of a site's wave in the order, from 0. Sites of no wave come last.
    pub(crate) fn wave(&self, site: &Site) -> usize {
        let is_in = |wave: &Wave| wave.0.iter().any(|name| *name == site.name || site.groups.contains(name));
        self.waves.iter().position(is_in).unwrap_or(self.waves.len())
    }

    /// Variables of the environment that hold passwords: no hook is to have them.
    pub(crate) fn secret_variables(&self) -> Vec<String> {
        let variable = |site: &Site| match &site.credentials {
            SiteCredentials::User { password: PasswordSource::Variable(name), .. } => Some(name.clone()),
            _ => None,
        };
        let mut names: Vec<String> = self.registries().filter_map(variable).collect();
        names.sort();
        names.dedup();
        names
    }

    /// All that it talks to: sites, and the sources of bundles.
    fn registries(&self) -> impl Iterator<Item = &Site> {
        self.sites.iter().chain(self.sources.iter().map(|source| &source.registry))
    }

    /// The key of a command in the file: who may write the file may run what he likes as whoever reads it.
    pub(super) fn command(&self) -> Option<&'static str> {
        let of_site = |site: &Site| {
            let by_command = matches!(
                &site.credentials,
                SiteCredentials::User { password: PasswordSource::Command(_), .. }
            );
            [
                ("gate", site.gate.is_some()),
                ("on_missing_repository", site.on_missing_repository.is_some()),
                ("command", by_command),
            ]
            .into_iter()
            .find_map(|(key, given)| given.then_some(key))
        };
        self.notify.as_ref().map(|_| "notify").or_else(|| self.registries().find_map(of_site))
    }
}
