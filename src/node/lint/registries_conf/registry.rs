//! The tables `[[registry]]` and `[[registry.mirror]]` of one file.

use std::collections::BTreeMap;

use super::super::{FileFindings, LintOptions, url};
use super::location::{asks_upstream, prefix_form};
use super::table::RegistryTable;
use super::{TOP_KEYS, misplaced, refused, unknown};
use crate::document::{Entry, Node, Position, Severity};

const KEYS: [&str; 6] = ["prefix", "location", "insecure", "blocked", "mirror-by-digest-only", "mirror"];
const MIRROR_KEYS: [&str; 3] = ["location", "insecure", "pull-from-mirror"];

pub(super) fn check(findings: &mut FileFindings<'_>, tables: &[Node], options: &LintOptions) {
    let registries: Vec<RegistryTable<'_>> = tables.iter().map(RegistryTable::of).collect();
    for registry in &registries {
        check_one(findings, registry);
        if options.no_fallback {
            asks_upstream(findings, registry);
        }
    }
    together(findings, &registries);
    on_the_last(findings, &registries);
}

fn check_one(findings: &mut FileFindings<'_>, registry: &RegistryTable<'_>) {
    let node = registry.node;
    keys(findings, node, &KEYS, "[[registry]]");
    let prefix = node.get("prefix").and_then(Node::text).unwrap_or_default();
    // A value of another type has a finding of its own.
    let is_typed = |key: &str| node.get(key).is_none_or(|value| value.text().is_some());
    if !is_typed("location") || !is_typed("prefix") {
    } else if registry.location.is_empty() && registry.prefix.is_empty() {
        let what = "a [[registry]] with neither prefix nor location".to_owned();
        refused(
            findings,
            "no-location",
            node.at,
            what,
            "write prefix = \"gcr.io\" and location = \"gcr.io\"".to_owned(),
        );
    } else if registry.location.is_empty() && !prefix.starts_with("*.") {
        let what = format!("the prefix {prefix} has no location");
        refused(
            findings,
            "no-location",
            registry.at("prefix"),
            what,
            format!("write location = {prefix:?} beside it"),
        );
    }
    if !prefix.is_empty() {
        prefix_form(findings, prefix, registry.at("prefix"));
    } else if !registry.mirrors.is_empty() && url::is_docker_alias(url::parts(registry.location).authority) {
        prefix_form(findings, registry.location, registry.at("location"));
    }
    if !registry.location.is_empty() {
        registry.place(findings, registry.location, registry.at("location"));
    }
    if let Some(entry) = node.entry("pull-from-mirror") {
        let what = "pull-from-mirror stands in [[registry]], and is for mirrors alone".to_owned();
        refused(
            findings,
            "misplaced-key",
            entry.key.at,
            what,
            "move it below [[registry.mirror]]".to_owned(),
        );
    }
    if registry.flag("insecure") {
        insecure(findings, registry.at("insecure"), registry.prefix);
    }
    mirrors(findings, registry);
}

fn mirrors(findings: &mut FileFindings<'_>, registry: &RegistryTable<'_>) {
    let by_digest = registry.flag("mirror-by-digest-only");
    let mut takes_tags = registry.mirrors.is_empty();
    let mut digest_only = by_digest.then(|| registry.at("mirror-by-digest-only"));
    let mut seen: BTreeMap<(&str, &str), Position> = BTreeMap::new();
    for mirror in registry.mirrors {
        keys(findings, mirror, &MIRROR_KEYS, "[[registry.mirror]]");
        let location = mirror.get("location").and_then(Node::text).unwrap_or_default();
        let at = mirror.get("location").map_or(mirror.at, |node| node.at);
        if mirror.get("location").is_some_and(|value| value.text().is_none()) {
        } else if location.trim_end_matches('/').is_empty() {
            let fix = "write location = \"HOST:PORT[/NAMESPACE]\"".to_owned();
            refused(findings, "no-location", mirror.at, "a mirror without a location".to_owned(), fix);
        } else {
            registry.place(findings, location.trim_end_matches('/'), at);
        }
        if let Some(node) = mirror.get("insecure").filter(|node| node.is_true()) {
            insecure(findings, node.at, location);
        }
        let from = mirror.get("pull-from-mirror");
        let word = from.and_then(Node::text).unwrap_or_default();
        if let Some(first) = seen.insert((location, word), at) {
            let words = [
                format!("the mirror {location} stands here twice (first on line {})", first.line),
                "it is asked a second time for what it does not have".to_owned(),
                "remove one of the two".to_owned(),
            ];
            findings.warning("duplicate-mirror", at, words);
        }
        match from {
            Some(node) if by_digest && !word.is_empty() => {
                let both = registry.at("mirror-by-digest-only").line;
                let what = format!("pull-from-mirror stands beside mirror-by-digest-only (line {both})");
                refused(findings, "both-styles", node.at, what, "keep pull-from-mirror alone".to_owned());
            }
            Some(node) if !matches!(word, "" | "all" | "digest-only" | "tag-only") => {
                let what = format!("pull-from-mirror = {word:?} is not known");
                refused(
                    findings,
                    "unknown-value",
                    node.at,
                    what,
                    "write \"all\", \"digest-only\" or \"tag-only\"".to_owned(),
                );
            }
            Some(node) if word == "digest-only" => _ = digest_only.get_or_insert(node.at),
            _ => takes_tags |= !by_digest,
        }
    }
    if let Some(at) = digest_only.filter(|_| !takes_tags) {
        let words = [
            "the mirror is asked for digests alone".to_owned(),
            "an image named by its tag goes to the upstream, and is not found where there is none".to_owned(),
            "leave it out, or write pull-from-mirror = \"all\"".to_owned(),
        ];
        findings.warning("digest-only", at, words);
    }
}

/// Keys that are not known where they stand.
fn keys(findings: &mut FileFindings<'_>, table: &Node, known: &[&str], name: &str) {
    for Entry { key, .. } in table.entries() {
        let word = key.name.as_str();
        // Told of by itself.
        if known.contains(&word) || word == "pull-from-mirror" {
            continue;
        }
        if word != "registry" && TOP_KEYS.contains(&word) {
            misplaced(
                findings,
                Severity::Warning,
                key,
                name,
                table.at,
                "above the first [[registry]], to the top of the file",
            );
        } else if KEYS.contains(&word) {
            misplaced(
                findings,
                Severity::Error,
                key,
                name,
                table.at,
                "above [[registry.mirror]], to its [[registry]]",
            );
        } else {
            unknown(findings, key.at, word, known);
        }
    }
}

/// Entries that exclude each other.
fn together(findings: &mut FileFindings<'_>, registries: &[RegistryTable<'_>]) {
    let mut prefixes: BTreeMap<&str, Position> = BTreeMap::new();
    let mut locations: BTreeMap<&str, &RegistryTable<'_>> = BTreeMap::new();
    for registry in registries.iter().filter(|registry| !registry.prefix.is_empty()) {
        let location = if registry.location.is_empty() { registry.prefix } else { registry.location };
        let other = *locations.entry(location).or_insert(registry);
        let mut conflicts = false;
        for key in ["insecure", "blocked"] {
            if other.flag(key) != registry.flag(key) {
                conflicts = true;
                let what = format!(
                    "{location} is {key} here and not on line {}, or the reverse",
                    other.node.at.line
                );
                refused(
                    findings,
                    "conflicting-entries",
                    registry.node.at,
                    what,
                    format!("write the same {key} in both"),
                );
            }
        }
        match prefixes.get(registry.prefix) {
            Some(first) if !conflicts => {
                let words = [
                    format!(
                        "{} stands here for the second time (first on line {})",
                        registry.prefix, first.line
                    ),
                    "the first entry of a prefix counts alone: the mirrors of this one are never asked"
                        .to_owned(),
                    "put both into one [[registry]]".to_owned(),
                ];
                findings.error("duplicate-prefix", registry.node.at, words);
            }
            Some(_) => {}
            None => _ = prefixes.insert(registry.prefix, registry.node.at),
        }
    }
}

/// Mirrors of several registries that all stand below the last one.
fn on_the_last(findings: &mut FileFindings<'_>, registries: &[RegistryTable<'_>]) {
    let Some((last, others)) = registries.split_last() else { return };
    if last.mirrors.len() < 2 {
        return;
    }
    for mirror in last.mirrors {
        let Some(location) = mirror.get("location").and_then(Node::text) else { continue };
        let meant = others.iter().find(|other| {
            other.mirrors.is_empty() && names(location, other.prefix) && !names(location, last.prefix)
        });
        if let Some(other) = meant {
            let words = [
                format!("{location} is a mirror of {} here, and {} has none", last.prefix, other.prefix),
                format!(
                    "every [[registry.mirror]] belongs to the last [[registry]] above it: images of {} are not asked of it",
                    other.prefix
                ),
                format!("move it below the [[registry]] of {} (line {})", other.prefix, other.node.at.line),
            ];
            findings.warning("mirror-of-another", mirror.at, words);
        }
    }
}

/// Whether a part of a path speaks of a registry: `hub/dockerhub` of docker.io, `quayio` of quay.io.
fn names(location: &str, registry: &str) -> bool {
    let plain = |text: &str| {
        text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
    };
    let host = registry.split('/').next().unwrap_or(registry);
    let first = host.split('.').next().unwrap_or(host);
    let parts = location.split('/').skip(1).map(plain);
    parts
        .into_iter()
        .any(|part| part == plain(host) || part == plain(first) || first == "docker" && part == "dockerhub")
}

fn insecure(findings: &mut FileFindings<'_>, at: Position, of: &str) {
    let words = [
        format!("{of} is insecure"),
        "its certificate is not checked, and plain HTTP is good enough: anybody can pose as the mirror"
            .to_owned(),
        "put the authority's certificate into /etc/containers/certs.d/HOST:PORT/ca.crt instead".to_owned(),
    ];
    findings.warning("unverified-tls", at, words);
}
