//! Trees of `hosts.toml` as a whole: files in the wrong place, names of directories, unused certificates, and directories
//! that shadow each other.

mod certificates;
mod find;
mod names;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub(super) use self::find::find;
pub(super) use self::names::wrong_name;
use self::names::{is_misnamed, looks_like_registry};
use super::config_toml;
use super::{DirEntry, LintOptions, NodeFile, NodeFiles, NodePath, url};
use crate::document::{Finding, Findings, Severity, toml};
use crate::node::hosts::{FILE_NAME, HostsFile, Version, directory};
use crate::units;

/// All trees that were found.
pub(super) struct Trees<'a> {
    trees: Vec<HostsTree<'a>>,
}

/// What one tree holds.
struct HostsTree<'a> {
    place: NodePath,
    root: PathBuf,
    /// Each directory's file.
    files: BTreeMap<String, &'a NodeFile>,
    /// Files that are not in a directory of the tree.
    misplaced: Vec<&'a NodeFile>,
    /// What is in each directory, those without a file too.
    folders: BTreeMap<String, Vec<DirEntry>>,
}

impl Trees<'_> {
    /// Whether a file is where containerd would look for it.
    pub(super) fn is_in_place(&self, path: &Path) -> bool {
        self.trees.iter().any(|tree| tree.files.values().any(|file| file.path == path))
    }

    /// The trees of the node whose root is `root`; where it has none, those that have yet to be installed on one.
    pub(super) fn of_node(&self, root: Option<&Path>, roots: &BTreeSet<&Option<PathBuf>>) -> Vec<&NodePath> {
        let trees = || self.trees.iter().filter(|tree| tree.is_tree()).map(|tree| &tree.place);
        let here: Vec<&NodePath> = trees().filter(|tree| tree.root.as_deref() == root).collect();
        if here.is_empty() { trees().filter(|tree| !roots.contains(&tree.root)).collect() } else { here }
    }

    pub(super) fn check(&self, options: &LintOptions, files: &dyn NodeFiles) -> Vec<Finding> {
        self.trees.iter().flat_map(|tree| tree.check(options, files)).collect()
    }
}

/// Collects findings about files and folders of a tree.
struct TreeFindings<'a> {
    tree: &'a HostsTree<'a>,
    found: Vec<Finding>,
}

impl TreeFindings<'_> {
    fn at(&mut self, path: &Path, severity: Severity, rule: &'static str, words: [String; 3]) {
        let mut findings = Findings::new(path);
        findings.add(severity, rule, None, words);
        self.found.extend(findings.sorted());
    }

    /// About a directory, or the file in it.
    fn add(&mut self, severity: Severity, rule: &'static str, name: &str, words: [String; 3]) {
        let file = self.tree.files.get(name);
        let path = file.map_or_else(|| self.tree.root.join(name), |source| source.path.clone());
        self.at(&path, severity, rule, words);
    }
}

impl HostsTree<'_> {
    /// Whether anything in it is meant for containerd.
    fn is_tree(&self) -> bool {
        let misnamed = |entries: &Vec<DirEntry>| entries.iter().any(|entry| is_misnamed(&entry.name));
        !self.files.is_empty() || !self.misplaced.is_empty() || self.folders.values().any(misnamed)
    }

    fn check(&self, options: &LintOptions, files: &dyn NodeFiles) -> Vec<Finding> {
        let mut findings = TreeFindings { tree: self, found: Vec::new() };
        self.misplaced(&mut findings);
        for (name, entries) in &self.folders {
            self.misnamed(&mut findings, name, entries);
            if !self.files.contains_key(name) {
                self.certificates(&mut findings, name, entries, files);
            }
        }
        self.names(&mut findings);
        self.versions(&mut findings, options);
        self.default(&mut findings);
        self.shared_places(&mut findings);
        self.authorities_elsewhere(&mut findings, options);
        findings.found
    }

    /// Files in the folder of the tree itself, and files deeper down.
    fn misplaced(&self, findings: &mut TreeFindings<'_>) {
        for file in &self.misplaced {
            let is_root = file.path.parent() == Some(&self.root);
            let registry = registry_of(file).unwrap_or_else(|| "REGISTRY".to_owned());
            let what = if is_root {
                format!(
                    "{FILE_NAME} lies in {} itself, and not in the folder of a registry",
                    self.place.shown()
                )
            } else {
                format!("{FILE_NAME} lies deeper in {} than in the folder of a registry", self.place.shown())
            };
            let effect = "containerd never reads it: pulls go to the upstream".to_owned();
            let fix = format!("move it to {}/{registry}/{FILE_NAME}", self.place.shown());
            findings.at(&file.path, Severity::Error, "misplaced-file", [what, effect, fix]);
        }
    }

    /// Files that were meant to be the folder's `hosts.toml`.
    fn misnamed(&self, findings: &mut TreeFindings<'_>, folder: &str, entries: &[DirEntry]) {
        if self.files.contains_key(folder) || !looks_like_registry(folder) {
            return;
        }
        for entry in entries.iter().filter(|entry| !entry.is_folder && is_misnamed(&entry.name)) {
            let words = [
                format!("{} is not the name of the file: containerd reads {FILE_NAME} alone", entry.name),
                format!("images of {folder} are asked of the upstream, and never of a mirror"),
                format!("rename it to {FILE_NAME}"),
            ];
            findings.at(&self.root.join(folder).join(&entry.name), Severity::Error, "misnamed-file", words);
        }
    }

    fn names(&self, findings: &mut TreeFindings<'_>) {
        for name in self.files.keys() {
            if let Some((why, right)) = wrong_name(name) {
                let effect = "containerd never looks into it, and the upstream is asked".to_owned();
                let words = [why, effect, format!("rename it to {right}")];
                findings.add(Severity::Error, "wrong-directory-name", name, words);
            }
            if let Some(first) = directory::upstream(name).map(|upstream| directory::preferred(&upstream))
                && first != *name
                && self.folders.contains_key(&first)
            {
                let effect =
                    format!("the first directory that exists speaks alone: {name}/{FILE_NAME} is never read");
                let what = format!("{first} and {name} speak for the same registry");
                let words = [what, effect, format!("put both into {first}")];
                findings.add(Severity::Error, "shadowed-directory", name, words);
            }
        }
    }

    /// What came later than the containerd of the nodes.
    fn versions(&self, findings: &mut TreeFindings<'_>, options: &LintOptions) {
        let Some(version) = options.containerd else { return };
        let Some(first) = self.files.keys().next() else { return };
        let upgrade = |since: Version| format!("upgrade containerd to {since} or later");
        if version < Version::HOSTS_TOML {
            let words = [
                format!("containerd {version} reads no {FILE_NAME}, which came with {}", Version::HOSTS_TOML),
                "no mirror of the tree is asked".to_owned(),
                format!("{}, or write mirrors into config.toml", upgrade(Version::HOSTS_TOML)),
            ];
            findings.add(Severity::Error, "file-too-new", first, words);
        } else if version < Version::DEFAULT_FOLDER && self.files.contains_key(directory::DEFAULT) {
            let words = [
                format!(
                    "containerd {version} does not look for _default, which came with {}",
                    Version::DEFAULT_FOLDER
                ),
                "its mirrors are never asked".to_owned(),
                format!("name a directory for each registry, or {}", upgrade(Version::DEFAULT_FOLDER)),
            ];
            findings.add(Severity::Error, "file-too-new", directory::DEFAULT, words);
        }
    }

    fn default(&self, findings: &mut TreeFindings<'_>) {
        if !self.files.contains_key(directory::DEFAULT) {
            return;
        }
        let bare = |name: &&String| !self.files.contains_key(*name) && looks_like_registry(name);
        let bare: Vec<&str> = self.folders.keys().filter(bare).map(String::as_str).collect();
        if let [first, ..] = bare[..] {
            let words = [
                format!("{} has no {FILE_NAME}", bare.join(", ")),
                format!(
                    "a directory of its own hides _default: images of {first} are not asked of the mirror"
                ),
                format!("copy _default/{FILE_NAME} into it"),
            ];
            findings.add(Severity::Warning, "default-shadowed", directory::DEFAULT, words);
        }
        let others = self.files.len() - 1;
        let beside = match others {
            0 => String::new(),
            _ => format!("; it is not for the {} beside it", units::count(others, "folder")),
        };
        let words = [
            "_default speaks for every registry that has no directory of its own".to_owned(),
            format!(
                "images of all of them are asked of the mirror first, where a/b of one registry is a/b of any other, unless the \
                 mirror goes by the query ns= (spegel){beside}"
            ),
            "name a directory for each registry that is mirrored".to_owned(),
        ];
        // Alone it is what spegel writes, and k3s of a "*".
        let is_meant = others == 0 || config_toml::is_rancher(self.files[directory::DEFAULT]);
        let severity = if is_meant { Severity::Note } else { Severity::Warning };
        findings.add(severity, "default-catches-all", directory::DEFAULT, words);
    }

    fn shared_places(&self, findings: &mut TreeFindings<'_>) {
        let mut places: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for (name, source) in &self.files {
            let Some(upstream) = directory::upstream(name) else { continue };
            let Ok(file) = HostsFile::parse(&source.text, Version::NEWEST) else { continue };
            let hosts = file.resolve(&upstream, Path::new(""), Version::NEWEST);
            let roots: BTreeSet<String> = hosts
                .iter()
                .filter(|host| host.authority != upstream && !url::is_docker_alias(&host.authority))
                .map(|host| format!("{}://{}{}", host.scheme, host.authority, host.path))
                .collect();
            for root in roots {
                places.entry(root).or_default().push(name);
            }
        }
        for (place, names) in places {
            let [first, second, ..] = names[..] else { continue };
            let words = [
                format!("{} have one place on the mirror, {place}", names.join(" and ")),
                format!(
                    "{first}/a/b and {second}/a/b are one name there: a node gets whichever was pushed last"
                ),
                format!("give each a namespace: {place}/{first} and {place}/{second}"),
            ];
            findings.add(Severity::Warning, "shared-place", second, words);
        }
    }
}

/// The registry that a file is meant for, by the server that it names.
fn registry_of(file: &NodeFile) -> Option<String> {
    let document = toml::read(&file.text).ok()?;
    let server = document.get("server")?.text()?.to_owned();
    let authority = url::parts(&server).authority;
    let name = if url::is_docker_alias(authority) { "docker.io" } else { authority };
    (!name.is_empty()).then(|| directory::preferred(name))
}
