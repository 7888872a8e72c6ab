//! Documents in YAML that tell nodes of mirrors by way of something else: Talos, OpenShift, EKS Anywhere, kind, and Secrets
//! or ConfigMaps that carry files of containerd.
//!
//! What comes of them on a node is held against the rules of that file: Talos writes a `hosts.toml` for each mirror
//! (<https://github.com/siderolabs/talos/blob/main/internal/pkg/containers/cri/containerd/hosts.go>).

use std::borrow::Cow;
use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{FileFindings, FileKind, Files, LintOptions, NodeFile, hosts_toml, url};
use crate::document::{Entry, Finding, Node, Position, json, toml, yaml};

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

pub(super) fn check(source: &NodeFile, options: &LintOptions, files: &dyn Files) -> Vec<Finding> {
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
            mirror_set(&mut findings, document, list);
        } else if kind == TALOS[0] {
            inner.extend(talos(&mut findings, document, options, files));
        } else if let Some(mirrors) = document.at_path(&["machine", "registries", "mirrors"]) {
            for Entry { key, value } in mirrors.entries() {
                let mirror = TalosMirror::of_patch(&key.name, key.at, value);
                inner.extend(mirror.check(&mut findings, options, files));
            }
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

/// What Talos is told of the mirrors of one registry.
struct TalosMirror<'a> {
    registry: &'a str,
    at: Position,
    endpoints: Vec<(&'a str, bool, Position)>,
    skips_fallback: bool,
}

fn talos(
    findings: &mut FileFindings<'_>,
    document: &Node,
    options: &LintOptions,
    files: &dyn Files,
) -> Vec<Finding> {
    let name = document.entry("name").and_then(|entry| Some((entry.value.text()?, entry.value.at)));
    let Some((registry, at)) = name.filter(|(name, _)| !name.is_empty()) else {
        let effect = "Talos refuses the document".to_owned();
        let what = "a RegistryMirrorConfig without a name".to_owned();
        findings.error("no-name", document.at, [what, effect, "write name: and the registry".to_owned()]);
        return Vec::new();
    };
    let endpoints = document.get("endpoints").map(Node::items).unwrap_or_default().iter();
    let endpoints = endpoints.filter_map(|node| {
        let url = node.get("url")?;
        Some((url.text()?, node.get("overridePath").is_some_and(Node::is_true), url.at))
    });
    let endpoints = endpoints.collect();
    let skips_fallback = document.get("skipFallback").is_some_and(Node::is_true);
    TalosMirror { registry, at, endpoints, skips_fallback }.check(findings, options, files)
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
        files: &dyn Files,
    ) -> Vec<Finding> {
        let refuses = || "Talos refuses the document".to_owned();
        if url::is_docker_alias(self.registry) {
            let words = [
                format!("runtimes call {} docker.io", self.registry),
                "the mirror is never asked".to_owned(),
                "write docker.io".to_owned(),
            ];
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
                    refuses(),
                    format!("write https://{}{}", parts.authority, parts.path),
                ];
                findings.error("no-scheme", at, words);
                continue;
            }
            let mut text = format!("server = \"https://{}\"\n", url::server_of(self.registry));
            let _ = write!(text, "[host.{endpoint:?}]\ncapabilities = [\"pull\", \"resolve\"]\n");
            if overrides {
                text.push_str("override_path = true\n");
            }
            let written = hosts_file(self.registry, text);
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

/// OpenShift's operator writes `registries.conf` of it: places are `HOST[:PORT][/PATH]`.
fn mirror_set(findings: &mut FileFindings<'_>, document: &Node, list: &str) {
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
        }
    };
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
    if let Err(error) = toml::read(text) {
        let line = format!(" (line {} of it)", error.at.line);
        let effect = "kind cannot make the cluster".to_owned();
        findings.error("not-toml", at, [format!("{}{line}", error.message), effect, error.fix]);
    }
}

/// The files in a Secret or a ConfigMap.
fn carried(
    findings: &mut FileFindings<'_>,
    document: &Node,
    options: &LintOptions,
    files: &dyn Files,
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
    files: &dyn Files,
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
