//! The first form of the file: `[registries.search]` and so on.

use super::{FIRST, TOP_KEYS, refused, search_registries};
use crate::document::{Entry, Node, Position};
use crate::node::hosts::Version;
use crate::node::lint::{FileFindings, LintOptions, url};

pub(super) fn check(
    findings: &mut FileFindings<'_>,
    document: &Node,
    is_drop_in: bool,
    options: &LintOptions,
) {
    let Some(Entry { key, value }) = document.entry("registries") else { return };
    let says =
        |table: &str| value.at_path(&[table, "registries"]).is_some_and(|list| !list.items().is_empty());
    let fix =
        "write unqualified-search-registries = […] at the top, and [[registry]] with insecure or blocked"
            .to_owned();
    if document.entries().iter().any(|entry| TOP_KEYS.contains(&entry.key.name.as_str())) {
        let what = "tables of the first form ([registries.…]) stand beside those of the second".to_owned();
        return refused(findings, "both-styles", key.at, what, fix);
    }
    if is_drop_in {
        let what = "a drop-in in the first form ([registries.…])".to_owned();
        return refused(findings, "first-form", key.at, what, fix);
    }
    if FIRST.into_iter().any(says) {
        let what = "the file has the first form (version 1, [registries.search] and so on)".to_owned();
        match options.podman {
            Some(podman) if podman >= Version::new(6, 0, 0) => {
                refused(findings, "first-form", key.at, what, fix);
            }
            _ => {
                let effect = "it is converted, has no mirrors, and is refused from Podman 6 (containers/image 5.40) on: every pull fails then";
                findings.warning("first-form", key.at, [what, effect.to_owned(), fix]);
            }
        }
    }
    let listed = |table: &str| {
        value.at_path(&[table, "registries"]).filter(|list| list.sequence().is_some()).map(Node::texts)
    };
    search_registries(findings, "registries.search", &listed("search").unwrap_or_default());
    for table in ["insecure", "block"] {
        entries(findings, table, &listed(table).unwrap_or_default());
    }
}

/// Each is made a `[[registry]]`.
fn entries(findings: &mut FileFindings<'_>, table: &str, listed: &[(&str, Position)]) {
    for (name, at) in listed {
        let parts = url::parts(name);
        let plain = name.trim_end_matches('/');
        if plain.is_empty() {
            let what = format!("registries.{table} has an empty name");
            let fix = format!("remove it: registries = [] below [registries.{table}]");
            refused(findings, "no-location", *at, what, fix);
        } else if matches!(parts.scheme, Some("http" | "https")) {
            let what = format!("registries.{table} has {}, and takes names without a scheme", parts.shown());
            refused(findings, "scheme-in-location", *at, what, format!("write {:?}", parts.authority));
        } else if parts.scheme.is_some() {
            let words = [
                format!("registries.{table} has {}, which is no registry", parts.shown()),
                "no image has that name: it changes nothing".to_owned(),
                format!("write {:?}", parts.authority),
            ];
            findings.warning("scheme-in-location", *at, words);
        }
    }
}
