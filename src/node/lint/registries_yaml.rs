//! `registries.yaml` of k3s and RKE2.
//!
//! <https://docs.k3s.io/installation/private-registry>

use std::path::Path;

use super::{FileFindings, Files, config_toml, url};
use crate::document::{Entry, Key, Node, Position, nearest, yaml};

pub(super) fn check(findings: &mut FileFindings<'_>, files: &dyn Files) {
    let documents = match yaml::read(&findings.source.text) {
        Ok(documents) => documents,
        Err(error) => {
            let effect = "the node's k3s or RKE2 does not start again".to_owned();
            return findings.error("not-yaml", error.at, [error.message, effect, error.fix]);
        }
    };
    let Some(document) = documents.first() else { return };
    unknown(findings, document, &["mirrors", "configs"]);
    let mirrors = document.get("mirrors").map(Node::entries).unwrap_or_default();
    let mut authorities = Vec::new();
    for Entry { key: Key { name: host, at, .. }, value: mirror } in mirrors {
        unknown(findings, mirror, &["endpoint", "rewrite"]);
        name(findings, host, *at);
        let endpoints = mirror.get("endpoint").map(Node::texts).unwrap_or_default();
        for (endpoint, at) in &endpoints {
            let parts = url::parts(endpoint);
            authorities.push(parts.authority);
            config_toml::check_endpoint(findings, endpoint, *at);
            if parts.scheme.is_none() {
                let words = [
                    format!("the endpoint {endpoint} has no scheme"),
                    "what stands before the port may be taken for one: the mirror is not asked".to_owned(),
                    format!("write https://{endpoint}"),
                ];
                findings.error("no-scheme", *at, words);
            }
        }
        if let Some(rewrite) = mirror.get("rewrite") {
            let with_path =
                endpoints.iter().find(|(endpoint, _)| !url::parts(endpoint).namespace().is_empty());
            check_rewrite(findings, rewrite, with_path.copied());
        }
    }
    for Entry { key: Key { name: host, at, .. }, value: config } in
        document.get("configs").map(Node::entries).unwrap_or_default()
    {
        unknown(findings, config, &["auth", "tls"]);
        config_name(findings, host, *at, &authorities);
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

fn unknown(findings: &mut FileFindings<'_>, table: &Node, known: &[&str]) {
    for Entry { key: Key { name: key, at, .. }, .. } in table.entries() {
        if known.contains(&key.as_str()) {
            continue;
        }
        let meant = nearest(key, known).map(|key| format!(": did you mean {key}?")).unwrap_or_default();
        let words = [
            format!("the key {key:?} is not known here"),
            "it is passed over without a word, or the node does not start".to_owned(),
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

fn config_name(findings: &mut FileFindings<'_>, host: &str, at: Position, authorities: &[&str]) {
    let parts = url::parts(host);
    let effect = "its certificates and credentials are not used for any mirror".to_owned();
    if parts.scheme.is_some() || !parts.path.is_empty() {
        let words = [
            format!("configs has {}, which is not HOST or HOST:PORT", parts.shown()),
            effect,
            format!("write {}", parts.authority),
        ];
        findings.error("config-for-nobody", at, words);
    } else if let Some(endpoint) = url::other_port(host, authorities) {
        let words = [
            format!("configs has {host}, and the endpoint is {endpoint}"),
            effect,
            format!("write {endpoint}"),
        ];
        findings.warning("config-for-nobody", at, words);
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
