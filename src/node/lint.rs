//! Mistakes in the configuration of nodes, found before a pull goes the wrong way in silence.
//!
//! In: the files of a node, as [`NodeFile`]s with what the disk says of them. Out: [`Finding`]s: where, what is wrong, what happens
//! because of it, and the correction. One file below for each kind of file; [`disk`] finds and reads them, and nothing
//! is ever changed or asked over the network.

mod by_version;
mod config_path;
mod config_set;
mod config_toml;
mod daemon_json;
pub(crate) mod disk;
mod hosts_toml;
mod objects;
mod registries_conf;
mod registries_yaml;
#[cfg(test)]
mod tests;
mod tree;
mod url;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::containerd;
use super::hosts::{self, Version};
use crate::document::{Finding, Findings, Position, Severity};
use crate::report::document::SchemaVersion;

/// What the nodes are.
#[derive(Debug, Clone, Default)]
pub(crate) struct LintOptions {
    /// Their containerd; where it is not known, all versions since 1.6 must understand a file.
    pub containerd: Option<Version>,
    /// Their Podman, or what else reads registries.conf with the same library.
    pub podman: Option<Version>,
    /// Whether nobody but the mirror may be asked.
    pub no_fallback: bool,
    /// The folder that stands for `/` where files name absolute paths; found from an `etc` above the file if not given.
    pub root: Option<PathBuf>,
}

/// What kind of file it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    /// containerd's, one for each upstream.
    HostsToml,
    /// containerd's own.
    ConfigToml,
    /// CRI-O, Podman.
    RegistriesConf,
    /// k3s, RKE2.
    RegistriesYaml,
    /// Docker.
    DaemonJson,
    /// Documents of a cluster or its installer, which tell nodes of mirrors by way of something else.
    Objects,
    /// What lies in a tree of `hosts.toml` under another name.
    Stray,
}

/// A file that was read.
#[derive(Debug, Clone)]
pub(crate) struct NodeFile {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: FileKind,
    /// What is in it.
    pub text: String,
    /// Whether users other than its owner may read it.
    pub readable_by_others: bool,
}

/// What checkers ask of a disk, so that they can be tried without one. Paths of a node are absolute and belong to the node
/// that `file` is of.
pub(crate) trait NodeFiles: std::fmt::Debug {
    /// A file of certificates of authorities.
    fn authorities(&self, file: &Path, path: &Path) -> Certificate;
    /// A client certificate and its key, which may be the same file.
    fn client(&self, file: &Path, certificate: &Path, key: &Path) -> Certificate;
    /// Whether there is a folder at a path.
    fn is_folder(&self, file: &Path, path: &Path) -> bool;
    /// The files here that a path or a pattern of a node stands for, by name.
    fn matching(&self, file: &Path, pattern: &str) -> Vec<PathBuf>;
    /// A file of this disk.
    fn read(&self, path: &Path, kind: FileKind) -> Option<NodeFile>;
    /// Where a file or a folder lies.
    fn place(&self, path: &Path) -> NodePath;
    /// What is in a folder of this disk, by name.
    fn entries(&self, path: &Path) -> Vec<DirEntry>;
    /// Whether all of the node that a file is of is there to be looked at: it is this machine, or somebody said so.
    fn is_whole(&self, file: &Path) -> bool;
}

/// What is in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DirEntry {
    pub name: String,
    pub is_folder: bool,
}

/// Where something lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodePath {
    /// The absolute path on this disk.
    pub path: PathBuf,
    /// The folder that stands for `/` of its node, if that is known.
    pub root: Option<PathBuf>,
}

impl NodePath {
    /// The path that it has on its node, or here if that is not known.
    fn shown(&self) -> String {
        let below = self.root.as_ref().and_then(|root| self.path.strip_prefix(root).ok());
        below.map_or_else(|| self.path.clone(), |below| Path::new("/").join(below)).display().to_string()
    }
}

/// What is at the path of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Certificate {
    /// It can be used.
    Good,
    /// There is nothing at this path.
    Missing(PathBuf),
    /// It is something else, or may not be read.
    Bad(String),
}

/// Collects the findings of one file.
struct FileFindings<'a> {
    source: &'a NodeFile,
    found: Findings,
}

impl<'a> FileFindings<'a> {
    fn new(source: &'a NodeFile) -> Self {
        Self { source, found: Findings::new(&source.path) }
    }

    fn add(
        &mut self,
        severity: Severity,
        rule: &'static str,
        at: impl Into<Option<Position>>,
        words: [String; 3],
    ) {
        self.found.add(severity, rule, at, words);
    }

    fn error(&mut self, rule: &'static str, at: impl Into<Option<Position>>, words: [String; 3]) {
        self.found.error(rule, at, words);
    }

    fn warning(&mut self, rule: &'static str, at: impl Into<Option<Position>>, words: [String; 3]) {
        self.found.warning(rule, at, words);
    }

    fn end(self) -> Vec<Finding> {
        self.found.sorted()
    }

    /// A file with certificates of authorities.
    fn authority(&mut self, files: &dyn NodeFiles, at: Position, path: &Path, effect: &str) {
        let found = files.authorities(&self.source.path, path);
        self.certificate(files, found, at, effect, "put the authority's certificate there as PEM");
    }

    /// A client certificate and the file with its key.
    fn client(
        &mut self,
        files: &dyn NodeFiles,
        at: Position,
        certificate: &Path,
        key: Option<&Path>,
        effect: &str,
    ) {
        let found = files.client(&self.source.path, certificate, key.unwrap_or(certificate));
        let fix = match key {
            Some(_) => "write the file with the certificate first and the one with its key second",
            None => {
                "put both the certificate and its key into the file, or name a pair: client = [[\"CERTIFICATE\", \"KEY\"]]"
            }
        };
        self.certificate(files, found, at, effect, fix);
    }

    fn certificate(
        &mut self,
        files: &dyn NodeFiles,
        found: Certificate,
        at: Position,
        effect: &str,
        fix: &str,
    ) {
        match found {
            Certificate::Good => {}
            Certificate::Missing(path) if self.may_lie_on_the_node(files, &path) => self.warning(
                "certificate-missing",
                at,
                [
                    format!("{} does not exist here", path.display()),
                    format!("if the node does not have it either, {effect}"),
                    "look on the node, or name a copy of all of it with --root".to_owned(),
                ],
            ),
            Certificate::Missing(path) => self.error(
                "certificate-missing",
                at,
                [
                    format!("{} does not exist", path.display()),
                    effect.to_owned(),
                    "put the certificate there, or correct the path".to_owned(),
                ],
            ),
            Certificate::Bad(why) => {
                self.error("certificate-unusable", at, [why, effect.to_owned(), fix.to_owned()]);
            }
        }
    }

    /// Whether a path is one of a node's that a copy of its configuration need not have: absolute, and neither below the folder
    /// of the file or its tree nor beside files that were copied.
    fn may_lie_on_the_node(&self, files: &dyn NodeFiles, path: &Path) -> bool {
        let file = &self.source.path;
        if path.is_relative() || files.is_whole(file) {
            return false;
        }
        let tree = file.ancestors().skip(1).find(|folder| folder.ends_with("certs.d"));
        let own = [file.parent(), tree].into_iter().flatten();
        if own.into_iter().any(|own| path.starts_with(own) || path.starts_with(files.place(own).shown())) {
            return false;
        }
        let folder = path.parent().and_then(Path::to_str).unwrap_or_default();
        let here = files.matching(file, folder);
        !here.iter().any(|here| files.entries(here).iter().any(|entry| !entry.is_folder))
    }

    fn plain_http(&mut self, at: Position, url: &str) {
        if hosts::is_loopback(url::parts(url).authority) {
            return;
        }
        self.warning(
            "plain-http",
            at,
            [
                format!("{url} is spoken to without TLS"),
                "whoever stands between the node and the mirror can read passwords and, for tags, put other images in place"
                    .to_owned(),
                "give the mirror a certificate and write https://".to_owned(),
            ],
        );
    }

    fn unverified(&mut self, at: Position, of: &str) {
        self.warning(
            "unverified-tls",
            at,
            [
                format!("the certificate of {of} is not checked"),
                "anybody can pose as the mirror".to_owned(),
                "name the authority's certificate instead".to_owned(),
            ],
        );
    }

    /// Passwords in a file that everybody reads.
    fn readable_password(&mut self, at: Position) {
        if self.source.readable_by_others {
            self.warning(
                "readable-credentials",
                at,
                [
                    "credentials stand in a file that every user of the node may read".to_owned(),
                    "whoever has a shell or a hostPath on the node can pull, and push if the account may"
                        .to_owned(),
                    format!("chmod 0600 {}", self.source.path.display()),
                ],
            );
        }
    }
}

/// What `mirror lint --json` prints.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LintDocument {
    schema_version: SchemaVersion,
    /// The files that were read.
    pub(crate) files: Vec<String>,
    pub(crate) findings: Vec<Finding>,
}

impl LintDocument {
    /// What was found in these files.
    pub(crate) fn new(sources: &[NodeFile], findings: Vec<Finding>) -> Self {
        let files = sources.iter().map(|source| source.path.display().to_string()).collect();
        Self { schema_version: SchemaVersion::One, files, findings }
    }
}

/// All findings about `sources`, which lie on the nodes of one kind, in the order of files and lines.
pub(crate) fn lint(sources: &[NodeFile], options: &LintOptions, files: &dyn NodeFiles) -> Vec<Finding> {
    let sets = config_set::gather(sources, files);
    let trees = tree::find(sources, &sets, files);
    let reads_hosts = options.containerd.is_none_or(|version| version >= Version::HOSTS_TOML);
    let mut found = Vec::new();
    for source in sources {
        let mut findings = FileFindings::new(source);
        match source.kind {
            FileKind::HostsToml if trees.is_in_place(&source.path) && reads_hosts => {
                hosts_toml::check(&mut findings, options, files);
            }
            // Told of with the trees.
            FileKind::HostsToml | FileKind::Stray => {}
            FileKind::ConfigToml => found.extend(config_toml::check_syntax(source)),
            FileKind::RegistriesConf => registries_conf::check(&mut findings, options),
            FileKind::RegistriesYaml => registries_yaml::check(&mut findings, options, files),
            FileKind::DaemonJson => daemon_json::check(&mut findings),
            FileKind::Objects => found.extend(objects::check(source, options, files)),
        }
        found.extend(findings.end());
    }
    found.extend(registries_conf::check_drop_ins(sources));
    found.extend(trees.check(options, files));
    if !sets.is_damaged {
        found.extend(check_sets(&sets, &trees, options, files));
    }
    found.sort_by(|a, b| (&a.path, a.line, a.severity, &a.rule).cmp(&(&b.path, b.line, b.severity, &b.rule)));
    found.dedup();
    found
}

/// What containerd makes of its main files, for each version that may read them.
fn check_sets(
    sets: &config_set::ConfigSets,
    trees: &tree::Trees<'_>,
    options: &LintOptions,
    files: &dyn NodeFiles,
) -> Vec<Finding> {
    let mut found = Vec::new();
    let not_imported = sets.not_imported.iter();
    found.extend(not_imported.flat_map(|(file, main)| config_toml::check_not_imported(file, main)));
    let roots: BTreeSet<&Option<PathBuf>> = sets.sets.iter().map(|set| &set.place.root).collect();
    for set in &sets.sets {
        let here = trees.of_node(set.place.root.as_deref(), &roots);
        let check = |version: Version| {
            let effective = containerd::read(&set.parsed, version);
            let mut findings = config_toml::SetFindings::new(set, options.containerd);
            if config_toml::check(&mut findings, &effective, version, files) {
                let check = config_path::Check { set, effective: &effective, version, trees: &here, files };
                check.run(&mut findings);
            }
            (version, findings.end())
        };
        let candidates = by_version::candidates(&set.parsed, options);
        found.extend(by_version::join(candidates.into_iter().map(check).collect()));
    }
    found
}
