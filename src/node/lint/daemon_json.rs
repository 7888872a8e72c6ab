//! The Docker daemon's `daemon.json`, as moby reads it.
//!
//! `ValidateMirror` and `loadInsecureRegistries` in
//! <https://github.com/moby/moby/blob/master/daemon/pkg/registry/config.go>, unknown keys and types in
//! <https://github.com/moby/moby/blob/master/daemon/config/config.go>. Mirrors with a path are taken since 25.0 and 24.0.8
//! (<https://github.com/moby/moby/pull/46594>, <https://github.com/moby/moby/pull/46944>).

use std::net::IpAddr;

use super::{FileFindings, url};
use crate::document::{Entry, Node, Position, json};

const STOPS: &str = "the daemon does not start again";

pub(super) fn check(findings: &mut FileFindings<'_>) {
    // A byte order mark is taken off, and an empty file is one without settings.
    let text = findings.source.text.trim_start_matches('\u{feff}');
    if text.trim().is_empty() {
        return;
    }
    let document = match json::read(text) {
        Ok(document) => document,
        Err(error) => {
            let effect = STOPS.to_owned();
            return findings.error("not-json", error.at, [error.message, effect, error.fix]);
        }
    };
    for Entry { key, .. } in document.entries() {
        let meant = match key.name.as_str() {
            "registry-mirror" | "registry_mirrors" | "registryMirrors" | "mirrors" => "registry-mirrors",
            "insecure-registry" | "insecure_registries" | "insecureRegistries" => "insecure-registries",
            "auths" | "auth" | "credHelpers" | "credsStore" => "the config.json of the user who pulls",
            _ => continue,
        };
        let words = [
            format!("the daemon does not know the key {:?}", key.name),
            STOPS.to_owned(),
            format!("it belongs into {meant}"),
        ];
        findings.error("unknown-key", key.at, words);
    }
    for key in ["registry-mirrors", "insecure-registries"] {
        for (text, at) in list(findings, &document, key) {
            if key == "registry-mirrors" {
                check_mirror(findings, text, at);
            } else {
                check_insecure(findings, text, at);
            }
        }
        nested(findings, &document, key);
    }
}

/// The entries of a list of texts.
fn list<'a>(findings: &mut FileFindings<'_>, document: &'a Node, key: &str) -> Vec<(&'a str, Position)> {
    let Some(Entry { key: at, value }) = document.entry(key) else { return Vec::new() };
    let is_list =
        value.is_null() || value.sequence().is_some_and(|items| items.iter().all(|it| it.text().is_some()));
    if !is_list {
        let what = format!("{key} is not a list of texts");
        findings.error("wrong-type", at.at, [what, STOPS.to_owned(), format!("write {key:?}: [\"…\"]")]);
    }
    value.texts()
}

/// The daemon takes keys of any table for known ones, and reads these at the top alone.
fn nested(findings: &mut FileFindings<'_>, document: &Node, key: &str) {
    for Entry { key: table, value } in document.entries() {
        if let Some(entry) = value.entry(key) {
            let words = [
                format!("{key} stands inside {:?}", table.name),
                "the daemon passes it over without a word: no mirror is asked".to_owned(),
                format!("move {key:?} to the top of the file"),
            ];
            findings.error("misplaced-key", entry.key.at, words);
        }
    }
}

/// A host with or without a port, or a network.
fn check_insecure(findings: &mut FileFindings<'_>, registry: &str, at: Position) {
    let parts = url::parts(registry);
    let right = || format!("write {}", parts.authority);
    match parts.scheme.map(str::to_ascii_lowercase).as_deref() {
        None | Some("http" | "https") => {}
        Some(other) => {
            let what = format!("{other}:// is no part of a registry's name");
            return findings.error("scheme-in-location", at, [what, STOPS.to_owned(), right()]);
        }
    }
    let is_network = parts.scheme.is_none() && is_network(registry);
    let is_hyphenated = registry.starts_with('-') || registry.ends_with('-');
    let has_path = !parts.path.is_empty() && !is_network;
    if has_path || is_hyphenated || parts.userinfo.is_some() || parts.query {
        let what = format!("{} is neither HOST:PORT nor a network", parts.shown());
        findings.error("not-a-host", at, [what, STOPS.to_owned(), right()]);
    } else if parts.scheme.is_some() {
        let words = [
            format!("{registry} has a scheme"),
            "the daemon leaves it out and warns of it in its log".to_owned(),
            right(),
        ];
        findings.warning("scheme-in-location", at, words);
    }
}

/// `ADDRESS/BITS`.
fn is_network(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    bits.parse::<u8>().is_ok_and(|bits| bits <= most)
}

fn check_mirror(findings: &mut FileFindings<'_>, mirror: &str, at: Position) {
    let parts = url::parts(mirror);
    let stops = STOPS.to_owned();
    match parts.scheme {
        None => {
            let words =
                [format!("the mirror {mirror} has no scheme"), stops, format!("write https://{mirror}")];
            return findings.error("no-scheme", at, words);
        }
        Some("http") => findings.plain_http(at, &parts.shown()),
        Some("https") => {}
        Some(other) => {
            let words = [
                format!("{other} is not a scheme for mirrors"),
                stops.clone(),
                format!("write https://{}", parts.authority),
            ];
            findings.error("no-scheme", at, words);
        }
    }
    if parts.userinfo.is_some() || parts.query {
        let words = [
            format!("a user name or a query stands in the URL of {}", parts.authority),
            stops,
            format!("write https://{}", parts.authority),
        ];
        findings.error("password-in-url", at, words);
    } else if !parts.segments().is_empty() {
        let double = parts.segments().contains(&"v2");
        let effect = if double {
            "the daemon does not start again before 25.0 and 24.0.8; later ones put another /v2 behind the path, which no registry has"
        } else {
            "the daemon does not start again before 25.0 and 24.0.8; later ones ask below the path, where some registries answer (Nexus) and most do not"
        };
        let words = [
            format!("{} has a path", parts.shown()),
            effect.to_owned(),
            "give docker.io a host or port of its own on the mirror, and name its root".to_owned(),
        ];
        findings.error(if double { "double-v2" } else { "mirror-with-path" }, at, words);
    }
}
