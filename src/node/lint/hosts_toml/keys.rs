//! Keys that containerd does not know, or that stand below the wrong line.

use super::super::{FileFindings, LintOptions, config_toml, url};
use crate::document::{Entry, Key, Node, Position, Severity, nearest};
use crate::node::hosts::{Host, HostOrigin, HostsFile, Version};

const KEYS: [&str; 7] =
    ["capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout"];
/// What stands above the tables alone.
const ROOT_KEYS: [&str; 2] = ["server", "host"];

/// Registries whose certificates every node trusts.
const PUBLIC: [&str; 9] = [
    "docker.io",
    "gcr.io",
    "ghcr.io",
    "k8s.gcr.io",
    "mcr.microsoft.com",
    "nvcr.io",
    "public.ecr.aws",
    "quay.io",
    "registry.k8s.io",
];

pub(super) fn check(findings: &mut FileFindings<'_>, document: &Node, options: &LintOptions) {
    table(findings, document, None, options);
    for Entry { key, value } in document.get("host").map(Node::entries).unwrap_or_default() {
        table(findings, value, Some(key), options);
    }
}

/// The keys of the root, or of the table of a host.
fn table(findings: &mut FileFindings<'_>, table: &Node, host: Option<&Key>, options: &LintOptions) {
    for Entry { key: Key { name: key, at, .. }, value } in table.entries() {
        let is_root_key = ROOT_KEYS.contains(&key.as_str());
        match host {
            Some(host) if is_root_key => {
                misplaced(findings, *at, key, &url::parts(&host.name).shown(), host.at);
            }
            // The containerd of k3s and RKE2 knows one more.
            Some(_) if key == "rewrite" && config_toml::is_rancher(findings.source) => {}
            _ if KEYS.contains(&key.as_str()) || host.is_none() && is_root_key => {
                since(findings, *at, key, options);
            }
            _ => unknown(findings, *at, key, host.is_none()),
        }
        if key == "header" {
            swallowed(findings, value);
        }
    }
}

fn misplaced(findings: &mut FileFindings<'_>, at: Position, key: &str, host: &str, host_at: Position) {
    let words = [
        format!("{key} stands below [host.{host:?}] (line {}), and belongs to that table", host_at.line),
        "it is passed over without a word: the registry itself is asked last".to_owned(),
        format!("move {key} above the first [host] line, to the top of the file"),
    ];
    findings.error("misplaced-key", at, words);
}

fn is_setting(name: &str) -> bool {
    KEYS.contains(&name) || ROOT_KEYS.contains(&name)
}

/// Whether a setting stands among headers at a place.
pub(super) fn is_swallowed(document: &Node, at: Option<Position>) -> bool {
    let hosts = document.get("host").map(Node::entries).unwrap_or_default();
    let tables = hosts.iter().map(|entry| &entry.value).chain([document]);
    let headers = tables.filter_map(|table| table.get("header")).flat_map(Node::entries);
    let mut settings = headers.filter(|entry| is_setting(&entry.key.name));
    at.is_some_and(|at| settings.any(|entry| entry.key.at.line == at.line))
}

/// Settings that stand below a `[….header]` line are sent as headers, or make the file undecodable.
fn swallowed(findings: &mut FileFindings<'_>, header: &Node) {
    for Entry { key, .. } in header.entries() {
        if is_setting(&key.name) {
            let words = [
                format!(
                    "{} stands below a [….header] line (line {}), and is a header there",
                    key.name, header.at.line
                ),
                "it sets nothing: it is sent to the registry or, where it is no text, the whole file is ignored".to_owned(),
                format!("move {} above the [….header] line", key.name),
            ];
            findings.error("misplaced-key", key.at, words);
        }
    }
}

fn unknown(findings: &mut FileFindings<'_>, at: Position, key: &str, is_root: bool) {
    let known: Vec<&str> =
        if is_root { ROOT_KEYS.iter().chain(&KEYS).copied().collect() } else { KEYS.to_vec() };
    let fix = if key == "rewrite" {
        "only the containerd of k3s and RKE2 knows it: write the namespace into the URL, with override_path = true".to_owned()
    } else {
        let meant = nearest(key, &known).map(|key| format!(": did you mean {key}?")).unwrap_or_default();
        format!("known are {}{meant}", known.join(", "))
    };
    let words = [
        format!("containerd does not know the key {key:?}"),
        "it is passed over without a word, and what it was to say is not said".to_owned(),
        fix,
    ];
    findings.error("unknown-key", at, words);
}

/// Keys that came later than the containerd of the nodes.
fn since(findings: &mut FileFindings<'_>, at: Position, key: &str, options: &LintOptions) {
    let (since, severity, effect) = match key {
        "override_path" => (
            Version::OVERRIDE_PATH,
            Severity::Error,
            "it is passed over: /v2 is put behind the path, and the mirror answers 404",
        ),
        "dial_timeout" => (
            Version::DIAL_TIMEOUT,
            Severity::Warning,
            "it is passed over: a mirror that does not answer is waited for 30 s",
        ),
        _ => return,
    };
    if let Some(version) = options.containerd.filter(|&version| version < since) {
        let words = [
            format!("containerd {version} does not know {key}, which came with {since}"),
            effect.to_owned(),
            format!("upgrade containerd to {since}, or do without"),
        ];
        findings.add(severity, "key-too-new", at, words);
    }
}

/// Hosts that 2.x does not see, because it looks for `[host.…]` lines alone.
pub(super) fn not_tables(
    findings: &mut FileFindings<'_>,
    document: &Node,
    file: &HostsFile,
    version: Version,
) {
    for Entry { key: Key { name, at, .. }, .. } in document.get("host").map(Node::entries).unwrap_or_default()
    {
        if version >= Version::TWO && !file.hosts.iter().any(|(known, _)| known == name) {
            let shown = url::parts(name).shown();
            let words = [
                format!("{shown} is not in a [host.\"…\"] line of its own"),
                "containerd since 2.0 looks for hosts in such lines alone and never asks this one".to_owned(),
                format!("write [host.{shown:?}] and its keys below"),
            ];
            findings.error("host-not-a-table", *at, words);
        }
    }
}

/// Trust above the tables is for the server, and a public registry needs none.
pub(super) fn for_the_server(
    findings: &mut FileFindings<'_>,
    document: &Node,
    hosts: &[Host],
    upstream: Option<&str>,
) {
    let Some(upstream) = upstream.filter(|upstream| PUBLIC.contains(upstream)) else { return };
    let bare = |host: &&Host| {
        host.origin == HostOrigin::Table && host.scheme == "https" && host.ca.is_empty() && !host.skip_verify
    };
    let Some(mirror) = hosts.iter().find(bare) else { return };
    let last_is_upstream = hosts.last().is_some_and(|last| {
        last.origin == HostOrigin::Upstream
            || last.authority == url::server_of(upstream)
            || last.authority == upstream
    });
    for key in ["ca", "skip_verify"] {
        if let Some(node) = document.get(key).filter(|_| last_is_upstream) {
            let words = [
                format!("{key} stands above the [host] lines, where it is for the server {upstream}"),
                format!("the certificate of {} is not trusted: the upstream is asked", mirror.authority),
                format!("move {key} below the [host] line of the mirror"),
            ];
            findings.warning("misplaced-key", node.at, words);
        }
    }
}
