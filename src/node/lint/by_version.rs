//! Findings that hold for some versions of containerd and not for others, where nobody said which it is.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::LintOptions;
use crate::document::{Finding, Node, Severity};
use crate::node::containerd::Stop;
use crate::node::{containerd, hosts::Version};

/// One release for each set of rules.
const KNOWN: [Version; 7] = [
    Version::OVERRIDE_PATH,
    Version::new(1, 7, 20),
    Version::TWO,
    Version::TRANSFER,
    Version::DEFAULT_FOLDERS,
    Version::DEFAULT_WITHOUT_MIRRORS,
    Version::MIGRATES_FILES,
];

/// What says that a version reads the set otherwise than it was meant. Other mistakes are made in what is read.
const READING: [&str; 12] = [
    "both-styles",
    "config-path-list",
    "cri-disabled",
    "mirrors-in-2.2",
    "newer-import",
    "no-config-path",
    "replaced-table",
    "tls-table-gone",
    "unsupported-version",
    "wrong-plugin-name",
    "wrong-plugin-table",
    "wrong-type",
];

/// The versions that may read these files: the one that was given, or all that know the form they have.
pub(super) fn candidates(files: &[Node], options: &LintOptions) -> Vec<Version> {
    if let Some(version) = options.containerd {
        return vec![version];
    }
    let newest = files.iter().map(containerd::number).max().unwrap_or(0);
    let is_of_two =
        newest >= 3 || files.iter().any(|file| file.at_path(&["plugins", containerd::NEW]).is_some());
    let knows = |version: &&Version| {
        let stops = containerd::read(files, **version).stops;
        let refused = stops.iter().any(|(_, stop)| matches!(stop, Stop::FileVersion { .. }));
        !refused && (!is_of_two || **version >= Version::TWO)
    };
    let fit: Vec<Version> = KNOWN.iter().filter(knows).copied().collect();
    if fit.is_empty() { KNOWN.to_vec() } else { fit }
}

/// Where a finding is.
type FindingLocation = (PathBuf, Option<usize>);
/// The same, and its rule.
type FindingKey = (PathBuf, Option<usize>, String);
/// A finding, and the versions for which it holds.
type VersionedFinding = (Finding, Vec<Version>);

/// Joins what was found for each version. A finding that holds for some versions names them, and is an error only where each
/// of the others does something else wrong.
pub(super) fn join(found: Vec<(Version, Vec<Finding>)>) -> Vec<Finding> {
    let all: Vec<Version> = found.iter().map(|(version, _)| *version).collect();
    let mut joined: BTreeMap<FindingKey, VersionedFinding> = BTreeMap::new();
    for (version, findings) in found {
        for finding in findings {
            let key = (finding.path.clone(), finding.line, finding.rule.to_string());
            let (_, versions) = joined.entry(key).or_insert_with(|| (finding, Vec::new()));
            if versions.last() != Some(&version) {
                versions.push(version);
            }
        }
    }
    // Those for which nothing is wrong that is not wrong for all.
    let is_wrong = |version: &Version| {
        let own = joined.values().filter(|(_, versions)| versions.len() < all.len());
        own.into_iter().any(|(finding, versions)| {
            finding.severity == Severity::Error
                && READING.contains(&finding.rule.as_ref())
                && versions.contains(version)
        })
    };
    let right: Vec<Version> = all.iter().filter(|version| !is_wrong(version)).copied().collect();
    let mut places: BTreeMap<FindingLocation, Vec<VersionedFinding>> = BTreeMap::new();
    for ((path, line, _), found) in joined {
        places.entry((path, line)).or_default().push(found);
    }
    let told = places.into_values().flat_map(|found| one_for_each(found, &all, right.is_empty()));
    told.filter_map(|(finding, versions)| limited(finding, &versions, &all, &right)).collect()
}

/// Different versions may have different words for one mistake at one place: those of most versions are used, and where all
/// do something wrong, those of the others too.
fn one_for_each(mut found: Vec<VersionedFinding>, all: &[Version], all_wrong: bool) -> Vec<VersionedFinding> {
    found.sort_by_key(|(_, versions)| std::cmp::Reverse(versions.len()));
    let most = found.first().map_or(0, |(_, versions)| versions.len());
    let mut covered: Vec<Version> = Vec::new();
    found.retain(|(_, versions)| {
        let adds = versions.iter().any(|version| !covered.contains(version));
        let told = versions.len() == all.len() || versions.len() == most || all_wrong && adds;
        if told {
            covered.extend(versions);
        }
        told
    });
    found
}

fn limited(finding: Finding, versions: &[Version], all: &[Version], right: &[Version]) -> Option<Finding> {
    if versions.len() == all.len() {
        return Some(finding);
    }
    let is_one = |version: &Version| *version < Version::TWO;
    // Every version does something wrong, or only one that few nodes have does not.
    let is_certain = right.iter().all(|version| *version >= Version::MIGRATES_FILES)
        && (right.is_empty() || versions.iter().any(is_one));
    if !is_certain {
        // A fault that a later patch has fixed is reported to users who name the version.
        if versions == [Version::DEFAULT_FOLDERS] {
            return None;
        }
        // A file that 1.x may read as well, and reads rightly, is not said to be wrong.
        if right.iter().any(|version| is_one(version) && !versions.contains(version)) {
            return None;
        }
    }
    let effect = format!("with containerd {}: {}", range(versions, all), finding.effect);
    let severity = if is_certain { finding.severity } else { finding.severity.max(Severity::Warning) };
    Some(Finding { severity, effect, ..finding })
}

/// `1.6 to 2.0`, `2.2 and later`: lines of versions, for each of which one release or two were tried.
fn range(versions: &[Version], all: &[Version]) -> String {
    // 2.2.0 and 2.2.1 are not like the rest of their line.
    let first = |version: &Version| match *version {
        Version::DEFAULT_WITHOUT_MIRRORS => "2.2.2".to_owned(),
        version => line(version),
    };
    let last = |version: &Version| match *version {
        Version::DEFAULT_FOLDERS => "2.2.1".to_owned(),
        version => line(version),
    };
    let is_run = all.windows(versions.len()).any(|window| window == versions);
    match versions {
        [Version::DEFAULT_FOLDERS] => "2.2.0 and 2.2.1".to_owned(),
        [only] => first(only),
        [from, .., to] if is_run && *to == Version::NEWEST => format!("{} and later", first(from)),
        [from, .., to] if is_run && line(*from) == line(*to) => line(*from),
        [from, to] if is_run => format!("{} and {}", first(from), last(to)),
        [from, .., to] if is_run => format!("{} to {}", first(from), last(to)),
        _ => {
            let mut lines: Vec<String> = versions.iter().map(|version| line(*version)).collect();
            lines.dedup();
            lines.join(", ")
        }
    }
}

/// `2.2` of 2.2.1.
fn line(version: Version) -> String {
    let (major, minor) = version.line();
    format!("{major}.{minor}")
}
