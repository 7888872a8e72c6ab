//! containerd's own `config.toml`, as far as it speaks of registries.
//!
//! <https://github.com/containerd/containerd/blob/v1.7.0/docs/cri/registry.md>

use std::path::Path;

use super::{FileFindings, Files, LintOptions, NodeFile, url};
use crate::document::{Entry, Key, Node, Position, toml};
use crate::node::hosts::Version;

/// The plugin whose table holds the registries, before 2.0 and since.
pub(super) const OLD: &str = "io.containerd.grpc.v1.cri";
pub(super) const NEW: &str = "io.containerd.cri.v1.images";

/// What a file says of where mirrors are written down.
pub(super) struct Said {
    /// The version of the file's form.
    pub(super) number: u8,
    /// `config_path` with its at; it may be blank.
    pub(super) config_path: Option<(String, Position)>,
    /// The at of the first of `mirrors`.
    pub(super) mirrors: Option<Position>,
    /// Whether it imports other files.
    pub(super) imports: bool,
}

impl Said {
    /// The folders of `config_path`.
    pub(super) fn folders(&self) -> impl Iterator<Item = &str> {
        let text = self.config_path.as_ref().map_or("", |(text, _)| text);
        text.split(':').filter(|folder| !folder.is_empty())
    }
}

/// What a file says, in tables that are read and in those that are not; `None` where it is not TOML.
pub(super) fn said(source: &NodeFile) -> Option<Said> {
    let document = toml::read(&source.text).ok()?;
    let tables: Vec<&Node> = [NEW, OLD, "cri"]
        .iter()
        .filter_map(|plugin| document.at_path(&["plugins", plugin, "registry"]))
        .collect();
    let paths = tables.iter().filter_map(|table| table.get("config_path"));
    let paths: Vec<(String, Position)> =
        paths.filter_map(|node| Some((node.text()?.to_owned(), node.at))).collect();
    let mirrors = tables.iter().filter_map(|table| table.get("mirrors")?.entries().first());
    Some(Said {
        number: number(&document),
        config_path: paths.iter().find(|(text, _)| !text.is_empty()).or_else(|| paths.first()).cloned(),
        mirrors: mirrors.map(|entry| entry.key.at).next(),
        imports: document.get("imports").is_some_and(|node| !node.items().is_empty()),
    })
}

pub(super) fn check(findings: &mut FileFindings<'_>, settings: &LintOptions, files: &dyn Files) {
    let document = match toml::read(&findings.source.text) {
        Ok(document) => document,
        Err(error) => {
            let effect = "containerd does not start, or keeps what it had until it is restarted".to_owned();
            return findings.error("not-toml", error.at, [error.message, effect, error.fix]);
        }
    };
    let number = number(&document);
    wrong_place(findings, &document, number);
    for plugin in [OLD, NEW] {
        let Some(registry) = document.at_path(&["plugins", plugin, "registry"]) else { continue };
        let two = plugin == NEW || settings.containerd.is_some_and(|version| version >= Version::TWO);
        check_registry(findings, registry, two, files);
    }
}

/// The version of the file's form; without one it is the first.
fn number(document: &Node) -> u8 {
    let version = document.get("version").and_then(Node::scalar);
    version.and_then(|version| version.text.parse().ok()).unwrap_or(1)
}

/// Tables that this form of the file does not have.
fn wrong_place(findings: &mut FileFindings<'_>, document: &Node, number: u8) {
    let tables = document.get("plugins").map(Node::entries).unwrap_or_default();
    for Entry { key: Key { name: plugin, .. }, value: table } in tables {
        let right = match (plugin.as_str(), number) {
            ("cri", 2..) => format!("plugins.{:?}", if number == 2 { OLD } else { NEW }),
            (OLD, 1) => "version = 2 at the top".to_owned(),
            (NEW, 1 | 2) => format!("version = 3 at the top, or plugins.{OLD:?}"),
            _ => continue,
        };
        if let Some(registry) = table.get("registry") {
            let what = format!("plugins.{plugin:?} does not belong into a file of version {number}");
            let effect = "containerd does not read the table: no mirror is asked".to_owned();
            findings.error("wrong-plugin-table", registry.at, [what, effect, format!("write {right}")]);
        }
    }
}

fn check_registry(findings: &mut FileFindings<'_>, registry: &Node, two: bool, files: &dyn Files) {
    let config_path =
        registry.get("config_path").filter(|node| node.text().is_some_and(|text| !text.is_empty()));
    let mirrors = registry.get("mirrors").map(Node::entries).unwrap_or_default();
    if let (Some(path), [first, ..]) = (config_path, mirrors) {
        findings.error(
            "both-styles",
            first.key.at,
            [
                format!("mirrors stand beside config_path (line {})", path.at.line),
                "containerd refuses both: its CRI plugin does not start, and no pod does".to_owned(),
                "keep config_path, and write each mirror into hosts.toml (mirror render --runtime containerd)".to_owned(),
            ],
        );
    }
    let mut authorities = Vec::new();
    for Entry { key: Key { name: host, .. }, value: mirror } in mirrors {
        mirror_name(findings, host, mirror, mirrors);
        for (endpoint, at) in mirror.get("endpoint").map(Node::texts).unwrap_or_default() {
            let parts = url::parts(endpoint);
            authorities.push(parts.authority);
            check_endpoint(findings, endpoint, at);
        }
    }
    for Entry { key: Key { name, .. }, value: config } in
        registry.get("configs").map(Node::entries).unwrap_or_default()
    {
        if url::parts(name).scheme.is_some() || !url::parts(name).path.is_empty() {
            let parts = url::parts(name);
            findings.error(
                "config-for-nobody",
                config.at,
                [
                    format!("configs.{:?} is not HOST or HOST:PORT", parts.shown()),
                    "containerd looks it up by host and port alone: certificates and credentials are not used".to_owned(),
                    format!("write configs.{:?}", parts.authority),
                ],
            );
        } else if let Some(endpoint) = url::other_port(name, &authorities) {
            findings.warning(
                "config-for-nobody",
                config.at,
                [
                    format!("configs.{name:?} has another port than the endpoint {endpoint}"),
                    "its certificates and credentials are not used for that endpoint".to_owned(),
                    format!("write configs.{endpoint:?}"),
                ],
            );
        }
        if let Some(tls) = config.get("tls") {
            check_tls(findings, tls, name, two, files);
        }
        if let Some(auth) = config.get("auth") {
            findings.readable_password(auth.at);
        }
    }
}

fn mirror_name(findings: &mut FileFindings<'_>, host: &str, mirror: &Node, mirrors: &[Entry]) {
    if url::is_docker_alias(host) || url::parts(host).scheme.is_some() {
        let right = if url::is_docker_alias(host) { "docker.io" } else { url::parts(host).authority };
        findings.error(
            "wrong-registry-name",
            mirror.at,
            [
                format!("{host} is not what runtimes call the registry"),
                "containerd never looks for this mirror".to_owned(),
                format!("write mirrors.{right:?}"),
            ],
        );
    }
    if host == "*" && mirrors.len() > 1 {
        findings.warning(
            "default-shadowed",
            mirror.at,
            [
                "\"*\" stands beside registries with mirrors of their own".to_owned(),
                "it counts only for those that have none: nothing is merged".to_owned(),
                "repeat its endpoint for each registry that is meant to use it".to_owned(),
            ],
        );
    }
    if mirror.get("endpoint").is_none_or(|node| node.sequence().is_none()) {
        let words = [
            "no list of endpoints".to_owned(),
            "the mirror is not asked, or containerd does not start".to_owned(),
            "write endpoint = [\"https://MIRROR/v2[/NAMESPACE]\"]".to_owned(),
        ];
        findings.error("no-endpoint", mirror.at, words);
    }
}

/// An endpoint whose path is taken as it stands, here and in `registries.yaml`.
pub(super) fn check_endpoint(findings: &mut FileFindings<'_>, endpoint: &str, at: Position) {
    let parts = url::parts(endpoint);
    let segments = parts.segments();
    let scheme = parts.scheme.unwrap_or("https");
    let right = || format!("write {scheme}://{}/v2/{}", parts.authority, parts.namespace());
    if parts.scheme == Some("http") {
        findings.plain_http(at, &parts.shown());
    }
    if parts.userinfo.is_some() {
        let words = [
            format!("a user name stands in the URL of {}", parts.authority),
            "it is dropped: the mirror is asked without credentials".to_owned(),
            "use configs.\"HOST:PORT\".auth".to_owned(),
        ];
        findings.error("password-in-url", at, words);
    }
    if segments.iter().filter(|&&segment| segment == "v2").count() > 1 {
        let effect = "the path is taken as it stands, and the registry does not know it: 404, and the upstream is asked".to_owned();
        findings.error("double-v2", at, [format!("{} has /v2 twice", parts.shown()), effect, right()]);
    } else if !segments.is_empty() && !segments.contains(&"v2") {
        let effect = format!(
            "the path is taken as it stands: {}/NAME/manifests/TAG is not the registry's API, 404, and the upstream is asked",
            parts.shown()
        );
        findings.error(
            "missing-v2",
            at,
            [format!("{} has a path without /v2", parts.shown()), effect, right()],
        );
    } else if parts.path == "/" {
        let effect =
            "the path is taken as it stands: /NAME/manifests/TAG is not the registry's API".to_owned();
        findings.error(
            "missing-v2",
            at,
            [
                format!("{} has a path without /v2", parts.shown()),
                effect,
                format!("write {scheme}://{}", parts.authority),
            ],
        );
    }
}

fn check_tls(findings: &mut FileFindings<'_>, tls: &Node, name: &str, two: bool, files: &dyn Files) {
    if two {
        findings.error(
            "tls-table-gone",
            tls.at,
            [
                format!("configs.{name:?}.tls is no longer read since containerd 2.0"),
                "the mirror's certificate is not trusted, and every pull goes to the upstream".to_owned(),
                "use config_path and hosts.toml (mirror render --runtime containerd), or the node's trust store".to_owned(),
            ],
        );
        return;
    }
    for key in ["ca_file", "cert_file", "key_file"] {
        if let Some((path, node)) =
            tls.get(key).and_then(|node| Some((node.text()?, node))).filter(|(path, _)| !path.is_empty())
        {
            findings.certificate(files, node.at, Path::new(path), "pulls that would use this mirror fail");
        }
    }
    if let Some(node) = tls.get("insecure_skip_verify").filter(|node| node.is_true()) {
        findings.unverified(node.at, name);
    }
}
