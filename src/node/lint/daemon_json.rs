//! The Docker daemon's `daemon.json`.
//!
//! <https://github.com/moby/moby/blob/master/daemon/pkg/registry/config.go>

use super::{FileFindings, url};
use crate::document::{Entry, Node, Position, json};

pub(super) fn check(findings: &mut FileFindings<'_>) {
    let document = match json::read(&findings.source.text) {
        Ok(document) => document,
        Err(error) => {
            let effect = "the daemon does not start again".to_owned();
            return findings.error("not-json", error.at, [error.message, effect, error.fix]);
        }
    };
    for Entry { key, .. } in document.entries() {
        let meant = match key.name.as_str() {
            "registry-mirror" | "registry_mirrors" | "registryMirrors" | "mirrors" => "registry-mirrors",
            "insecure-registry" | "insecure_registries" | "insecureRegistries" => "insecure-registries",
            "auths" | "auth" | "credHelpers" | "credsStore" => "the config.json of the user who pulls",
            _ => continue,
        };
        let words = [
            format!("the daemon does not know the key {:?}", key.name),
            "the daemon does not start again".to_owned(),
            format!("it belongs into {meant}"),
        ];
        findings.error("unknown-key", key.at, words);
    }
    for (mirror, at) in document.get("registry-mirrors").map(Node::texts).unwrap_or_default() {
        check_mirror(findings, mirror, at);
    }
    for (registry, at) in document.get("insecure-registries").map(Node::texts).unwrap_or_default() {
        let parts = url::parts(registry);
        if parts.scheme.is_some() {
            let words = [
                format!("{registry} has a scheme"),
                "the daemon looks for HOST:PORT and speaks TLS all the same, or does not start".to_owned(),
                format!("write {}", parts.authority),
            ];
            findings.error("scheme-in-location", at, words);
        }
    }
}

fn check_mirror(findings: &mut FileFindings<'_>, mirror: &str, at: Position) {
    let parts = url::parts(mirror);
    let stops = "the daemon does not start again".to_owned();
    match parts.scheme {
        None => {
            let words =
                [format!("the mirror {mirror} has no scheme"), stops, format!("write https://{mirror}")];
            return findings.error("no-scheme", at, words);
        }
        Some("http") => findings.plain_http(at, &parts.shown()),
        Some("https") => {}
        Some(other) => {
            let words = [
                format!("{other} is not a scheme for mirrors"),
                stops.clone(),
                format!("write https://{}", parts.authority),
            ];
            findings.error("no-scheme", at, words);
        }
    }
    if parts.userinfo.is_some() || parts.query {
        let words = [
            format!("a user name or a query stands in the URL of {}", parts.authority),
            stops,
            format!("write https://{}", parts.authority),
        ];
        findings.error("password-in-url", at, words);
    } else if !parts.segments().is_empty() {
        let double = parts.segments().contains(&"v2");
        let effect = if double {
            "the daemon does not start again before 24.0; later ones put another /v2 behind the path, which no registry has"
        } else {
            "the daemon does not start again before 24.0; later ones ask below the path, where some registries answer (Nexus) and most do not"
        };
        let words = [
            format!("{} has a path", parts.shown()),
            effect.to_owned(),
            "give docker.io a host or port of its own on the mirror, and name its root".to_owned(),
        ];
        findings.error(if double { "double-v2" } else { "mirror-with-path" }, at, words);
    }
}
