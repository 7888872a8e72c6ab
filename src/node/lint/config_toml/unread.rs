//! Tables of registries that containerd does not read, each for its reason.

use super::{NOBODY, SetFindings};
use crate::node::containerd::{Effective, NEW, OLD, Unread, UnreadTable};
use crate::node::hosts::Version;
use crate::node::lint::config_set::ConfigSet;

/// Whether a table that is not read says anything: `containerd config default` writes blank ones.
pub(super) fn says_something(set: &ConfigSet, table: &UnreadTable) -> bool {
    let document = &set.parsed[table.at.file];
    let registry = document.at_path(&["plugins", &table.plugin, "registry"]);
    registry.is_some_and(|registry| {
        registry.entries().iter().any(|entry| match entry.value.text() {
            Some(text) => !text.is_empty(),
            None => entry.value.entries().iter().any(|_| true) || entry.value.mapping().is_none(),
        })
    })
}

pub(super) fn check(
    findings: &mut SetFindings<'_>,
    table: &UnreadTable,
    effective: &Effective,
    version: Version,
) {
    let runtime = findings.runtime.clone();
    let UnreadTable { at, plugin, number, why } = table;
    let effect = format!("{runtime} does not read the table: {NOBODY}");
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
            let effect = format!("{runtime} joins no tables: what is said of registries here does not count");
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
            let effect = format!("{runtime} takes that one, and does not read this");
            findings.warning("both-tables", *at, [what, effect, "keep one of the two".to_owned()]);
        }
    }
}
