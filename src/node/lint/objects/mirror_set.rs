//! Mirror sets of OpenShift.

use super::MIRROR_SETS;
use crate::document::{Entry, Node, Position};
use crate::node::lint::registries_conf::place_fault;
use crate::node::lint::{FileFindings, url};

/// OpenShift's operator writes `registries.conf` of it: places are `HOST[:PORT][/PATH]`.
pub(super) fn check(findings: &mut FileFindings<'_>, document: &Node, list: &str) {
    let refused =
        "the cluster refuses the object, or the operator writes a registries.conf that no node can read";
    let place = |findings: &mut FileFindings<'_>, text: &str, at: Position| {
        let parts = url::parts(text);
        let right = || {
            let namespace = parts.namespace();
            let slash = if namespace.is_empty() { "" } else { "/" };
            format!("write {}{slash}{namespace}", parts.authority)
        };
        if parts.scheme.is_some() {
            let what = format!("{} has a scheme", parts.shown());
            findings.error("scheme-in-location", at, [what, refused.to_owned(), right()]);
        } else if parts.segments().contains(&"v2") {
            let effect = "nodes put /v2 in front by themselves, and ask for a repository that is not there";
            let what = format!("{} holds the path of the API", parts.shown());
            findings.error("double-v2", at, [what, effect.to_owned(), right()]);
        } else if let Some(why) = (!text.starts_with("*.")).then(|| place_fault(text)).flatten() {
            let what = format!("{text} is not the place of repositories: {why}");
            let fix = "write HOST[:PORT][/PATH], in small letters and without a tag".to_owned();
            findings.error("not-a-name", at, [what, refused.to_owned(), fix]);
        }
    };
    for (kind, other) in MIRROR_SETS.iter().filter(|(_, other)| *other != list) {
        if let Some(Entry { key, .. }) = document.at_path(&["spec"]).and_then(|spec| spec.entry(other)) {
            let words = [
                format!("{other} is the list of an {kind}, and this object has {list}"),
                "what stands there is refused or left out: nothing is mirrored".to_owned(),
                format!("write {list}:, or kind: {kind}"),
            ];
            findings.error("unknown-key", key.at, words);
        }
    }
    for entry in document.at_path(&["spec", list]).map(Node::items).unwrap_or_default() {
        match entry.get("source").and_then(|node| Some((node.text()?, node.at))) {
            Some((source, at)) if url::is_docker_alias(url::parts(source).authority) => {
                let words = [
                    format!("runtimes call {source} docker.io"),
                    "the mirror is never asked".to_owned(),
                    "write docker.io".to_owned(),
                ];
                findings.error("wrong-registry-name", at, words);
            }
            Some((source, at)) => place(findings, source, at),
            None => {
                let what = "a mirror without a source".to_owned();
                let fix = "write source: and the registry".to_owned();
                findings.error("no-location", entry.at, [what, refused.to_owned(), fix]);
            }
        }
        for (mirror, at) in entry.get("mirrors").map(Node::texts).unwrap_or_default() {
            place(findings, mirror, at);
        }
    }
}
