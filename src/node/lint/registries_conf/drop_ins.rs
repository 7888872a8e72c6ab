//! A main file and its drop-ins together: an entry of a later file replaces the one of the same prefix whole.
//!
//! `updateWithConfigurationFrom` in
//! <https://github.com/containers/image/blob/main/pkg/sysregistriesv2/system_registries_v2.go>

use std::collections::BTreeMap;
use std::path::Path;

use super::super::{FileFindings, FileKind, NodeFile};
use super::place::FileRole;
use crate::document::{Finding, Node, Position, toml};

/// An entry that counted until a later file came.
struct Earlier<'a> {
    file: &'a NodeFile,
    at: Position,
    mirrors: Vec<String>,
}

pub(in super::super) fn check(sources: &[NodeFile]) -> Vec<Finding> {
    let mut sets: BTreeMap<&Path, Vec<&NodeFile>> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.kind == FileKind::RegistriesConf) {
        if matches!(FileRole::of(&source.path), FileRole::Unread(_)) {
            continue;
        }
        sets.entry(folder(source)).or_default().push(source);
    }
    sets.into_values().flat_map(check_set).collect()
}

/// The folder of the main file.
fn folder(file: &NodeFile) -> &Path {
    let parent = file.path.parent().unwrap_or(Path::new(""));
    if is_drop_in(file) { parent.parent().unwrap_or(parent) } else { parent }
}

fn is_drop_in(file: &NodeFile) -> bool {
    FileRole::of(&file.path) == FileRole::DropIn
}

fn check_set(mut files: Vec<&NodeFile>) -> Vec<Finding> {
    // The main file first, then drop-ins by their names.
    files.sort_by_key(|file| (is_drop_in(file), file.path.file_name()));
    let mut known: BTreeMap<String, Earlier<'_>> = BTreeMap::new();
    let mut found = Vec::new();
    for file in files {
        let Ok(document) = toml::read(&file.text) else { continue };
        let mut findings = FileFindings::new(file);
        let mut own: BTreeMap<String, Earlier<'_>> = BTreeMap::new();
        for table in document.get("registry").map(Node::items).unwrap_or_default() {
            let text = |key: &str| table.get(key).and_then(Node::text).filter(|text| !text.is_empty());
            let Some(prefix) = text("prefix").or(text("location")) else { continue };
            let mirrors = table.get("mirror").map(Node::items).unwrap_or_default().iter();
            let mirrors = mirrors.filter_map(|mirror| Some(mirror.get("location")?.text()?.to_owned()));
            let entry = Earlier { file, at: table.at, mirrors: mirrors.collect() };
            if let Some(earlier) = known.get(prefix) {
                replaced(&mut findings, prefix, earlier, &entry);
            }
            own.insert(prefix.to_owned(), entry);
        }
        known.extend(own);
        found.extend(findings.end());
    }
    found
}

fn replaced(findings: &mut FileFindings<'_>, prefix: &str, earlier: &Earlier<'_>, now: &Earlier<'_>) {
    let lost: Vec<&str> =
        earlier.mirrors.iter().filter(|mirror| !now.mirrors.contains(mirror)).map(String::as_str).collect();
    if lost.is_empty() {
        return;
    }
    let (path, line) = (earlier.file.path.display(), earlier.at.line);
    let words = [
        format!("this entry of {prefix} replaces the one of {path} (line {line}) whole"),
        format!("the mirrors of that one are not asked: {}", lost.join(", ")),
        "put all mirrors of it into one file".to_owned(),
    ];
    findings.warning("replaced-entry", now.at, words);
}
