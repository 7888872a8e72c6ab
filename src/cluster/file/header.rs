//! The header: the first document, which only `bmctl` understands.
//!
//! Its keys are those of the
//! [reference](https://docs.cloud.google.com/kubernetes-engine/distributed-cloud/bare-metal/docs/reference/cluster-config-ref).
//! Since 1.10 `bmctl` refuses a file with any other key.

use std::path::PathBuf;

use url::Url;

use super::{NamedFile, RegistryMirror, endpoint};
use crate::document::{Entry, Findings, Node, Position, nearest};
use crate::error::printable;

/// Keys of the header whose value is the path of a file.
const PATHS: &[&str] = &[
    "gcrKeyPath",
    "sshPrivateKeyPath",
    "gkeConnectAgentServiceAccountKeyPath",
    "gkeConnectRegisterServiceAccountKeyPath",
    "cloudOperationsServiceAccountKeyPath",
];
pub(super) const MIRRORS: &str = "registryMirrors";
/// Registries of the workload's own images: another thing, which stands beside it.
const PRIVATE: &str = "privateRegistries";
const MIRROR_KEYS: &[&str] = &["endpoint", "caCertPath", "pullCredentialConfigPath", "hosts"];
const PRIVATE_KEYS: &[&str] = &["host", "caCertPath", "pullCredentialConfigPath"];

/// What the header says.
#[derive(Debug)]
pub(super) struct Header {
    /// Where it begins.
    pub(super) at: Position,
    pub(super) mirrors: Vec<RegistryMirror>,
    pub(super) gcr_key_path: Option<PathBuf>,
    /// The first entry of `hosts`, and the first with a port.
    pub(super) hosts_at: Option<Position>,
    pub(super) host_port_at: Option<Position>,
}

impl Header {
    fn new(at: Position) -> Self {
        Self { at, mirrors: Vec::new(), gcr_key_path: None, hosts_at: None, host_port_at: None }
    }
}

/// The header among documents: the first one, unless that is an object of Kubernetes.
pub(super) fn find(documents: &[Node]) -> Option<&Node> {
    documents.first().filter(|root| root.get("kind").is_none())
}

pub(super) fn read(documents: &[Node], findings: &mut Findings) -> Header {
    let Some(root) = find(documents) else {
        let message = "there is no header before the Namespace: registryMirrors has no other place";
        let fix = "begin the file with a document of gcrKeyPath, sshPrivateKeyPath and registryMirrors";
        findings.error("no-header", Position::START, (message, fix));
        return Header::new(Position::START);
    };
    let mut header = Header::new(root.at);
    let Some(mapping) = root.mapping() else {
        let words = ("the header is not a list of keys", "write gcrKeyPath: /path/of/the/key.json");
        findings.error("no-header", root.at, words);
        return header;
    };
    for entry in &mapping.entries {
        let name = entry.key.name.as_str();
        if PATHS.contains(&name) {
            let path = path(entry, findings);
            if name == "gcrKeyPath" {
                header.gcr_key_path = path;
            }
        } else if name == MIRRORS {
            each(entry, findings, |item, findings| mirror(item, &mut header, findings));
        } else if name == PRIVATE {
            each(entry, findings, |item, findings| {
                known(item, PRIVATE_KEYS, PRIVATE, findings);
                paths_of(item, findings);
            });
        } else if MIRROR_KEYS.contains(&name) {
            let message = format!("{name} is no key of the header: its indentation was lost");
            let fix = format!("indent it below - endpoint: in {MIRRORS}, as in `  {name}: …`");
            findings.error("lost-indentation", entry.key.at, (message, fix));
        } else {
            let all: Vec<&str> = PATHS.iter().copied().chain([MIRRORS, PRIVATE]).collect();
            unknown(entry, "the header", &all, findings);
        }
    }
    header
}

/// The entries of a list that may be empty.
fn each(entry: &Entry, findings: &mut Findings, mut read: impl FnMut(&Node, &mut Findings)) {
    match entry.value.sequence() {
        Some(items) => items.iter().for_each(|item| read(item, findings)),
        None if entry.value.is_null() => {}
        None => {
            let message = format!("{} is not a list", entry.key.name);
            let fix = format!("{}:, and - before each entry", entry.key.name);
            findings.error("wrong-type", entry.value.at, (message, fix));
        }
    }
}

fn mirror(item: &Node, header: &mut Header, findings: &mut Findings) {
    known(item, MIRROR_KEYS, MIRRORS, findings);
    let (ca_cert_path, pull_credential_config_path) = paths_of(item, findings);
    let hosts = hosts(item, header, findings);
    let Some(entry) = item.entry("endpoint").filter(|entry| !is_blank(&entry.value)) else {
        let message = "an entry of registryMirrors without an endpoint";
        let fix = "endpoint: https://HOST:PORT, with /v2/NAMESPACE behind it if there is one";
        findings.error("no-endpoint", item.at, (message, fix));
        return;
    };
    let Some(text) = text(entry, findings) else { return };
    match endpoint::parse(text) {
        Err(words) => findings.error("wrong-endpoint", entry.value.at, words),
        Ok(endpoint) => {
            if let Some(words) = endpoint.warning {
                findings.warning("unsafe-endpoint", entry.value.at, words);
            }
            if header.mirrors.iter().any(|mirror| mirror.target == endpoint.target) {
                let message = format!("the endpoint {} is given twice", endpoint.text);
                findings.error("duplicate", entry.value.at, (message, "remove one, or join their hosts"));
            }
            header.mirrors.push(RegistryMirror {
                endpoint_as_written: text.to_owned(),
                endpoint: endpoint.text,
                host_port: endpoint.target.endpoint.authority(),
                namespace: endpoint.target.namespace.as_ref().map(ToString::to_string),
                target: endpoint.target,
                ca_cert_path,
                pull_credential_config_path,
                hosts,
                at: entry.value.at,
            });
        }
    }
}

fn paths_of(item: &Node, findings: &mut Findings) -> (Option<NamedFile>, Option<NamedFile>) {
    let mut read = |name| {
        let entry = item.entry(name)?;
        Some(NamedFile { path: path(entry, findings)?, at: entry.value.at })
    };
    (read("caCertPath"), read("pullCredentialConfigPath"))
}

/// Domain names, since 1.29.300 with ports.
fn hosts(item: &Node, header: &mut Header, findings: &mut Findings) -> Vec<String> {
    let Some(entry) = item.entry("hosts").filter(|entry| !entry.value.is_null()) else { return Vec::new() };
    let Some(items) = entry.value.sequence() else {
        let words = ("hosts is not a list", "hosts:, and - before each domain name");
        findings.error("wrong-type", entry.value.at, words);
        return Vec::new();
    };
    let mut hosts: Vec<String> = Vec::new();
    for item in items {
        let Some(host) = item.text() else {
            findings.error("wrong-host", item.at, ("a host that is not a name", "- quay.io"));
            continue;
        };
        let url = Url::parse(&format!("https://{host}/")).ok();
        let name = url
            .as_ref()
            .filter(|url| url.path() == "/" && url.username().is_empty() && !host.contains(['/', '@']));
        let Some(url) = name else {
            let bare = host.split_once("://").map_or(host, |(_, rest)| rest);
            let bare = bare.split('/').next().unwrap_or(bare);
            let message = format!("{} is not a domain name", printable(host));
            findings.error("wrong-host", item.at, (message, format!("- {}", printable(bare))));
            continue;
        };
        header.hosts_at.get_or_insert(item.at);
        // The port of https itself is lost in a URL, and is no less a port.
        if url.port().is_some() || host.ends_with(":443") {
            header.host_port_at.get_or_insert(item.at);
        }
        if hosts.iter().any(|known| known == host) {
            let words = (format!("{host} is listed twice"), "remove one of the two");
            findings.warning("duplicate", item.at, words);
        } else {
            hosts.push(host.to_owned());
        }
    }
    hosts
}

/// An absolute path; blank is none.
fn path(entry: &Entry, findings: &mut Findings) -> Option<PathBuf> {
    if is_blank(&entry.value) {
        return None;
    }
    let name = &entry.key.name;
    let text = text(entry, findings)?;
    let at = entry.value.at;
    if text.starts_with('~') || text.contains('$') {
        let message = format!("{name}: {} would need a shell, and none reads this file", printable(text));
        let fix = format!("{name}: the absolute path, as in /root/…");
        findings.error("relative-path", at, (message, fix));
    } else if !text.starts_with('/') {
        let message = format!("{name}: {} is not an absolute path", printable(text));
        let bare = text.trim_start_matches("./");
        findings.error("relative-path", at, (message, format!("{name}: /FOLDER/{}", printable(bare))));
    } else {
        return Some(PathBuf::from(text));
    }
    None
}

fn is_blank(node: &Node) -> bool {
    node.is_null() || node.scalar().is_some_and(|scalar| scalar.text.is_empty())
}

/// Text where text has to be.
fn text<'a>(entry: &'a Entry, findings: &mut Findings) -> Option<&'a str> {
    let text = entry.value.text();
    if text.is_none() {
        let name = &entry.key.name;
        let fix = match entry.value.scalar() {
            Some(scalar) => {
                format!("{name}: \"{}\" if that is meant, else leave it blank", printable(&scalar.text))
            }
            None => format!("{name}: and one value behind it"),
        };
        findings.error("wrong-type", entry.value.at, (format!("{name} is not text"), fix));
    }
    text
}

fn known(item: &Node, keys: &[&str], place: &str, findings: &mut Findings) {
    let Some(mapping) = item.mapping() else {
        let words = (format!("an entry of {place} that has no keys"), format!("- {}: …", keys[0]));
        return findings.error("wrong-type", item.at, words);
    };
    for entry in mapping.entries.iter().filter(|entry| !keys.contains(&entry.key.name.as_str())) {
        unknown(entry, place, keys, findings);
    }
}

fn unknown(entry: &Entry, place: &str, keys: &[&str], findings: &mut Findings) {
    let name = &entry.key.name;
    let message = format!("{} is no key of {place}: bmctl refuses the file", printable(name));
    let fix = match nearest(name, keys) {
        Some(key) => format!("{key}: …"),
        None => format!("remove it; the keys are {}", keys.join(", ")),
    };
    findings.error("unknown-key", entry.key.at, (message, fix));
}
