//! Finds the folders of a tree that hold bundles, and their kinds, by their marker files.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::archive::pool::ends_the_bundle;
use crate::archive::tree::{Tree, base_name, parent};
use crate::archive::{CatalogReader, dir_transport, imgpkg, manifest_json, oc_tree, registry_tree};
use crate::error::BundleError;
use crate::oci::Manifest;
use crate::oci::json::without_mark;

/// What a folder is. An OCI layout may be a docker-archive too.
#[derive(Debug, Default)]
pub(super) struct Kinds {
    pub(super) layout: bool,
    /// The `manifest.json` of a docker-archive.
    pub(super) saved: Option<Bytes>,
    pub(super) dir: Option<Manifest>,
    pub(super) registry: bool,
    pub(super) oc_tree: bool,
}

impl Kinds {
    /// What messages call it.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self { registry: true, .. } => "a registry's storage",
            Self { oc_tree: true, .. } => "a folder of images of `oc`",
            Self { dir: Some(_), .. } => "an image of the `dir:` transport",
            Self { layout: true, .. } => "an OCI layout",
            _ => "a docker-archive",
        }
    }
}

/// The folders of a tree that are bundles of a known kind.
///
/// # Errors
/// What would say what the tree is cannot be read.
pub(super) fn find(
    reader: &CatalogReader<'_>,
    tree: &Tree<'_>,
    is_folder: bool,
) -> Result<BTreeMap<String, Kinds>, BundleError> {
    let mut found: BTreeMap<String, Kinds> = BTreeMap::new();
    for folder in registry_tree::folders(tree) {
        found.entry(folder).or_default().registry = true;
    }
    for folder in oc_tree::folders(tree) {
        found.entry(folder).or_default().oc_tree = true;
    }
    for path in tree.paths() {
        let folder = parent(path);
        match base_name(path) {
            "index.json" if !is_second_name(tree, path) => {
                let has_blobs = || tree.below(&format!("{folder}blobs/")).next().is_some();
                if tree.contains(&format!("{folder}oci-layout"))
                    || has_blobs() && (folder.is_empty() || manifest_json::lists_manifests(tree, path))
                {
                    found.entry(folder.to_owned()).or_default().layout = true;
                }
            }
            "manifest.json" if !is_second_name(tree, path) => {
                match kind_of_manifest_json(reader, tree, path, is_folder)? {
                    ManifestJson::Saved(bytes) => {
                        found.entry(folder.to_owned()).or_default().saved = Some(bytes);
                    }
                    ManifestJson::Dir(manifest) => {
                        found.entry(folder.to_owned()).or_default().dir = Some(*manifest);
                    }
                    ManifestJson::Other => {}
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// A linked folder has the images of the one it leads to: they are read there.
fn is_second_name(tree: &Tree<'_>, path: &str) -> bool {
    let real = tree.file(path).ok().flatten().map(|file| file.path);
    real.is_some_and(|real| real != path && base_name(real) == base_name(path))
}

/// What a `manifest.json` is; many programs have a file of this name.
enum ManifestJson {
    /// The list of a docker-archive, or imgpkg's.
    Saved(Bytes),
    /// The manifest of an image of the `dir:` transport.
    Dir(Box<Manifest>),
    Other,
}

fn kind_of_manifest_json(
    reader: &CatalogReader<'_>,
    tree: &Tree<'_>,
    path: &str,
    is_folder: bool,
) -> Result<ManifestJson, BundleError> {
    // At the root of an archive it says what the archive is; elsewhere it may be anything.
    let decides = parent(path).is_empty() && !is_folder;
    let bytes = match tree.read_small(path, reader.limits.index_bytes) {
        Ok(Some(bytes)) => bytes,
        Err(error) if decides || (ends_the_bundle(error.fault()) && !is_folder) => return Err(error),
        Ok(None) | Err(_) => return Ok(ManifestJson::Other),
    };
    // An editor of Windows may have put a mark before a list. The bytes of a manifest stay as they are.
    let list = without_mark(bytes.clone());
    let holds = |key: &[u8]| list.windows(key.len()).any(|window| window.eq_ignore_ascii_case(key));
    if list.trim_ascii_start().starts_with(b"[") {
        let is_saved = holds(b"\"layers\"") && (decides || imgpkg::wrote(&list) || holds(b"\"config\""));
        return Ok(if is_saved { ManifestJson::Saved(list) } else { ManifestJson::Other });
    }
    let dir = dir_transport::manifest(tree, parent(path), &bytes);
    Ok(dir.map_or(ManifestJson::Other, |manifest| ManifestJson::Dir(Box::new(manifest))))
}
