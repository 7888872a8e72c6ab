//! The Docker daemon's `daemon.json`.
//!
//! <https://github.com/moby/moby/blob/master/daemon/pkg/registry/config.go>

use super::document::{self, Node};
use super::{Findings, url};

pub(super) fn check(findings: &mut Findings<'_>) {
    // JSON with its lines: YAML takes it in. What only YAML would take is told first.
    if let Err(error) = serde_json::from_str::<serde_json::Value>(&findings.source.text) {
        let words = [
            "not JSON: ".to_owned() + &error.to_string(),
            "the daemon does not start again".to_owned(),
            "correct the line; JSON has no comments and no comma at the end of a list".to_owned(),
        ];
        return findings.error("not-json", error.line(), words);
    }
    // Tabs may indent JSON, but not YAML.
    let Ok(document) = document::yaml(&findings.source.text.replace('\t', " ")) else { return };
    for (key, node) in document.entries() {
        let meant = match key.as_str() {
            "registry-mirror" | "registry_mirrors" | "registryMirrors" | "mirrors" => "registry-mirrors",
            "insecure-registry" | "insecure_registries" | "insecureRegistries" => "insecure-registries",
            "auths" | "auth" | "credHelpers" | "credsStore" => "the config.json of the user who pulls",
            _ => continue,
        };
        let words = [
            format!("the daemon does not know the key {key:?}"),
            "the daemon does not start again".to_owned(),
            format!("it belongs into {meant}"),
        ];
        findings.error("unknown-key", node.line, words);
    }
    for (mirror, line) in document.get("registry-mirrors").map(Node::texts).unwrap_or_default() {
        check_mirror(findings, mirror, line);
    }
    for (registry, line) in document.get("insecure-registries").map(Node::texts).unwrap_or_default() {
        let parts = url::parts(registry);
        if parts.scheme.is_some() {
            let words = [
                format!("{registry} has a scheme"),
                "the daemon looks for HOST:PORT and speaks TLS all the same, or does not start".to_owned(),
                format!("write {}", parts.authority),
            ];
            findings.error("scheme-in-location", line, words);
        }
    }
}

fn check_mirror(findings: &mut Findings<'_>, mirror: &str, line: usize) {
    let parts = url::parts(mirror);
    let stops = "the daemon does not start again".to_owned();
    match parts.scheme {
        None => {
            let words =
                [format!("the mirror {mirror} has no scheme"), stops, format!("write https://{mirror}")];
            return findings.error("no-scheme", line, words);
        }
        Some("http") => findings.plain_http(line, &parts.shown()),
        Some("https") => {}
        Some(other) => {
            let words = [
                format!("{other} is not a scheme for mirrors"),
                stops.clone(),
                format!("write https://{}", parts.authority),
            ];
            findings.error("no-scheme", line, words);
        }
    }
    if parts.userinfo.is_some() || parts.query {
        let words = [
            format!("a user name or a query stands in the URL of {}", parts.authority),
            stops,
            format!("write https://{}", parts.authority),
        ];
        findings.error("password-in-url", line, words);
    } else if !parts.segments().is_empty() {
        let double = parts.segments().contains(&"v2");
        let words = [
            format!("{} has a path", parts.shown()),
            "the daemon puts /v2 behind it, and the mirror answers 404: docker.io is asked".to_owned(),
            "give docker.io a host or port of its own on the mirror, and name its root".to_owned(),
        ];
        findings.error(if double { "double-v2" } else { "mirror-with-path" }, line, words);
    }
}
