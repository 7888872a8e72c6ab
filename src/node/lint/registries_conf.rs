//! `registries.conf` of CRI-O, Podman, Buildah and Skopeo.
//!
//! <https://github.com/containers/image/blob/main/docs/containers-registries.conf.5.md>

use super::{FileFindings, url};
use crate::document::{Entry, Key, Node, Position, Severity, nearest, toml};

const KEYS: [&str; 6] = ["prefix", "location", "insecure", "blocked", "mirror-by-digest-only", "mirror"];
const MIRROR_KEYS: [&str; 3] = ["location", "insecure", "pull-from-mirror"];

pub(super) fn check(findings: &mut FileFindings<'_>) {
    let document = match toml::read(&findings.source.text) {
        Ok(document) => document,
        Err(error) => {
            let effect = "every pull on the node fails: the runtime refuses the whole configuration";
            return findings.error("not-toml", error.at, [error.message, effect.to_owned(), error.fix]);
        }
    };
    drop_in_name(findings);
    if let (Some(old), Some(_)) = (document.get("registries"), document.get("registry")) {
        let words = [
            "tables of the first form ([registries.…]) stand beside those of the second".to_owned(),
            "the runtime refuses a file that mixes them, and every pull fails".to_owned(),
            "keep [[registry]] alone; search registries are unqualified-search-registries = […]".to_owned(),
        ];
        findings.error("both-styles", old.at, words);
    }
    for registry in document.get("registry").map(Node::items).unwrap_or_default() {
        check_registry(findings, registry);
    }
}

fn drop_in_name(findings: &mut FileFindings<'_>) {
    let path = &findings.source.path;
    let in_folder = path.parent().is_some_and(|folder| folder.ends_with("registries.conf.d"));
    if in_folder && path.extension().is_none_or(|extension| extension != "conf") {
        let words = [
            "a drop-in whose name does not end in .conf".to_owned(),
            "the runtime passes it over: no mirror is asked".to_owned(),
            "rename it to end in .conf".to_owned(),
        ];
        findings.error("drop-in-name", None, words);
    }
}

fn check_registry(findings: &mut FileFindings<'_>, registry: &Node) {
    unknown(findings, registry, &KEYS);
    let text = |key: &str| registry.get(key).and_then(|node| Some((node.text()?, node.at)));
    let mirrors = registry.get("mirror").map(Node::items).unwrap_or_default();
    if text("prefix").is_none() && text("location").is_none() {
        let words = [
            "a [[registry]] with neither prefix nor location".to_owned(),
            "the runtime refuses the whole configuration, and every pull fails".to_owned(),
            "write prefix = \"gcr.io\" and location = \"gcr.io\"".to_owned(),
        ];
        findings.error("no-location", registry.at, words);
    }
    if let Some((prefix, at)) = text("prefix") {
        prefix_form(findings, prefix, at);
    }
    if let Some((location, at)) = text("location") {
        place(findings, location, at);
    }
    if let Some(node) = registry.get("blocked").filter(|node| node.is_true() && !mirrors.is_empty()) {
        let words = [
            "a registry that is blocked has mirrors".to_owned(),
            "images of it are refused before any mirror is asked".to_owned(),
            "to keep the upstream out, write the mirror as its location, and no [[registry.mirror]]"
                .to_owned(),
        ];
        findings.error("blocked-with-mirrors", node.at, words);
    }
    if let Some(node) = registry.get("insecure").filter(|node| node.is_true()) {
        insecure(findings, node, text("location").map_or("the registry", |(location, _)| location));
    }
    let by_digest = registry.get("mirror-by-digest-only").filter(|node| node.is_true());
    for mirror in mirrors {
        unknown(findings, mirror, &MIRROR_KEYS);
        let location = mirror.get("location").and_then(Node::text);
        if let Some(location) = location {
            place(findings, location, mirror.get("location").map_or(mirror.at, |node| node.at));
        } else {
            let words = [
                "a mirror without a location".to_owned(),
                "the runtime refuses the whole configuration, and every pull fails".to_owned(),
                "write location = \"HOST:PORT[/NAMESPACE]\"".to_owned(),
            ];
            findings.error("no-location", mirror.at, words);
        }
        if let Some(node) = mirror.get("insecure").filter(|node| node.is_true()) {
            insecure(findings, node, location.unwrap_or("the mirror"));
        }
        let Some((from, node)) = mirror.get("pull-from-mirror").and_then(|node| Some((node.text()?, node)))
        else {
            continue;
        };
        if let Some(both) = by_digest {
            let words = [
                format!("pull-from-mirror stands beside mirror-by-digest-only (line {})", both.at.line),
                "the runtime refuses the whole configuration, and every pull fails".to_owned(),
                "keep pull-from-mirror alone".to_owned(),
            ];
            findings.error("both-styles", node.at, words);
        } else if from == "digest-only" {
            digest_only(findings, node.at);
        } else if !matches!(from, "all" | "tag-only") {
            let words = [
                format!("pull-from-mirror = {from:?} is not known"),
                "the runtime refuses the whole configuration, and every pull fails".to_owned(),
                "write \"all\", \"digest-only\" or \"tag-only\"".to_owned(),
            ];
            findings.error("unknown-value", node.at, words);
        }
    }
    if let Some(node) = by_digest.filter(|_| {
        !mirrors.is_empty() && mirrors.iter().all(|mirror| mirror.get("pull-from-mirror").is_none())
    }) {
        digest_only(findings, node.at);
    }
}

fn digest_only(findings: &mut FileFindings<'_>, at: Position) {
    let words = [
        "the mirror is asked for digests alone".to_owned(),
        "an image named by its tag goes to the upstream, and is not found where there is none".to_owned(),
        "leave it out, or write pull-from-mirror = \"all\"".to_owned(),
    ];
    findings.warning("digest-only", at, words);
}

fn insecure(findings: &mut FileFindings<'_>, node: &Node, of: &str) {
    let words = [
        format!("{of} is insecure"),
        "its certificate is not checked, and plain HTTP is good enough: anybody can pose as the mirror"
            .to_owned(),
        "put the authority's certificate into /etc/containers/certs.d/HOST:PORT/ca.crt instead".to_owned(),
    ];
    findings.warning("unverified-tls", node.at, words);
}

fn unknown(findings: &mut FileFindings<'_>, table: &Node, known: &[&str]) {
    for Entry { key: Key { name: key, at, .. }, .. } in table.entries() {
        if known.contains(&key.as_str()) {
            continue;
        }
        let meant = nearest(key, known).map(|key| format!(": did you mean {key}?")).unwrap_or_default();
        let words = [
            format!("the runtime does not know the key {key:?} here"),
            "it is passed over without a word".to_owned(),
            format!("known are {}{meant}", known.join(", ")),
        ];
        findings.error("unknown-key", *at, words);
    }
}

fn prefix_form(findings: &mut FileFindings<'_>, prefix: &str, at: Position) {
    let never = "no image matches it: the mirror is never asked".to_owned();
    let parts = url::parts(prefix);
    if parts.scheme.is_some() {
        let words = [
            format!("the prefix {prefix} has a scheme"),
            never,
            format!("write {:?}", format!("{}{}", parts.authority, parts.path)),
        ];
        findings.error("scheme-in-location", at, words);
    } else if prefix.contains('*') && !prefix.starts_with("*.") {
        let words = [
            format!("a wildcard stands in the prefix {prefix:?} where it may not"),
            "the runtime refuses the whole configuration, and every pull fails".to_owned(),
            "a wildcard comes first, for subdomains alone, as *.gcr.io".to_owned(),
        ];
        findings.error("bad-wildcard", at, words);
    } else if url::is_docker_alias(parts.authority) {
        findings.error(
            "wrong-registry-name",
            at,
            [
                format!("runtimes call {} docker.io", parts.authority),
                never,
                "write prefix = \"docker.io\"".to_owned(),
            ],
        );
    } else if parts.authority == "docker.io" && parts.segments().len() == 1 && parts.segments() != ["library"]
    {
        let words = [
            format!("{prefix} is the image docker.io/library{} to the runtime", parts.path),
            "the prefix matches only images of that user or organisation: for an official image, none"
                .to_owned(),
            format!("for the official image, write prefix = \"docker.io/library{}\"", parts.path),
        ];
        findings.add(Severity::Note, "library-missing", at, words);
    }
}

/// A place of images: no scheme, and no path of the API.
fn place(findings: &mut FileFindings<'_>, location: &str, at: Position) {
    let parts = url::parts(location);
    let right = || {
        let namespace = parts.namespace();
        let namespace = if namespace.is_empty() { namespace } else { format!("/{namespace}") };
        format!("write location = \"{}{namespace}\"", parts.authority)
    };
    if parts.scheme.is_some() {
        let words = [
            format!("{} has a scheme", parts.shown()),
            "the runtime refuses the whole configuration, and every pull fails".to_owned(),
            right(),
        ];
        findings.error("scheme-in-location", at, words);
    } else if parts.segments().contains(&"v2") {
        let effect = "the runtime puts /v2 in front by itself: it asks for a repository whose name begins with v2, which is not there".to_owned();
        findings.error(
            "double-v2",
            at,
            [format!("{} holds the path of the API", parts.shown()), effect, right()],
        );
    }
}
