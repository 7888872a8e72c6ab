//! Documents in YAML that tell nodes of mirrors by way of something else: Talos, OpenShift, EKS Anywhere, kind, and Secrets
//! or ConfigMaps that carry files of containerd.
//!
//! What comes of them on a node is held against the rules of that file: Talos writes a `hosts.toml` for each mirror
//! (<https://github.com/siderolabs/talos/blob/main/internal/pkg/containers/cri/containerd/hosts.go>).

mod mirror_set;
mod talos;

use std::borrow::Cow;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{FileFindings, FileKind, LintOptions, NodeFile, NodeFiles, hosts_toml, url};
use crate::document::{Entry, Finding, Node, Position, json, toml, yaml};
use crate::node::containerd::{NEW, OLD};

const MIRROR_SETS: [(&str, &str); 3] = [
    ("ImageDigestMirrorSet", "imageDigestMirrors"),
    ("ImageTagMirrorSet", "imageTagMirrors"),
    ("ImageContentSourcePolicy", "repositoryDigestMirrors"),
];
const TALOS: [&str; 3] = ["RegistryMirrorConfig", "RegistryTLSConfig", "RegistryAuthConfig"];
const PULL_SECRET: &str = "kubernetes.io/dockerconfigjson";

/// Whether a text has such a document in it, by the words that only these have.
pub(super) fn is_one(text: &str) -> bool {
    let says = |word: &str| text.lines().any(|line| line.trim_start().starts_with(word));
    let kinds = MIRROR_SETS.iter().map(|(kind, _)| *kind).chain(TALOS);
    kinds.into_iter().any(|kind| says(&format!("kind: {kind}")))
        || says("registryMirrorConfiguration:")
        || says("containerdConfigPatches:")
        || says("machine:") && says("registries:")
        || text.contains(PULL_SECRET)
        || text.contains("[host.") && (says("kind: Secret") || says("kind: ConfigMap"))
}

pub(super) fn check(source: &NodeFile, options: &LintOptions, files: &dyn NodeFiles) -> Vec<Finding> {
    let mut findings = FileFindings::new(source);
    let documents = match yaml::read(&source.text) {
        Ok(documents) => documents,
        Err(error) => {
            let effect = "nothing of it is applied".to_owned();
            findings.error("not-yaml", error.at, [error.message, effect, error.fix]);
            return findings.end();
        }
    };
    let mut inner = Vec::new();
    for document in &documents {
        let kind = document.get("kind").and_then(Node::text).unwrap_or_default();
        let set = MIRROR_SETS.iter().find(|(name, _)| *name == kind);
        if let Some((_, list)) = set {
            mirror_set::check(&mut findings, document, list);
        } else if TALOS.contains(&kind) {
            inner.extend(talos::document(&mut findings, kind, document, options, files));
        } else if let Some(registries) = document.at_path(&["machine", "registries"]) {
            inner.extend(talos::patch(&mut findings, registries, options, files));
        } else if let Some(mirror) = document.at_path(&["spec", "registryMirrorConfiguration"]) {
            eks_anywhere(&mut findings, mirror);
        } else if let Some(patches) = document.get("containerdConfigPatches") {
            patches.texts().into_iter().for_each(|(text, at)| kind_patch(&mut findings, text, at));
        } else if matches!(kind, "Secret" | "ConfigMap") {
            inner.extend(carried(&mut findings, document, options, files));
        }
    }
    let mut all = findings.end();
    all.extend(inner);
    all
}

/// The endpoint is a host alone, its port a key of its own.
fn eks_anywhere(findings: &mut FileFindings<'_>, mirror: &Node) {
    let Some((endpoint, at)) = mirror.get("endpoint").and_then(|node| Some((node.text()?, node.at))) else {
        return;
    };
    let parts = url::parts(endpoint);
    if parts.scheme.is_some() || !parts.path.is_empty() || parts.authority.rsplit_once(':').is_some() {
        let host = parts.authority.split(':').next().unwrap_or(parts.authority);
        let words = [
            format!("the endpoint {} is more than a host", parts.shown()),
            "the cluster is refused".to_owned(),
            format!("write endpoint: {host}, the port below port: and a namespace below ociNamespaces:"),
        ];
        findings.error("not-a-host", at, words);
    }
}

/// A patch of containerd's main file, which kind merges into its own.
fn kind_patch(findings: &mut FileFindings<'_>, text: &str, at: Position) {
    let document = match toml::read(text) {
        Ok(document) => document,
        Err(error) => {
            let line = format!(" (line {} of it)", error.at.line);
            let effect = "kind cannot make the cluster".to_owned();
            return findings.error("not-toml", at, [format!("{}{line}", error.message), effect, error.fix]);
        }
    };
    for plugin in [OLD, NEW] {
        let Some(registry) = document.at_path(&["plugins", plugin, "registry"]) else { continue };
        let has_mirrors = registry.get("mirrors").is_some_and(|mirrors| !mirrors.entries().is_empty());
        if has_mirrors && registry.get("config_path").is_none() {
            let words = [
                "the patch sets registry.mirrors, and the nodes of kind 0.27 and later set config_path".to_owned(),
                "their containerd refuses both: the CRI plugin does not load, and the cluster does not start".to_owned(),
                "leave the patch out, and write /etc/containerd/certs.d/REGISTRY/hosts.toml on the nodes (mirror render --runtime kind)"
                    .to_owned(),
            ];
            findings.warning("both-styles", at, words);
        }
    }
}

/// The files in a Secret or a ConfigMap.
fn carried(
    findings: &mut FileFindings<'_>,
    document: &Node,
    options: &LintOptions,
    files: &dyn NodeFiles,
) -> Vec<Finding> {
    let is_secret = document.get("kind").and_then(Node::text) == Some("Secret");
    let mut contents: Vec<(&str, Cow<'_, str>, Position)> = Vec::new();
    for table in ["stringData", "data"] {
        for Entry { key, value } in document.get(table).map(Node::entries).unwrap_or_default() {
            let Some(text) = value.text() else { continue };
            let decoded =
                || STANDARD.decode(text.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
            let text =
                if is_secret && table == "data" { decoded().map(Cow::Owned) } else { Some(text.into()) };
            contents.extend(text.map(|text| (key.name.as_str(), text, key.at)));
        }
    }
    // `mirror render --runtime daemonset` has the paths of its files in a list: key, mode, path.
    let index = contents.iter().find(|(key, ..)| *key == "index").map(|(_, text, _)| text.to_string());
    let path_of = |key: &str| {
        let mut lines = index.as_deref().unwrap_or_default().lines().map(str::split_whitespace);
        lines.find_map(|mut words| (words.next() == Some(key)).then(|| words.nth(1)).flatten())
    };
    let mut found = Vec::new();
    for (key, text, at) in &contents {
        if *key == ".dockerconfigjson" {
            if let Err(error) = json::read(text) {
                let effect = "the cluster refuses the Secret".to_owned();
                findings.error("not-json", *at, [error.message, effect, error.fix]);
            }
        } else if text.contains("[host.") {
            let path = path_of(key).unwrap_or(key);
            let registry = path.strip_suffix("/hosts.toml");
            let written = hosts_file(registry.unwrap_or("any.upstream"), text.to_string());
            let told = inside(&written, findings.source, *at, &format!("{path}: "), options, files);
            // Which registry it is for is not known of every key.
            found.extend(told.into_iter().filter(|it| registry.is_some() || it.rule != "foreign-server"));
        }
    }
    found
}

fn hosts_file(registry: &str, text: String) -> NodeFile {
    let path = Path::new("/etc/containerd/certs.d").join(registry).join("hosts.toml");
    NodeFile { path, kind: FileKind::HostsToml, text, readable_by_others: false }
}

/// What is wrong with a `hosts.toml` that lies inside another file, told where it stands there. Its certificates come with it.
fn inside(
    written: &NodeFile,
    source: &NodeFile,
    at: Position,
    label: &str,
    options: &LintOptions,
    files: &dyn NodeFiles,
) -> Vec<Finding> {
    let mut findings = FileFindings::new(written);
    hosts_toml::check(&mut findings, options, files);
    let found = findings.end().into_iter().filter(|finding| !finding.rule.starts_with("certificate-"));
    let told = found.map(|finding| Finding {
        path: source.path.clone(),
        line: Some(at.line),
        column: None,
        what: format!("{label}{}", finding.what),
        ..finding
    });
    told.collect()
}
