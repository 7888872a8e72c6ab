//! containerd's main file with those that it imports, put together from what was given and what lies on the disk.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{FileKind, NodeFile, NodeFiles, NodePath};
use crate::document::{Node, Position, toml};
use crate::node::containerd::{ConfigLocation, FIRST, NEW, OLD};

/// The name of the main file.
const MAIN: &str = "config.toml";
/// Files of one set; a loop of imports ends by itself.
const MAX_FILES: usize = 200;

/// What one containerd reads.
#[derive(Debug)]
pub(super) struct ConfigSet {
    /// The files in the order in which they are read.
    pub(super) files: Vec<NodeFile>,
    /// The same, parsed.
    pub(super) parsed: Vec<Node>,
    /// Where the main file lies.
    pub(super) place: NodePath,
    /// Imports of a file that is not there.
    pub(super) missing: Vec<(ConfigLocation, String)>,
    /// Whether files may be imported that nobody has shown: the folder is not there.
    pub(super) has_unseen_imports: bool,
}

/// What the files of containerd's configuration are to each other.
#[derive(Debug, Default)]
pub(super) struct ConfigSets {
    pub(super) sets: Vec<ConfigSet>,
    /// Files beside a main one that nobody imports, each with the main file's path.
    pub(super) not_imported: Vec<(NodeFile, PathBuf)>,
    /// Whether a file is no TOML: what it was to say is not known then.
    pub(super) is_damaged: bool,
}

/// Puts the sets together.
pub(super) fn gather(sources: &[NodeFile], files: &dyn NodeFiles) -> ConfigSets {
    let configs: Vec<&NodeFile> =
        sources.iter().filter(|source| source.kind == FileKind::ConfigToml).collect();
    let mut all = ConfigSets::default();
    if configs.iter().any(|source| toml::read(&source.text).is_err()) {
        all.is_damaged = true;
        return all;
    }
    let named = |source: &&&NodeFile| source.path.file_name().is_some_and(|name| name == MAIN);
    let mut taken: BTreeSet<PathBuf> = BTreeSet::new();
    for main in configs.iter().filter(named).chain(configs.iter().filter(|source| !named(source))) {
        if taken.contains(&main.path) {
            continue;
        }
        // A file beside or below the folder of a main one is meant for that.
        let beside = all.sets.iter().find(|set| {
            let folder = set.files[0].path.parent();
            set.files[0].path.ends_with(MAIN) && folder.is_some_and(|folder| main.path.starts_with(folder))
        });
        if let Some(set) = beside {
            all.not_imported.push(((*main).clone(), set.files[0].path.clone()));
            continue;
        }
        let imported =
            |path: &Path| configs.iter().any(|other| other.path != main.path && imports(other, path, files));
        if !named(&main) && imported(&main.path) {
            continue;
        }
        let set = ConfigSet::gather(main, sources, files);
        taken.extend(set.files.iter().map(|file| file.path.clone()));
        match set {
            set if set.parsed.len() == set.files.len() => all.sets.push(set),
            _ => all.is_damaged = true,
        }
    }
    all
}

fn imports(file: &NodeFile, path: &Path, files: &dyn NodeFiles) -> bool {
    listed(file)
        .iter()
        .any(|(import, _)| files.matching(&file.path, import).iter().any(|found| found == path))
}

/// The imports of a file.
fn listed(file: &NodeFile) -> Vec<(String, Position)> {
    let document = toml::read(&file.text).ok();
    let imports = document.as_ref().and_then(|document| document.get("imports"));
    // A single text is of a wrong type, and reported as that.
    let imports = imports.filter(|imports| imports.sequence().is_some());
    let texts = imports.map(Node::texts).unwrap_or_default();
    texts.into_iter().map(|(text, at)| (text.to_owned(), at)).collect()
}

impl ConfigSet {
    fn gather(main: &NodeFile, sources: &[NodeFile], files: &dyn NodeFiles) -> Self {
        let mut set = Self {
            files: vec![main.clone()],
            parsed: Vec::new(),
            place: files.place(&main.path),
            missing: Vec::new(),
            has_unseen_imports: false,
        };
        let mut next = 0;
        while next < set.files.len() && set.files.len() < MAX_FILES {
            let file = set.files[next].clone();
            let Ok(document) = toml::read(&file.text) else { return set };
            set.parsed.push(document);
            for (import, at) in listed(&file) {
                set.import(&file, ConfigLocation { file: next, at }, &import, sources, files);
            }
            next += 1;
        }
        set
    }

    fn import(
        &mut self,
        by: &NodeFile,
        at: ConfigLocation,
        import: &str,
        sources: &[NodeFile],
        files: &dyn NodeFiles,
    ) {
        let found = files.matching(&by.path, import);
        if found.is_empty() {
            let own = by.path.parent().unwrap_or(Path::new("/"));
            let folder = Path::new(import).parent().unwrap_or(Path::new("/"));
            let folder = if folder.is_relative() { own.join(folder) } else { folder.to_owned() };
            if !files.is_folder(&by.path, &folder) {
                self.has_unseen_imports = true;
            } else if !import.contains('*') {
                self.missing.push((at, import.to_owned()));
            }
        }
        for path in found {
            if self.files.iter().any(|known| known.path == path) {
                continue;
            }
            let given = sources.iter().find(|source| source.path == path).cloned();
            let file = given.or_else(|| files.read(&path, FileKind::ConfigToml));
            self.files.extend(file.map(|file| NodeFile { kind: FileKind::ConfigToml, ..file }));
        }
    }

    /// Every `config_path` that stands in the set, whether it is read or not.
    pub(super) fn config_paths(&self) -> Vec<&str> {
        let tables = self.parsed.iter().flat_map(|file| {
            [FIRST, OLD, NEW].into_iter().filter_map(|plugin| file.at_path(&["plugins", plugin, "registry"]))
        });
        tables.filter_map(|table| table.get("config_path")?.text()).collect()
    }

    /// The name of a file of the set, for another one of it.
    pub(super) fn name(&self, file: usize) -> String {
        self.files[file].path.display().to_string()
    }
}
