//! `configs:`: credentials and certificates for the hosts that are asked.

use std::path::Path;

use super::{YamlMirror, shape, table, unknown, wrong_type};
use crate::document::{Entry, Key, Node, Position, Severity};
use crate::node::hosts::split_port;
use crate::node::lint::{FileFindings, NodeFiles, url};

const AUTH_KEYS: [&str; 4] = ["username", "password", "auth", "identity_token"];
const TLS_KEYS: [&str; 4] = ["ca_file", "cert_file", "key_file", "insecure_skip_verify"];
const IS_TRUTH: &str = "insecure_skip_verify";

pub(super) fn check(
    findings: &mut FileFindings<'_>,
    document: &Node,
    asked: &[YamlMirror<'_>],
    files: &dyn NodeFiles,
) {
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
        config_name(findings, host, *at, config, asked, &named);
        if let Some(Entry { key, value: auth }) = config.entry("auth")
            && leaves(findings, &format!("configs.{host}.auth"), auth, &AUTH_KEYS)
        {
            findings.readable_password(key.at);
        }
        if let Some(tls) = config.get("tls")
            && leaves(findings, &format!("configs.{host}.tls"), tls, &TLS_KEYS)
        {
            check_tls(findings, tls, files);
            if let Some(node) = tls.get(IS_TRUTH).filter(|node| node.is_true()) {
                findings.unverified(node.at, host);
            }
        }
    }
}

/// The keys of a table and the types of their values. Tells whether it is a table.
fn leaves(findings: &mut FileFindings<'_>, path: &str, table: &Node, known: &[&str]) -> bool {
    if table.mapping().is_none() {
        if !table.is_null() {
            wrong_type(findings, table.at, path, &format!("a mapping with {}", known.join(", ")));
        }
        return false;
    }
    unknown(findings, table, known);
    for Entry { key, value } in table.entries() {
        let path = format!("{path}.{}", key.name);
        if key.name == IS_TRUTH && !shape::is_boolean(value) {
            wrong_type(findings, value.at, &path, "true or false without quotes");
        } else if known.contains(&key.name.as_str()) && !shape::is_text(value) {
            wrong_type(findings, value.at, &path, "a text");
        }
    }
    true
}

/// Settings for a host that is not asked: endpoints are looked up by their own host and port.
fn config_name(
    findings: &mut FileFindings<'_>,
    host: &str,
    at: Position,
    config: &Node,
    mirrors: &[YamlMirror<'_>],
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
        // Where the endpoint has settings of its own, these are for images of that registry.
        let says = ["tls", "auth"].into_iter().any(|key| config.get(key).is_some_and(|it| !it.is_null()));
        let severity = if says && !named.contains(&endpoint) { Severity::Error } else { Severity::Warning };
        findings.add(severity, "config-for-nobody", at, [what, effect, format!("write {endpoint}")]);
    } else if let Some(endpoint) = near(host, &authorities, named).filter(|_| mirror.is_none()) {
        let words = [
            format!("configs has {host}, and the endpoint is {endpoint}, which configs does not name"),
            format!("it is for images named {host}/… alone, and the mirror is asked without"),
            format!("write {endpoint:?} if that is meant"),
        ];
        findings.warning("config-for-nobody", at, words);
    }
}

/// An endpoint without settings of its own, on the same port of a host whose name is nearly the same.
fn near<'a>(host: &str, endpoints: &[&'a str], named: &[&str]) -> Option<&'a str> {
    if endpoints.contains(&host) || host == "*" {
        return None;
    }
    let (name, port) = split_port(host);
    let is_near = |other: &str| {
        let (other, other_port) = split_port(other);
        let is_short = !name.contains('.') && other.split('.').next() == Some(name);
        other_port == port && other != name && (is_short || differs_by_little(name, other))
    };
    endpoints.iter().copied().find(|endpoint| !named.contains(endpoint) && is_near(endpoint))
}

/// Whether two names differ by one letter that is missing, too many or another. Numbers tell one host from the next.
fn differs_by_little(a: &str, b: &str) -> bool {
    let digits = |name: &str| name.chars().filter(char::is_ascii_digit).collect::<String>();
    if digits(a) != digits(b) {
        return false;
    }
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let front = short.bytes().zip(long.bytes()).take_while(|(a, b)| a == b).count();
    let back = short.bytes().rev().zip(long.bytes().rev()).take_while(|(a, b)| a == b).count();
    long.len() - short.len() <= 1 && front + back + 1 >= long.len()
}

fn check_tls(findings: &mut FileFindings<'_>, tls: &Node, files: &dyn NodeFiles) {
    let path = |key: &str| {
        let node = tls.get(key)?;
        Some((Path::new(node.text().filter(|path| !path.is_empty())?), node.at))
    };
    let effect = "pulls that would use this mirror fail";
    if let Some((path, at)) = path("ca_file") {
        findings.authority(files, at, path, effect);
    }
    let (one, other, at) = match (path("cert_file"), path("key_file")) {
        (Some((certificate, at)), Some((key, _))) => {
            return findings.client(files, at, certificate, Some(key), effect);
        }
        (Some((_, at)), None) => ("cert_file", "key_file", at),
        (None, Some((_, at))) => ("key_file", "cert_file", at),
        (None, None) => return,
    };
    // The hosts.toml that is written of it names the pair with a blank, which containerd takes for the folder of that file.
    let words = [
        format!("{one} stands here without {other}"),
        "containerd cannot read the pair: every pull that names this host fails".to_owned(),
        format!("name the other file in {other}; both may be one file"),
    ];
    findings.error("client-without-key", at, words);
}
