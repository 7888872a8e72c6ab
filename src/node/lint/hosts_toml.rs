//! `hosts.toml`: what containerd makes of it, against what its writer meant.

mod certificates;
mod keys;
mod path;
mod server;

use std::path::Path;

use secrecy::ExposeSecret as _;

use super::{FileFindings, LintOptions, NodeFiles, tree, url};
use crate::document::{Node, Position, toml};
use crate::node::hosts::{
    self, Capability, Host, HostOrigin, HostSettings, HostsFile, Ignored, Version, directory,
};

pub(super) fn check(findings: &mut FileFindings<'_>, options: &LintOptions, files: &dyn NodeFiles) {
    let source = findings.source;
    let version = options.containerd.unwrap_or(Version::NEWEST);
    let (file, faults) = HostsFile::parse_all(&source.text, version);
    let document = toml::read(&source.text).ok();
    // A key that is misplaced among the headers has a finding of its own.
    let is_cause =
        |fault: &&Ignored| document.as_ref().is_none_or(|document| !keys::is_swallowed(document, fault.at));
    for fault in faults.iter().filter(is_cause) {
        unread(findings, fault, version);
    }
    // What is wrong for older ones, where it is not said which it is.
    if options.containerd.is_none() {
        let (_, older) = HostsFile::parse_all(&source.text, Version::OVERRIDE_PATH);
        for fault in older.iter().filter(|fault| !faults.contains(fault)).filter(is_cause) {
            let (rule, fix) = reason(fault);
            let effect = "containerd before 2.2 or 2.0 only logs that and goes on as if the file were not there: pulls go to the upstream";
            findings.warning(rule, fault.at, [fault.why.clone(), effect.to_owned(), fix]);
        }
    }
    let Some(document) = document else { return };
    keys::check(findings, &document, options);
    // A file that containerd ignores has findings about its syntax; it has no effects to report.
    let counts = faults.is_empty();
    if counts {
        keys::not_tables(findings, &document, &file, version);
    }
    let folder = source.path.parent().unwrap_or(Path::new(""));
    let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let upstream = directory::upstream(name);
    let is_misnamed = tree::wrong_name(name).is_some();
    let hosts = file.resolve(upstream.as_deref().unwrap_or("any.upstream"), folder, version);
    let mut garbled = false;
    for (number, host) in hosts.iter().enumerate() {
        let HostTable { node, url, settings } = HostTable::of(&document, &file, number);
        let at = if host.origin == HostOrigin::Server { position_of(&document, "server") } else { node.at };
        if host.origin != HostOrigin::Upstream {
            if path::is_garbled(findings, at, url, host, upstream.as_deref()) {
                garbled |= host.origin == HostOrigin::Server;
                continue;
            }
            // A value that is neither true nor false has a finding of its own.
            let is_unread = node.get("override_path").is_some_and(|value| value.text().is_some());
            path::check(findings, at, url, host, settings.override_path || is_unread);
            // What images call by a name of this machine is a registry beside it, as kind's script sets one up.
            if host.scheme == "http" && !upstream.as_deref().is_some_and(hosts::is_loopback) {
                findings.plain_http(at, &url::parts(url).shown());
            }
        }
        if host.origin == HostOrigin::Table {
            capabilities(findings, node, host);
        }
        if host.skip_verify && node.get("skip_verify").is_some_and(Node::is_true) {
            findings.unverified(position_of(node, "skip_verify"), &host.authority);
        }
        certificates::check(findings, node, host, settings, files);
        header(findings, node, host);
    }
    if !counts {
        return;
    }
    keys::for_the_server(findings, &document, &hosts, upstream.as_deref());
    if !garbled && !is_misnamed {
        server::check(findings, &document, &file, &hosts, upstream.as_deref(), options);
    }
}

/// What is written of the host at a place among those that are asked.
struct HostTable<'a> {
    /// Its table; the whole document for the last one.
    node: &'a Node,
    url: &'a str,
    settings: &'a HostSettings,
}

impl<'a> HostTable<'a> {
    fn of(document: &'a Node, file: &'a HostsFile, number: usize) -> Self {
        let table = file.hosts.get(number);
        let found = table.and_then(|(url, settings)| {
            Some(Self { node: document.at_path(&["host", url])?, url, settings })
        });
        found.unwrap_or(Self {
            node: document,
            url: file.server.as_deref().unwrap_or_default(),
            settings: &file.root,
        })
    }
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
    if host.origin == HostOrigin::Upstream {
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
