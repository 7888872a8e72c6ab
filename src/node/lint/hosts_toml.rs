//! `hosts.toml`: what containerd makes of it, against what its writer meant.

mod server;

use std::path::Path;

use secrecy::ExposeSecret as _;

use super::{FileFindings, Files, LintOptions, url};
use crate::document::{Entry, Key, Node, Position, nearest, toml};
use crate::node::hosts::{Capability, Host, HostsFile, Ignored, Origin, Version, directory};

const KEYS: [&str; 7] =
    ["capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout"];

const CA_EFFECT: &str = "containerd sets up all hosts before it asks the first: every pull from this registry fails, and does not fall back";

pub(super) fn check(findings: &mut FileFindings<'_>, settings: &LintOptions, files: &dyn Files) {
    let source = findings.source;
    let version = settings.containerd.unwrap_or(Version::NEWEST);
    let file = match HostsFile::parse(&source.text, version) {
        Ok(file) => file,
        Err(ignored) => return unread(findings, &ignored, version),
    };
    // What is wrong for older ones, where it is not said which it is.
    if settings.containerd.is_none()
        && let Err(ignored) = HostsFile::parse(&source.text, Version::OVERRIDE_PATH)
    {
        let (rule, fix) = reason(&ignored);
        let effect = "containerd before 2.2 or 2.0 only logs that and goes on as if the file were not there: pulls go to the upstream";
        findings.warning(rule, ignored.at, [ignored.why.clone(), effect.to_owned(), fix]);
    }
    let Ok(document) = toml::read(&source.text) else { return };
    let folder = source.path.parent().unwrap_or(Path::new(""));
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let upstream = directory::upstream(name);
    let hosts = file.resolve(upstream.as_deref().unwrap_or("any.upstream"), folder, version);
    keys(findings, &document, settings);
    not_tables(findings, &document, &file, version);
    let tables: Vec<&Node> =
        file.hosts.iter().filter_map(|(url, _)| document.at_path(&["host", url])).collect();
    for (number, host) in hosts.iter().enumerate() {
        let table = tables.get(number).copied();
        let (node, url, verbatim) = match (host.origin, table, file.hosts.get(number)) {
            (Origin::Table, Some(table), Some((url, settings))) => {
                (table, url.as_str(), settings.override_path)
            }
            (Origin::Server, ..) => {
                (&document, file.server.as_deref().unwrap_or_default(), file.root.override_path)
            }
            _ => (&document, "", false),
        };
        let at = if host.origin == Origin::Server { position_of(&document, "server") } else { node.at };
        if host.origin != Origin::Upstream {
            path(findings, at, url, host, verbatim);
            if host.scheme == "http" {
                findings.plain_http(at, &url::parts(url).shown());
            }
        }
        if host.origin == Origin::Table {
            capabilities(findings, node, host);
        }
        if host.skip_verify && node.get("skip_verify").is_some_and(Node::is_true) {
            findings.unverified(position_of(node, "skip_verify"), &host.authority);
        }
        for ca in &host.ca {
            findings.certificate(files, position_of(node, "ca"), ca, CA_EFFECT);
        }
        for (certificate, key) in &host.client {
            for file in std::iter::once(certificate).chain(key) {
                findings.certificate(files, position_of(node, "client"), file, CA_EFFECT);
            }
        }
        header(findings, node, host);
    }
    server::check(findings, &document, &file, &hosts, upstream.as_deref(), settings);
}

fn position_of(node: &Node, key: &str) -> Position {
    node.get(key).map_or(node.at, |value| value.at)
}

/// A short name for why a file is ignored, and the way out.
fn reason(ignored: &Ignored) -> (&'static str, String) {
    if ignored.why.contains("referrers") {
        ("unknown-capability", "leave \"referrers\" out where containerd is older than 2.2".to_owned())
    } else if ignored.why.starts_with("unknown capability") {
        ("unknown-capability", "use pull, resolve and push (and referrers from 2.2 on)".to_owned())
    } else if ignored.why.contains("[host] table") {
        ("no-host-table", "add a [host.\"URL\"] table for the mirror, beside the server".to_owned())
    } else if ignored.why == "it is empty" {
        ("empty-file", "write the mirror into it, or remove the file".to_owned())
    } else {
        ("ignored-file", "correct the line".to_owned())
    }
}

fn unread(findings: &mut FileFindings<'_>, ignored: &Ignored, version: Version) {
    let (rule, fix) = reason(ignored);
    let effect = if rule == "empty-file" {
        "containerd goes on as if the file were not there: pulls go to the upstream, never to a mirror"
            .to_owned()
    } else {
        format!(
            "containerd {version} only logs that and ignores the whole file: pulls go to the upstream, never to the mirror"
        )
    };
    findings.error(rule, ignored.at, [ignored.why.clone(), effect, fix]);
}

fn keys(findings: &mut FileFindings<'_>, document: &Node, settings: &LintOptions) {
    let hosts = document.get("host").map(Node::entries).unwrap_or_default();
    let tables = hosts.iter().map(|entry| (&entry.value, false)).chain([(document, true)]);
    for (table, is_root) in tables {
        for Entry { key: Key { name: key, at, .. }, .. } in table.entries() {
            let at = *at;
            let known = KEYS.contains(&key.as_str()) || is_root && matches!(key.as_str(), "server" | "host");
            if !known {
                let meant =
                    nearest(key, &KEYS).map(|key| format!(": did you mean {key}?")).unwrap_or_default();
                findings.error(
                    "unknown-key",
                    at,
                    [
                        format!("containerd does not know the key {key:?}"),
                        "it is passed over without a word, and what it was to say is not said".to_owned(),
                        format!("known are {}{meant}", KEYS.join(", ")),
                    ],
                );
                continue;
            }
            let since = match key.as_str() {
                "override_path" => Version::OVERRIDE_PATH,
                "dial_timeout" => Version::DIAL_TIMEOUT,
                _ => continue,
            };
            if let Some(version) = settings.containerd.filter(|&version| version < since) {
                let rule = "key-too-new";
                let effect = if since == Version::OVERRIDE_PATH {
                    "it is passed over: /v2 is put behind the path, and the mirror answers 404"
                } else {
                    "it is passed over: a mirror that does not answer is waited for 30 s"
                };
                let words = [
                    format!("containerd {version} does not know {key}, which came with {since}"),
                    effect.to_owned(),
                    format!("upgrade containerd to {since}, or do without"),
                ];
                if since == Version::OVERRIDE_PATH {
                    findings.error(rule, at, words);
                } else {
                    findings.warning(rule, at, words);
                }
            }
        }
    }
}

fn not_tables(findings: &mut FileFindings<'_>, document: &Node, file: &HostsFile, version: Version) {
    for Entry { key: Key { name: url, at, .. }, .. } in
        document.get("host").map(Node::entries).unwrap_or_default()
    {
        if version >= Version::TWO && !file.hosts.iter().any(|(known, _)| known == url) {
            findings.error(
                "host-not-a-table",
                *at,
                [
                    format!("{} is not in a [host.\"…\"] line of its own", url::parts(url).shown()),
                    "containerd since 2.0 looks for hosts in such lines alone and never asks this one"
                        .to_owned(),
                    format!("write [host.\"{}\"] and its keys below", url::parts(url).shown()),
                ],
            );
        }
    }
}

fn path(findings: &mut FileFindings<'_>, at: Position, url: &str, host: &Host, verbatim: bool) {
    let parts = url::parts(url);
    let segments = parts.segments();
    let shown = parts.shown();
    let asked = format!("{}://{}{}/NAME/manifests/TAG", host.scheme, host.authority, host.path);
    let correct = || {
        let namespace = parts.namespace();
        let path = if namespace.is_empty() { String::new() } else { format!("/{namespace}") };
        let scheme = if parts.scheme == Some("http") { "http" } else { "https" };
        format!("write {scheme}://{}/v2{path} with override_path = true", parts.authority)
    };
    if parts.userinfo.is_some() {
        findings.error(
            "password-in-url",
            at,
            [
                format!("a user name stands in the URL of {}", parts.authority),
                "containerd drops it: the mirror is asked without credentials".to_owned(),
                "use a header, containerd's config.toml or an image pull secret".to_owned(),
            ],
        );
    }
    if segments.iter().filter(|&&segment| segment == "v2").count() > 1 {
        let effect = format!(
            "containerd asks {asked}, which the registry does not know: 404, and the upstream is asked"
        );
        findings.error("double-v2", at, [format!("{shown} has /v2 twice"), effect, correct()]);
    } else if verbatim && !segments.contains(&"v2") {
        findings.error(
            "missing-v2",
            at,
            [
                format!("override_path takes the path of {shown} as it stands, and there is no /v2 in it"),
                format!(
                    "containerd asks {asked}, which is not the registry's API: 404, and the upstream is asked"
                ),
                correct(),
            ],
        );
    } else if !verbatim && !segments.is_empty() && segments.last() != Some(&"v2") {
        findings.error(
            "missing-override-path",
            at,
            [
                format!("{shown} has a path, and override_path is not set"),
                format!("containerd puts /v2 behind it and asks {asked}: 404, and the upstream is asked"),
                correct(),
            ],
        );
    }
}

fn capabilities(findings: &mut FileFindings<'_>, node: &Node, host: &Host) {
    let at = position_of(node, "capabilities");
    let fix = || "write capabilities = [\"pull\", \"resolve\"]".to_owned();
    if !host.may(Capability::Pull) {
        findings.error(
            "no-pull",
            at,
            [
                format!("{} may not be asked to pull", host.authority),
                "containerd never pulls from it".to_owned(),
                fix(),
            ],
        );
    } else if !host.may(Capability::Resolve) {
        findings.warning(
            "no-resolve",
            at,
            [
                format!("{} may not resolve tags", host.authority),
                "an image named by its tag is asked of the upstream alone, and not found where there is none"
                    .to_owned(),
                fix(),
            ],
        );
    }
}

fn header(findings: &mut FileFindings<'_>, node: &Node, host: &Host) {
    let is_secret = |name: &str| {
        matches!(
            name.to_ascii_lowercase().as_str(),
            "authorization" | "proxy-authorization" | "cookie" | "x-auth-token"
        )
    };
    let secret = host.header.iter().any(|(name, values)| {
        is_secret(name) && values.iter().any(|value| !value.expose_secret().is_empty())
    });
    if !secret {
        return;
    }
    let at = position_of(node, "header");
    findings.readable_password(at);
    if host.origin == Origin::Upstream {
        findings.error(
            "credentials-to-upstream",
            at,
            [
                "the header stands outside of the [host] tables, and there is no server".to_owned(),
                format!("containerd sends these credentials to {}", host.authority),
                "put it into [host.\"URL\".header] of the mirror".to_owned(),
            ],
        );
    }
}
