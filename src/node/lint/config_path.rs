//! Whether containerd reads the trees of `hosts.toml` that lie on the disk: the folders that it looks into against those
//! that are there.
//!
//! What is certain is an error: a tree and a `config.toml` of one node that know nothing of each other. Where a copy of a
//! node may lack the one or the other, or `config.toml` imports files that nobody has shown, it is a warning. A tree alone
//! says nothing about who reads it.

use std::path::Path;

use super::config_set::ConfigSet;
use super::config_toml::SetFindings;
use super::{NodeFiles, NodePath};
use crate::document::Severity;
use crate::node::containerd::{DEFAULT_FOLDERS, Effective, FIRST, NEW, OLD, number};
use crate::node::hosts::Version;

const NOBODY: &str = "no mirror is asked: every pull goes to its upstream";

/// A set, what a version makes of it, and the trees of its node.
pub(super) struct Check<'a> {
    pub(super) set: &'a ConfigSet,
    pub(super) effective: &'a Effective,
    pub(super) version: Version,
    pub(super) trees: &'a [&'a NodePath],
    pub(super) files: &'a dyn NodeFiles,
}

/// Whether a tree is, or will be, at a path of its node.
fn is_at(tree: &NodePath, path: &str) -> bool {
    // `${SNAP_DATA}/args/certs.d` and the like are filled in before containerd reads them.
    let below = path.rsplit(['}', '$']).next().unwrap_or(path).trim_start_matches('/').trim_end_matches('/');
    !below.is_empty() && tree.path.ends_with(below)
}

/// Docker's own, for certificates.
fn is_docker(tree: &NodePath) -> bool {
    tree.path.ends_with("etc/docker/certs.d")
}

fn is_filled_in(path: &str) -> bool {
    path.contains(['$', '{'])
}

impl Check<'_> {
    pub(super) fn run(&self, findings: &mut SetFindings<'_>) {
        let written = self.effective.registry.config_path.as_ref().filter(|(path, _)| !path.is_empty());
        match written {
            Some((path, _)) => self.with_config_path(path, findings),
            None => self.without_config_path(findings),
        }
    }

    fn reads(&self, tree: &NodePath) -> bool {
        self.effective.registry.folders.iter().any(|folder| is_at(tree, folder))
    }

    /// A tree whose place is known, where none is read.
    fn unread(&self) -> Option<&NodePath> {
        if self.trees.iter().any(|tree| self.reads(tree)) {
            return None;
        }
        self.trees.iter().copied().find(|tree| tree.root.is_some())
    }

    fn with_config_path(&self, written: &str, findings: &mut SetFindings<'_>) {
        let Some((_, at)) = self.effective.registry.config_path else { return };
        if self.effective.registry.folders.iter().any(|folder| is_filled_in(folder)) {
            return;
        }
        let main = &self.set.files[at.file].path;
        let exists = self
            .effective
            .registry
            .folders
            .iter()
            .any(|folder| self.files.is_folder(main, Path::new(folder)));
        let unread = self.unread();
        let fix = unread.map_or_else(
            || "create it, or correct the path".to_owned(),
            |tree| format!("write config_path = {:?}, or move the tree", tree.shown()),
        );
        if let Some(tree) = unread.filter(|_| exists) {
            let what = format!("config_path is {written}, and the tree lies at {}", tree.shown());
            let effect = "containerd never reads the tree: its mirrors are not asked".to_owned();
            findings.of(at.file).error("tree-not-read", at.at, [what, effect, fix]);
        } else if !exists && !self.trees.iter().any(|tree| self.reads(tree)) {
            // A copy of a node may be a copy of this file alone.
            let is_certain = unread.is_some() || self.files.is_whole(main);
            let severity = if is_certain { Severity::Error } else { Severity::Warning };
            let what = match unread {
                Some(tree) => {
                    format!("config_path {written} does not exist: the tree lies at {}", tree.shown())
                }
                None => format!("config_path {written} does not exist"),
            };
            findings.of(at.file).add(severity, "config-path-missing", at.at, [what, NOBODY.to_owned(), fix]);
        }
    }

    fn without_config_path(&self, findings: &mut SetFindings<'_>) {
        let registry = &self.effective.registry;
        let tree = self.trees.first().copied();
        if let Some(at) = self.effective.disabled {
            // Docker's package switches it off. Alone that is right; beside registries, their finding mentions it.
            if let Some(tree) = tree.filter(|tree| registry.table.is_empty() && !is_docker(tree)) {
                let words = [
                    format!(
                        "disabled_plugins switches off the plugin that pulls images for Kubernetes, and a tree of hosts.toml lies at {}",
                        tree.shown()
                    ),
                    "only ctr and nerdctl read the tree: no image of a pod is asked of a mirror".to_owned(),
                    format!(
                        "where this containerd serves Kubernetes, take the name out of disabled_plugins, and {}",
                        self.set(&tree.shown())
                    ),
                ];
                let severity = if self.set.has_unseen_imports { Severity::Warning } else { Severity::Error };
                findings.of(at.file).add(severity, "cri-disabled", at.at, words);
            }
            return;
        }
        if let Some(mirror) = registry.mirrors.first() {
            if let Some(tree) = tree {
                let what = format!("mirrors stand here, and a tree of hosts.toml lies at {}", tree.shown());
                let effect =
                    "containerd asks the mirrors of this file alone and never reads the tree".to_owned();
                let fix = "write each mirror into the tree, remove mirrors, and set config_path".to_owned();
                findings.of(mirror.at.file).warning("tree-not-read", mirror.at.at, [what, effect, fix]);
            }
            return;
        }
        let blank = registry.config_path.as_ref().map(|(_, at)| *at);
        let (file, at) = blank.map_or((0, None), |at| (at.file, Some(at.at)));
        let is_read = registry.folders.iter().any(|folder| self.trees.iter().any(|tree| is_at(tree, folder)));
        if is_read || registry.folders.len() > 1 && tree.is_none_or(|tree| tree.root.is_none()) {
            return;
        }
        let place = tree.filter(|tree| tree.root.is_some() && !is_docker(tree));
        let place = place.map_or_else(|| first_default().to_owned(), NodePath::shown);
        if registry.folders.len() > 1 {
            let what = format!("no config_path, and the tree lies at {place}");
            let effect = format!("containerd looks into {DEFAULT_FOLDERS} alone: its mirrors are not asked");
            findings.of(file).error("tree-not-read", at, [what, effect, self.set(&place)]);
            return;
        }
        let how = if registry.folders.is_empty() {
            "reads no hosts.toml without it".to_owned()
        } else {
            format!(
                "takes the list that it sets by itself, {DEFAULT_FOLDERS}, for the name of one folder where it pulls as it does by default"
            )
        };
        let Some(tree) = tree else {
            let effect = format!("{} {how}; without a mirror that is as it should be", findings.runtime);
            let words = ["no config_path".to_owned(), effect, self.set(&place)];
            findings.of(file).add(Severity::Note, "no-config-path", at, words);
            return;
        };
        let is_certain = !self.set.has_unseen_imports;
        let severity = if is_certain { Severity::Error } else { Severity::Warning };
        let but = if is_certain { "" } else { ", unless a file that this one imports names it" };
        let words = [
            format!("no config_path, and a tree of hosts.toml lies at {}", tree.shown()),
            format!("{} {how}{but}: {NOBODY}", findings.runtime),
            self.set(&place),
        ];
        findings.of(file).add(severity, "no-config-path", at, words);
    }

    /// How to set the path.
    fn set(&self, path: &str) -> String {
        let two = self.version >= Version::TWO;
        let (table, also) = match number(&self.set.parsed[0]) {
            0 | 1 if two => (NEW, "version = 3 at the top and "),
            0 | 1 => (FIRST, ""),
            2 => (OLD, ""),
            _ => (NEW, ""),
        };
        format!(
            "write {also}config_path = {path:?} under [plugins.{table:?}.registry], and restart containerd once"
        )
    }
}

fn first_default() -> &'static str {
    DEFAULT_FOLDERS.split(':').next().unwrap_or(DEFAULT_FOLDERS)
}
