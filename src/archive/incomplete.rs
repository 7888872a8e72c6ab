//! Finds folders that look like a bundle and yield no image: which kind of bundle it was meant to be, and what is missing.
//!
//! In: the tree, and which of its files belong to images that were found. Out: each such folder. A tree without any holds
//! no image.

use std::collections::{BTreeMap, BTreeSet};

use crate::archive::content_path::digest_of_path;
use crate::archive::leftovers::LeftOut;
use crate::archive::manifest_json::{self, Meant, json};
use crate::archive::tree::{Tree, base_name, parent};
use crate::oci::Digest;
use crate::units::count;

/// Something that was meant to be images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct IncompleteBundle {
    /// The folder, with its slash; empty at the root.
    pub(super) folder: String,
    meant: Meant,
}

impl IncompleteBundle {
    pub(super) fn left_out(&self) -> LeftOut {
        let Meant { what, why, next } = &self.meant;
        let next = next.map(|next| format!("; next: {next}")).unwrap_or_default();
        let why = why.as_deref().unwrap_or("no image can be read from it");
        LeftOut::unreadable(self.folder.trim_end_matches('/'), *what, format!("{why}{next}"))
    }
}

/// The folders whose mark a file of this path may make.
pub(super) fn makers(path: &str) -> Vec<&str> {
    let (folder, name) = (parent(path), base_name(path));
    match name {
        "index.json" | "oci-layout" | "manifest.json" | "repositories" | "manifest" => vec![folder],
        // Before Docker 1.10 each layer had a folder of its own.
        "json" | "VERSION" | "layer.tar" => vec![above(folder)],
        _ if manifest_json::is_called_as_config(name) => vec![folder],
        _ if digest_of_path(path).is_some() => {
            path.find("blobs/sha256").map(|at| &path[..at]).into_iter().collect()
        }
        _ => Vec::new(),
    }
}

/// All marks in a tree outside what `belongs` to images that were found; blobs whose digest `is_used` belong too. `empty`
/// are layouts that list no image.
pub(super) fn find(
    tree: &Tree<'_>,
    empty: &BTreeSet<String>,
    belongs: &dyn Fn(&str) -> bool,
    is_used: &dyn Fn(&Digest) -> bool,
) -> Vec<IncompleteBundle> {
    let mut marks: BTreeMap<String, IncompleteBundle> = BTreeMap::new();
    let mut put = |folder: &str, meant: Meant| {
        let folder = folder.to_owned();
        marks.entry(folder.clone()).or_insert(IncompleteBundle { folder, meant });
    };
    // A document that is no file and was to list images.
    let no_files = tree.dangling().map(|(path, _)| path).chain(tree.odd().map(|(path, _)| path));
    let no_files = no_files.filter(|path| !belongs(path));
    let unread = no_files.filter_map(|path| Some((parent(path), document_meant(tree, path, belongs)?)));
    unread.for_each(|(folder, meant)| put(folder, meant));
    for path in tree.files().iter().map(|file| file.path).filter(|path| !belongs(path)) {
        if let Some(meant) = document_meant(tree, path, belongs) {
            put(parent(path), meant);
        }
    }
    let mut mark = |folder: &str, what, next| put(folder, Meant { what, why: None, next });
    // Where some blobs are used, the others are left over from images that were deleted.
    let shelves_in_use: BTreeSet<&str> = tree
        .paths()
        .filter(|path| digest_of_path(path).is_some_and(|digest| is_used(&digest)))
        .filter_map(|path| path.find("blobs/sha256").map(|at| &path[..at]))
        .collect();
    for folder in empty {
        mark(folder, "an OCI layout whose index.json lists no image", None);
    }
    for path in tree.files().iter().map(|file| file.path).filter(|path| !belongs(path)) {
        let folder = parent(path);
        let beside = |name: &str| tree.contains(&format!("{folder}{name}"));
        match base_name(path) {
            "oci-layout" if !beside("index.json") => {
                mark(folder, "an OCI layout without its index.json", None);
            }
            name if manifest_json::is_called_as_config(name)
                && !beside("manifest.json")
                && has_flat_layers(tree, folder)
                && manifest_json::is_config(tree, path) =>
            {
                mark(folder, "a docker-archive without its manifest.json", None);
            }
            "layer.tar" if !tree.contains(&format!("{}manifest.json", above(folder))) => {
                let old = "an image saved by Docker before 1.10, without manifest.json";
                let next = "load it into a Docker of 1.10 or later and save it again";
                let (what, next) = if beside("json") {
                    (old, Some(next))
                } else {
                    ("a docker-archive without its manifest.json", None)
                };
                mark(above(folder), what, next);
            }
            name if name.parse().is_ok_and(|digest| !is_used(&digest)) && !beside("manifest.json") => {
                mark(folder, "blobs of images without anything that lists them", None);
            }
            "manifest" if is_appc(tree, path) => {
                let next = "save the image again as an OCI layout or a docker-archive";
                mark(folder, "an appc image", Some(next));
            }
            _ => {}
        }
        if let Some(at) = path.find("blobs/sha256").filter(|at| *at == 0 || path[..*at].ends_with('/'))
            && digest_of_path(path).is_some_and(|digest| !is_used(&digest))
        {
            let above = &path[..at];
            let known =
                ["index.json", "oci-layout"].iter().any(|name| tree.contains(&format!("{above}{name}")));
            if !known && !shelves_in_use.contains(above) {
                let next = "give it together with the part that lists its images";
                mark(above, "blobs of images without anything that lists them", Some(next));
            }
        }
    }
    for (path, what) in tree.odd().filter(|(_, what)| what.contains("another volume")) {
        mark(parent(path), what, Some("join the volumes of the tar first"));
    }
    marks.into_values().collect()
}

/// What a document was meant to be that is called as those which list images.
fn document_meant(tree: &Tree<'_>, path: &str, belongs: &dyn Fn(&str) -> bool) -> Option<Meant> {
    match base_name(path) {
        "index.json" => manifest_json::index_meant(tree, path),
        "manifest.json" => {
            let is_layout = belongs(&format!("{}index.json", parent(path)));
            manifest_json::meant(tree, path, is_layout)
        }
        _ => None,
    }
}

/// Whether layers lie in a folder as podman, crane and kaniko name them: `<hex>.tar`, `<hex>.tar.gz`.
fn has_flat_layers(tree: &Tree<'_>, folder: &str) -> bool {
    tree.below(folder).any(|path| {
        let name = &path[folder.len()..];
        let hex = name.strip_suffix(".gz").unwrap_or(name).strip_suffix(".tar");
        hex.is_some_and(|hex| format!("sha256:{hex}").parse::<Digest>().is_ok())
    })
}

/// The folder that a folder lies in, each with its slash.
fn above(folder: &str) -> &str {
    parent(folder.trim_end_matches('/'))
}

fn is_appc(tree: &Tree<'_>, path: &str) -> bool {
    let has_rootfs = tree.below(&format!("{}rootfs/", parent(path))).next().is_some();
    has_rootfs && json(tree, path).is_some_and(|json| json["acKind"] == "ImageManifest")
}

/// What a tree without images and marks of them seems to be, and what could be done about it.
pub(super) fn seems(tree: &Tree<'_>) -> (String, Option<&'static str>) {
    let has_folder = |name: &str| tree.below(&format!("{name}/")).next().is_some();
    if tree.len() == 0 {
        return ("nothing: it has no files".into(), None);
    }
    let roots = ["etc", "usr", "bin", "lib", "var", "proc", "run", "root", "home", "opt", "sbin"];
    if roots.iter().filter(|name| has_folder(name)).count() >= 2
        || tree.paths().any(|p| base_name(p).starts_with(".wh."))
    {
        let hint = "a layer alone is no image: save the whole image";
        return ("a file system, such as the content of one layer".into(), Some(hint));
    }
    if tree.paths().any(|path| base_name(path) == "Chart.yaml") {
        return ("a Helm chart".into(), None);
    }
    let some: Vec<_> = tree.paths().take(3).collect();
    (format!("{} without an image, such as {}", count(tree.len(), "file"), some.join(", ")), None)
}
