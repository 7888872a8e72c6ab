//! Files of a node in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::node::lint::{Certificate, DirEntry, FileKind, LintOptions, NodeFile, NodeFiles, NodePath, lint};

/// A file that is a certificate.
pub(super) const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----";

/// Each file by its path on the node.
#[derive(Debug)]
struct Memory(BTreeMap<PathBuf, String>);

impl Memory {
    fn certificate(&self, path: &Path) -> Certificate {
        match self.0.get(path) {
            None => Certificate::Missing(path.to_owned()),
            Some(text) if text == CERTIFICATE => Certificate::Good,
            Some(_) => Certificate::Bad(format!("{} is no certificate", path.display())),
        }
    }
}

impl NodeFiles for Memory {
    fn authorities(&self, _: &Path, path: &Path) -> Certificate {
        self.certificate(path)
    }

    fn client(&self, _: &Path, certificate: &Path, _: &Path) -> Certificate {
        self.certificate(certificate)
    }

    fn is_folder(&self, _: &Path, path: &Path) -> bool {
        self.0.keys().any(|file| file != path && file.starts_with(path))
    }

    fn matching(&self, file: &Path, pattern: &str) -> Vec<PathBuf> {
        let path = Path::new(pattern);
        let is_there = self.0.contains_key(path) || self.is_folder(file, path);
        is_there.then(|| path.to_owned()).into_iter().collect()
    }

    fn read(&self, path: &Path, kind: FileKind) -> Option<NodeFile> {
        let text = self.0.get(path)?.clone();
        Some(NodeFile { path: path.to_owned(), kind, text, readable_by_others: false })
    }

    fn place(&self, path: &Path) -> NodePath {
        NodePath { path: path.to_owned(), root: Some(PathBuf::from("/")) }
    }

    fn entries(&self, path: &Path) -> Vec<DirEntry> {
        let below = self.0.keys().filter_map(|file| file.strip_prefix(path).ok());
        let entries: BTreeSet<DirEntry> = below
            .filter_map(|below| {
                let mut parts = below.components();
                let name = parts.next()?.as_os_str().to_str()?.to_owned();
                Some(DirEntry { name, is_folder: parts.next().is_some() })
            })
            .collect();
        entries.into_iter().collect()
    }

    fn is_whole(&self, _: &Path) -> bool {
        false
    }
}

/// `severity rule line` of each finding in some files, and what is said.
pub(super) fn found(files: &[(&str, FileKind, &str)], options: &LintOptions) -> Vec<(String, String)> {
    let memory =
        Memory(files.iter().map(|(path, _, text)| (PathBuf::from(path), (*text).to_owned())).collect());
    let sources: Vec<NodeFile> =
        files.iter().filter_map(|(path, kind, _)| memory.read(Path::new(path), *kind)).collect();
    let findings = lint(&sources, options, &memory).into_iter();
    let said = findings.map(|one| {
        let line = one.line.map(|line| format!(" {line}")).unwrap_or_default();
        let short = format!("{} {}{line}", one.severity.name(), one.rule);
        (short, format!("{} | {} | {}", one.what, one.effect, one.fix))
    });
    said.collect()
}

/// The same of one file, without what is said.
pub(super) fn rules(path: &str, kind: FileKind, text: &str) -> Vec<String> {
    found(&[(path, kind, text)], &LintOptions::default()).into_iter().map(|(short, _)| short).collect()
}

pub(super) fn version(text: &str) -> LintOptions {
    LintOptions { containerd: Some(text.parse().unwrap()), ..LintOptions::default() }
}
