//! From a [`HostsFile`] to the hosts that are asked for images of one upstream, and the URL that each is asked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use secrecy::SecretString;

use super::{Capability, HostSettings, HostsFile, Version, go};
use crate::loopback;

/// One host that containerd asks.
#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// Which part of the configuration it comes from.
    pub origin: HostOrigin,
    /// `https` or `http`.
    pub scheme: String,
    /// Host and port as written.
    pub authority: String,
    /// The root of the API, as `/v2` or `/v2/namespace`; empty where `override_path` stands with a bare host.
    pub path: String,
    /// What it may be asked for.
    pub capabilities: Vec<Capability>,
    /// Files with authorities to trust.
    pub ca: Vec<PathBuf>,
    /// Certificates to show, each with its key's file if that is another.
    pub client: Vec<(PathBuf, Option<PathBuf>)>,
    /// Whether its certificate goes unchecked.
    pub skip_verify: bool,
    /// Headers of every request.
    pub header: BTreeMap<String, Vec<SecretString>>,
    /// How long opening a connection may take.
    pub dial_timeout: Duration,
}

/// Which part of the configuration a [`Host`] comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostOrigin {
    /// A `[host]` table.
    Table,
    /// The key `server`.
    Server,
    /// Nothing says so: the upstream itself.
    Upstream,
}

/// How long containerd waits for a connection unless `dial_timeout` says otherwise.
const DIAL_TIMEOUT: Duration = Duration::from_secs(30);

impl HostsFile {
    /// The hosts that are asked, in order, for images of `upstream` (`gcr.io`, `localhost:5000`); relative paths start at
    /// `folder`, where the file lies. The last one is the server, or the upstream itself.
    pub(crate) fn resolve(&self, upstream: &str, folder: &Path, version: Version) -> Vec<Host> {
        let tables =
            self.hosts.iter().map(|(url, settings)| host(HostOrigin::Table, url, settings, folder, version));
        let mut hosts: Vec<Host> = tables.collect();
        let server = self.server.as_deref().unwrap_or_default();
        let last = host(HostOrigin::Server, server, &self.root, folder, version);
        hosts.push(if last.authority.is_empty() { last.made_upstream(upstream, version) } else { last });
        hosts
    }

    /// What is asked where no file speaks: the upstream, with the certificates found beside the missing file.
    pub(super) fn certificates(
        upstream: &str,
        ca: Vec<PathBuf>,
        client: Vec<(PathBuf, Option<PathBuf>)>,
        version: Version,
    ) -> Vec<Host> {
        let bare = host(HostOrigin::Upstream, "", &HostSettings::default(), Path::new(""), version);
        vec![Host { ca, client, ..bare }.made_upstream(upstream, version)]
    }
}

/// containerd takes all that begins with `http` for a URL and puts `https://` in front of the rest.
pub(super) fn with_scheme(server: &str) -> String {
    if server.starts_with("http") { server.to_owned() } else { format!("https://{server}") }
}

fn known(version: Version) -> Vec<Capability> {
    Capability::ALL.into_iter().filter(|capability| version >= capability.since()).collect()
}

fn host(origin: HostOrigin, server: &str, settings: &HostSettings, folder: &Path, version: Version) -> Host {
    let parsed = if server.is_empty() { None } else { go::url(&with_scheme(server)).ok() };
    let (scheme, authority, path) = parsed.map_or_else(Default::default, |url| {
        let path = match (url.path.as_str(), settings.override_path) {
            ("", true) => String::new(),
            ("", false) => "/v2".to_owned(),
            (path, verbatim) => {
                let path = go::clean(path);
                if verbatim || path.ends_with("/v2") { path } else { go::clean(&format!("{path}/v2")) }
            }
        };
        (url.scheme, url.host, path)
    });
    let capabilities =
        if settings.capabilities.is_empty() { known(version) } else { settings.capabilities.clone() };
    let absolute = |file: &String| folder.join(file);
    Host {
        origin,
        scheme,
        authority,
        path,
        capabilities,
        ca: settings.ca.iter().map(absolute).collect(),
        client: settings
            .client
            .iter()
            .map(|pair| (absolute(&pair.certificate), pair.key.as_ref().map(absolute)))
            .collect(),
        skip_verify: settings.skip_verify.unwrap_or(false),
        header: settings.header.clone(),
        dial_timeout: settings.dial_timeout.unwrap_or(DIAL_TIMEOUT),
    }
}

impl Host {
    /// The same with the upstream for its host: its own path and capabilities are forgotten, certificates and headers stay.
    fn made_upstream(self, upstream: &str, version: Version) -> Self {
        let authority = if upstream == "docker.io" { "registry-1.docker.io" } else { upstream };
        let (scheme, unverified) = loopback(upstream);
        Self {
            origin: HostOrigin::Upstream,
            scheme: scheme.to_owned(),
            authority: authority.to_owned(),
            path: "/v2".to_owned(),
            capabilities: known(version),
            skip_verify: self.skip_verify || unverified,
            ..self
        }
    }

    /// Whether it may be asked for something.
    pub(crate) fn may(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }
}

/// How an upstream on this machine is spoken to, and whether its certificate goes unchecked.
fn loopback(upstream: &str) -> (&'static str, bool) {
    let port = split_port(upstream).1;
    match (is_loopback(upstream), port) {
        (false, _) => ("https", false),
        (true, "" | "443") => ("https", true),
        (true, "80") => ("http", false),
        (true, _) => ("http", true),
    }
}

/// Whether `host` or `host:port` is the node itself for containerd, which asks for the name `localhost` alone.
pub(crate) fn is_loopback(authority: &str) -> bool {
    let host = split_port(authority).0.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse().is_ok_and(loopback::is_loopback)
}

/// The host, and the port where one is written.
pub(crate) fn split_port(authority: &str) -> (&str, &str) {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !host.is_empty() => {
            (host, port)
        }
        _ => (authority, ""),
    }
}
