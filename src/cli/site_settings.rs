//! Makes a mirror of a run from a site of the file: reads its certificates, and its credentials from where the file says. A
//! mistake in one site does not stop the others.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use futures_util::FutureExt as _;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::credentials::{WhoWeAre, secret_in, secret_of};
use super::output::Output;
use crate::config::{Config, PasswordSource, Site, SiteCredentials};
use crate::engine::{Care, MirrorSettings};
use crate::hook::Hook;
use crate::locks::Mutex;
use crate::registry::credentials::{self, FoundCredential};
use crate::registry::{
    Access, BandwidthLimiter, ClientOptions, Credential, CredentialSource, RepositoryMaker, Scheme,
};
use crate::report::{Class, Failure};
use crate::tls::{Authorities, ClientCertificate};
use crate::units::Rate;

/// How long making a repository may take.
const MAKING_LIMIT: Duration = Duration::from_secs(300);

/// Places of credentials that are looked at at the same time: programs that are asked cost a process each.
const PLACES_AT_ONCE: usize = 32;

/// Makes mirrors of sites. What many sites name is read once.
pub(super) struct SiteMirrors<'a> {
    options: ClientOptions,
    output: &'a Output,
    authorities: HashMap<PathBuf, Authorities>,
    /// The credentials that were found in the places that sites name.
    found: HashMap<CredentialPlace, Found>,
    /// Of all sites of a group together.
    of_groups: HashMap<String, Arc<BandwidthLimiter>>,
    /// Variables that hooks do not get.
    secret_variables: Vec<String>,
    /// Of all sites together.
    of_run: Option<Arc<BandwidthLimiter>>,
    /// Ends what makes repositories; none where nothing may be changed.
    cancel: Option<CancellationToken>,
}

/// The mirrors that were made of sites, and the failures of others.
pub(super) struct Made<'s> {
    pub(super) mirrors: Vec<MirrorSettings>,
    pub(super) failed: Vec<(&'s Site, Failure)>,
}

impl<'a> SiteMirrors<'a> {
    /// For sites of a file; `bandwidth` is that of the run.
    pub(super) fn new(config: &Config, access: Access, bandwidth: Option<Rate>, output: &'a Output) -> Self {
        let limiter = |rate| Arc::new(BandwidthLimiter::new(rate));
        let groups = config.groups.iter();
        Self {
            options: ClientOptions { access, ..ClientOptions::default() },
            output,
            authorities: HashMap::new(),
            found: HashMap::new(),
            of_groups: groups
                .filter_map(|group| Some((group.name.clone(), limiter(group.shared_bandwidth?))))
                .collect(),
            secret_variables: config.secret_variables(),
            of_run: bandwidth.map(limiter),
            cancel: None,
        }
    }

    /// The same, and repositories that are missing are made, as far as sites say how.
    #[must_use]
    pub(super) fn making_repositories(self, cancel: CancellationToken) -> Self {
        Self { cancel: Some(cancel), ..self }
    }

    /// The mirrors of those of these sites that have no mistakes.
    pub(super) fn all<'s>(mut self, sites: impl IntoIterator<Item = &'s Site>) -> Made<'s> {
        let sites: Vec<&Site> = sites.into_iter().collect();
        self.found = at_once(sites.iter().filter_map(|site| CredentialPlace::of(site)), self.cancel.as_ref());
        let mut made = Made { mirrors: Vec::new(), failed: Vec::new() };
        for site in sites {
            match self.mirror(site) {
                Ok(mirror) => made.mirrors.push(mirror),
                Err(failure) => made.failed.push((site, failure)),
            }
        }
        made
    }

    /// The mirror of a site.
    ///
    /// # Errors
    /// A file that the site names cannot be used, or its credentials are not where they should be.
    fn mirror(&mut self, site: &Site) -> Result<MirrorSettings, Failure> {
        let mut client = self.options.clone();
        client.auth_realms.clone_from(&site.auth_realms);
        client.upload_hosts.clone_from(&site.upload_hosts);
        if let Some(retries) = site.retries {
            client.retry.attempts = retries.saturating_add(1);
        }
        if let Some(patience) = site.patience {
            client.retry.connect_patience = patience;
        }
        // All faults of a site are told, and not only the first.
        let mut faults = Vec::new();
        if let Some(path) = &site.ca_file {
            match self.authorities(path) {
                Ok(authorities) => client.authorities.push(authorities),
                Err(failure) => faults.push(of_key("ca_file", failure)),
            }
        }
        if let Some(files) = &site.client_certificate {
            match ClientCertificate::read(&files.certificate, &files.key) {
                Ok(certificate) => client.client_certificates.push(certificate),
                Err(bad) => faults.push(of_key("client_cert", bad.into())),
            }
        }
        // In the file plain HTTP must be written, also for this machine.
        let is_stated = site.target.endpoint.scheme() != Scheme::Unstated;
        client.must_speak_tls = !is_stated || site.ca_file.is_some() || site.client_certificate.is_some();
        client.bandwidth = self.limiters(site);
        let WhoWeAre { credential, below } = match self.who_we_are(site) {
            Ok(found) => found,
            Err(failure) => {
                faults.push(failure);
                WhoWeAre::default()
            }
        };
        if let Some(failure) = together(faults) {
            return Err(failure);
        }
        (client.credential, client.credentials_below) = (credential, below);
        client.repositories = self.repositories(site).map(Arc::new);
        Ok(MirrorSettings {
            name: site.name.clone(),
            target: site.target.clone(),
            rules: Arc::clone(&site.rules),
            client,
            threads: site.threads,
            atomic_tags: site.atomic_tags,
            care: Care {
                recheck: site.care.recheck,
                no_overwrite: site.care.no_overwrite,
                verification: site.care.verify,
            },
            window: site.window.clone(),
            gate: site.gate.as_ref().map(|gate| Hook {
                command: gate.command.clone(),
                limit: gate.timeout,
                without: self.secret_variables.clone(),
            }),
            is_new: false,
        })
    }

    /// What makes the repositories of a site that are missing.
    fn repositories(&self, site: &Site) -> Option<RepositoryMaker> {
        let (command, cancel) = (site.on_missing_repository.clone()?, self.cancel.clone()?);
        let hook = Hook { command, limit: MAKING_LIMIT, without: self.secret_variables.clone() };
        let (name, host) = (site.name.clone(), site.target.endpoint.authority());
        Some(RepositoryMaker::new(move |repository| {
            let (hook, cancel) = (hook.clone(), cancel.clone());
            let variables = vec![
                ("LAYERCAST_SITE", name.clone()),
                ("LAYERCAST_REGISTRY", host.clone()),
                ("LAYERCAST_REPOSITORY", repository.to_string()),
            ];
            async move { hook.call(variables, &cancel).await }.boxed()
        }))
    }

    /// All limiters that bodies of a site pass.
    fn limiters(&self, site: &Site) -> Vec<Arc<BandwidthLimiter>> {
        let own = site.bandwidth.map(|rate| Arc::new(BandwidthLimiter::new(rate)));
        let of_groups = site.groups.iter().filter_map(|group| self.of_groups.get(group).cloned());
        own.into_iter().chain(of_groups).chain(self.of_run.clone()).collect()
    }

    fn authorities(&mut self, path: &Path) -> Result<Authorities, Failure> {
        if let Some(known) = self.authorities.get(path) {
            return Ok(known.clone());
        }
        let read = super::mirror_args::authorities(path, self.output)?;
        self.authorities.insert(path.to_owned(), read.clone());
        Ok(read)
    }

    fn who_we_are(&self, site: &Site) -> Result<WhoWeAre, Failure> {
        let host = site.target.to_string();
        let place = CredentialPlace::of(site);
        let found = match (&site.credentials, place.and_then(|place| self.found.get(&place))) {
            (SiteCredentials::User { name, password }, Some(Found::Password(found))) => {
                return Ok(WhoWeAre::from(user(name, password, found.clone()?)));
            }
            (_, Some(Found::OfHelper(found))) => return found.clone().map(WhoWeAre::from),
            (_, Some(Found::InFiles(found))) => found.as_ref().map_err(Clone::clone)?,
            _ => return Ok(WhoWeAre::default()),
        };
        for trouble in &found.troubles {
            self.output.warn(&format!("{}: {trouble}", site.name));
        }
        match (&site.credentials, &found.credential) {
            // A registry may want none; one that does says so.
            (SiteCredentials::DockerConfig(path), None)
                if found.troubles.is_empty() && found.below.is_empty() =>
            {
                let near = match found.near.as_slice() {
                    [] => String::new(),
                    near => format!(" (there is one for {})", near.join(", ")),
                };
                self.output.warn(&format!(
                    "{}: {} has no credentials for {host}{near}",
                    site.name,
                    path.display()
                ));
            }
            _ => {}
        }
        Ok(WhoWeAre { credential: found.credential.clone(), below: found.below.clone() })
    }
}

/// Where credentials are, each with the registry that is looked for there. Sites that name the same place share what is found.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum CredentialPlace {
    Password(PasswordSource),
    Helper { name: String, host: String },
    DockerConfig { path: PathBuf, host: String },
    Usual { host: String },
}

/// The result of looking at a place.
enum Found {
    Password(Result<SecretString, Failure>),
    OfHelper(Result<Credential, Failure>),
    InFiles(Result<FoundCredential, Failure>),
}

impl CredentialPlace {
    fn of(site: &Site) -> Option<Self> {
        let host = || site.target.to_string();
        Some(match &site.credentials {
            SiteCredentials::Anonymous => return None,
            SiteCredentials::User { password, .. } => Self::Password(password.clone()),
            SiteCredentials::Helper(name) => Self::Helper { name: name.clone(), host: host() },
            SiteCredentials::DockerConfig(path) => Self::DockerConfig { path: path.clone(), host: host() },
            SiteCredentials::Usual => Self::Usual { host: host() },
        })
    }

    /// Looks there. Blocks, as a program may have to be asked.
    fn look(&self) -> Found {
        match self {
            Self::Password(source) => Found::Password(password(source)),
            Self::Helper { name, host } => Found::OfHelper(of_helper(name, host)),
            Self::DockerConfig { path, host } => {
                Found::InFiles(credentials::from_file(path, host).map_err(Failure::from))
            }
            Self::Usual { host } => Found::InFiles(Ok(credentials::find(host))),
        }
    }
}

/// Looks up credentials in all of these places, many at once, so that one slow program delays few others. Ends early when the run
/// is interrupted.
fn at_once(
    places: impl Iterator<Item = CredentialPlace>,
    cancel: Option<&CancellationToken>,
) -> HashMap<CredentialPlace, Found> {
    let places: HashSet<CredentialPlace> = places.collect();
    let looking = places.len().min(PLACES_AT_ONCE);
    let (left, found) = (Mutex::new(places.into_iter()), Mutex::new(HashMap::new()));
    let next = || left.lock().next().filter(|_| cancel.is_none_or(|cancel| !cancel.is_cancelled()));
    thread::scope(|scope| {
        for _ in 0..looking {
            scope.spawn(|| {
                while let Some(place) = next() {
                    let there = place.look();
                    found.lock().insert(place, there);
                }
            });
        }
    });
    found.into_inner()
}

fn of_helper(helper: &str, host: &str) -> Result<Credential, Failure> {
    let found = credentials::from_helper(helper, host).map_err(|why| {
        Failure::new(Class::Auth, why).hint(format!(
            "ask it by hand: echo {host} | docker-credential-{helper} get; cron and systemd have a PATH of their own"
        ))
    })?;
    found.ok_or_else(|| {
        Failure::new(Class::Auth, format!("docker-credential-{helper} has nothing for {host}"))
            .hint(format!("log in with docker or podman as the user of the run: docker login {host}"))
    })
}

/// A user with the password that was found; a registry that refuses it has it read again.
fn user(name: &str, source: &PasswordSource, found: SecretString) -> Credential {
    let words = match source {
        PasswordSource::File(path) => path.display().to_string(),
        PasswordSource::Variable(variable) => format!("${variable}"),
        PasswordSource::Command(command) => command.clone(),
    };
    let origin = if matches!(source, PasswordSource::Variable(_)) {
        CredentialSource::fixed(words)
    } else {
        let (name, source, from) = (name.to_owned(), source.clone(), words.clone());
        let read = move || {
            let password = password(&source).ok()?;
            Some(Credential::password(name.clone(), password, CredentialSource::fixed(from.clone())))
        };
        CredentialSource::again(words, Arc::new(read))
    };
    Credential::password(name, found, origin)
}

/// A failure of what a key of the file names.
fn of_key(key: &str, failure: Failure) -> Failure {
    Failure { message: format!("{key}: {}", failure.message), ..failure }
}

/// All faults of a site as one: its class is theirs where they have one in common.
fn together(faults: Vec<Failure>) -> Option<Failure> {
    let all = faults.len();
    let join = |parts: Vec<&str>| parts.join("; ");
    let message = join(faults.iter().map(|fault| fault.message.as_str()).collect());
    let mut hints: Vec<&str> = faults.iter().filter_map(|fault| fault.hint.as_deref()).collect();
    hints.dedup();
    let (hint, class) = (join(hints), faults.first()?.class);
    if all == 1 {
        return faults.into_iter().next();
    }
    let class = if faults.iter().all(|fault| fault.class == class) { class } else { Class::Usage };
    let failure = Failure::new(class, message);
    Some(if hint.is_empty() { failure } else { failure.hint(hint) })
}

/// What stands there now.
fn password(source: &PasswordSource) -> Result<SecretString, Failure> {
    match source {
        PasswordSource::File(path) => {
            let failed = |why| Failure::new(Class::Auth, format!("password_file: {}: {why}", path.display()));
            secret_in(path).map_err(|why| {
                failed(why).hint("put the password there as the first line, for the user of the run")
            })
        }
        PasswordSource::Variable(name) => match std::env::var(name) {
            Ok(password) => Ok(password.into()),
            Err(_) => Err(Failure::new(
                Class::Auth,
                format!("password_env: {name} is not set, or is not UTF-8 text"),
            )
            .hint(format!("set {name} where the run begins: in the crontab, the unit, the manifest"))),
        },
        PasswordSource::Command(command) => secret_of(command)
            .map_err(|why| Failure::new(Class::Auth, format!("credentials: {command}: {why}")))
            .map_err(|failure| {
                failure.hint("run it in a shell: it must end with 0 and write the password as its first line")
            }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_of_a_site_are_told_with_their_keys() {
        let fault = |class, message: &str| Failure::new(class, message).hint("mend it");
        assert_eq!(together(Vec::new()), None);
        let ca = || of_key("ca_file", fault(Class::Usage, "/x.crt: No such file or directory"));
        assert_eq!(together(vec![ca()]).unwrap(), ca());
        let both = together(vec![ca(), fault(Class::Auth, "password_env: P is not set")]).unwrap();
        assert_eq!(
            (both.class, both.message.as_str(), both.hint.as_deref()),
            (
                Class::Usage,
                "ca_file: /x.crt: No such file or directory; password_env: P is not set",
                Some("mend it")
            )
        );
        let two = together(vec![fault(Class::Auth, "a"), fault(Class::Auth, "b")]).unwrap();
        assert_eq!(two.class, Class::Auth);
    }
}
