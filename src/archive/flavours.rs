//! A tree becomes a [`Catalog`]: every layout, docker-archive, registry and folder of images in it, then the archives among
//! its files, and last what was met and is neither.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::archive::blob_table::TABLE_NAME;
use crate::archive::catalog::{BrokenImage, Catalog, Content, Image};
use crate::archive::content_path::digest_of_path;
use crate::archive::leftovers::{LeftOut, LeftOutClass};
use crate::archive::pool::{Pool, ends_the_bundle};
use crate::archive::tar::{DEVICE, PIPE, SPARSE};
use crate::archive::tree::{Tree, base_name, parent};
use crate::archive::{BundleFolder, CatalogReader, Listed, distinct};
use crate::archive::{
    attachments, dir_transport, docker_archive, file_name, imgpkg, incomplete, manifest_json, nested,
    oc_tree, oci_layout, partial, registry_tree, views,
};
use crate::error::{BundleError, Fault, printable};
use crate::oci::json::without_mark;
use crate::oci::{Digest, Manifest};
use crate::units::count;

/// Folders of sources that have samples for tests in them, some of them damaged on purpose.
const SAMPLES: &[&str] = &["testdata", "test", "tests", "fixtures"];

/// What of a tree belongs to a bundle of a known kind, by folder.
#[derive(Debug, Default)]
struct SectionKinds {
    kinds: BTreeMap<String, Kinds>,
}

impl SectionKinds {
    fn of(&mut self, folder: &str) -> &mut Kinds {
        self.kinds.entry(folder.to_owned()).or_default()
    }
}

/// What a folder is. An OCI layout may be a docker-archive too.
#[derive(Debug, Default)]
struct Kinds {
    layout: bool,
    /// The `manifest.json` of a docker-archive.
    saved: Option<Bytes>,
    dir: Option<Manifest>,
    registry: bool,
    oc_tree: bool,
}

impl Kinds {
    /// What messages call it.
    const fn name(&self) -> &'static str {
        match self {
            Self { registry: true, .. } => "a registry's storage",
            Self { oc_tree: true, .. } => "a folder of images of `oc`",
            Self { dir: Some(_), .. } => "an image of the `dir:` transport",
            Self { layout: true, .. } => "an OCI layout",
            _ => "a docker-archive",
        }
    }
}

/// What is in a tree. Where there is no image in it, what was left out says why.
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
    let kinds = find(reader, tree, is_folder)?.kinds;
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
    let mut catalog = weave(catalog, inner);
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
        pass_over_what_weighs_little(&mut catalog, tree);
    }
    catalog.left_out.extend(marks.iter().map(incomplete::IncompleteBundle::left_out));
    catalog.left_out.extend(members_not_read(tree, catalog.has_images(), &belongs));
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

/// Members of a tar that nobody can read as they are: links that lead to nothing, and sparse files.
fn members_not_read(tree: &Tree<'_>, has_images: bool, belongs: &dyn Fn(&str) -> bool) -> Vec<LeftOut> {
    let other = |path: &str| !belongs(path) && !nested::is_called_as_content(path);
    let mut found = Vec::new();
    let why = |target| {
        format!(
            "it leads to {target:?}, which is not in the bundle; next: pack the files themselves, as with \
             `tar --dereference`"
        )
    };
    // A tar of sources has links of all kinds; one that is called as an archive stands for one anywhere.
    let counts = |path: &str| has_images || stands_for_an_archive(path);
    let links = tree.dangling().filter(|(path, _)| !tree.is_directory() && other(path) && counts(path));
    found.extend(links.map(|(path, target)| LeftOut::unreadable(path, "a link", why(target))));
    for (path, what) in tree.odd().filter(|(path, what)| *what == SPARSE && other(path)) {
        let why = "it cannot be read as it is packed; next: pack it without --sparse";
        found.push(LeftOut::unreadable(path, what, why));
    }
    for (path, what) in tree.odd().filter(|(path, what)| [DEVICE, PIPE].contains(what) && other(path)) {
        if stands_for_an_archive(path) {
            let why = "its name says that it is an archive; next: pack the file itself";
            found.push(LeftOut::unreadable(path, what, why));
        }
    }
    found
}

/// An archive without images, such as a tar of sources, may have files in it that cannot be read: zip files that hold none, or
/// samples for tests. They count if all of them together are most of it, and each one that is called as an archive. The
/// others are noted.
fn pass_over_what_weighs_little(catalog: &mut Catalog, tree: &Tree<'_>) {
    let unreadable = catalog.left_out.iter().filter(|it| it.class == LeftOutClass::Unreadable);
    let unreadable = unreadable.map(|it| it.path.as_str());
    let broken = catalog.broken.iter().map(|broken| broken.name.as_str());
    let unread: HashSet<&str> = unreadable.chain(broken).collect();
    let files = tree.files();
    let all: u64 = files.iter().map(|file| file.len).sum();
    let weight: u64 = files.iter().filter(|file| unread.contains(file.path)).map(|file| file.len).sum();
    if weight >= all.div_ceil(2) {
        return;
    }
    let passed_over: Vec<&str> = files
        .iter()
        .map(|file| file.path)
        .filter(|path| unread.contains(path) && !stands_for_an_archive(path))
        .collect();
    if passed_over.is_empty() {
        return;
    }
    let note = format!(
        "{} of it cannot be read, and a small part of an archive without images: {}",
        count(passed_over.len(), "file"),
        passed_over.iter().map(|path| printable(path)).collect::<Vec<_>>().join(", ")
    );
    let passed_over: HashSet<&str> = passed_over.into_iter().collect();
    catalog.left_out.retain(|it| !passed_over.contains(it.path.as_str()));
    catalog.broken.retain(|broken| !passed_over.contains(broken.name.as_str()));
    catalog.notes.push(note);
}

/// Whether a file is called as an archive or compressed data, and is none of the samples that sources have for their tests.
fn stands_for_an_archive(path: &str) -> bool {
    let is_sample = parent(path).split('/').any(|folder| SAMPLES.contains(&folder));
    file_name::says(path).is_some() && !is_sample
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

/// Takes the images of one folder into the catalog.
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

/// Looks for what marks each kind.
fn find(reader: &CatalogReader<'_>, tree: &Tree<'_>, is_folder: bool) -> Result<SectionKinds, BundleError> {
    let mut plan = SectionKinds::default();
    for folder in registry_tree::folders(tree) {
        plan.kinds.entry(folder).or_default().registry = true;
    }
    for folder in oc_tree::folders(tree) {
        plan.kinds.entry(folder).or_default().oc_tree = true;
    }
    for path in tree.paths() {
        let folder = parent(path);
        match base_name(path) {
            "index.json" if !is_second_name(tree, path) => {
                let has_blobs = || tree.below(&format!("{folder}blobs/")).next().is_some();
                if tree.contains(&format!("{folder}oci-layout"))
                    || has_blobs() && (folder.is_empty() || manifest_json::lists_manifests(tree, path))
                {
                    plan.of(folder).layout = true;
                }
            }
            "manifest.json" if !is_second_name(tree, path) => {
                match kind_of_manifest_json(reader, tree, path, is_folder)? {
                    ManifestJson::Saved(bytes) => plan.of(folder).saved = Some(bytes),
                    ManifestJson::Dir(manifest) => plan.of(folder).dir = Some(*manifest),
                    ManifestJson::Other => {}
                }
            }
            _ => {}
        }
    }
    Ok(plan)
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

impl Listed {
    /// Finds what is there of an index that is not whole.
    fn find_part(&mut self, pool: &mut Pool<'_>, saved: bool) {
        self.saved_in_part |= saved;
        if self.fault.as_ref().is_some_and(|fault| fault.fault() == Fault::MissingBlob) {
            self.part = partial::of(pool, &self.digest);
        }
    }
}

/// Takes the images of one section into the catalog.
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

/// Puts what lies in a tree itself and what lies in its archives into one order.
fn weave(mut own: Catalog, inner: Vec<(u64, Catalog)>) -> Catalog {
    let mut positions: BTreeMap<u64, u64> = own.orders().into_iter().map(|order| (order, 0)).collect();
    let mut bases = Vec::with_capacity(inner.len());
    let mut next = 0;
    let mut inner_sizes =
        inner.iter().map(|(position, catalog)| (*position, catalog.next_order())).peekable();
    for (&position, order) in &mut positions {
        while let Some((_, size)) = inner_sizes.next_if(|(at, _)| *at < position) {
            bases.push(next);
            next += size;
        }
        *order = next;
        next += 1;
    }
    for (_, size) in inner_sizes {
        bases.push(next);
        next += size;
    }
    own.renumber(|order| positions.get(&order).copied().unwrap_or(order));
    for ((_, mut catalog), base) in inner.into_iter().zip(bases) {
        catalog.renumber(|order| base + order);
        own.absorb(catalog);
    }
    own
}
