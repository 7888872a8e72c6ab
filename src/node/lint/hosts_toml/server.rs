//! Who is asked last: a `server` that makes a fall-back impossible, unwanted, or wrong.

use super::super::{FileFindings, LintOptions, url};
use super::position_of;
use crate::document::{Node, Position, Severity};
use crate::node::hosts::{Host, HostOrigin, HostsFile};

pub(super) fn check(
    findings: &mut FileFindings<'_>,
    document: &Node,
    file: &HostsFile,
    hosts: &[Host],
    upstream: Option<&str>,
    settings: &LintOptions,
) {
    let Some(last) = hosts.last() else { return };
    let at = position_of(document, "server");
    let own = |authority: &str| {
        let docker = |host: &str| host == "docker.io" || url::is_docker_alias(host);
        upstream.is_some_and(|upstream| authority == upstream || docker(upstream) && docker(authority))
    };
    let is_mirror = hosts[..hosts.len() - 1].iter().any(|host| host.authority == last.authority);
    let is_upstream = last.origin == HostOrigin::Upstream || own(&last.authority);
    let has_mirror = hosts[..hosts.len() - 1].iter().any(|host| !own(&host.authority));
    if settings.no_fallback && is_upstream && has_mirror {
        findings.error(
            "unwanted-fallback",
            if last.origin == HostOrigin::Server { at } else { Position::START },
            [
                format!("{} is asked last", last.authority),
                "a pull that the mirror cannot serve goes out of the site, or waits 30 s for nothing".to_owned(),
                "make the mirror the server: server = \"https://MIRROR/v2[/NAMESPACE]\" with override_path = true above the tables".to_owned(),
            ],
        );
    }
    let root = &file.root;
    let says_how = root.skip_verify.is_some()
        || !(root.ca.is_empty() && root.client.is_empty() && root.header.is_empty());
    if file.hosts.is_empty() && is_upstream && !says_how {
        findings.warning(
            "no-mirror",
            at,
            [
                "no mirror is named".to_owned(),
                "every pull goes to the upstream".to_owned(),
                "add [host.\"https://MIRROR/v2[/NAMESPACE]\"]".to_owned(),
            ],
        );
    }
    if last.origin == HostOrigin::Server && upstream.is_none() && !is_mirror && !file.hosts.is_empty() {
        findings.error(
            "foreign-server",
            at,
            [
                format!("_default names the server {}", last.authority),
                "where the mirror fails, that registry is asked for images of every other: they are not there, or not the same"
                    .to_owned(),
                "leave server out of _default: each upstream is then asked for its own".to_owned(),
            ],
        );
    }
    if last.origin == HostOrigin::Server && !is_upstream && upstream.is_some() {
        if is_mirror || file.hosts.is_empty() {
            if !settings.no_fallback {
                let what = format!(
                    "the server is the mirror {}, and not {}",
                    last.authority,
                    upstream.unwrap_or_default()
                );
                let effect = "nobody but the mirror is asked: what it lacks cannot be pulled".to_owned();
                let fix = format!(
                    "right for a site without a way out; else server = \"https://{}\"",
                    url::server_of(upstream.unwrap_or_default())
                );
                findings.add(Severity::Note, "no-fallback", at, [what, effect, fix]);
            }
        } else {
            findings.error(
                "foreign-server",
                at,
                [
                    format!("the server {} is neither {} nor one of the mirrors", last.authority, upstream.unwrap_or_default()),
                    "where the mirror fails, another registry is asked for images of this one: they are not there, or not the same".to_owned(),
                    format!("write server = \"https://{}\"", url::server_of(upstream.unwrap_or_default())),
                ],
            );
        }
    }
    for (number, (host, (table, _))) in hosts.iter().zip(&file.hosts).enumerate() {
        // Alone, it is how certificates of the registry itself are named.
        let before_a_mirror = hosts[number + 1..file.hosts.len()].iter().any(|other| !own(&other.authority));
        if own(&host.authority) && before_a_mirror {
            let at = document.at_path(&["host", table]).map_or(Position::START, |node| node.at);
            findings.warning(
                "upstream-among-mirrors",
                at,
                [
                    format!("{} is its own mirror", host.authority),
                    "hosts are asked in the order of the file: mirrors below it are asked only when it fails"
                        .to_owned(),
                    "name the upstream as server, not as a [host]".to_owned(),
                ],
            );
        }
    }
}
