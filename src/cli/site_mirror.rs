//! From a site of the file to a mirror of a run: its certificates are read, and its credentials found where the file says they
//! are. What is wrong with one site does not stop the others.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::credentials::{WhoWeAre, secret_in, secret_of};
use super::output::Output;
use crate::config::{Config, Credentials, PasswordSource, Site, VerifyLevel};
use crate::engine::{Care, MirrorSettings, Verification};
use crate::hook::Hook;
use crate::registry::{
    Access, BandwidthLimiter, ClientOptions, Credential, CredentialSource, RepositoryMaker, credentials,
};
use crate::report::{Class, Failure};
use crate::tls::{Authorities, ClientCertificate};
use crate::units::Rate;

/// How long making a repository may take.
const MAKING_LIMIT: Duration = Duration::from_secs(300);

/// Makes mirrors of sites. What many sites name is read once.
pub(super) struct SiteMirrors<'a> {
    options: ClientOptions,
    output: &'a Output,
    authorities: HashMap<PathBuf, Authorities>,
    passwords: HashMap<PasswordSource, Result<SecretString, Failure>>,
    /// Of all sites of a group together.
    of_groups: HashMap<String, Arc<BandwidthLimiter>>,
    /// What no hook is to have of the environment.
    secret_variables: Vec<String>,
    /// Of all sites together.
    of_run: Option<Arc<BandwidthLimiter>>,
    /// Ends what makes repositories; none where nothing may be changed.
    cancel: Option<CancellationToken>,
}

/// What became of sites.
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
            passwords: HashMap::new(),
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

    /// The mirrors of these sites, as far as there is nothing wrong with them.
    pub(super) fn all<'s>(mut self, sites: impl IntoIterator<Item = &'s Site>) -> Made<'s> {
        let mut made = Made { mirrors: Vec::new(), failed: Vec::new() };
        for site in sites {
            match self.mirror(site) {
                Ok(mirror) => made.mirrors.push(mirror),
                Err(failure) => made.failed.push((site, failure)),
            }
        }
        made
    }

    /// The mirror of a site. Blocks, as a program may have to be asked.
    ///
    /// # Errors
    /// A file that the site names cannot be used, or its credentials are not where they should be.
    fn mirror(&mut self, site: &Site) -> Result<MirrorSettings, Failure> {
        let mut client = self.options.clone();
        client.auth_realms.clone_from(&site.auth_realms);
        if let Some(retries) = site.retries {
            client.retry.attempts = retries.saturating_add(1);
        }
        if let Some(patience) = site.patience {
            client.retry.connect_patience = patience;
        }
        if let Some(path) = &site.ca_file {
            client.authorities.push(self.authorities(path)?);
        }
        if let Some(files) = &site.client_certificate {
            client.client_certificates.push(ClientCertificate::read(&files.certificate, &files.key)?);
        }
        client.must_speak_tls = site.ca_file.is_some() || site.client_certificate.is_some();
        client.bandwidth = self.limiters(site);
        let WhoWeAre { credential, below } = self.who_we_are(site)?;
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
                verification: match site.care.verify {
                    VerifyLevel::None => Verification::None,
                    VerifyLevel::Sample => Verification::Sample,
                    VerifyLevel::Pull => Verification::Pull,
                },
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

    /// All that bodies of a site pass.
    fn limiters(&self, site: &Site) -> Vec<Arc<BandwidthLimiter>> {
        let own = site.bandwidth.map(|rate| Arc::new(BandwidthLimiter::new(rate)));
        let of_groups = site.groups.iter().filter_map(|group| self.of_groups.get(group).cloned());
        own.into_iter().chain(of_groups).chain(self.of_run.clone()).collect()
    }

    fn authorities(&mut self, path: &Path) -> Result<Authorities, Failure> {
        if let Some(known) = self.authorities.get(path) {
            return Ok(known.clone());
        }
        let read = super::mirrors::authorities(path, self.output)?;
        self.authorities.insert(path.to_owned(), read.clone());
        Ok(read)
    }

    fn who_we_are(&mut self, site: &Site) -> Result<WhoWeAre, Failure> {
        let host = site.target.to_string();
        let found = match &site.credentials {
            Credentials::Anonymous => return Ok(WhoWeAre::default()),
            Credentials::User { name, password } => return self.user(name, password).map(WhoWeAre::from),
            Credentials::Helper(helper) => {
                let found = credentials::from_helper(helper, &host);
                let found = found.map_err(|why| Failure::new(Class::Auth, why))?;
                let nothing = || {
                    Failure::new(Class::Auth, format!("docker-credential-{helper} has nothing for {host}"))
                };
                return found.ok_or_else(nothing).map(WhoWeAre::from);
            }
            Credentials::DockerConfig(path) => credentials::from_file(path, &host)?,
            Credentials::Usual => credentials::find(&host),
        };
        for trouble in &found.troubles {
            self.output.warn(&format!("{}: {trouble}", site.name));
        }
        match (&site.credentials, &found.credential) {
            // A registry may want none; one that does says so.
            (Credentials::DockerConfig(path), None)
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
        Ok(WhoWeAre { credential: found.credential, below: found.below })
    }

    fn user(&mut self, name: &str, source: &PasswordSource) -> Result<Credential, Failure> {
        let password = self.passwords.entry(source.clone()).or_insert_with(|| password(source)).clone()?;
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
                let password = self::password(&source).ok()?;
                Some(Credential::password(name.clone(), password, CredentialSource::fixed(from.clone())))
            };
            CredentialSource::again(words, Arc::new(read))
        };
        Ok(Credential::password(name, password, origin))
    }
}

/// What stands there now.
fn password(source: &PasswordSource) -> Result<SecretString, Failure> {
    match source {
        PasswordSource::File(path) => {
            secret_in(path).map_err(|why| Failure::usage(format!("password_file {}: {why}", path.display())))
        }
        PasswordSource::Variable(name) => match std::env::var(name) {
            Ok(password) => Ok(password.into()),
            Err(_) => Err(Failure::new(
                Class::Auth,
                format!("password_env: {name} is not set, or is not UTF-8 text"),
            )),
        },
        PasswordSource::Command(command) => secret_of(command)
            .map_err(|why| Failure::new(Class::Auth, format!("credentials: {command}: {why}"))),
    }
}
