//! Talos: `machine.registries` of its main document, and the documents that have taken its place. Both are read strictly: a key
//! that is not known is refused.

use std::fmt::Write as _;

use super::{hosts_file, inside};
use crate::document::{Entry, Finding, Node, Position, nearest};
use crate::node::hosts::directory;
use crate::node::lint::{FileFindings, LintOptions, NodeFiles, url};

const REFUSES: &str = "Talos refuses the document";
/// What a patch may say of itself.
const PATCH: &str = "$patch";
const MIRROR: [&str; 3] = ["endpoints", "overridePath", "skipFallback"];
const TLS: [&str; 3] = ["clientIdentity", "ca", "insecureSkipVerify"];
const AUTH: [&str; 4] = ["username", "password", "auth", "identityToken"];

/// Keys that Talos does not know. One that resembles none may have come with a later version.
fn keys(findings: &mut FileFindings<'_>, table: &Node, known: &[&str]) {
    for Entry { key, .. } in table.entries() {
        let name = key.name.as_str();
        if known.contains(&name) || name == PATCH {
            continue;
        }
        let what = format!("Talos does not know the key {name:?} here");
        let list = known.join(", ");
        if let Some(meant) = nearest(name, known) {
            let fix = format!("known are {list}: did you mean {meant}?");
            findings.error("unknown-key", key.at, [what, REFUSES.to_owned(), fix]);
        } else {
            let effect = format!("unless a newer Talos knows it: {REFUSES}");
            findings.warning("unknown-key", key.at, [what, effect, format!("known are {list}")]);
        }
    }
}

/// A list where Talos reads one.
fn is_list(findings: &mut FileFindings<'_>, Entry { key, value }: &Entry) -> bool {
    let is_list = value.sequence().is_some() || value.is_null();
    if !is_list {
        let what = format!("{} is not a list", key.name);
        let fix = "write a hyphen before each endpoint".to_owned();
        findings.error("wrong-type", key.at, [what, REFUSES.to_owned(), fix]);
    }
    is_list
}

/// `machine.registries`.
pub(super) fn patch(
    findings: &mut FileFindings<'_>,
    registries: &Node,
    options: &LintOptions,
    files: &dyn NodeFiles,
) -> Vec<Finding> {
    keys(findings, registries, &["mirrors", "config"]);
    for Entry { value, .. } in registries.get("config").map(Node::entries).unwrap_or_default() {
        keys(findings, value, &["tls", "auth"]);
        value.get("tls").into_iter().for_each(|tls| keys(findings, tls, &TLS));
        value.get("auth").into_iter().for_each(|auth| keys(findings, auth, &AUTH));
    }
    let mut found = Vec::new();
    for Entry { key, value } in registries.get("mirrors").map(Node::entries).unwrap_or_default() {
        keys(findings, value, &MIRROR);
        if value.entry("endpoints").is_none_or(|entry| is_list(findings, entry)) {
            let mirror = TalosMirror::of_patch(&key.name, key.at, value);
            found.extend(mirror.check(findings, options, files));
        }
    }
    found
}

/// A document of its own.
pub(super) fn document(
    findings: &mut FileFindings<'_>,
    kind: &str,
    document: &Node,
    options: &LintOptions,
    files: &dyn NodeFiles,
) -> Vec<Finding> {
    let own: &[&str] = match kind {
        "RegistryTLSConfig" => &TLS,
        "RegistryAuthConfig" => &AUTH,
        _ => &["endpoints", "skipFallback"],
    };
    let known: Vec<&str> = ["apiVersion", "kind", "name"].into_iter().chain(own.iter().copied()).collect();
    keys(findings, document, &known);
    let name = document.entry("name").and_then(|entry| Some((entry.value.text()?, entry.value.at)));
    let Some((registry, at)) = name.filter(|(name, _)| !name.is_empty()) else {
        let what = format!("a {kind} without a name");
        let fix = "write name: and the registry".to_owned();
        findings.error("no-name", document.at, [what, REFUSES.to_owned(), fix]);
        return Vec::new();
    };
    let listed = document.entry("endpoints");
    if kind != super::TALOS[0] || listed.is_some_and(|entry| !is_list(findings, entry)) {
        return Vec::new();
    }
    let endpoints = document.get("endpoints").map(Node::items).unwrap_or_default();
    for endpoint in endpoints {
        keys(findings, endpoint, &["url", "overridePath"]);
    }
    let endpoints = endpoints.iter().filter_map(|node| {
        let url = node.get("url")?;
        Some((url.text()?, node.get("overridePath").is_some_and(Node::is_true), url.at))
    });
    let endpoints = endpoints.collect();
    let skips_fallback = document.get("skipFallback").is_some_and(Node::is_true);
    TalosMirror { registry, at, endpoints, skips_fallback }.check(findings, options, files)
}

/// The mirrors of one registry in a configuration of Talos.
struct TalosMirror<'a> {
    registry: &'a str,
    at: Position,
    endpoints: Vec<(&'a str, bool, Position)>,
    skips_fallback: bool,
}

impl<'a> TalosMirror<'a> {
    /// From `machine.registries.mirrors`, where one flag is for all endpoints.
    fn of_patch(registry: &'a str, at: Position, node: &'a Node) -> Self {
        let flag = |key: &str| node.get(key).is_some_and(Node::is_true);
        let overrides = flag("overridePath");
        let texts = node.get("endpoints").map(Node::texts).unwrap_or_default();
        let endpoints = texts.into_iter().map(|(url, at)| (url, overrides, at)).collect();
        Self { registry, at, endpoints, skips_fallback: flag("skipFallback") }
    }

    fn check(
        self,
        findings: &mut FileFindings<'_>,
        options: &LintOptions,
        files: &dyn NodeFiles,
    ) -> Vec<Finding> {
        let wrong = url::wrong_name(self.registry);
        // What is wrong with the endpoints does not follow from the name.
        let registry = if wrong.is_some() { "any.upstream" } else { self.registry };
        if let Some((why, right)) = wrong {
            let words = [why, "the mirror is never asked".to_owned(), format!("write {right}")];
            findings.error("wrong-registry-name", self.at, words);
        }
        if options.no_fallback && !self.skips_fallback {
            let words = [
                format!("nodes ask {} itself for what the mirror lacks", self.registry),
                "the upstream is asked".to_owned(),
                "write skipFallback: true".to_owned(),
            ];
            findings.error("asks-upstream", self.at, words);
        }
        let mut found = Vec::new();
        for (endpoint, overrides, at) in self.endpoints {
            let parts = url::parts(endpoint);
            if !matches!(parts.scheme, Some("http" | "https")) {
                let words = [
                    format!("{} is no http or https URL", parts.shown()),
                    REFUSES.to_owned(),
                    format!("write https://{}{}", parts.authority, parts.path),
                ];
                findings.error("no-scheme", at, words);
                continue;
            }
            // A "*" is written into _default, without a server.
            let mut text = String::new();
            if registry != "*" {
                let _ = writeln!(text, "server = \"https://{}\"", url::server_of(registry));
            }
            let _ = write!(text, "[host.{endpoint:?}]\ncapabilities = [\"pull\", \"resolve\"]\n");
            if overrides {
                text.push_str("override_path = true\n");
            }
            let written = hosts_file(if registry == "*" { directory::DEFAULT } else { registry }, text);
            let options = LintOptions { no_fallback: false, ..options.clone() };
            found.extend(inside(&written, findings.source, at, "", &options, files).into_iter().map(|it| {
                Finding {
                    what: it.what.replace("override_path", "overridePath"),
                    fix: it.fix.replace("override_path = true", "overridePath: true"),
                    ..it
                }
            }));
        }
        found
    }
}
