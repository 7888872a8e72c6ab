//! Flags about mirrors: where they are and how to talk to them.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::credentials::{CredentialArgs, NamedConfig, Passwords, WhoWeAre};
use super::mirror_values::MirrorNames;
use super::output::Output;
use crate::cluster::file::{FileRequirements, NamedFile, RegistryMirror};
use crate::engine::{Care, MirrorSettings};
use crate::plan::Rules;
use crate::registry::{Access, BandwidthLimiter, ClientOptions, RegistryError, Target};
use crate::report::Failure;
use crate::tls::{Authorities, BadFile, ClientCertificate};
use crate::units::{Rate, parse_seconds};

/// Flags about mirrors.
#[derive(Debug, Args)]
pub(super) struct MirrorArgs {
    /// Registry to fill, with an optional namespace; http:// must be written unless it is this machine (repeatable)
    #[arg(long, value_name = "HOST[:PORT][/NAMESPACE]", help_heading = "Mirrors")]
    private_registry: Vec<String>,
    /// Take registries, CAs and credentials from registryMirrors of a cluster's configuration file instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["private_registry", "cacert"], help_heading = "Mirrors")]
    cluster: Option<PathBuf>,
    /// Path below which the API of a registry lies, as /repository/NAME (Nexus) or /artifactory/api/docker/NAME (repeatable:
    /// MIRROR=PATH)
    #[arg(long, value_name = "[MIRROR=]PATH", help_heading = "Mirrors")]
    api_path: Vec<String>,
    /// CA certificates (PEM) to trust besides the system's, for a registry with a private certificate (repeatable:
    /// MIRROR=FILE is for one mirror)
    #[arg(long, value_name = "[MIRROR=]FILE", help_heading = "Mirrors")]
    cacert: Vec<String>,
    /// Client certificate (PEM; repeatable: MIRROR=FILE)
    #[arg(long, value_name = "[MIRROR=]FILE", help_heading = "Mirrors")]
    client_cert: Vec<String>,
    /// Key of the client certificate (PEM; repeatable: MIRROR=FILE) [default: it is in the certificate's file]
    #[arg(long, value_name = "[MIRROR=]FILE", requires = "client_cert", help_heading = "Mirrors")]
    client_key: Vec<String>,
    /// Most uploads to each mirror at the same time [default: as many as it can take, up to 32]
    #[arg(long, value_name = "N", help_heading = "Mirrors",
          value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Most bytes a second for all mirrors together, as 20Mbit/s or 2MB/s (repeatable: MIRROR=RATE is for one mirror, beside
    /// the limit for all)
    #[arg(long, value_name = "[MIRROR=]RATE", help_heading = "Mirrors")]
    bandwidth: Vec<String>,
    /// How long a registry may be away, or ask to be left alone, before it is given up (it may be restarting)
    #[arg(long, value_name = "TIME", default_value = "20s", help_heading = "Mirrors", value_parser = parse_seconds)]
    patience: Duration,
    #[command(flatten)]
    credentials: CredentialArgs,
}

impl MirrorArgs {
    /// Names more mirrors.
    pub(super) fn add(&mut self, registries: Vec<String>) {
        self.private_registry.extend(registries);
    }

    /// Whether the password comes from standard input.
    pub(super) fn reads_stdin(&self) -> bool {
        self.credentials.reads_stdin()
    }

    /// The names of the mirrors that the command line has; none where one of them cannot be read.
    pub(super) fn names(&self) -> Vec<String> {
        let named = self.private_registry.iter().map(|text| Some(text.parse::<Target>().ok()?.to_string()));
        named.collect::<Option<_>>().unwrap_or_default()
    }

    /// Whether any registry is named.
    pub(super) fn is_given(&self) -> bool {
        !self.private_registry.is_empty() || self.cluster.is_some()
    }

    /// The cluster's file, if the mirrors come from one.
    pub(super) fn cluster(&self) -> Option<&Path> {
        self.cluster.as_deref()
    }

    /// The mirrors with their credentials, all with these rules; may ask on the terminal.
    pub(super) fn resolve(
        &self,
        runtime: &tokio::runtime::Runtime,
        access: Access,
        rules: &Arc<Rules>,
        output: &Output,
    ) -> Result<Vec<MirrorSettings>, Failure> {
        if self.private_registry.is_empty() && self.cluster.is_none() {
            return Err(Failure::usage("no registry is given")
                .hint("name one: --private-registry HOST[:PORT][/NAMESPACE]"));
        }
        self.settings(&self.places(output)?, runtime, access, rules, output)
    }

    /// These registries with their credentials, instead of those that the flags name.
    pub(super) fn resolve_hosts(
        &self,
        hosts: &[String],
        runtime: &tokio::runtime::Runtime,
        rules: &Arc<Rules>,
        output: &Output,
    ) -> Result<Vec<MirrorSettings>, Failure> {
        self.settings(&entries(hosts)?, runtime, Access::Pull, rules, output)
    }

    fn settings(
        &self,
        places: &[MirrorArg],
        runtime: &tokio::runtime::Runtime,
        access: Access,
        rules: &Arc<Rules>,
        output: &Output,
    ) -> Result<Vec<MirrorSettings>, Failure> {
        let mut options = ClientOptions { access, ..ClientOptions::default() };
        options.retry.connect_patience = self.patience;
        options.auth_realms = self.credentials.auth_realms().to_vec();
        options.upload_hosts = self.credentials.upload_hosts().to_vec();
        self.credentials.warn(output);
        let targets: Vec<Target> = places.iter().map(|place| place.target.clone()).collect();
        let named = MirrorNames(&targets);
        for (flag, values) in [
            ("--cacert", &self.cacert),
            ("--client-cert", &self.client_cert),
            ("--client-key", &self.client_key),
        ] {
            named.check_files(flag, values)?;
        }
        if let Some(name) = self.api_path.iter().find_map(|value| named.unknown(value)) {
            return Err(named.is_no_mirror("--api-path", name));
        }
        self.credentials.check(&named)?;
        let bandwidth = Bandwidth::parse(&self.bandwidth, &named)?;
        let mut passwords = Passwords::default();
        let mut mirrors: Vec<MirrorSettings> = Vec::new();
        for MirrorArg { given, target, ca, pull_credentials } in places {
            let mut options = options.clone();
            options.bandwidth = bandwidth.limiters(target);
            let own =
                [&self.cacert, &self.client_cert].into_iter().any(|values| named.has_own(values, target));
            options.must_speak_tls = own || ca.is_some();
            for path in named.values(&self.cacert, target) {
                options.authorities.push(authorities(Path::new(path), output)?);
            }
            options.authorities.extend(ca.clone());
            options.client_certificates.extend(self.client_certificate(&named, target)?);
            let own = pull_credentials.as_ref();
            let target = &self.with_api_path(&named, target)?;
            if let Some(n) = mirrors.iter().position(|other| other.target.is_same_place(target)) {
                return Err(given_twice(&places[n].given, given));
            }
            let finding = self.credentials.find(&named, &mut passwords, own, target, &options, output);
            let WhoWeAre { credential, below } = runtime.block_on(finding)?;
            // The API path distinguishes registries on one host, in this run and in the history.
            let has_path = !target.endpoint.api_path().is_empty();
            let name = if has_path { target.lock_key() } else { target.to_string() };
            let client = ClientOptions { credential, credentials_below: below, ..options };
            mirrors.push(MirrorSettings {
                name,
                target: target.clone(),
                rules: Arc::clone(rules),
                client,
                threads: self.threads.and_then(|threads| NonZeroUsize::new(threads.into())),
                atomic_tags: false,
                care: Care::default(),
                window: None,
                gate: None,
                is_new: false,
            });
        }
        Ok(mirrors)
    }

    fn with_api_path(&self, mirrors: &MirrorNames<'_>, target: &Target) -> Result<Target, Failure> {
        let Some(path) = mirrors.value(&self.api_path, target) else { return Ok(target.clone()) };
        let endpoint = target.endpoint.with_api_path(path).map_err(|why| {
            Failure::usage(format!("--api-path: {why}"))
                .hint("write what stands between the host and /v2 in its addresses, as /repository/NAME")
        })?;
        Ok(Target { endpoint, ..target.clone() })
    }

    fn client_certificate(
        &self,
        mirrors: &MirrorNames<'_>,
        target: &Target,
    ) -> Result<Option<ClientCertificate>, Failure> {
        let certificate = mirrors.value(&self.client_cert, target);
        let key = mirrors.value(&self.client_key, target).or(certificate);
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                Ok(Some(ClientCertificate::read(Path::new(certificate), Path::new(key))?))
            }
            (None, Some(_)) => {
                Err(Failure::usage(format!("--client-key is given for {target}, but no --client-cert")))
            }
            _ => Ok(None),
        }
    }

    fn places(&self, output: &Output) -> Result<Vec<MirrorArg>, Failure> {
        let Some(path) = &self.cluster else {
            return entries(&self.private_registry);
        };
        let cluster = super::cluster::read(path, &FileRequirements::default(), output)?;
        if cluster.mirrors.is_empty() {
            let failure = Failure::usage(format!("{}: there are no registryMirrors in it", path.display()));
            return Err(failure.hint(format!(
                "layercast mirror set-endpoint --cluster {} https://HOST:PORT",
                path.display()
            )));
        }
        let place = |mirror: RegistryMirror| {
            let read = |file: NamedFile| {
                let named = |failure| super::cluster::named(path, "caCertPath", &file, failure);
                authorities(&file.path, output).map_err(named)
            };
            let ca = mirror.ca_cert_path.map(read).transpose()?;
            let config = mirror.pull_credential_config_path.map(|file| NamedConfig {
                place: super::cluster::place(path, "pullCredentialConfigPath", &file),
                path: file.path,
            });
            let given = mirror.target.to_string();
            Ok(MirrorArg { given, target: mirror.target, ca, pull_credentials: config })
        };
        cluster.mirrors.into_iter().map(place).collect()
    }
}

/// Mirrors as they were written. Parsed here and not by clap, which would show a password that somebody put into the address.
fn entries(written: &[String]) -> Result<Vec<MirrorArg>, Failure> {
    let entry = |given: &String| -> Result<MirrorArg, RegistryError> {
        Ok(MirrorArg { given: given.clone(), target: given.parse()?, ca: None, pull_credentials: None })
    };
    written.iter().map(|given| entry(given).map_err(Failure::from)).collect()
}

/// The limits of `--bandwidth`.
struct Bandwidth {
    of_run: Option<Arc<BandwidthLimiter>>,
    of_mirrors: Vec<(Target, Rate)>,
}

impl Bandwidth {
    fn parse(values: &[String], mirrors: &MirrorNames<'_>) -> Result<Self, Failure> {
        let rate =
            |text: &str| text.parse::<Rate>().map_err(|why| Failure::usage(format!("--bandwidth: {why}")));
        let mut parsed = Self { of_run: None, of_mirrors: Vec::new() };
        for value in values {
            match value.split_once('=') {
                None => parsed.of_run = Some(Arc::new(BandwidthLimiter::new(rate(value)?))),
                Some((name, text)) => {
                    let mirror = mirrors.named("--bandwidth", name)?;
                    parsed.of_mirrors.push((mirror.clone(), rate(text)?));
                }
            }
        }
        Ok(parsed)
    }

    /// All limiters that bodies of a mirror pass, usually the narrowest first.
    fn limiters(&self, target: &Target) -> Vec<Arc<BandwidthLimiter>> {
        let own = self.of_mirrors.iter().rev().find(|(mirror, _)| mirror == target);
        let own = own.map(|(_, rate)| Arc::new(BandwidthLimiter::new(*rate)));
        own.into_iter().chain(self.of_run.clone()).collect()
    }
}

/// A mirror with what is known of it alone.
struct MirrorArg {
    /// As the user wrote it.
    given: String,
    target: Target,
    ca: Option<Authorities>,
    pull_credentials: Option<NamedConfig>,
}

fn given_twice(first: &str, second: &str) -> Failure {
    if first == second {
        return Failure::usage(format!("the registry {first} is given twice"));
    }
    let failure = Failure::usage(format!("the registries {first} and {second} are one and the same"));
    failure.hint("name it once; a namespace behind it (HOST:PORT/NAMESPACE) makes another mirror of it")
}

/// The certificates of a file, with a warning for each that cannot be used.
pub(super) fn authorities(path: &Path, output: &Output) -> Result<Authorities, Failure> {
    let authorities = Authorities::read(path)?;
    authorities.notes().iter().for_each(|note| output.warn(note));
    Ok(authorities)
}

impl From<BadFile> for Failure {
    fn from(bad: BadFile) -> Self {
        let failure = Self::usage(bad.to_string());
        match bad.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
