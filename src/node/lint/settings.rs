//! Whether containerd is told of the trees of `hosts.toml`: `config_path` of `config.toml` against what lies on the disk.
//!
//! What is certain is an error: a tree and a `config.toml` of one node that know nothing of each other. Where a copy of a
//! node may lack the one or the other, or `config.toml` imports files that nobody has shown, it is a warning. A tree alone
//! says nothing about who reads it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::config_toml::{self, Said};
use super::{FileFindings, FileKind, Files, LintOptions, NodeFile, NodePath};
use crate::document::{Finding, Severity};
use crate::node::hosts::Version;

/// Where containerd looks from 2.2 on without being told (`internal/cri/config/config_unix.go`).
const DEFAULT: [&str; 2] = ["/etc/containerd/certs.d", "/etc/docker/certs.d"];
const MAIN: &str = "config.toml";
const NOBODY: &str = "no mirror is asked: every pull goes to its upstream";

/// A `config.toml`, or a file that one imports.
struct Config<'a> {
    source: &'a NodeFile,
    place: NodePath,
    said: Said,
}

/// What lies on one node.
struct Node<'a> {
    configs: Vec<&'a Config<'a>>,
    trees: Vec<&'a NodePath>,
    settings: &'a LintOptions,
    files: &'a dyn Files,
}

pub(super) fn check(sources: &[NodeFile], settings: &LintOptions, files: &dyn Files) -> Vec<Finding> {
    let of = |kind| sources.iter().filter(move |source| source.kind == kind);
    let config =
        |source| Some(Config { source, place: files.place(&source.path), said: config_toml::said(source)? });
    // What cannot be read is told of elsewhere, and may have said anything.
    let Some(configs) = of(FileKind::ConfigToml).map(config).collect::<Option<Vec<_>>>() else {
        return Vec::new();
    };
    let folders: BTreeSet<&Path> =
        of(FileKind::HostsToml).filter_map(|source| source.path.parent()?.parent()).collect();
    let trees: Vec<NodePath> = folders.into_iter().map(|folder| files.place(folder)).collect();
    let roots: BTreeSet<&Option<PathBuf>> = configs.iter().map(|config| &config.place.root).collect();
    let mut found = Vec::new();
    for root in &roots {
        let mut here: Vec<&NodePath> = trees.iter().filter(|tree| tree.root == **root).collect();
        if here.is_empty() {
            // One that has yet to be installed, as `mirror render --output` leaves it.
            here = trees.iter().filter(|tree| !roots.contains(&tree.root)).collect();
        }
        let configs = configs.iter().filter(|config| config.place.root == **root).collect();
        found.extend(Node { configs, trees: here, settings, files }.check());
    }
    found
}

/// Whether a tree is, or will be, at a path of its node.
fn is_at(tree: &NodePath, path: &str) -> bool {
    let below = path.trim_start_matches('/');
    !below.is_empty() && tree.path.ends_with(below)
}

impl Config<'_> {
    fn names(&self, tree: &NodePath) -> bool {
        self.said.folders().any(|folder| is_at(tree, folder))
    }
}

impl Node<'_> {
    fn check(&self) -> Vec<Finding> {
        if self.configs.iter().all(|config| config.said.folders().next().is_none()) {
            return self.without_config_path();
        }
        let configs = self.configs.iter().filter(|config| config.said.folders().next().is_some());
        configs.flat_map(|config| self.with_config_path(config)).collect()
    }

    /// A tree whose place is known and that no `config_path` names.
    fn unread(&self) -> Option<&NodePath> {
        let is_read = |tree: &&&NodePath| self.configs.iter().any(|config| config.names(tree));
        if self.trees.iter().any(|tree| is_read(&tree)) {
            return None;
        }
        self.trees.iter().copied().find(|tree| tree.root.is_some())
    }

    fn with_config_path(&self, config: &Config<'_>) -> Vec<Finding> {
        let mut findings = FileFindings::new(config.source);
        let Some((folders, line)) = &config.said.config_path else { return Vec::new() };
        let exists =
            config.said.folders().any(|folder| self.files.is_folder(&config.source.path, Path::new(folder)));
        let unread = self.unread();
        let fix = unread.map_or_else(
            || "create it, or correct the path".to_owned(),
            |tree| format!("write config_path = {:?}, or move the tree", tree.shown()),
        );
        if let Some(tree) = unread.filter(|_| exists) {
            let what = format!("config_path is {folders}, and the tree lies at {}", tree.shown());
            findings.error(
                "tree-not-read",
                *line,
                [what, "containerd never reads the tree: its mirrors are not asked".to_owned(), fix],
            );
        } else if !exists && !self.trees.iter().any(|tree| config.names(tree)) {
            // A copy of a node may be a copy of this file alone.
            let is_certain = unread.is_some() || self.is_whole(config);
            let severity = if is_certain { Severity::Error } else { Severity::Warning };
            let what = match unread {
                Some(tree) => {
                    format!("config_path {folders} does not exist: the tree lies at {}", tree.shown())
                }
                None => format!("config_path {folders} does not exist"),
            };
            findings.add(severity, "config-path-missing", *line, [what, NOBODY.to_owned(), fix]);
        }
        findings.end()
    }

    /// Whether all of the node is there to be looked at: it is this machine, or somebody said so.
    fn is_whole(&self, config: &Config<'_>) -> bool {
        self.settings.root.is_some() || config.place.root.as_deref() == Some(Path::new("/"))
    }

    fn without_config_path(&self) -> Vec<Finding> {
        let main = self.configs.iter().find(|config| config.source.path.ends_with(MAIN));
        // A file that is imported need not say anything.
        let Some(main) = main else { return Vec::new() };
        let mut findings = FileFindings::new(main.source);
        let version = self.settings.containerd;
        let tree = self.trees.first().copied();
        if let Some(config) = self.configs.iter().find(|config| config.said.mirrors.is_some()) {
            if let Some(tree) = tree {
                let what = format!("mirrors stand here, and a tree of hosts.toml lies at {}", tree.shown());
                let effect = "containerd asks the mirrors of this file alone and never reads the tree";
                let fix = "write each mirror into the tree, remove mirrors, and set config_path".to_owned();
                let mut findings = FileFindings::new(config.source);
                findings.warning("tree-not-read", config.said.mirrors, [what, effect.to_owned(), fix]);
                return findings.end();
            }
            return Vec::new();
        }
        let blank = self.configs.iter().find_map(|config| config.said.config_path.as_ref());
        if version.is_some_and(|version| version >= Version::REFERRERS) {
            let is_default = |tree: &NodePath| DEFAULT.iter().any(|path| is_at(tree, path));
            let elsewhere = self.trees.iter().find(|tree| tree.root.is_some());
            if let Some(tree) = elsewhere
                && blank.is_none()
                && !self.trees.iter().any(|tree| is_default(tree))
            {
                let what = format!("no config_path, and the tree lies at {}", tree.shown());
                let effect = format!("containerd looks into {} alone: its mirrors are not asked", DEFAULT[0]);
                findings.error("tree-not-read", None, [what, effect, main.set(&tree.shown(), version)]);
            }
            return findings.end();
        }
        let who = version.map_or_else(|| "before 2.2".to_owned(), |version| version.to_string());
        let line = blank.map(|(_, line)| *line);
        let Some(tree) = tree else {
            let effect = format!(
                "containerd {who} reads no hosts.toml, wherever it lies; without a mirror that is as it should be"
            );
            let words = ["no config_path".to_owned(), effect, main.set(DEFAULT[0], version)];
            findings.add(Severity::Note, "no-config-path", line, words);
            return findings.end();
        };
        let imports = self.configs.iter().any(|config| config.said.imports);
        let severity = if version.is_some() && !imports { Severity::Error } else { Severity::Warning };
        let but = if imports { ", unless a file that this one imports says so" } else { "" };
        let place = if tree.root.is_some() { tree.shown() } else { DEFAULT[0].to_owned() };
        let words = [
            format!("no config_path, and a tree of hosts.toml lies at {}", tree.shown()),
            format!("containerd {who} does not read the tree{but}: {NOBODY}"),
            main.set(&place, version),
        ];
        findings.add(severity, "no-config-path", line, words);
        findings.end()
    }
}

impl Config<'_> {
    fn set(&self, path: &str, version: Option<Version>) -> String {
        let two = version.is_some_and(|version| version >= Version::TWO);
        let (table, also) = match self.said.number {
            1 if two => (config_toml::NEW, "version = 3 at the top and "),
            1 => ("cri", ""),
            2 => (config_toml::OLD, ""),
            _ => (config_toml::NEW, ""),
        };
        format!(
            "write {also}config_path = {path:?} under [plugins.{table:?}.registry], and restart containerd once"
        )
    }
}
