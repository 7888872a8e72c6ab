//! `mirrors:` with their endpoints.

use std::path::Path;

use super::{YamlMirror, rewrite, shape, table, unknown, wrong_type};
use crate::document::{Entry, Key, Node, Position, yaml};
use crate::node::lint::{FileFindings, FileKind, LintOptions, NodeFiles, config_toml, url};

/// Which host is asked for which registry.
pub(super) fn check<'a>(
    findings: &mut FileFindings<'_>,
    document: &'a Node,
    options: &LintOptions,
    files: &dyn NodeFiles,
) -> Vec<YamlMirror<'a>> {
    let mut asked: Vec<YamlMirror<'_>> = Vec::new();
    let mirrors = table(findings, document, "mirrors");
    for Entry { key: Key { name: host, at, .. }, value: mirror } in mirrors {
        name(findings, host, *at, mirror);
        if mirror.is_null() {
            continue;
        }
        if mirror.mapping().is_none() {
            wrong_type(
                findings,
                mirror.at,
                &format!("mirrors.{host}"),
                "a mapping with endpoint: and a list below it",
            );
            continue;
        }
        unknown(findings, mirror, &["endpoint", "rewrite"]);
        let endpoints = endpoints(findings, host, mirror);
        if let Some(Entry { key, value }) = mirror.entry("rewrite") {
            let is_shaped = value.is_null() || value.mapping().is_some();
            if is_shaped && value.entries().iter().all(|entry| shape::is_text(&entry.value)) {
                rewrite::check(findings, value, &endpoints);
            } else {
                let wanted = "a mapping: \"PATTERN\": \"REPLACEMENT\", without hyphens";
                wrong_type(findings, key.at, &format!("mirrors.{host}.rewrite"), wanted);
            }
        }
        asked.push(YamlMirror {
            host,
            endpoints: endpoints.iter().map(|(endpoint, _)| url::parts(endpoint).authority).collect(),
        });
    }
    let first =
        mirrors.iter().find(|entry| entry.value.get("endpoint").is_some_and(|list| !list.items().is_empty()));
    if let Some(Entry { key, .. }) =
        first.filter(|_| options.no_fallback && !is_closed(&findings.source.path, files))
    {
        let words = [
            "registries are asked themselves for what their mirrors lack, whatever stands in this file".to_owned(),
            "a pull that no mirror can serve goes out of the site, or waits for nothing".to_owned(),
            "set disable-default-registry-endpoint: true in the config.yaml of k3s or RKE2 (since January 2024)".to_owned(),
        ];
        findings.warning("asks-upstream", key.at, words);
    }
    asked
}

/// Whether the configuration beside the file says that registries are not asked themselves.
fn is_closed(path: &Path, files: &dyn NodeFiles) -> bool {
    let Some(folder) = path.parent() else { return false };
    let drop_ins = folder.join("config.yaml.d");
    let names = files.entries(&drop_ins).into_iter().map(|entry| drop_ins.join(entry.name));
    let mut all = std::iter::once(folder.join("config.yaml")).chain(names);
    all.any(|path| {
        let text = files.read(&path, FileKind::Objects).map(|file| file.text).unwrap_or_default();
        let document = yaml::read(&text).unwrap_or_default();
        document
            .iter()
            .any(|document| document.get("disable-default-registry-endpoint").is_some_and(Node::is_true))
    })
}

fn name(findings: &mut FileFindings<'_>, host: &str, at: Position, mirror: &Node) {
    let Some((why, right)) = url::wrong_name(host) else { return };
    // A name without endpoints asks nobody.
    if mirror.is_null() && !url::is_docker_alias(host) {
        return;
    }
    let words = [why, "the mirror is never asked".to_owned(), format!("write {right}")];
    findings.error("wrong-registry-name", at, words);
}

/// The endpoints of a mirror. k3s completes those without a scheme, and takes a slash or /v2 at the end.
fn endpoints<'a>(findings: &mut FileFindings<'_>, host: &str, mirror: &'a Node) -> Vec<(&'a str, Position)> {
    let Some(Entry { key, value }) = mirror.entry("endpoint") else { return Vec::new() };
    if value.sequence().is_none() && !value.is_null() {
        wrong_type(
            findings,
            key.at,
            &format!("mirrors.{host}.endpoint"),
            "a list: a hyphen before each endpoint",
        );
        return Vec::new();
    }
    for item in value.items().iter().filter(|item| item.scalar().is_none()) {
        wrong_type(
            findings,
            item.at,
            &format!("an entry of mirrors.{host}.endpoint"),
            "a text: one URL behind each hyphen",
        );
    }
    let found: Vec<(&str, Position)> =
        value.items().iter().filter_map(|item| Some((item.text()?, item.at))).collect();
    for (number, (endpoint, at)) in found.iter().enumerate() {
        if found[..number].iter().any(|(other, _)| other == endpoint) {
            let words = [
                format!("the endpoint {} stands here twice", url::parts(endpoint).shown()),
                "k3s and RKE2 before March 2024 write a hosts.toml of it that containerd ignores; later ones skip it".to_owned(),
                "remove one of the two".to_owned(),
            ];
            findings.warning("duplicate-endpoint", *at, words);
        } else if config_toml::check_address(
            findings,
            endpoint,
            *at,
            "k3s and RKE2 leave it out or ask nobody there",
        ) {
        } else if url::parts(endpoint).path != "/" {
            config_toml::check_endpoint(findings, endpoint, *at);
        }
    }
    found
}
