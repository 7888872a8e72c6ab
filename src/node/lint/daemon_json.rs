//! The Docker daemon's `daemon.json`, as moby reads it.
//!
//! `ValidateMirror` and `loadInsecureRegistries` in
//! <https://github.com/moby/moby/blob/master/daemon/pkg/registry/config.go>, unknown keys and types in
//! <https://github.com/moby/moby/blob/master/daemon/config/config.go>. Mirrors with a path are taken since 25.0 and 24.0.8
//! (<https://github.com/moby/moby/pull/46594>, <https://github.com/moby/moby/pull/46944>).

mod keys;

use std::net::IpAddr;

use super::{FileFindings, url};
use crate::document::{Entry, Node, Position, json};
use crate::node::hosts;

const STOPS: &str = "the daemon does not start again";
/// Registries that hold no images of Docker Hub.
const PUBLIC: [&str; 8] = [
    "gcr.io",
    "ghcr.io",
    "k8s.gcr.io",
    "mcr.microsoft.com",
    "nvcr.io",
    "quay.io",
    "registry.k8s.io",
    "registry.redhat.io",
];

pub(super) fn check(findings: &mut FileFindings<'_>) {
    // A byte order mark is taken off, and an empty file is one without settings.
    let text = findings.source.text.trim_start_matches('\u{feff}');
    if matches!(text.trim(), "" | "null") {
        return;
    }
    let document = match json::read(text) {
        Ok(document) => document,
        // Go's reader takes them.
        Err(error) if error.message.contains("for the second time") => {
            let effect =
                "the daemon takes the later one alone. What else is wrong here shows when that is mended";
            return findings.warning("key-twice", error.at, [error.message, effect.to_owned(), error.fix]);
        }
        Err(error) => {
            let effect = STOPS.to_owned();
            return findings.error("not-json", error.at, [error.message, effect, error.fix]);
        }
    };
    if document.mapping().is_none() {
        let words =
            ["the file is not an object".to_owned(), STOPS.to_owned(), "write { … } around it".to_owned()];
        return findings.error("wrong-type", document.at, words);
    }
    keys::check(findings, &document);
    for key in ["registry-mirrors", "insecure-registries"] {
        for (text, at) in list(&document, key) {
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
fn list<'a>(document: &'a Node, key: &str) -> Vec<(&'a str, Position)> {
    let list = document.get(key).filter(|value| value.sequence().is_some());
    list.map(Node::texts).unwrap_or_default()
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
    let scheme = parts.scheme.map(str::to_ascii_lowercase);
    let right = || format!("write https://{}", parts.authority);
    if mirror.trim().is_empty() {
        let words = ["registry-mirrors has an empty mirror".to_owned(), stops, "remove it".to_owned()];
        return findings.error("no-scheme", at, words);
    }
    // Not shown: what stands before an @ may be a password.
    let shown = mirror.rsplit('@').next().unwrap_or(mirror);
    if mirror.contains([',', ';', ' ']) || mirror.matches("://").count() > 1 {
        let what = format!("the mirror {shown:?} holds several addresses, or blanks");
        let fix = "write each address in quotes of its own, with a comma between them".to_owned();
        return findings.error("bad-address", at, [what, stops, fix]);
    }
    match scheme.as_deref() {
        None => {
            let words =
                [format!("the mirror {shown} has no scheme"), stops, format!("write https://{shown}")];
            return findings.error("no-scheme", at, words);
        }
        Some("http") => findings.plain_http(at, &parts.shown()),
        Some("https") => {}
        Some(_)
            if mirror.to_ascii_lowercase().contains("http://")
                || mirror.to_ascii_lowercase().contains("https://") =>
        {
            let what = format!("something stands before the scheme of the mirror {shown:?}");
            return findings.error("no-scheme", at, [what, stops, right()]);
        }
        Some(other) => {
            let what = format!("{other} is not a scheme for mirrors");
            return findings.error("no-scheme", at, [what, stops, right()]);
        }
    }
    let fault = url::garbled(mirror).map(str::to_owned).or_else(|| hosts::url_fault(mirror));
    if let Some(why) = fault {
        let what = format!("the mirror {shown:?} is not the address of a registry: {why}");
        let fix = "write https://HOST or https://HOST:PORT".to_owned();
        return findings.error("bad-address", at, [what, stops, fix]);
    }
    if parts.userinfo.is_some() || parts.query {
        let words =
            [format!("a user name or a query stands in the URL of {}", parts.authority), stops, right()];
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
    } else if PUBLIC.contains(&parts.authority) {
        let words = [
            format!("{} is a registry of its own, and no mirror of Docker Hub", parts.authority),
            "registry-mirrors are asked for images of docker.io alone: none of them is there".to_owned(),
            format!("remove it: images of {} are pulled by their whole names", parts.authority),
        ];
        findings.warning("not-a-mirror", at, words);
    }
}
