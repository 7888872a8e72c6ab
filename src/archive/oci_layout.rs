//! An [OCI layout](https://github.com/opencontainers/image-spec/blob/v1.1.1/image-layout.md): `oci-layout`, `index.json`
//! and blobs, at the root of a tree or below a folder.
//!
//! Out: the images that its `index.json` lists, each whole or with its fault. Manifests are not changed.

use std::collections::{HashMap, HashSet};

use serde::Deserialize;

use crate::archive::base::Base;
use crate::archive::catalog::{Catalog, ImageName};
use crate::archive::leftovers::LeftOut;
use crate::archive::limits::check_length;
use crate::archive::names;
use crate::archive::pool::{Pool, Unknown};
use crate::archive::tree::Tree;
use crate::archive::{CatalogReader, Listed};
use crate::error::{BundleError, Fault, printable};
use crate::oci::json::{parse_json, without_mark};
use crate::oci::manifest::Kind;
use crate::oci::{Descriptor, Digest, Manifest, media_type};

const MAX_LAYOUT_FILE_BYTES: u64 = 64 << 10;

#[derive(Deserialize)]
#[serde(expecting = "an object with imageLayoutVersion")]
struct LayoutFile {
    #[serde(rename = "imageLayoutVersion")]
    version: String,
}

/// The images that the layout at `folder` lists. `catalog` gets harmless oddities, and entries that are no image.
pub(super) fn read(
    reader: &CatalogReader<'_>,
    tree: &Tree<'_>,
    folder: &str,
    pool: &mut Pool<'_>,
    catalog: &mut Catalog,
) -> Result<Vec<Listed>, BundleError> {
    check_version(tree, folder, &mut catalog.notes)?;
    let path = format!("{folder}index.json");
    let Some(bytes) = tree.read_small(&path, reader.limits.index_bytes)? else { return Ok(Vec::new()) };
    let bytes = without_mark(bytes);
    if let Some(base) = Base::of_index(&bytes).map_err(|e| e.at(&path))? {
        catalog.notes.push(base.note());
        pool.add_base(&base);
    }
    let index = Manifest::parse(bytes, media_type::OCI_INDEX).map_err(|e| e.at(&path))?;
    let Kind::Index { children } = &index.kind else {
        let what = "is the manifest of an image, where an index of images should be";
        return Err(BundleError::new(Fault::BadJson, what).at(path));
    };
    reader.allowance.take_descriptors(children.len()).map_err(|e| e.at(&path))?;
    let children = children.clone();
    let named: Vec<_> = children.iter().map(|child| names::from_annotations(&child.annotations)).collect();
    // `docker save` of several images without names is no index of one.
    let saved = tree.contains(&format!("{folder}manifest.json"));
    if !saved && is_one_image(&children, &named) {
        catalog.notes.push(format!("{path} has no names, but platforms: taken as one multi-platform image"));
        return Ok(vec![as_one_image(reader, pool, index)?]);
    }
    let mut listed = Vec::new();
    for (child, names) in children.iter().zip(named) {
        match document(pool, child, !names.is_empty())? {
            Some(document) => listed.push(visit(pool, &document, names)?),
            None => catalog.left_out.push(no_image(&path, child)),
        }
    }
    let mut listed = join(listed);
    // `cosign save` keeps what refers to the image among the blobs, and lists it nowhere.
    let is_of_cosign = |image: &Listed| image.names.is_empty() && names::is_of_cosign(&image.annotations);
    if listed.iter().any(is_of_cosign) {
        pool.visit_unlisted(folder)?;
        let known: HashSet<Digest> = listed.iter().map(|image| image.digest).collect();
        for digest in pool.referrers_of(&known) {
            listed.push(Listed::new(digest.to_string(), Vec::new(), digest));
        }
    }
    Ok(listed)
}

/// An entry as the manifest that it is; none where it is no manifest. The specification lets an index list anything, and
/// wants unknown types to be
/// [passed over](https://github.com/opencontainers/image-spec/blob/v1.1.1/image-index.md#image-index-property-descriptions).
fn document(
    pool: &mut Pool<'_>,
    entry: &Descriptor,
    is_named: bool,
) -> Result<Option<Descriptor>, BundleError> {
    if media_type::may_be_manifest(&entry.media_type) {
        return Ok(Some(entry.clone()));
    }
    Ok(match pool.unknown(entry)? {
        Unknown::Manifest(document) if is_named || pool.is_about_images(&document.digest) => {
            let (annotations, platform) = (entry.annotations.clone(), entry.platform.clone());
            Some(Descriptor { annotations, platform, ..*document })
        }
        // Whatever it is, its name would be lost with it.
        Unknown::Wrong if is_named => Some(entry.clone()),
        Unknown::Manifest(_) | Unknown::Wrong | Unknown::Other => None,
    })
}

fn no_image(index: &str, entry: &Descriptor) -> LeftOut {
    let Descriptor { media_type, digest, .. } = entry;
    let why = "it is no manifest that a registry would take, so it is no image".to_owned();
    let called = names::label(&entry.annotations).map(|name| format!(" called {name}"));
    let what =
        format!("an entry of the type {}{}, {digest}", printable(media_type), called.unwrap_or_default());
    LeftOut { why, ..LeftOut::no_image(index, what) }
}

fn check_version(tree: &Tree<'_>, folder: &str, notes: &mut Vec<String>) -> Result<(), BundleError> {
    let path = format!("{folder}oci-layout");
    let Some(bytes) = tree.read_small(&path, MAX_LAYOUT_FILE_BYTES)? else {
        notes.push(format!("{folder}index.json has no oci-layout file beside it"));
        return Ok(());
    };
    let LayoutFile { version } = parse_json(&without_mark(bytes)).map_err(|e| e.at(&path))?;
    if version == "1" || version.starts_with("1.") {
        return Ok(());
    }
    Err(BundleError::new(Fault::Unsupported, format!("OCI layout of version {version:?}")).at(path))
}

/// apko, and buildpacks' imgutil, write a multi-platform image's own index as the `index.json`.
fn is_one_image(children: &[Descriptor], names: &[Vec<ImageName>]) -> bool {
    children.len() >= 2
        && names.iter().all(Vec::is_empty)
        && children
            .iter()
            .all(|child| child.platform.as_ref().is_some_and(|platform| !platform.os.is_empty()))
}

fn as_one_image(
    reader: &CatalogReader<'_>,
    pool: &mut Pool<'_>,
    index: Manifest,
) -> Result<Listed, BundleError> {
    let bytes = index.bytes.len() as u64;
    let top = pool.add_manifest(index);
    let mut image = visit(pool, &top, Vec::new())?;
    if let Err(error) = check_length("index.json, which is an image,", bytes, reader.limits.manifest_bytes) {
        image.fault = Some(error);
    }
    Ok(image)
}

fn visit(pool: &mut Pool<'_>, descriptor: &Descriptor, names: Vec<ImageName>) -> Result<Listed, BundleError> {
    let fault = pool.visit(descriptor)?.err();
    let annotations = descriptor.annotations.clone();
    let label = names::label(&annotations).unwrap_or_else(|| descriptor.digest.to_string());
    let saved_in_part = names::is_of_containerd(&annotations);
    let listed = Listed::new(label, names, descriptor.digest);
    Ok(Listed { annotations, fault, saved_in_part, ..listed })
}

/// One image under several names is one image. Entries without a name stay apart where their annotations differ: there
/// may be a name in one of them that only its tool knows.
fn join(listed: Vec<Listed>) -> Vec<Listed> {
    let mut joined: Vec<Listed> = Vec::new();
    let mut known = HashMap::new();
    for image in listed {
        let apart = image.names.is_empty().then(|| image.annotations.clone());
        let at = *known.entry((image.digest, image.fault.is_some(), apart)).or_insert(joined.len());
        match joined.get_mut(at) {
            Some(same) => same.add_names(image.names),
            None => joined.push(image),
        }
    }
    joined
}
