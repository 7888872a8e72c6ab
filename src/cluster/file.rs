//! The configuration file of a cluster, as `bmctl` reads it: where its registry mirrors are, and what is wrong with it.
//!
//! In: a YAML file of several documents: a header that only `bmctl` understands, a Namespace, a Cluster, and more. Out:
//! [`ClusterMirrors`], and a [`Finding`] with a line and a correction for everything that `bmctl` would refuse, or would
//! take and the nodes would not. `edit` changes the header in place. Never writes anything but that one file, and never
//! sends the header anywhere.

pub(crate) mod edit;
mod endpoint;
mod header;
mod objects;
pub(crate) mod targets;

use std::path::{Path, PathBuf};

use crate::document::{self, Finding, Findings, Position, Severity, yaml};
use crate::registry::Target;
use crate::small_file;

/// The registry that every mirror stands for, whatever `hosts` says.
pub(crate) const DEFAULT_UPSTREAM: &str = "gcr.io";

/// What a cluster's file says of registry mirrors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClusterMirrors {
    /// The file.
    pub path: PathBuf,
    /// `metadata.name` of the Cluster.
    pub name: String,
    /// `metadata.namespace` of the Cluster: where its secrets are.
    pub namespace: String,
    /// `apiVersion` of the Cluster.
    pub api_version: String,
    /// Where the Cluster begins.
    pub at: Position,
    /// The header's `registryMirrors`, in the order of the file.
    pub mirrors: Vec<RegistryMirror>,
    /// The header's `gcrKeyPath`: without it nodes cannot fall back to gcr.io.
    pub gcr_key_path: Option<PathBuf>,
}

/// One entry of `registryMirrors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RegistryMirror {
    /// The endpoint with its scheme, as `https://172.18.0.20:5000/v2/test-namespace`.
    pub endpoint: String,
    /// The endpoint as the file has it.
    pub endpoint_as_written: String,
    /// `host[:port]`.
    pub host_port: String,
    /// What stands behind `/v2/` in the endpoint.
    pub namespace: Option<String>,
    /// Where images are pushed to, so that nodes find them.
    pub target: Target,
    /// CA certificate of the registry.
    pub ca_cert_path: Option<NamedFile>,
    /// Docker's `config.json` with the credentials nodes pull with.
    pub pull_credential_config_path: Option<NamedFile>,
    /// Registries this is a mirror of, beside gcr.io.
    pub hosts: Vec<String>,
    /// Where the endpoint stands.
    pub at: Position,
}

/// A file that an entry names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NamedFile {
    /// Its path, on the machine where `bmctl` runs.
    pub path: PathBuf,
    /// Where the entry names it.
    pub at: Position,
}

impl RegistryMirror {
    /// All registries this is a mirror of. Whether `hosts` adds to gcr.io or takes its place is not documented, and
    /// mirroring gcr.io is what the mirror is for.
    pub(crate) fn upstreams(&self) -> Vec<String> {
        let others = self.hosts.iter().filter(|host| *host != DEFAULT_UPSTREAM);
        std::iter::once(DEFAULT_UPSTREAM.to_owned()).chain(others.cloned()).collect()
    }
}

/// What has to be true of a file for what is to be done with it.
#[derive(Debug, Clone, Default)]
pub(crate) struct FileRequirements {
    /// Nodes are to pull from gcr.io when the mirror fails.
    pub fallback: bool,
    /// Where the bundle was pushed.
    pub pushed_to: Vec<Target>,
}

/// A file that was read: what it says, if that can be told, and what is wrong with it.
#[derive(Debug, Clone)]
pub(crate) struct ParsedClusterFile {
    /// What it says. `None` where there is no Cluster in it to speak of.
    pub mirrors: Option<ClusterMirrors>,
    /// What is wrong, by line.
    pub findings: Vec<Finding>,
}

/// Why a cluster's file could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// The operating system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is not what it should be.
    #[error("{}: {}", path.display(), summary(findings))]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What is wrong, warnings included.
        findings: Vec<Finding>,
    },
}

fn summary(findings: &[Finding]) -> String {
    let mut errors = findings.iter().filter(|finding| finding.severity == Severity::Error);
    let first = errors.next().map(|finding| format!("line {}: {}", finding.line.unwrap_or(1), finding.what));
    match (first, errors.count()) {
        (None, _) => "nothing is wrong".to_owned(),
        (Some(first), 0) => first,
        (Some(first), more) => format!("{first} (and {more} more)"),
    }
}

/// Reads a file whose every error stops what was to be done. Gives its warnings beside what it says.
///
/// # Errors
/// The file cannot be read, or something in it would stop `bmctl` or the nodes.
pub(crate) fn read(
    path: &Path,
    expected: &FileRequirements,
) -> Result<(ClusterMirrors, Vec<Finding>), ClusterError> {
    let reading = parse(path, &read_text(path)?, expected);
    match reading.mirrors {
        Some(mirrors) if !reading.findings.iter().any(|found| found.severity == Severity::Error) => {
            Ok((mirrors, reading.findings))
        }
        _ => Err(ClusterError::Wrong { path: path.to_owned(), findings: reading.findings }),
    }
}

/// The text of a file, if it has the size of a configuration.
///
/// # Errors
/// The operating system refuses, the file is too long, or it is not UTF-8.
pub(crate) fn read_text(path: &Path) -> Result<String, ClusterError> {
    small_file::read_text(path, document::MAX_BYTES)
        .map_err(|error| ClusterError::Io { path: path.to_owned(), error })
}

/// Reads the text of the file at `path`. Pure.
pub(crate) fn parse(path: &Path, text: &str, expected: &FileRequirements) -> ParsedClusterFile {
    let mut findings = Findings::new(path);
    let documents = match yaml::read(text) {
        Ok(documents) => documents,
        Err(error) => {
            findings.unreadable("not-yaml", error);
            return ParsedClusterFile { mirrors: None, findings: findings.sorted() };
        }
    };
    let header = header::read(&documents, &mut findings);
    let cluster = objects::read(&documents, &header, &mut findings);
    expect(&header, expected, &mut findings);
    let mirrors = cluster.map(|cluster| ClusterMirrors {
        path: path.to_owned(),
        name: cluster.name,
        namespace: cluster.namespace,
        api_version: cluster.api_version,
        at: cluster.at,
        mirrors: header.mirrors,
        gcr_key_path: header.gcr_key_path,
    });
    ParsedClusterFile { mirrors, findings: findings.sorted() }
}

/// What is wrong only for what is to be done.
fn expect(header: &header::Header, expected: &FileRequirements, findings: &mut Findings) {
    if header.gcr_key_path.is_none() && !header.mirrors.is_empty() {
        let fix = "gcrKeyPath: /path/of/the/service-account-key.json into the header";
        if expected.fallback {
            let message = "nodes are to fall back to gcr.io, and cannot without a gcrKeyPath";
            findings.error("no-fallback", header.at, (message, fix));
        } else {
            let message =
                "without gcrKeyPath nodes cannot fall back to gcr.io: what the mirror lacks is not pulled";
            let fix = format!("{fix}, or nothing for an isolated site");
            findings.warning("no-fallback", header.at, (message, fix));
        }
    }
    for target in &expected.pushed_to {
        // By authority: where a scheme is not written, as in the target of a push, it is the endpoint's.
        let authority = target.endpoint.authority();
        let same_host: Vec<&RegistryMirror> =
            header.mirrors.iter().filter(|mirror| mirror.host_port == authority).collect();
        if same_host.iter().any(|mirror| mirror.target.namespace == target.namespace) {
            continue;
        }
        let place = endpoint::of(target);
        match same_host.first() {
            Some(mirror) => findings.error(
                "pushed-elsewhere",
                mirror.at,
                (
                    format!("nodes pull from {}, and the bundle was pushed to {target}", mirror.target),
                    format!("endpoint: {place}, or push to {}", mirror.target),
                ),
            ),
            None => findings.error(
                "pushed-elsewhere",
                header.at,
                (
                    format!("the bundle was pushed to {target}, and no endpoint is there"),
                    format!("give registryMirrors an entry with endpoint: {place}"),
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests;
