//! The objects behind the header: the Namespace and the Cluster.
//!
//! What is read of them is what a mirror depends on; everything else is the cluster's own business.

use super::header::{self, Header, MIRRORS};
use crate::document::{Findings, Node, Position};
use crate::error::printable;

const GROUP: &str = "baremetal.cluster.gke.io/";
/// Keys of every object of Kubernetes, as far as these have them.
const OBJECT_KEYS: &[&str] = &["apiVersion", "kind", "metadata", "spec", "status"];

/// What the Cluster says.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) api_version: String,
    pub(super) at: Position,
}

pub(super) fn read(documents: &[Node], header: &Header, findings: &mut Findings) -> Option<Cluster> {
    let has_header = header::find(documents).is_some();
    let mut namespace: Option<(&str, Position)> = None;
    let mut cluster: Option<&Node> = None;
    for root in documents.iter().skip(usize::from(has_header)) {
        match root.get("kind").and_then(Node::text) {
            Some("Namespace") => {
                object(root, findings);
                namespace =
                    root.at_path(&["metadata", "name"]).and_then(|name| Some((name.text()?, name.at)));
            }
            Some("Cluster") if api_version(root).starts_with(GROUP) => {
                if let Some(first) = cluster {
                    let message = format!("a second Cluster (the first is on line {})", first.at.line);
                    findings.error(
                        "second-cluster",
                        root.at,
                        (message, "give each cluster a file of its own"),
                    );
                    continue;
                }
                object(root, findings);
                cluster = Some(root);
            }
            Some(_) => {}
            None => misplaced(root, findings),
        }
    }
    let Some(root) = cluster else {
        let at = documents.last().map_or(Position::START, |root| root.at);
        let message = format!("there is no object of kind Cluster and apiVersion {GROUP}v1 in it");
        findings.error("no-cluster", at, (message, "give the file that bmctl made for the cluster"));
        return None;
    };
    runtime(root, header, findings);
    mirrors_elsewhere(root, findings);
    let cluster = named(root, findings)?;
    if let Some((name, at)) = namespace.filter(|(name, _)| *name != cluster.namespace) {
        let message =
            format!("the Namespace is {}, and the Cluster is in {}", printable(name), cluster.namespace);
        findings.error("other-namespace", at, (message, format!("name: {}", cluster.namespace)));
    }
    Some(cluster)
}

fn api_version(root: &Node) -> &str {
    root.get("apiVersion").and_then(Node::text).unwrap_or_default()
}

/// Keys at the left margin that belong further in.
fn object(root: &Node, findings: &mut Findings) {
    let kind = root.get("kind").and_then(Node::text).unwrap_or_default();
    for entry in root.entries() {
        if !OBJECT_KEYS.contains(&entry.key.name.as_str()) {
            let message =
                format!("{} is no key of a {kind}: its indentation was lost", printable(&entry.key.name));
            let place = match entry.key.name.as_str() {
                "name" | "namespace" | "annotations" | "labels" => "metadata",
                "containerRuntime" => "spec.nodeConfig",
                MIRRORS => "the header, the first document",
                _ => "spec",
            };
            findings.error("lost-indentation", entry.key.at, (message, format!("it belongs in {place}")));
        }
    }
}

fn named(root: &Node, findings: &mut Findings) -> Option<Cluster> {
    let at = root.entry("metadata").map_or(root.at, |entry| entry.key.at);
    let mut word = |key: &str| {
        let found = root.at_path(&["metadata", key]).and_then(Node::text);
        // The rule of Kubernetes for names; they also become parts of URLs.
        let is_name = |text: &&str| {
            let ends = text.starts_with(|c: char| c.is_ascii_alphanumeric())
                && text.ends_with(|c: char| c.is_ascii_alphanumeric());
            ends && text.len() <= 253
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.".contains(&b))
        };
        if found.is_none_or(|text| !is_name(&text)) {
            let message = format!("the Cluster has no {key} in its metadata that Kubernetes takes");
            let fix = format!("metadata: with {key}: below it, in lower case");
            findings.error("wrong-name", at, (message, fix));
        }
        found.filter(is_name).map(str::to_owned)
    };
    let (name, namespace) = (word("name"), word("namespace"));
    Some(Cluster {
        name: name?,
        namespace: namespace?,
        api_version: api_version(root).to_owned(),
        at: root.at,
    })
}

/// Mirrors need containerd; what a release makes of a missing word, and what it does not know yet.
fn runtime(root: &Node, header: &Header, findings: &mut Findings) {
    let version = root.at_path(&["spec", "anthosBareMetalVersion"]).and_then(Node::scalar);
    let version = version.and_then(|scalar| release(&scalar.text));
    let fix = "containerRuntime: containerd";
    match root.at_path(&["spec", "nodeConfig", "containerRuntime"]).filter(|node| !node.is_null()) {
        Some(node) if node.text() == Some("containerd") => {}
        Some(node) => {
            let name = node.scalar().map(|scalar| printable(&scalar.text)).unwrap_or_default();
            let message = format!("registry mirrors need containerd, and the runtime is {name}");
            findings.error("wrong-runtime", node.at, (message, fix));
        }
        // The default since 1.9.
        None if version.is_some_and(|version| version < (1, 9, 0)) && !header.mirrors.is_empty() => {
            let message = "registry mirrors need containerd, and before 1.9 the default is docker";
            let fix = format!("spec: with nodeConfig: and {fix} below it");
            findings.error("wrong-runtime", root.at, (message, fix));
        }
        None => {}
    }
    if let (Some(at), Some(version)) = (header.hosts_at, version)
        && version < (1, 11, 0)
    {
        let words = ("hosts is known since 1.11 only", "remove hosts, or upgrade the cluster first");
        findings.error("too-new", at, words);
    }
    if let (Some(at), Some(version)) = (header.host_port_at, version)
        && version < (1, 29, 300)
    {
        let words = ("hosts take a port since 1.29.300 only", "leave the port out, or upgrade first");
        findings.error("too-new", at, words);
    }
}

/// `1.34.0-gke.566` as numbers.
fn release(text: &str) -> Option<(u32, u32, u32)> {
    let mut numbers = text.split(['.', '-']).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok);
    Some((next()?, next()?, next().unwrap_or(0)))
}

fn mirrors_elsewhere(root: &Node, findings: &mut Findings) {
    let spec = root.get("spec");
    if let Some(entry) = spec.and_then(|spec| spec.entry(MIRRORS)) {
        let fix = format!("move it to {MIRRORS} in the first document");
        let words = ("registryMirrors in spec is read by nobody", fix);
        findings.error("misplaced", entry.key.at, words);
    }
    if let Some(entry) = spec.and_then(|spec| spec.get("nodeConfig")?.entry(MIRRORS)) {
        let message =
            "spec.nodeConfig.registryMirrors is written by bmctl from the header; here the two may disagree";
        let fix = "keep registryMirrors in the first document only";
        findings.warning("misplaced", entry.key.at, (message, fix));
    }
}

fn misplaced(root: &Node, findings: &mut Findings) {
    if root.get(MIRRORS).is_some() || root.get("gcrKeyPath").is_some() {
        let words = ("the header has to be the first document", "move it before the Namespace");
        findings.error("misplaced", root.at, words);
    } else {
        let words = ("a document without a kind", "apiVersion: and kind:, or remove the document");
        findings.error("no-kind", root.at, words);
    }
}
