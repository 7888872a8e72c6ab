//! `registries.yaml` of k3s and RKE2.
//!
//! <https://docs.k3s.io/installation/private-registry>

use std::path::Path;

use super::{FileFindings, Files, config_toml, url};
use crate::document::{Entry, Key, Node, Position, nearest, yaml};

const STOPS: &str = "the node's k3s or RKE2 does not start again";

pub(super) fn check(findings: &mut FileFindings<'_>, files: &dyn Files) {
    let documents = match yaml::read(&findings.source.text) {
        Ok(documents) => documents,
        Err(error) => {
            return findings.error("not-yaml", error.at, [error.message, STOPS.to_owned(), error.fix]);
        }
    };
    let Some(document) = documents.first() else { return };
    if document.mapping().is_none() {
        return wrong_type(findings, document.at, "the file", "a mapping with mirrors: and configs:");
    }
    unknown(findings, document, &["mirrors", "configs", "auths"]);
    let mut asked: Vec<Mirror<'_>> = Vec::new();
    for Entry { key: Key { name: host, at, .. }, value: mirror } in table(findings, document, "mirrors") {
        name(findings, host, *at);
        if mirror.is_null() {
            continue;
        }
        if mirror.mapping().is_none() {
            wrong_type(
                findings,
                mirror.at,
                &format!("mirrors.{host}"),
                "a mapping with endpoint: and a list below it",
            );
            continue;
        }
        unknown(findings, mirror, &["endpoint", "rewrite"]);
        let endpoints = endpoints(findings, host, mirror);
        if let Some(rewrite) = mirror.get("rewrite") {
            let with_path =
                endpoints.iter().find(|(endpoint, _)| !url::parts(endpoint).namespace().is_empty());
            check_rewrite(findings, rewrite, with_path.copied());
        }
        asked.push(Mirror {
            host,
            endpoints: endpoints.iter().map(|(endpoint, _)| url::parts(endpoint).authority).collect(),
        });
    }
    let configs = table(findings, document, "configs");
    let named: Vec<&str> = configs.iter().map(|entry| entry.key.name.as_str()).collect();
    for Entry { key: Key { name: host, at, .. }, value: config } in configs {
        if config.is_null() {
            continue;
        }
        if config.mapping().is_none() {
            wrong_type(findings, config.at, &format!("configs.{host}"), "a mapping with auth: and tls:");
            continue;
        }
        unknown(findings, config, &["auth", "tls"]);
        config_name(findings, host, *at, config, &asked, &named);
        if let Some(Entry { key, value: auth }) = config.entry("auth") {
            unknown(
                findings,
                auth,
                &["username", "password", "auth", "identity_token", "identitytoken", "token"],
            );
            findings.readable_password(key.at);
        }
        if let Some(tls) = config.get("tls") {
            check_tls(findings, tls, host, files);
        }
    }
}

/// A registry with the hosts that are asked for it.
struct Mirror<'a> {
    host: &'a str,
    endpoints: Vec<&'a str>,
}

/// The entries of a table that may be left out.
fn table<'a>(findings: &mut FileFindings<'_>, document: &'a Node, key: &str) -> &'a [Entry] {
    let Some(Entry { key: at, value }) = document.entry(key) else { return &[] };
    if value.mapping().is_none() && !value.is_null() {
        wrong_type(
            findings,
            at.at,
            key,
            "a mapping, with the name of a registry before each entry and no hyphen",
        );
    }
    value.entries()
}

/// The endpoints of a mirror. k3s completes those without a scheme, and takes a slash or /v2 at the end.
fn endpoints<'a>(findings: &mut FileFindings<'_>, host: &str, mirror: &'a Node) -> Vec<(&'a str, Position)> {
    let Some(Entry { key, value }) = mirror.entry("endpoint") else { return Vec::new() };
    if value.sequence().is_none() && !value.is_null() {
        wrong_type(
            findings,
            key.at,
            &format!("mirrors.{host}.endpoint"),
            "a list: a hyphen before each endpoint",
        );
        return Vec::new();
    }
    let found: Vec<(&str, Position)> =
        value.items().iter().filter_map(|item| Some((item.text()?, item.at))).collect();
    for (number, (endpoint, at)) in found.iter().enumerate() {
        if found[..number].iter().any(|(other, _)| other == endpoint) {
            let words = [
                format!("the endpoint {} stands here twice", url::parts(endpoint).shown()),
                "k3s and RKE2 before March 2024 write a hosts.toml of it that containerd ignores; later ones skip it".to_owned(),
                "remove one of the two".to_owned(),
            ];
            findings.warning("duplicate-endpoint", *at, words);
        } else if url::parts(endpoint).path != "/" {
            config_toml::check_endpoint(findings, endpoint, *at);
        }
    }
    found
}

fn wrong_type(findings: &mut FileFindings<'_>, at: Position, what: &str, wanted: &str) {
    let words = [
        format!("{what} is not {}", wanted.split([',', ':']).next().unwrap_or(wanted)),
        STOPS.to_owned(),
        format!("write {wanted}"),
    ];
    findings.error("wrong-type", at, words);
}

fn unknown(findings: &mut FileFindings<'_>, table: &Node, known: &[&str]) {
    for Entry { key: Key { name: key, at, .. }, .. } in table.entries() {
        if known.contains(&key.as_str()) {
            continue;
        }
        let meant = nearest(key, known).map(|key| format!(": did you mean {key}?")).unwrap_or_default();
        let words = [
            format!("the key {key:?} is not known here"),
            "it is passed over without a word, and what it was to say is not said".to_owned(),
            format!("known are {}{meant}", known.join(", ")),
        ];
        findings.error("unknown-key", *at, words);
    }
}

fn name(findings: &mut FileFindings<'_>, host: &str, at: Position) {
    let parts = url::parts(host);
    if url::is_docker_alias(parts.authority) || parts.scheme.is_some() || !parts.path.is_empty() {
        let right = if url::is_docker_alias(parts.authority) { "docker.io" } else { parts.authority };
        let words = [
            format!("{host} is not what runtimes call the registry"),
            "the mirror is never asked".to_owned(),
            format!("write {right}"),
        ];
        findings.error("wrong-registry-name", at, words);
    }
}

fn check_rewrite(findings: &mut FileFindings<'_>, rewrite: &Node, with_path: Option<(&str, Position)>) {
    for Entry { key, value: replacement } in rewrite.entries() {
        let pattern = &key.name;
        let Some(text) = replacement.text() else { continue };
        let at = key.at;
        if let Err(error) = regex::Regex::new(pattern) {
            let why = error.to_string().lines().last().unwrap_or_default().to_owned();
            let words = [
                format!("{pattern:?} is not a regular expression: {why}"),
                "the node's k3s or RKE2 does not start".to_owned(),
                "correct the pattern".to_owned(),
            ];
            findings.error("bad-rewrite", at, words);
        }
        if text.contains("\\1") {
            let words = [
                format!("\\1 in {text:?} stands for nothing"),
                "the name is rewritten to one that is not on the mirror, and the upstream is asked"
                    .to_owned(),
                format!("write {:?}", text.replace("\\1", "$1")),
            ];
            findings.error("bad-rewrite", at, words);
        }
        if text.starts_with('/') || text.split('/').any(|part| part == "v2") {
            let right = text.trim_start_matches('/').trim_start_matches("v2/");
            let words = [
                format!("the rewrite to {text:?} is not the name of a repository"),
                "the mirror is asked for a name that it does not have, and then the upstream".to_owned(),
                format!("write {right:?}"),
            ];
            findings.error("bad-rewrite", at, words);
        }
        if let Some((endpoint, endpoint_at)) = with_path {
            let words = [
                format!(
                    "a rewrite stands beside a namespace in the endpoint {} (line {})",
                    url::parts(endpoint).shown(),
                    endpoint_at.line
                ),
                "both are put in front of the name: the mirror is asked for a name that it does not have"
                    .to_owned(),
                "keep one of them".to_owned(),
            ];
            findings.error("rewrite-and-path", at, words);
        }
    }
}

/// Settings for a host that is not asked: endpoints are looked up by their own host and port.
fn config_name(
    findings: &mut FileFindings<'_>,
    host: &str,
    at: Position,
    config: &Node,
    mirrors: &[Mirror<'_>],
    named: &[&str],
) {
    let parts = url::parts(host);
    let effect = "its certificates and credentials are not used for any mirror".to_owned();
    let authorities: Vec<&str> = mirrors.iter().flat_map(|mirror| mirror.endpoints.iter().copied()).collect();
    if parts.scheme.is_some() || !parts.path.is_empty() {
        let what = format!("configs has {}, which is not HOST or HOST:PORT", parts.shown());
        findings.error("config-for-nobody", at, [what, effect, format!("write {}", parts.authority)]);
        return;
    }
    let mirror = mirrors.iter().find(|mirror| mirror.host == host);
    let bare = mirror.and_then(|mirror| {
        mirror.endpoints.iter().find(|endpoint| **endpoint != host && !named.contains(endpoint))
    });
    if let Some(endpoint) = bare.filter(|_| config.get("tls").is_some_and(|tls| !tls.is_null())) {
        let words = [
            format!(
                "configs.{host} has tls, and what is asked for {host} is {endpoint}, which configs does not name"
            ),
            format!("it is used where {host} itself is asked: the mirror's certificate is not trusted"),
            format!("write configs.{endpoint:?}"),
        ];
        findings.error("config-for-nobody", at, words);
    } else if let Some(endpoint) = url::other_port(host, &authorities).filter(|_| mirror.is_none()) {
        let what = format!("configs has {host}, and the endpoint is {endpoint}");
        findings.warning("config-for-nobody", at, [what, effect, format!("write {endpoint}")]);
    }
}

fn check_tls(findings: &mut FileFindings<'_>, tls: &Node, host: &str, files: &dyn Files) {
    unknown(findings, tls, &["ca_file", "cert_file", "key_file", "insecure_skip_verify"]);
    let path = |key: &str| {
        let node = tls.get(key)?;
        Some((Path::new(node.text().filter(|path| !path.is_empty())?), node.at))
    };
    let effect = "pulls that would use this mirror fail";
    if let Some((path, at)) = path("ca_file") {
        findings.authority(files, at, path, effect);
    }
    if let (Some((certificate, at)), Some((key, _))) = (path("cert_file"), path("key_file")) {
        findings.client(files, at, certificate, Some(key), effect);
    }
    if let Some(node) = tls.get("insecure_skip_verify").filter(|node| node.is_true()) {
        findings.unverified(node.at, host);
    }
}
