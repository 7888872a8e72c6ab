//! containerd's main file and its imports, as far as they speak of registries: what [`crate::node::containerd`] makes of the
//! set, against what its writer meant.
//!
//! <https://github.com/containerd/containerd/blob/v1.7.0/docs/cri/registry.md>

mod configs;
mod keys;
mod misplaced;
mod registry;
mod stops;
mod unread;

use std::path::Path;

use super::config_set::ConfigSet;
use super::{FileFindings, NodeFile, NodeFiles};
use crate::document::{Finding, Severity, toml};
use crate::node::containerd::{
    ConfigLocation, ContainerdRegistries, Effective, FIRST, NEW, OLD, Stop, UnreadTable,
};
use crate::node::hosts::Version;

pub(super) use registry::{check_address, check_endpoint};

const NOBODY: &str = "no mirror is asked: every pull goes to its upstream";
/// A file that is no TOML.
pub(super) fn check_syntax(source: &NodeFile) -> Vec<Finding> {
    let mut findings = FileFindings::new(source);
    if let Err(error) = toml::read(&source.text) {
        let effect = "containerd does not start, or keeps what it had until it is restarted".to_owned();
        findings.error("not-toml", error.at, [error.message, effect, error.fix]);
    }
    findings.end()
}

/// The findings of a set, file by file.
pub(super) struct SetFindings<'a> {
    set: &'a ConfigSet,
    files: Vec<FileFindings<'a>>,
    /// What reads the set: `containerd 1.7`, or `containerd` where nobody said which it is.
    pub(super) runtime: String,
}

impl<'a> SetFindings<'a> {
    pub(super) fn new(set: &'a ConfigSet, version: Option<Version>) -> Self {
        let runtime =
            version.map_or_else(|| "containerd".to_owned(), |version| format!("containerd {version}"));
        Self { set, files: set.files.iter().map(FileFindings::new).collect(), runtime }
    }

    pub(super) fn of(&mut self, file: usize) -> &mut FileFindings<'a> {
        &mut self.files[file]
    }

    fn error(&mut self, rule: &'static str, at: ConfigLocation, words: [String; 3]) {
        self.of(at.file).error(rule, at.at, words);
    }

    fn warning(&mut self, rule: &'static str, at: ConfigLocation, words: [String; 3]) {
        self.of(at.file).warning(rule, at.at, words);
    }

    pub(super) fn end(self) -> Vec<Finding> {
        self.files.into_iter().flat_map(FileFindings::end).collect()
    }

    /// `line 4`, or `line 4 of FILE` for another file than `seen_from`.
    fn line(&self, at: ConfigLocation, seen_from: ConfigLocation) -> String {
        let line = format!("line {}", at.at.line);
        if at.file == seen_from.file { line } else { format!("{line} of {}", self.set.name(at.file)) }
    }
}

/// What is wrong with the set for one version. Tells whether what is read of registries is as somebody wrote it.
pub(super) fn check(
    findings: &mut SetFindings<'_>,
    effective: &Effective,
    version: Version,
    files: &dyn NodeFiles,
) -> bool {
    for (at, stop) in &effective.stops {
        // Told of with what is misplaced, for all versions.
        let is_told = matches!(stop, Stop::PluginName(name) if misplaced::is_unquoted(&findings.set.parsed[at.file], name));
        if !is_told {
            stops::check(findings, *at, stop);
        }
    }
    let refused = effective.stops.iter().any(|(_, stop)| matches!(stop, Stop::FileVersion { .. }));
    let lost =
        effective.unread.iter().filter(|table| !refused && unread::says_something(findings.set, table));
    let lost: Vec<&UnreadTable> = lost.collect();
    for table in &lost {
        unread::check(findings, table, effective, version);
    }
    let is_misplaced = check_misplaced(findings);
    for (at, import) in findings.set.missing.clone() {
        let words = [
            format!("{import} is imported and does not exist"),
            "containerd does not start".to_owned(),
            "put the file there, or write a pattern with *, which may find nothing".to_owned(),
        ];
        findings.error("import-missing", at, words);
    }
    registry::check(findings, &effective.registry, version, files);
    let is_list = effective.registry.is_one_folder
        && effective.registry.config_path.as_ref().is_some_and(|(path, _)| path.contains(':'));
    if is_list {
        check_list(findings, &effective.registry);
    }
    if let Some(at) = effective.disabled.filter(|_| !effective.registry.table.is_empty()) {
        let words = [
            "the plugin that pulls images for Kubernetes is switched off here".to_owned(),
            "what stands here of registries is read by nobody".to_owned(),
            "take it out of disabled_plugins where this containerd serves Kubernetes".to_owned(),
        ];
        findings.warning("cri-disabled", at, words);
    }
    let is_elsewhere = is_misplaced && effective.registry.table.is_empty();
    effective.stops.is_empty() && lost.is_empty() && !is_list && !is_elsewhere
}

/// Settings of registries where no version looks for them. Tells whether there are any.
fn check_misplaced(findings: &mut SetFindings<'_>) -> bool {
    let set = findings.set;
    let mut found = false;
    for (file, document) in set.parsed.iter().enumerate() {
        for misplaced in misplaced::find(document) {
            found |= misplaced.hides_registries;
            findings.of(file).error(misplaced.rule, misplaced.at, misplaced.words);
        }
    }
    found
}

fn check_list(findings: &mut SetFindings<'_>, registry: &ContainerdRegistries) {
    let Some((path, at)) = &registry.config_path else { return };
    let words = [
        format!("config_path is a list of several folders, {path}"),
        format!(
            "containerd 2.1 to 2.3.4 takes it for the name of one folder where it pulls as it does by default: {NOBODY}"
        ),
        format!("name one folder: config_path = {:?}", path.split(':').next().unwrap_or_default()),
    ];
    findings.error("config-path-list", *at, words);
}

/// Whether a file belongs to k3s or RKE2, whose containerd knows `rewrite`.
pub(super) fn is_rancher(file: &NodeFile) -> bool {
    file.path.components().any(|part| part.as_os_str() == "rancher")
        || file
            .text
            .lines()
            .take(3)
            .any(|line| line.contains("generated by k3s") || line.contains("generated by rke2"))
}

/// A file beside a main one that it does not import.
pub(super) fn check_not_imported(source: &NodeFile, main: &Path) -> Vec<Finding> {
    let mut findings = FileFindings::new(source);
    let speaks = toml::read(&source.text).ok().is_some_and(|document| {
        [FIRST, OLD, NEW].iter().any(|plugin| document.at_path(&["plugins", plugin, "registry"]).is_some())
    });
    if speaks {
        let words = [
            format!("{} does not import this file", main.display()),
            format!("containerd does not read it: {NOBODY}"),
            format!("write imports = [{:?}] into {}", hosts_glob(source), main.display()),
        ];
        findings.add(Severity::Warning, "not-imported", None, words);
    }
    findings.end()
}

fn hosts_glob(source: &NodeFile) -> String {
    let folder =
        source.path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).unwrap_or("conf.d");
    format!("/etc/containerd/{folder}/*.toml")
}
