//! `registries.conf` of CRI-O, Podman, Buildah and Skopeo, with its drop-ins: what `sysregistriesv2` of containers/image makes
//! of each file. Most of what is wrong there makes the library refuse everything, and then every pull on the node fails.
//!
//! <https://github.com/containers/image/blob/main/docs/containers-registries.conf.5.md>

mod drop_ins;
mod first_form;
mod location;
mod place;
mod reference;
mod registry;
mod table;
mod types;

pub(super) use drop_ins::check as check_drop_ins;

use place::FileRole;

use super::{FileFindings, LintOptions, url};
use crate::document::{Entry, Key, Node, Position, Severity, nearest, toml};

const TOP_KEYS: [&str; 6] = [
    "registry",
    "unqualified-search-registries",
    "short-name-mode",
    "credential-helpers",
    "additional-layer-store-auth-helper",
    "aliases",
];
const MODES: [&str; 3] = ["enforcing", "permissive", "disabled"];
/// The tables of the first form.
const FIRST: [&str; 3] = ["search", "insecure", "block"];
const REFUSED: &str = "the runtime refuses the whole configuration, and every pull fails on the node";

pub(super) fn check(findings: &mut FileFindings<'_>, options: &LintOptions) {
    let document = match toml::read(&findings.source.text) {
        Ok(document) => document,
        Err(error) => {
            return findings.error("not-toml", error.at, [error.message, REFUSED.to_owned(), error.fix]);
        }
    };
    let place = FileRole::of(&findings.source.path);
    if let FileRole::Unread(why) = place {
        place::unread(findings, why);
    }
    types::check(findings, &document);
    first_form::check(findings, &document, place == FileRole::DropIn, options);
    for Entry { key: Key { name, at, .. }, .. } in document.entries() {
        if !TOP_KEYS.contains(&name.as_str()) && name != "registries" {
            unknown(findings, *at, name, &TOP_KEYS);
        }
    }
    let searched = document.get("unqualified-search-registries").filter(|list| list.sequence().is_some());
    search_registries(
        findings,
        "unqualified-search-registries",
        &searched.map(Node::texts).unwrap_or_default(),
    );
    let mode = document.get("short-name-mode").and_then(|node| Some((node.at, node.text()?)));
    if let Some((at, mode)) = mode.filter(|(_, mode)| !mode.is_empty() && !MODES.contains(mode)) {
        let what = format!("short-name-mode = {mode:?} is not known");
        refused(findings, "unknown-value", at, what, format!("write {}", MODES.join(", ")));
    }
    aliases(findings, &document);
    let Some(Entry { key, value }) = document.entry("registry") else { return };
    match value.sequence() {
        Some(registries) => registry::check(findings, registries, options),
        None if value
            .mapping()
            .is_some_and(|table| table.entries.iter().any(|entry| entry.key.name == "mirror")) =>
        {
            let what = "[[registry.mirror]] stands here without a [[registry]] above it".to_owned();
            refused(
                findings,
                "mirror-without-registry",
                key.at,
                what,
                "write [[registry]] with its prefix and location above it".to_owned(),
            );
        }
        None => {
            let what = "registry is not a list of tables".to_owned();
            refused(findings, "wrong-type", key.at, what, "write [[registry]] with two brackets".to_owned());
        }
    }
}

/// Why no name of an image can begin with a place.
pub(super) fn place_fault(location: &str) -> Option<String> {
    reference::fault(location, false, false)
}

/// Something that makes the library refuse everything.
fn refused(findings: &mut FileFindings<'_>, rule: &'static str, at: Position, what: String, fix: String) {
    findings.error(rule, at, [what, REFUSED.to_owned(), fix]);
}

/// Hosts in which names without one are looked for.
fn search_registries(findings: &mut FileFindings<'_>, key: &str, listed: &[(&str, Position)]) {
    for (name, at) in listed {
        let parts = url::parts(name);
        let bare = parts.authority.to_owned();
        let why = if parts.scheme.is_some() {
            "a scheme"
        } else if !parts.path.trim_end_matches('/').is_empty() {
            "a path"
        } else if !reference::is_host(&bare) {
            "anything that no host has"
        } else {
            continue;
        };
        let what = format!("{key} has {name:?}, and takes names of registries without {why}");
        let fix = if parts.path.len() > 1 {
            format!("write {bare:?}, and a [[registry]] with a prefix for the path")
        } else if reference::is_host(&bare) {
            format!("write {bare:?}")
        } else {
            "write a host, as \"docker.io\", or leave it out".to_owned()
        };
        refused(findings, "search-registry", *at, what, fix);
    }
}

fn aliases(findings: &mut FileFindings<'_>, document: &Node) {
    for Entry { key, value } in document.get("aliases").map(Node::entries).unwrap_or_default() {
        let Some(name) = value.text() else { continue };
        alias_name(findings, key);
        if name.is_empty() {
            continue;
        }
        let last = name.rsplit('/').next().unwrap_or(name);
        let is_whole = name.split_once('/').is_some_and(|(host, _)| url::is_registry_name(host));
        if !is_whole || last.contains(':') || name.contains('@') {
            let what = format!(
                "the alias {:?} stands for {name:?}, which is not a whole name without a tag",
                key.name
            );
            refused(
                findings,
                "bad-alias",
                key.at,
                what,
                format!("write \"REGISTRY/{}\"", last.split(':').next().unwrap_or(last)),
            );
        }
    }
}

/// The name itself is short: without a registry, a tag or a digest.
fn alias_name(findings: &mut FileFindings<'_>, key: &Key) {
    let (host, rest) = key.name.split_once('/').unwrap_or(("", &key.name));
    let what = if !host.is_empty() && url::is_registry_name(host) {
        "a registry"
    } else if rest.contains(['@', ':']) {
        "a tag or a digest"
    } else {
        return;
    };
    let right = rest.split(['@', ':']).next().unwrap_or(rest);
    let what = format!("{:?} is no short name: it has {what}", key.name);
    refused(findings, "bad-alias", key.at, what, format!("write {right:?} = \"REGISTRY/…\""));
}

fn unknown(findings: &mut FileFindings<'_>, at: Position, key: &str, known: &[&str]) {
    let meant = nearest(key, known).map(|key| format!(": did you mean {key}?")).unwrap_or_default();
    let words = [
        format!("the runtime does not know the key {key:?} here"),
        "it is passed over without a word".to_owned(),
        format!("known are {}{meant}", known.join(", ")),
    ];
    findings.error("unknown-key", at, words);
}

/// A key that stands below a line that begins another table.
fn misplaced(
    findings: &mut FileFindings<'_>,
    severity: Severity,
    key: &Key,
    table: &str,
    begins: Position,
    to: &str,
) {
    let words = [
        format!("{} stands below {table} (line {}), and belongs to that table", key.name, begins.line),
        "it is passed over without a word".to_owned(),
        format!("move {} {to}", key.name),
    ];
    findings.add(severity, "misplaced-key", key.at, words);
}
