//! `registries.conf` of CRI-O, Podman, Buildah and Skopeo, with its drop-ins: what `sysregistriesv2` of containers/image makes
//! of each file. Most of what is wrong there makes the library refuse everything, and then every pull on the node fails.
//!
//! <https://github.com/containers/image/blob/main/docs/containers-registries.conf.5.md>

mod drop_ins;
mod registry;

pub(super) use drop_ins::check as check_drop_ins;

use super::{FileFindings, LintOptions, url};
use crate::document::{Entry, Key, Node, Position, Severity, nearest, toml};
use crate::node::hosts::Version;

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
    let is_drop_in = drop_in_name(findings);
    first_form(findings, &document, is_drop_in, options);
    for Entry { key: Key { name, at, .. }, .. } in document.entries() {
        if !TOP_KEYS.contains(&name.as_str()) && name != "registries" {
            unknown(findings, *at, name, &TOP_KEYS);
        }
    }
    search_registries(findings, &document);
    if let Some(node) = document.get("short-name-mode") {
        let mode = node.text().unwrap_or("?");
        if !mode.is_empty() && !MODES.contains(&mode) {
            refused(
                findings,
                "unknown-value",
                node.at,
                format!("short-name-mode = {mode:?} is not known"),
                format!("write {}", MODES.join(", ")),
            );
        }
    }
    aliases(findings, &document);
    let Some(Entry { key, value }) = document.entry("registry") else { return };
    match value.sequence() {
        Some(registries) => registry::check(findings, registries),
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

/// Something that makes the library refuse everything.
fn refused(findings: &mut FileFindings<'_>, rule: &'static str, at: Position, what: String, fix: String) {
    findings.error(rule, at, [what, REFUSED.to_owned(), fix]);
}

/// Whether the file is a drop-in; one whose name does not end in `.conf` is none.
fn drop_in_name(findings: &mut FileFindings<'_>) -> bool {
    let path = &findings.source.path;
    let in_folder = path.parent().is_some_and(|folder| folder.ends_with("registries.conf.d"));
    if in_folder && path.extension().is_none_or(|extension| extension != "conf") {
        let words = [
            "a drop-in whose name does not end in .conf".to_owned(),
            "the runtime passes it over: no mirror is asked".to_owned(),
            "rename it to end in .conf".to_owned(),
        ];
        findings.error("drop-in-name", None, words);
    }
    in_folder
}

/// `[registries.search]` and so on.
fn first_form(findings: &mut FileFindings<'_>, document: &Node, is_drop_in: bool, options: &LintOptions) {
    let Some(Entry { key, value }) = document.entry("registries") else { return };
    let says =
        |table: &str| value.at_path(&[table, "registries"]).is_some_and(|list| !list.items().is_empty());
    let fix =
        "write unqualified-search-registries = […] at the top, and [[registry]] with insecure or blocked"
            .to_owned();
    if document.entries().iter().any(|entry| TOP_KEYS.contains(&entry.key.name.as_str())) {
        let what = "tables of the first form ([registries.…]) stand beside those of the second".to_owned();
        refused(findings, "both-styles", key.at, what, fix);
    } else if is_drop_in {
        refused(
            findings,
            "first-form",
            key.at,
            "a drop-in in the first form ([registries.…])".to_owned(),
            fix,
        );
    } else if FIRST.into_iter().any(says) {
        let what = "the file has the first form (version 1, [registries.search] and so on)".to_owned();
        match options.podman {
            Some(podman) if podman >= Version::new(6, 0, 0) => {
                refused(findings, "first-form", key.at, what, fix);
            }
            _ => {
                let effect = "it is converted, has no mirrors, and is refused from Podman 6 (containers/image 5.40) on: every pull fails then";
                findings.warning("first-form", key.at, [what, effect.to_owned(), fix]);
            }
        }
    }
}

fn search_registries(findings: &mut FileFindings<'_>, document: &Node) {
    for (name, at) in document.get("unqualified-search-registries").map(Node::texts).unwrap_or_default() {
        let parts = url::parts(name);
        let bare = parts.authority.to_owned();
        if parts.scheme.is_some() || !parts.path.trim_end_matches('/').is_empty() || bare.is_empty() {
            let why = if parts.scheme.is_some() { "a scheme" } else { "a path" };
            let what = format!(
                "unqualified-search-registries has {name:?}, and takes names of registries without {why}"
            );
            let fix = if parts.path.len() > 1 {
                format!("write {bare:?}, and a [[registry]] with a prefix for the path")
            } else {
                format!("write {bare:?}")
            };
            refused(findings, "search-registry", at, what, fix);
        }
    }
}

fn aliases(findings: &mut FileFindings<'_>, document: &Node) {
    for Entry { key, value } in document.get("aliases").map(Node::entries).unwrap_or_default() {
        let Some(name) = value.text().filter(|name| !name.is_empty()) else { continue };
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
