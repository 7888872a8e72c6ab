//! A tree becomes a [`Catalog`]: every layout, docker-archive, registry and folder of images in it, then the archives among
//! its files, and last the remaining files.

mod sections;
mod unread;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use self::sections::Kinds;
use crate::archive::blob_table::TABLE_NAME;
use crate::archive::catalog::{BrokenImage, Catalog, Content, Image};
use crate::archive::content_path::digest_of_path;
use crate::archive::leftovers::{LeftOut, LeftOutClass};
use crate::archive::pool::{Pool, ends_the_bundle};
use crate::archive::tree::{Tree, base_name};
use crate::archive::{BundleFolder, CatalogReader, Listed, distinct};
use crate::archive::{
    attachments, dir_transport, docker_archive, imgpkg, incomplete, nested, oc_tree, oci_layout, partial,
    registry_tree, views,
};
use crate::error::{BundleError, Fault};
use crate::oci::Digest;

/// The catalog of a tree. If it has no image, its left-out files say why.
///
/// # Errors
/// Damage to what the whole tree depends on.
pub(super) fn read(
    reader: &CatalogReader<'_>,
    tree: &mut Tree<'_>,
    origin: &str,
    depth: usize,
) -> Result<Catalog, BundleError> {
    let mut catalog = Catalog { notes: std::mem::take(&mut tree.notes), ..Catalog::default() };
    let passed = std::mem::take(&mut tree.passed);
    let tree = &*tree;
    // A folder is many bundles in one place: none of them is damaged by another.
    let is_folder = tree.is_directory() && depth == 0;
    let kinds = sections::find(reader, tree, is_folder)?;
    let mut pool = Pool::new(reader, tree);
    let mut members = Members::default();
    let mut of_root = (0, 0);
    let mut root_failed = None;
    for (folder, kind) in &kinds {
        let section = BundleFolder { tree, folder, origin: inside(origin, folder) };
        let before = (catalog.images.len(), catalog.broken.len());
        match section_of(reader, &section, kind, &mut pool, &mut members, &mut catalog) {
            Ok(()) if is_folder && folder.is_empty() => {
                of_root = (catalog.images.len(), catalog.broken.len());
            }
            Ok(()) if is_folder => catalog.confine_from(before, folder.trim_end_matches('/')),
            Ok(()) => {}
            Err(error) if is_folder && !stops_the_run(error.fault()) => {
                catalog.images.truncate(before.0);
                catalog.broken.truncate(before.1);
                let left_out = LeftOut::failed(folder.trim_end_matches('/'), kind.name(), &error);
                if folder.is_empty() {
                    root_failed = Some((error, left_out));
                } else {
                    catalog.left_out.push(left_out);
                }
            }
            Err(error) => return Err(error),
        }
    }
    members.used.extend(pool.referenced_files());
    let belongs = |path: &str| members.used.contains(path) || members.hold(path);
    let others_count = depth == 0 && !kinds.contains_key("");
    let nested = nested::Nested { reader, tree, origin, depth, others_count };
    let inner = nested.read(passed, &belongs, &mut catalog)?;
    // What lies at the root of a folder is the whole bundle, unless other bundles lie beside it.
    let alone = kinds.len() <= 1 && inner.iter().all(|(_, catalog)| !catalog.has_images());
    match root_failed {
        Some((error, _)) if alone => return Err(error),
        Some((_, left_out)) => catalog.left_out.push(left_out),
        None if is_folder && !alone => catalog.confine_to(of_root, ""),
        None => {}
    }
    for path in tree.replaced.iter().filter(|path| !belongs(path) && !nested::is_called_as_content(path)) {
        let why = "a later member of the same name has replaced it".to_owned();
        catalog.left_out.push(LeftOut { why, ..LeftOut::no_image(path, "an earlier member of this name") });
    }
    let with_images = inner.iter().filter(|(_, catalog)| catalog.has_images()).map(|(position, _)| *position);
    let with_images: HashSet<u64> = with_images.collect();
    let files = tree.files().into_iter().filter(|file| with_images.contains(&file.position));
    members.used.extend(files.map(|file| file.path.to_owned()));
    let belongs = |path: &str| members.used.contains(path) || members.hold(path);
    let mut catalog = catalog.weave(inner);
    let is_used =
        |digest: &Digest| catalog.blobs.contains_key(digest) || catalog.manifests.contains_key(digest);
    let marks = incomplete::find(tree, &members.empty_layouts, &belongs, &is_used);
    // What makes the mark is no file beside it.
    let folders: HashMap<&str, &incomplete::IncompleteBundle> =
        marks.iter().map(|mark| (mark.folder.as_str(), mark)).collect();
    catalog
        .left_out
        .retain(|it| !incomplete::makers(&it.path).iter().any(|folder| folders.contains_key(folder)));
    if depth > 0 && catalog.images.is_empty() && marks.is_empty() {
        unread::pass_over_what_weighs_little(&mut catalog, tree);
    }
    catalog.left_out.extend(marks.iter().map(incomplete::IncompleteBundle::left_out));
    catalog.left_out.extend(unread::members_not_read(tree, catalog.has_images(), &belongs));
    if let Some(at) = tree.another_tar {
        let what = format!("another tar begins at byte {at}, after the end of the first");
        let error = BundleError::new(Fault::Unsupported, what);
        return Err(error.hint("put each tar into a file of its own, and give the folder"));
    }
    let says_why = |it: &LeftOut| it.class == LeftOutClass::Unreadable;
    if !catalog.has_images() && !catalog.left_out.iter().any(says_why) {
        let (seems, hint) = incomplete::seems(tree);
        let seems = hint.map_or(seems.clone(), |hint| format!("{seems} ({hint})"));
        let all: Vec<String> = std::iter::once(seems).chain(catalog.notes.iter().cloned()).collect();
        catalog.left_out.insert(0, LeftOut::no_image("", all.join("; ")));
    }
    Ok(catalog)
}

/// The files of a tree that belong to images.
#[derive(Debug, Default)]
struct Members {
    used: HashSet<String>,
    /// Folders whose files that are called by digests, and links to them, belong to one kind.
    shelves: Vec<String>,
    /// Layouts that list no image.
    empty_layouts: BTreeSet<String>,
}

impl Members {
    fn hold(&self, path: &str) -> bool {
        let is_content =
            digest_of_path(path).is_some() || base_name(path) == "link" || oc_tree::is_manifest(path);
        is_content && self.shelves.iter().any(|folder| path.starts_with(folder.as_str()))
    }
}

/// Adds the images of one folder to the catalog.
fn section_of<'t>(
    reader: &CatalogReader<'_>,
    section: &BundleFolder<'t>,
    kind: &Kinds,
    pool: &mut Pool<'t>,
    members: &mut Members,
    catalog: &mut Catalog,
) -> Result<(), BundleError> {
    let BundleFolder { tree, folder, .. } = *section;
    for name in ["index.json", "manifest.json"] {
        let path = format!("{folder}{name}");
        if tree.contradictions.contains(&path) {
            let what =
                format!("{path} is in the tar twice, with different content: no telling which is meant");
            let hint = "put each archive into a file of its own, and give the folder";
            return Err(BundleError::new(Fault::Contradiction, what).hint(hint));
        }
    }
    let (mut listed, mut extras) = (Vec::new(), Vec::new());
    if kind.layout {
        members.used.extend(["index.json", "oci-layout", TABLE_NAME].map(|name| format!("{folder}{name}")));
        members.shelves.push(format!("{folder}blobs/"));
        listed.extend(oci_layout::read(reader, tree, folder, pool, catalog)?);
        if listed.is_empty() && kind.saved.is_none() {
            members.empty_layouts.insert(folder.to_owned());
        }
    }
    if kind.registry {
        members.shelves.extend(["blobs/", "repositories/"].map(|name| format!("{folder}{name}")));
        // What `serve` keeps beside them.
        members.used.extend(["layercast-store", "lock"].map(|name| format!("{folder}{name}")));
        members.used.extend(registry_tree::kept_by_serve(tree, folder));
        listed.extend(registry_tree::read(tree, folder, pool, catalog)?);
    }
    if kind.oc_tree {
        members.shelves.push(folder.to_owned());
        listed.extend(oc_tree::read(tree, folder, reader.limits, pool, &mut catalog.broken)?);
    }
    if let Some(manifest) = &kind.dir {
        listed.extend(dir_transport::read(tree, folder, manifest.clone(), pool, &mut members.used)?);
    }
    for image in &mut listed {
        image.find_part(pool, kind.saved.is_some());
    }
    if let Some(bytes) = &kind.saved {
        let path = format!("{folder}manifest.json");
        if imgpkg::wrote(bytes) {
            members.used.insert(path.clone());
            let position = tree.file(&path)?.map_or(0, |file| file.position);
            listed.extend(imgpkg::read(bytes, position, pool).map_err(|e| e.at(path))?);
        } else {
            let entries = match docker_archive::entries(bytes).map_err(|e| e.at(&path)) {
                Ok(entries) => entries,
                Err(error) if folder.is_empty() => return Err(error),
                // Below a folder it may be a file of another program that looks like one of these.
                Err(error) => {
                    catalog.broken.push(BrokenImage::new(path, error));
                    Vec::new()
                }
            };
            for entry in &entries {
                entry.members(tree, folder, &mut members.used);
            }
            extras = views::join(reader, section, pool, entries, &mut listed, catalog)?;
        }
    }
    attachments::assign(&mut listed, pool);
    take(section, pool, listed, extras, catalog)
}

impl Listed {
    /// Finds the platforms that a bundle has of an incomplete index.
    fn find_part(&mut self, pool: &mut Pool<'_>, saved: bool) {
        self.saved_in_part |= saved;
        if self.fault.as_ref().is_some_and(|fault| fault.fault() == Fault::MissingBlob) {
            self.part = partial::of(pool, &self.digest);
        }
    }
}

/// Adds the images of one section to the catalog.
fn take(
    section: &BundleFolder<'_>,
    pool: &Pool<'_>,
    listed: Vec<Listed>,
    extras: Vec<views::Extra>,
    catalog: &mut Catalog,
) -> Result<(), BundleError> {
    for listed in listed {
        let Listed { label, names, digest, annotations, fault, part, saved_in_part, attachment, .. } = listed;
        let image = |content, partial| Image {
            names: distinct(names),
            content: Content::Manifest(content),
            origin: section.origin.clone(),
            annotations,
            partial,
            attachment,
            unit: None,
        };
        let fault = fault.map_or_else(|| pool.admit(&digest, catalog), Err);
        match (fault, part) {
            (Ok(()), _) => catalog.images.push(image(digest, None)),
            (Err(error), None) if ends_the_bundle(error.fault()) => return Err(error),
            (Err(error), None) => {
                let error = error.at(format!("image {label}"));
                catalog.broken.push(BrokenImage::new(label, error));
            }
            (Err(error), Some(part)) => {
                pool.admit(&part.content, catalog)?;
                let words = part.index.in_words();
                let image = image(part.content, Some(Arc::new(part.index)));
                if saved_in_part {
                    catalog.notes.push(format!("{label}: {words}"));
                    catalog.images.push(image);
                    continue;
                }
                let hint = format!("{words}; if that is meant, --accept partial-index pushes what is there");
                let error = error.at(format!("image {label}")).hint(hint);
                let broken = BrokenImage::new(label, error);
                catalog.broken.push(BrokenImage { part: Some(Box::new(image)), ..broken });
            }
        }
    }
    for views::Extra { names, content } in extras {
        if let Content::Manifest(digest) = &content {
            pool.admit(digest, catalog)?;
        }
        let (origin, annotations) = (section.origin.clone(), BTreeMap::new());
        catalog.images.push(Image {
            names,
            content,
            origin,
            annotations,
            partial: None,
            attachment: None,
            unit: None,
        });
    }
    Ok(())
}

/// Faults that are not of one folder, so that nothing else can be read either. A file that the system does not give us is of
/// its folder.
fn stops_the_run(fault: Fault) -> bool {
    matches!(fault, Fault::Cancelled | Fault::Changed)
}

/// Which archive, and which folder of it.
fn inside(origin: &str, folder: &str) -> String {
    let folder = folder.trim_end_matches('/');
    [origin, folder].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}
