//! Mistakes in the configuration of nodes, found before a pull goes the wrong way in silence.
//!
//! In: the files of a node, as [`NodeFile`]s with what the disk says of them. Out: [`Finding`]s: where, what is wrong, what happens
//! because of it, and the correction. One file below for each kind of file; [`disk`] finds and reads them, and nothing
//! is ever changed or asked over the network.

mod config_toml;
mod daemon_json;
pub(crate) mod disk;
mod hosts_toml;
mod registries_conf;
mod registries_yaml;
mod settings;
#[cfg(test)]
mod tests;
mod tree;
mod url;

use std::path::{Path, PathBuf};

use super::hosts::{self, Version};
use crate::document::{Finding, Findings, Position, Severity};

/// What the nodes are.
#[derive(Debug, Clone, Default)]
pub(crate) struct LintOptions {
    /// Their containerd; where it is not known, all versions since 1.6 must understand a file.
    pub containerd: Option<Version>,
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

/// What checkers ask of a disk, so that they can be tried without one.
pub(crate) trait Files: std::fmt::Debug {
    /// What is at an absolute path of the node that `source` belongs to.
    fn certificate(&self, source: &Path, path: &Path) -> Certificate;
    /// Whether there is a folder at an absolute path of that node.
    fn is_folder(&self, source: &Path, path: &Path) -> bool;
    /// Where a file or a folder lies.
    fn place(&self, path: &Path) -> NodePath;
    /// The names of the folders in a folder.
    fn folders(&self, path: &Path) -> Vec<String>;
}

/// Where something lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodePath {
    /// The absolute path on this disk.
    pub path: PathBuf,
    /// The folder that stands for `/` of its node, if that can be told.
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
    /// PEM.
    Good,
    /// Nothing.
    Missing,
    /// Something else, or something that may not be read.
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

    /// A file that is there for its certificates.
    fn certificate(&mut self, files: &dyn Files, at: Position, path: &Path, effect: &str) {
        let shown = path.display();
        match files.certificate(&self.source.path, path) {
            Certificate::Good => {}
            Certificate::Missing => self.error(
                "certificate-missing",
                at,
                [
                    format!("{shown} does not exist"),
                    effect.to_owned(),
                    "put the certificate there, or correct the path".to_owned(),
                ],
            ),
            Certificate::Bad(why) => self.error(
                "certificate-unusable",
                at,
                [
                    format!("{shown}: {why}"),
                    effect.to_owned(),
                    "put the authority's certificate there as PEM".to_owned(),
                ],
            ),
        }
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
            self.error(
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

/// All findings about `sources`, which lie on the nodes of one kind, in the order of files and lines.
pub(crate) fn lint(sources: &[NodeFile], settings: &LintOptions, files: &dyn Files) -> Vec<Finding> {
    let mut found = Vec::new();
    for source in sources {
        let mut findings = FileFindings::new(source);
        match source.kind {
            FileKind::HostsToml => hosts_toml::check(&mut findings, settings, files),
            FileKind::ConfigToml => config_toml::check(&mut findings, settings, files),
            FileKind::RegistriesConf => registries_conf::check(&mut findings),
            FileKind::RegistriesYaml => registries_yaml::check(&mut findings, files),
            FileKind::DaemonJson => daemon_json::check(&mut findings),
        }
        found.extend(findings.end());
    }
    found.extend(tree::check(sources, files));
    found.extend(settings::check(sources, settings, files));
    found.sort_by(|a, b| (&a.path, a.line, a.severity, &a.rule).cmp(&(&b.path, b.line, b.severity, &b.rule)));
    found
}
