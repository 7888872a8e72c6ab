//! containerd's main file and its imports, as far as they speak of registries: what [`crate::node::containerd`] makes of the
//! set, against what its writer meant.
//!
//! <https://github.com/containerd/containerd/blob/v1.7.0/docs/cri/registry.md>

use std::path::Path;

use super::config_set::ConfigSet;
use super::{FileFindings, Files, NodeFile, url};
use crate::document::{Finding, Position, Severity, nearest, toml};
use crate::node::containerd::{
    Branch, Effective, Item, NEW, OLD, Origin, Registry, Stop, Unread, UnreadTable,
};
use crate::node::hosts::Version;

const NOBODY: &str = "no mirror is asked: every pull goes to its upstream";
const KEYS: [&str; 5] = ["config_path", "mirrors", "configs", "auths", "headers"];
const MIRROR_KEYS: [&str; 1] = ["endpoint"];
const CONFIG_KEYS: [&str; 2] = ["auth", "tls"];
const AUTH_KEYS: [&str; 4] = ["username", "password", "auth", "identitytoken"];
const TLS_KEYS: [&str; 4] = ["ca_file", "cert_file", "key_file", "insecure_skip_verify"];

/// A file that is no TOML.
pub(super) fn check_syntax(source: &NodeFile) -> Vec<Finding> {
    let mut findings = FileFindings::new(source);
    if let Err(error) = toml::read(&source.text) {
        let effect = "containerd does not start, or keeps what it had until it is restarted".to_owned();
        findings.error("not-toml", error.at, [error.message, effect, error.fix]);
    }
    findings.end()
}

/// The findings of a set, file by file.
pub(super) struct SetFindings<'a> {
    set: &'a ConfigSet,
    files: Vec<FileFindings<'a>>,
}

impl<'a> SetFindings<'a> {
    pub(super) fn new(set: &'a ConfigSet) -> Self {
        Self { set, files: set.files.iter().map(FileFindings::new).collect() }
    }

    pub(super) fn of(&mut self, file: usize) -> &mut FileFindings<'a> {
        &mut self.files[file]
    }

    fn error(&mut self, rule: &'static str, at: Origin, words: [String; 3]) {
        self.of(at.file).error(rule, at.at, words);
    }

    fn warning(&mut self, rule: &'static str, at: Origin, words: [String; 3]) {
        self.of(at.file).warning(rule, at.at, words);
    }

    pub(super) fn end(self) -> Vec<Finding> {
        self.files.into_iter().flat_map(FileFindings::end).collect()
    }

    /// `line 4`, or `line 4 of FILE` for another file than `seen_from`.
    fn line(&self, at: Origin, seen_from: Origin) -> String {
        let line = format!("line {}", at.at.line);
        if at.file == seen_from.file { line } else { format!("{line} of {}", self.set.name(at.file)) }
    }
}

/// What is wrong with the set for one version. Tells whether what is read of registries is as somebody wrote it.
pub(super) fn check(
    findings: &mut SetFindings<'_>,
    effective: &Effective,
    version: Version,
    files: &dyn Files,
) -> bool {
    for (at, stop) in &effective.stops {
        check_stop(findings, *at, stop, version);
    }
    let refused = effective.stops.iter().any(|(_, stop)| matches!(stop, Stop::FileVersion { .. }));
    let lost = effective.unread.iter().filter(|table| !refused && says_something(findings.set, table));
    let lost: Vec<&UnreadTable> = lost.collect();
    for table in &lost {
        check_unread(findings, table, effective, version);
    }
    for (at, import) in findings.set.missing.clone() {
        let words = [
            format!("{import} is imported and does not exist"),
            "containerd does not start".to_owned(),
            "put the file there, or write a pattern with *, which may find nothing".to_owned(),
        ];
        findings.error("import-missing", at, words);
    }
    check_registry(findings, &effective.registry, version, files);
    let is_list = effective.registry.is_one_folder
        && effective.registry.config_path.as_ref().is_some_and(|(path, _)| path.contains(':'));
    if is_list {
        check_list(findings, &effective.registry);
    }
    if let Some(at) = effective.disabled.filter(|_| !effective.registry.table.is_empty()) {
        let words = [
            "the plugin that pulls images for Kubernetes is switched off here".to_owned(),
            "what stands here of registries is read by nobody".to_owned(),
            "take it out of disabled_plugins where this containerd serves Kubernetes".to_owned(),
        ];
        findings.warning("cri-disabled", at, words);
    }
    effective.stops.is_empty() && lost.is_empty() && !is_list
}

fn check_stop(findings: &mut SetFindings<'_>, at: Origin, stop: &Stop, version: Version) {
    let plugin = format!("the CRI plugin of containerd {version} does not load, and no pod starts");
    let keep = "keep config_path, and write each mirror into hosts.toml (mirror render --runtime containerd)";
    let (rule, words) = match stop {
        Stop::FileVersion { number, newest } => {
            let fix = format!("write version = {newest} with the names of plugins that it has");
            let effect =
                format!("containerd {version} knows files up to version {newest} and does not start");
            ("unsupported-version", [format!("the file is of version {number}"), effect, fix])
        }
        Stop::PluginName(name) => {
            let what = format!("plugins.{name:?} is a name of version 1, and the file is of version 2");
            let fix = if name == "cri" {
                format!("write plugins.{OLD:?}")
            } else {
                "write the whole name".to_owned()
            };
            let effect = format!("containerd {version} does not start: it does not read the table");
            ("wrong-plugin-table", [what, effect, fix])
        }
        Stop::NewerImport { number, main } => {
            let what =
                format!("this imported file is of version {number}, and the main file of version {main}");
            let effect = format!("containerd {version} does not start");
            ("newer-import", [what, effect, format!("write version = {number} into the main file too")])
        }
        Stop::MirrorsBesideConfigPath(path) => {
            let what = format!("mirrors stand beside config_path ({})", findings.line(*path, at));
            ("both-styles", [what, format!("containerd refuses both: {plugin}"), keep.to_owned()])
        }
        Stop::MirrorsBesideDefault => {
            let what = "mirrors stand here, and 2.2.0 and 2.2.1 set config_path by themselves".to_owned();
            let effect = format!("they refuse both: {plugin}");
            let fix = "upgrade to 2.2.2 or later, or write each mirror into hosts.toml and set config_path"
                .to_owned();
            ("mirrors-in-2.2", [what, effect, fix])
        }
        Stop::TlsBesideConfigPath(path) => {
            let what = format!("configs.….tls stands beside config_path ({})", findings.line(*path, at));
            let fix = "write ca, client and skip_verify into hosts.toml instead (mirror render --runtime containerd)";
            ("both-styles", [what, format!("containerd refuses both: {plugin}"), fix.to_owned()])
        }
        Stop::Type { key, wanted } => {
            let what = format!("{key} is not {wanted}");
            ("wrong-type", [what, plugin, format!("write {wanted}")])
        }
    };
    findings.error(rule, at, words);
}

/// Whether a table that is not read says anything: `containerd config default` writes blank ones.
fn says_something(set: &ConfigSet, table: &UnreadTable) -> bool {
    let document = &set.parsed[table.at.file];
    let registry = document.at_path(&["plugins", &table.plugin, "registry"]);
    registry.is_some_and(|registry| {
        registry.entries().iter().any(|entry| match entry.value.text() {
            Some(text) => !text.is_empty(),
            None => entry.value.entries().iter().any(|_| true) || entry.value.mapping().is_none(),
        })
    })
}

fn check_unread(
    findings: &mut SetFindings<'_>,
    table: &UnreadTable,
    effective: &Effective,
    version: Version,
) {
    let UnreadTable { at, plugin, number, why } = table;
    let effect = format!("containerd {version} does not read the table: {NOBODY}");
    match why {
        Unread::OtherTable => {
            let two = version >= Version::TWO;
            let (what, fix) = match (plugin.as_str(), number) {
                (NEW, _) => (
                    format!("plugins.{NEW:?} is the table of containerd 2.x"),
                    format!("write plugins.{OLD:?} with version = 2 at the top"),
                ),
                (OLD, 0 | 1) if !two => (
                    format!("plugins.{OLD:?} does not belong into a file of version 1"),
                    "write version = 2 at the top".to_owned(),
                ),
                (_, 0 | 1) => (
                    "the registries of a file of version 1 are not brought along by 2.0 to 2.2".to_owned(),
                    format!("write version = 2 at the top and plugins.{OLD:?}"),
                ),
                (OLD, _) => (
                    format!("plugins.{OLD:?} does not belong into a file of version {number}"),
                    format!("write plugins.{NEW:?}, or version = 2 at the top"),
                ),
                _ => (
                    format!("plugins.{plugin:?} does not belong into a file of version {number}"),
                    format!("write plugins.{:?}", if *number == 2 { OLD } else { NEW }),
                ),
            };
            findings.error("wrong-plugin-table", *at, [what, effect, fix]);
        }
        Unread::Replaced { by } => {
            let by = findings.set.name(*by);
            let what = format!(
                "{by} has plugins.{plugin:?} too, and takes the place of all that stands here below it"
            );
            let effect = format!(
                "containerd {version} joins no tables: what is said of registries here does not count"
            );
            let fix = format!("write the registries into {by}, or both into one file");
            if effective.registry.table.is_empty() {
                findings.error("replaced-table", *at, [what, effect, fix]);
            } else {
                findings.warning("replaced-table", *at, [what, effect, fix]);
            }
        }
        Unread::NewerFile { by } => {
            let by = findings.set.name(*by);
            let what = format!("{by} is of version 3, and this file is of version 2");
            let fix = format!("write version = 2 into {by}, or version = 3 and plugins.{NEW:?} here");
            findings.error("newer-import", *at, [what, effect, fix]);
        }
        Unread::OldTable(old) => {
            let what = format!("plugins.{OLD:?} ({}) has a table registry too", findings.line(*old, *at));
            let effect = format!("containerd {version} takes that one, and does not read this");
            findings.warning("both-tables", *at, [what, effect, "keep one of the two".to_owned()]);
        }
    }
}

fn check_list(findings: &mut SetFindings<'_>, registry: &Registry) {
    let Some((path, at)) = &registry.config_path else { return };
    let words = [
        format!("config_path is a list of several folders, {path}"),
        format!(
            "containerd 2.1 to 2.3.4 takes it for the name of one folder where it pulls as it does by default: {NOBODY}"
        ),
        format!("name one folder: config_path = {:?}", path.split(':').next().unwrap_or_default()),
    ];
    findings.error("config-path-list", *at, words);
}

fn check_registry(findings: &mut SetFindings<'_>, registry: &Registry, version: Version, files: &dyn Files) {
    unknown(findings, &registry.table, &KEYS, "registry");
    let mut authorities = Vec::new();
    for mirror in &registry.mirrors {
        mirror_name(findings, mirror, &registry.mirrors);
        let unknown = unknown(findings, mirror.branches(), &MIRROR_KEYS, "mirrors.\"HOST\"");
        let endpoints = mirror.get("endpoint").and_then(Branch::value);
        if endpoints.is_none() && !unknown && matches!(mirror.item, Item::Table(_)) {
            let words = [
                "no list of endpoints".to_owned(),
                "the mirror is not asked".to_owned(),
                "write endpoint = [\"https://MIRROR/v2[/NAMESPACE]\"]".to_owned(),
            ];
            findings.error("no-endpoint", mirror.at, words);
        }
        let file = mirror.get("endpoint").map_or(mirror.at, |endpoint| endpoint.at).file;
        for (endpoint, at) in endpoints.map(crate::document::Node::texts).unwrap_or_default() {
            authorities.push(url::parts(endpoint).authority);
            check_endpoint(findings.of(file), endpoint, at);
        }
    }
    let has_path = !registry.folders.is_empty();
    for config in &registry.configs {
        check_config(findings, config, &authorities, version, files, has_path);
    }
    if let Some(auths) = registry.table.iter().find(|branch| branch.name == "auths") {
        for auth in auths.branches() {
            findings.of(auth.at.file).readable_password(auth.at.at);
        }
    }
}

/// Keys that containerd does not know. Tells whether there is one.
fn unknown(findings: &mut SetFindings<'_>, table: &[Branch], known: &[&str], place: &str) -> bool {
    let mut found = false;
    for branch in table.iter().filter(|branch| !known.contains(&branch.name.as_str())) {
        // The containerd of k3s and RKE2 knows one more.
        if branch.name == "rewrite" && is_rancher(&findings.set.files[branch.at.file]) {
            continue;
        }
        found = true;
        let meant =
            nearest(&branch.name, known).map(|key| format!(": did you mean {key}?")).unwrap_or_default();
        let words = [
            format!("{place} has no key {:?}", branch.name),
            "it is passed over without a word, and what it was to say is not said".to_owned(),
            format!("known are {}{meant}", known.join(", ")),
        ];
        findings.error("unknown-key", branch.at, words);
    }
    found
}

/// Whether a file belongs to k3s or RKE2, whose containerd knows `rewrite`.
pub(super) fn is_rancher(file: &NodeFile) -> bool {
    file.path.components().any(|part| part.as_os_str() == "rancher")
        || file
            .text
            .lines()
            .take(3)
            .any(|line| line.contains("generated by k3s") || line.contains("generated by rke2"))
}

fn check_config(
    findings: &mut SetFindings<'_>,
    config: &Branch,
    authorities: &[&str],
    version: Version,
    files: &dyn Files,
    has_path: bool,
) {
    let (name, at) = (config.name.as_str(), config.at);
    let parts = url::parts(name);
    let unused = "certificates and credentials are not used: the registry is asked without them";
    if ["auths", "auth", "tls", "mirrors", "configs", "headers"].contains(&name) {
        let words = [
            format!("configs.{name} is taken for the settings of a registry called {name:?}"),
            "no registry has that name: credentials and certificates below it are not used".to_owned(),
            match config.branches().first() {
                Some(first) if name == "auths" => {
                    format!("write configs.{:?}.auth", url::parts(&first.name).authority)
                }
                _ => "write configs.\"HOST:PORT\" and below it auth or tls".to_owned(),
            },
        ];
        return findings.error("misplaced-key", at, words);
    }
    if parts.scheme.is_some() || !parts.path.is_empty() {
        let words = [
            format!("configs.{:?} is not HOST or HOST:PORT", parts.shown()),
            format!("containerd looks it up by host and port alone: {unused}")
                .replace("used: the", "not used: the")
                .replace("not not", "not"),
            format!("write configs.{:?}", parts.authority),
        ];
        findings.error("config-for-nobody", at, words);
    } else if matches!(name, "docker.io" | "index.docker.io") {
        let words = [
            format!("configs.{name:?} is not what containerd asks for images of docker.io"),
            unused.to_owned(),
            "write configs.\"registry-1.docker.io\"".to_owned(),
        ];
        findings.warning("config-for-nobody", at, words);
    } else if let Some(endpoint) = url::other_port(name, authorities) {
        let words = [
            format!("configs.{name:?} has another port than the endpoint {endpoint}"),
            "its certificates and credentials are not used for that endpoint".to_owned(),
            format!("write configs.{endpoint:?}"),
        ];
        findings.warning("config-for-nobody", at, words);
    }
    unknown(findings, config.branches(), &CONFIG_KEYS, "configs.\"HOST\"");
    if let Some(tls) = config.get("tls") {
        // With config_path, that both stand together is what is told.
        if version >= Version::TWO || !has_path {
            check_tls(findings, tls, name, version, files);
        }
    }
    if let Some(auth) = config.get("auth") {
        unknown(findings, auth.branches(), &AUTH_KEYS, "auth");
        findings.of(auth.at.file).readable_password(auth.at.at);
    }
}

fn mirror_name(findings: &mut SetFindings<'_>, mirror: &Branch, mirrors: &[Branch]) {
    let host = mirror.name.as_str();
    if url::is_docker_alias(host) || url::parts(host).scheme.is_some() {
        let right = if url::is_docker_alias(host) { "docker.io" } else { url::parts(host).authority };
        let words = [
            format!("{host} is not what runtimes call the registry"),
            "containerd never looks for this mirror".to_owned(),
            format!("write mirrors.{right:?}"),
        ];
        findings.error("wrong-registry-name", mirror.at, words);
    }
    if host == "*" && mirrors.len() > 1 {
        let words = [
            "\"*\" stands beside registries with mirrors of their own".to_owned(),
            "it counts only for those that have none: nothing is merged".to_owned(),
            "repeat its endpoint for each registry that is meant to use it".to_owned(),
        ];
        findings.warning("default-shadowed", mirror.at, words);
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
        let fix = match url::api_below(&parts) {
            Some(api) => format!("write {scheme}://{}{api}", parts.authority),
            None => right(),
        };
        findings.error("missing-v2", at, [format!("{} has a path without /v2", parts.shown()), effect, fix]);
    } else if parts.path == "/" {
        let effect =
            "the path is taken as it stands: /NAME/manifests/TAG is not the registry's API".to_owned();
        let fix = format!("write {scheme}://{}", parts.authority);
        findings.error("missing-v2", at, [format!("{} has a path without /v2", parts.shown()), effect, fix]);
    }
}

fn check_tls(findings: &mut SetFindings<'_>, tls: &Branch, name: &str, version: Version, files: &dyn Files) {
    if version >= Version::TWO {
        let words = [
            format!("configs.{name:?}.tls is no longer read since containerd 2.0"),
            "the mirror's certificate is not trusted, and every pull goes to the upstream".to_owned(),
            "use config_path and hosts.toml (mirror render --runtime containerd), or the node's trust store"
                .to_owned(),
        ];
        return findings.error("tls-table-gone", tls.at, words);
    }
    unknown(findings, tls.branches(), &TLS_KEYS, "tls");
    let effect = "pulls that would use this mirror fail";
    let text = |key: &str| {
        let branch = tls.get(key)?;
        Some((branch.text().filter(|text| !text.is_empty())?, branch.at))
    };
    if let Some((path, at)) = text("ca_file") {
        findings.of(at.file).authority(files, at.at, Path::new(path), effect);
    }
    match (text("cert_file"), text("key_file")) {
        (Some((certificate, at)), Some((key, _))) => {
            findings.of(at.file).client(files, at.at, Path::new(certificate), Some(Path::new(key)), effect);
        }
        (Some((_, at)), None) => {
            let words = [
                "cert_file stands here without key_file".to_owned(),
                effect.to_owned(),
                "name the file with the key in key_file".to_owned(),
            ];
            findings.error("client-without-key", at, words);
        }
        (None, Some((_, at))) => {
            let words = [
                "key_file stands here without cert_file".to_owned(),
                effect.to_owned(),
                "name the file with the certificate in cert_file".to_owned(),
            ];
            findings.error("client-without-key", at, words);
        }
        (None, None) => {}
    }
    let insecure = tls
        .get("insecure_skip_verify")
        .filter(|branch| branch.value().is_some_and(crate::document::Node::is_true));
    if let Some(branch) = insecure {
        findings.of(branch.at.file).unverified(branch.at.at, name);
    }
}

/// A file beside a main one that it does not import.
pub(super) fn check_not_imported(source: &NodeFile, main: &Path) -> Vec<Finding> {
    let mut findings = FileFindings::new(source);
    let speaks = toml::read(&source.text).ok().is_some_and(|document| {
        [super::super::containerd::FIRST, OLD, NEW]
            .iter()
            .any(|plugin| document.at_path(&["plugins", plugin, "registry"]).is_some())
    });
    if speaks {
        let words = [
            format!("{} does not import this file", main.display()),
            format!("containerd does not read it: {NOBODY}"),
            format!("write imports = [{:?}] into {}", hosts_glob(source), main.display()),
        ];
        findings.add(Severity::Warning, "not-imported", None, words);
    }
    findings.end()
}

fn hosts_glob(source: &NodeFile) -> String {
    let folder =
        source.path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or("conf.d");
    format!("/etc/containerd/{folder}/*.toml")
}
