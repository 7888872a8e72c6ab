//! A tree of `hosts.toml` as a whole: names of directories, and directories that stand in each other's way.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::{FileKind, Files, NodeFile, url};
use crate::document::{Finding, Findings, Severity};
use crate::node::hosts::{FILE_NAME, HostsFile, Version, directory};

/// What one tree holds.
#[derive(Default)]
struct Tree<'a> {
    /// Each directory's file.
    files: BTreeMap<String, &'a NodeFile>,
    /// All directories, those without a file too.
    folders: BTreeSet<String>,
}

pub(super) fn check(sources: &[NodeFile], files: &dyn Files) -> Vec<Finding> {
    let mut trees: BTreeMap<PathBuf, Tree<'_>> = BTreeMap::new();
    for source in sources.iter().filter(|source| source.kind == FileKind::HostsToml) {
        let folder = source.path.parent();
        let name = folder.and_then(Path::file_name).and_then(|name| name.to_str());
        let (Some(root), Some(name)) = (folder.and_then(Path::parent), name) else { continue };
        trees.entry(root.to_owned()).or_default().files.insert(name.to_owned(), source);
    }
    for (root, tree) in &mut trees {
        tree.folders = files.folders(root).into_iter().collect();
        tree.folders.extend(tree.files.keys().cloned());
    }
    trees.iter().flat_map(|(root, tree)| tree.check(root)).collect()
}

impl Tree<'_> {
    fn check(&self, root: &Path) -> Vec<Finding> {
        let mut found = Vec::new();
        let mut add = |severity, rule, name: &str, words: [String; 3]| {
            let file = self.files.get(name).map_or_else(|| root.join(name), |source| source.path.clone());
            let mut findings = Findings::new(&file);
            findings.add(severity, rule, None, words);
            found.extend(findings.sorted());
        };
        for name in self.files.keys() {
            if let Some((why, right)) = wrong_name(name) {
                let effect = "containerd never looks into it, and the upstream is asked".to_owned();
                add(
                    Severity::Error,
                    "wrong-directory-name",
                    name,
                    [why, effect, format!("rename it to {right}")],
                );
            }
            if let Some(first) = directory::upstream(name).map(|upstream| directory::preferred(&upstream))
                && first != *name
                && self.folders.contains(&first)
            {
                let effect =
                    format!("the first directory that exists speaks alone: {name}/{FILE_NAME} is never read");
                add(
                    Severity::Error,
                    "shadowed-directory",
                    name,
                    [
                        format!("{first} and {name} speak for the same registry"),
                        effect,
                        format!("put both into {first}"),
                    ],
                );
            }
        }
        if self.files.contains_key(directory::DEFAULT) {
            let bare: Vec<&String> = self
                .folders
                .iter()
                .filter(|name| {
                    !self.files.contains_key(*name) && url::is_registry_name(&name.replace('_', ":"))
                })
                .collect();
            if let [first, ..] = bare[..] {
                let names: Vec<&str> = bare.iter().map(|name| name.as_str()).collect();
                add(
                    Severity::Warning,
                    "default-shadowed",
                    directory::DEFAULT,
                    [
                        format!("{} has no {FILE_NAME}", names.join(", ")),
                        format!(
                            "a directory of its own hides _default: images of {first} are not asked of the mirror"
                        ),
                        format!("copy _default/{FILE_NAME} into it"),
                    ],
                );
            }
            let others = self.files.len() - 1;
            add(
                Severity::Warning,
                "default-catches-all",
                directory::DEFAULT,
                [
                    "_default speaks for every registry that has no directory of its own".to_owned(),
                    format!(
                        "images of all of them are asked of the mirror first, where a/b of one registry is a/b of any \
                         other; the {others} directories beside it get nothing from it"
                    ),
                    "name a directory for each registry that is mirrored".to_owned(),
                ],
            );
        }
        self.shared_places(&mut add);
        found
    }

    fn shared_places(&self, add: &mut impl FnMut(Severity, &'static str, &str, [String; 3])) {
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
            add(
                Severity::Warning,
                "shared-place",
                second,
                [
                    format!("{} have one place on the mirror, {place}", names.join(" and ")),
                    format!(
                        "{first}/a/b and {second}/a/b are one name there: a node gets whichever was pushed last"
                    ),
                    format!("give each a namespace: {place}/{first} and {place}/{second}"),
                ],
            );
        }
    }
}

/// Why containerd never looks for a directory of this name, and the right one.
fn wrong_name(name: &str) -> Option<(String, String)> {
    if name == directory::DEFAULT {
        return None;
    }
    if name == "*" {
        let why = "* is how config.toml names all registries".to_owned();
        return Some((why, directory::DEFAULT.to_owned()));
    }
    if let Some(rest) = name.strip_prefix("https:").or_else(|| name.strip_prefix("http:")) {
        let host = rest.trim_matches(['_', '/']);
        return Some(("a directory's name has no scheme".to_owned(), host.to_owned()));
    }
    let upstream = directory::upstream(name)?;
    if url::is_docker_alias(&upstream) {
        return Some((format!("runtimes call {upstream} docker.io"), "docker.io".to_owned()));
    }
    if let Some((host, port)) = upstream.rsplit_once('_')
        && port.parse::<u16>().is_ok()
        && url::is_registry_name(host)
    {
        return Some((format!("a port is written _{port}_ or :{port}"), format!("{host}_{port}_")));
    }
    if upstream != upstream.to_ascii_lowercase() {
        return Some((
            "names of registries are lower-case in names of images".to_owned(),
            name.to_ascii_lowercase(),
        ));
    }
    if !url::is_registry_name(&upstream) {
        let why = format!(
            "{upstream} is not the name of a registry: an image {upstream}/a is docker.io/{upstream}/a"
        );
        return Some((why, "the registry's name, as gcr.io".to_owned()));
    }
    None
}
