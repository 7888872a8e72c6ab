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

/// Where a finding is, and its rule.
type Key = (PathBuf, Option<usize>, String);

/// Joins what was found for each version. What not all of them do is told with those that do, and is no error.
pub(super) fn join(found: Vec<(Version, Vec<Finding>)>) -> Vec<Finding> {
    let all: Vec<Version> = found.iter().map(|(version, _)| *version).collect();
    let mut joined: BTreeMap<Key, (Finding, Vec<Version>)> = BTreeMap::new();
    for (version, findings) in found {
        for finding in findings {
            let key = (finding.path.clone(), finding.line, finding.rule.to_string());
            let (_, versions) = joined.entry(key).or_insert_with(|| (finding, Vec::new()));
            if versions.last() != Some(&version) {
                versions.push(version);
            }
        }
    }
    let places: BTreeMap<(PathBuf, Option<usize>), usize> =
        joined.iter().fold(BTreeMap::new(), |mut places, ((path, line, _), (_, versions))| {
            let most = places.entry((path.clone(), *line)).or_insert(0);
            *most = versions.len().max(*most);
            places
        });
    let one_for_each_place = joined.into_values().filter(|(finding, versions)| {
        // Different versions may have different words for one mistake: those of most versions are told.
        versions.len() == all.len()
            || places.get(&(finding.path.clone(), finding.line)) == Some(&versions.len())
    });
    one_for_each_place.filter_map(|(finding, versions)| limited(finding, &versions, &all)).collect()
}

fn limited(finding: Finding, versions: &[Version], all: &[Version]) -> Option<Finding> {
    if versions.len() == all.len() {
        return Some(finding);
    }
    // What a later patch has mended is told to those who name the version.
    if versions == [Version::DEFAULT_FOLDERS] {
        return None;
    }
    // A file that 1.x may read as well, and reads rightly, is not said to be wrong.
    if all.iter().any(|version| *version < Version::TWO && !versions.contains(version)) {
        return None;
    }
    let effect = format!("with containerd {}: {}", range(versions, all), finding.effect);
    Some(Finding { severity: finding.severity.max(Severity::Warning), effect, ..finding })
}

/// `1.6 to 2.0`, `2.2 and 2.3`.
fn range(versions: &[Version], all: &[Version]) -> String {
    let is_run = all.windows(versions.len()).any(|window| window == versions);
    match versions {
        [only] => only.to_string(),
        [first, .., last] if is_run && *last == Version::NEWEST => format!("{first} and later"),
        [first, .., last] if is_run => format!("{first} to {last}"),
        _ => versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    }
}
