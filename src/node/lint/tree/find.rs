//! Which trees there are: those that files lie in, and those that settings name.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{HostsTree, Trees};
use crate::node::hosts::FILE_NAME;
use crate::node::lint::config_set::ConfigSets;
use crate::node::lint::{FileKind, NodeFile, NodeFiles};

/// What trees are called, wherever they lie.
const CERTS_D: &str = "certs.d";
/// Where spegel puts what it found.
const BACKUP: &str = "_backup";

/// Whether a folder of a tree is nobody's registry: a copy that was put aside, or what Kubernetes keeps behind the links of a
/// mounted ConfigMap.
fn is_put_aside(name: &str) -> bool {
    name == BACKUP || name.starts_with("..")
}

/// The trees that files lie in, and those that a `config_path` names.
pub(in crate::node::lint) fn find<'a>(
    sources: &'a [NodeFile],
    sets: &ConfigSets,
    files: &dyn NodeFiles,
) -> Trees<'a> {
    let mut roots: BTreeMap<PathBuf, Vec<&NodeFile>> = BTreeMap::new();
    let mut named: BTreeSet<PathBuf> = BTreeSet::new();
    for set in &sets.sets {
        for path in set.config_paths() {
            let folders = path.split(':').filter(|folder| folder.starts_with('/'));
            let found = folders.flat_map(|folder| files.matching(&set.files[0].path, folder));
            // A setting that names the folder of one registry has a finding of its own, with its tree.
            let is_of_one = |path: &Path| {
                path.parent().is_some_and(|parent| parent.ends_with(CERTS_D))
                    && files.entries(path).iter().any(|entry| entry.name == FILE_NAME)
            };
            named.extend(found.filter(|path| !files.entries(path).is_empty() && !is_of_one(path)));
        }
    }
    let ours = |source: &&NodeFile| matches!(source.kind, FileKind::HostsToml | FileKind::Stray);
    for source in sources.iter().filter(ours) {
        let is_root = |folder: &&Path| folder.ends_with(CERTS_D) || named.contains(*folder);
        let root = source.path.ancestors().skip(1).find(is_root);
        let root = root.or_else(|| source.path.parent()?.parent()).unwrap_or(Path::new("")).to_owned();
        let mut below = source.path.strip_prefix(&root).unwrap_or(&source.path).components();
        if below.any(|part| is_put_aside(&part.as_os_str().to_string_lossy())) {
            continue;
        }
        roots.entry(root).or_default().push(source);
    }
    for root in named {
        roots.entry(root).or_default();
    }
    let tree = |(root, sources): (PathBuf, Vec<&'a NodeFile>)| {
        let mut tree = HostsTree {
            place: files.place(&root),
            files: BTreeMap::new(),
            misplaced: Vec::new(),
            folders: BTreeMap::new(),
            root,
        };
        for source in sources.into_iter().filter(|source| source.kind == FileKind::HostsToml) {
            let folder = source.path.parent();
            let name = folder.and_then(Path::file_name).and_then(|name| name.to_str());
            match name.filter(|_| folder.and_then(Path::parent) == Some(&tree.root)) {
                Some(name) => _ = tree.files.insert(name.to_owned(), source),
                None => tree.misplaced.push(source),
            }
        }
        for entry in files
            .entries(&tree.root)
            .into_iter()
            .filter(|entry| entry.is_folder && !is_put_aside(&entry.name))
        {
            let inside = files.entries(&tree.root.join(&entry.name));
            tree.folders.insert(entry.name, inside);
        }
        tree
    };
    Trees { trees: roots.into_iter().map(tree).collect() }
}
