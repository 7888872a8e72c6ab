//! The table `registry`: mirrors and their endpoints, and the settings for hosts.

use super::keys::unknown;
use super::{SetFindings, configs};
use crate::document::{Node, Position};
use crate::node::containerd::{Branch, ContainerdRegistries, Item};
use crate::node::hosts::{self, Version};
use crate::node::lint::{FileFindings, NodeFiles, url};

const KEYS: [&str; 5] = ["config_path", "mirrors", "configs", "auths", "headers"];
const MIRROR_KEYS: [&str; 1] = ["endpoint"];

pub(super) fn check(
    findings: &mut SetFindings<'_>,
    registry: &ContainerdRegistries,
    version: Version,
    files: &dyn NodeFiles,
) {
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
        for (endpoint, at) in endpoints.map(Node::texts).unwrap_or_default() {
            authorities.push(url::parts(endpoint).authority);
            let effect = if hosts::url_fault(endpoint).is_some() {
                "containerd cannot read it: every pull from this registry fails, the upstream included"
            } else {
                "no host has that address: the mirror is never reached"
            };
            if !check_address(findings.of(file), endpoint, at, effect) {
                check_endpoint(findings.of(file), endpoint, at);
            }
        }
    }
    let has_path = !registry.folders.is_empty();
    for config in &registry.configs {
        configs::check(findings, config, &authorities, version, files, has_path);
    }
    if let Some(auths) = registry.table.iter().find(|branch| branch.name == "auths") {
        for auth in auths.branches() {
            findings.of(auth.at.file).readable_password(auth.at.at);
        }
    }
}

fn mirror_name(findings: &mut SetFindings<'_>, mirror: &Branch, mirrors: &[Branch]) {
    let host = mirror.name.as_str();
    if let Some((why, right)) = url::wrong_name(host) {
        // `registry` for `registry:5000`.
        let endpoints = mirror.get("endpoint").and_then(Branch::value).map(Node::texts).unwrap_or_default();
        let mut authorities = endpoints.iter().map(|(endpoint, _)| url::parts(endpoint).authority);
        let own = authorities.find(|authority| {
            !url::is_registry_name(host) && !host.is_empty() && hosts::split_port(authority).0 == host
        });
        let fix = format!("write mirrors.{:?}", own.unwrap_or(&right));
        let words = [why, "containerd never looks for this mirror".to_owned(), fix];
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

/// An endpoint that leads nowhere. Tells whether it is one.
pub(in crate::node::lint) fn check_address(
    findings: &mut FileFindings<'_>,
    endpoint: &str,
    at: Position,
    effect: &str,
) -> bool {
    let Some(why) = url::endpoint_fault(endpoint) else { return false };
    // Not shown: what stands before an @ may be a password.
    let shown = endpoint.rsplit('@').next().unwrap_or(endpoint);
    let words = [
        format!("the endpoint {shown:?} is not the address of a registry: {why}"),
        effect.to_owned(),
        "write https://HOST:PORT/v2[/NAMESPACE], one for each address".to_owned(),
    ];
    findings.error("bad-address", at, words);
    true
}

/// An endpoint whose path is taken as it stands, here and in `registries.yaml`.
pub(in crate::node::lint) fn check_endpoint(findings: &mut FileFindings<'_>, endpoint: &str, at: Position) {
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
