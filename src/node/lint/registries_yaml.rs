//! `registries.yaml` of k3s and RKE2, as `wharfie` reads it with yaml.v2 and as k3s makes a tree of `hosts.toml` of it.
//!
//! <https://docs.k3s.io/installation/private-registry>, `pkg/registries/types.go` of <https://github.com/rancher/wharfie>,
//! `pkg/agent/containerd/config.go` of <https://github.com/k3s-io/k3s>.

mod configs;
mod mirrors;
mod rewrite;
mod shape;

use std::path::Path;

use super::{FileFindings, LintOptions, NodeFiles};
use crate::document::{Entry, Key, Node, Position, nearest, yaml};

const STOPS: &str = "the node's k3s or RKE2 does not start again";
const NAME: &str = "registries.yaml";

pub(super) fn check(findings: &mut FileFindings<'_>, options: &LintOptions, files: &dyn NodeFiles) {
    place(findings);
    let documents = match yaml::read(&findings.source.text) {
        Ok(documents) => documents,
        // yaml.v2 takes them.
        Err(error) if error.message.contains("for the second time") => {
            let effect = "k3s and RKE2 take the later one, or both together: what counts is not what it seems. What else is wrong \
                          here shows when that is mended";
            return findings.warning("key-twice", error.at, [error.message, effect.to_owned(), error.fix]);
        }
        Err(error) => {
            return findings.error("not-yaml", error.at, [error.message, STOPS.to_owned(), error.fix]);
        }
    };
    let Some((document, others)) = documents.split_first() else { return };
    let document = &shape::merged(document);
    for other in others.iter().filter(|other| !other.entries().is_empty()) {
        let words = [
            "a second document begins here (---)".to_owned(),
            "k3s and RKE2 read the first one alone: what stands here does not count".to_owned(),
            "put both into one document, without --- between them".to_owned(),
        ];
        findings.error("second-document", other.at, words);
    }
    if document.mapping().is_none() {
        return wrong_type(findings, document.at, "the file", "a mapping with mirrors: and configs:");
    }
    unknown(findings, document, &["mirrors", "configs", "auths"]);
    let asked = mirrors::check(findings, document, options, files);
    configs::check(findings, document, &asked, files);
}

/// A registry with the hosts that are asked for it.
struct YamlMirror<'a> {
    host: &'a str,
    endpoints: Vec<&'a str>,
}

/// A file where neither k3s nor RKE2 looks unless `private-registry` names it.
fn place(findings: &mut FileFindings<'_>) {
    let path = &findings.source.path;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let folder = path.parent().unwrap_or(Path::new(""));
    let effect = "k3s and RKE2 do not read it, unless private-registry: in their config.yaml names it: no mirror is asked";
    if name != NAME {
        let what = format!("{name} is not the name of the file: k3s and RKE2 read {NAME}");
        findings.error("misnamed-file", None, [what, effect.to_owned(), format!("rename it to {NAME}")]);
    } else if folder.ends_with("etc/rancher") {
        let what = format!("{NAME} lies in /etc/rancher itself");
        let fix = format!("move it to /etc/rancher/k3s/{NAME}, or /etc/rancher/rke2/{NAME}");
        findings.error("misplaced-file", None, [what, effect.to_owned(), fix]);
    }
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
