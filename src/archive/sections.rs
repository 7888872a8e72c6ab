//! A tree becomes a [`Catalog`]: every layout, docker-archive and registry in it, and then the archives among its files.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;

use crate::archive::catalog::{BrokenImage, Catalog, Content, Image};
use crate::archive::pool::{Pool, ends_the_bundle};
use crate::archive::sniff;
use crate::archive::tree::{Tree, base_name, parent};
use crate::archive::{Listed, Reader, Section, distinct};
use crate::archive::{docker_archive, imgpkg, nested, oci_layout, registry_tree, views};
use crate::error::{BundleError, Fault};

/// What of a tree belongs to a bundle of a known kind.
#[derive(Debug, Default)]
struct Plan {
    layouts: BTreeSet<String>,
    /// `manifest.json` of docker-archives, by folder.
    saved: BTreeMap<String, Bytes>,
    registries: BTreeSet<String>,
}

/// What is in a tree.
///
/// # Errors
/// [`Fault::NotABundle`] where there is no image in it and none that is broken.
pub(super) fn read(
    reader: &Reader<'_>,
    tree: &mut Tree<'_>,
    origin: &str,
    depth: usize,
) -> Result<Catalog, BundleError> {
    let mut catalog = Catalog { notes: std::mem::take(&mut tree.notes), ..Catalog::default() };
    let passed = std::mem::take(&mut tree.passed);
    let tree = &*tree;
    let plan = find(reader, tree)?;
    let mut pool = Pool::new(reader, tree);
    let mut used = HashSet::new();
    for folder in plan.layouts.iter().chain(plan.saved.keys()).collect::<BTreeSet<_>>() {
        let section = Section { tree, folder, origin: inside(origin, folder) };
        let mut listed = if plan.layouts.contains(folder) {
            oci_layout::read(reader, tree, folder, &mut pool, &mut catalog.notes)?
        } else {
            Vec::new()
        };
        let mut extras = Vec::new();
        if let Some(bytes) = plan.saved.get(folder) {
            let path = format!("{folder}manifest.json");
            if imgpkg::wrote(bytes) {
                let position = tree.file(&path)?.map_or(0, |file| file.position);
                listed.extend(imgpkg::read(bytes, position, &mut pool).map_err(|e| e.at(path))?);
            } else {
                let entries = match docker_archive::entries(bytes).map_err(|e| e.at(&path)) {
                    Ok(entries) => entries,
                    Err(error) if folder.is_empty() => return Err(error),
                    // Below a folder it may be a file of another program that looks like one of these.
                    Err(error) => {
                        catalog.broken.push(BrokenImage { name: path, error });
                        Vec::new()
                    }
                };
                for entry in &entries {
                    entry.members(tree, folder, &mut used);
                }
                extras = views::join(reader, &section, &mut pool, entries, &mut listed, &mut catalog)?;
            }
        }
        take(&section, &pool, listed, extras, &mut catalog)?;
    }
    for folder in &plan.registries {
        let section = Section { tree, folder, origin: inside(origin, folder) };
        let listed = registry_tree::read(tree, folder, &mut pool, &mut catalog.broken)?;
        take(&section, &pool, listed, Vec::new(), &mut catalog)?;
    }
    let belongs = |path: &str| {
        used.contains(path)
            || nested::is_called_as_content(path)
            || plan.registries.iter().any(|folder| path.starts_with(folder.as_str()))
    };
    let inner = nested::read(reader, tree, origin, depth, passed, &belongs, &mut catalog)?;
    let catalog = weave(catalog, inner);
    if catalog.images.is_empty() && catalog.broken.is_empty() {
        return Err(no_image(tree, plan.saved.get(""), &catalog));
    }
    if let Some(at) = tree.another_tar {
        let what = format!("another tar begins at byte {at}, after the end of the first");
        return Err(BundleError::new(Fault::Unsupported, what)
            .hint("put the archives into a directory, or join them with `tar --concatenate`"));
    }
    Ok(catalog)
}

/// Looks for what marks each kind.
fn find(reader: &Reader<'_>, tree: &Tree<'_>) -> Result<Plan, BundleError> {
    let mut plan = Plan { registries: registry_tree::folders(tree), ..Plan::default() };
    for path in tree.paths() {
        let folder = parent(path);
        match base_name(path) {
            "index.json" => {
                let has_blobs = tree.below(&format!("{folder}blobs/")).next().is_some();
                if has_blobs || tree.contains(&format!("{folder}oci-layout")) {
                    plan.layouts.insert(folder.to_owned());
                }
            }
            "manifest.json" => {
                if let Some(bytes) = saved_manifest(reader, tree, path)? {
                    plan.saved.insert(folder.to_owned(), bytes);
                }
            }
            _ => {}
        }
    }
    Ok(plan)
}

/// A `manifest.json` that is Docker's or imgpkg's, and not that of one of the many programs with a file of this name.
fn saved_manifest(reader: &Reader<'_>, tree: &Tree<'_>, path: &str) -> Result<Option<Bytes>, BundleError> {
    let at_root = parent(path).is_empty();
    let bytes = match tree.read_small(path, reader.limits.index_bytes) {
        Ok(Some(bytes)) => bytes,
        Err(error) if at_root || ends_the_bundle(error.fault()) => return Err(error),
        Ok(None) | Err(_) => return Ok(None),
    };
    let lists_layers = || bytes.windows(8).any(|window| window.eq_ignore_ascii_case(b"\"layers\""));
    let is_list = bytes.trim_ascii_start().starts_with(b"[");
    Ok((is_list && lists_layers()).then_some(bytes))
}

/// Takes the images of one section into the catalog.
fn take(
    section: &Section<'_>,
    pool: &Pool<'_>,
    listed: Vec<Listed>,
    extras: Vec<views::Extra>,
    catalog: &mut Catalog,
) -> Result<(), BundleError> {
    let origin = &section.origin;
    for Listed { label, names, digest, annotations, fault, .. } in listed {
        match fault.map_or_else(|| pool.admit(&digest, catalog), Err) {
            Ok(()) => {
                let (names, content) = (distinct(names), Content::Manifest(digest));
                catalog.images.push(Image { names, content, origin: origin.clone(), annotations });
            }
            Err(error) if ends_the_bundle(error.fault()) => return Err(error),
            Err(error) => {
                let error = error.at(format!("image {label}"));
                catalog.broken.push(BrokenImage { name: label, error });
            }
        }
    }
    for views::Extra { names, content } in extras {
        if let Content::Manifest(digest) = &content {
            pool.admit(digest, catalog)?;
        }
        catalog.images.push(Image { names, content, origin: origin.clone(), annotations: BTreeMap::new() });
    }
    Ok(())
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

fn no_image(tree: &Tree<'_>, manifest_json: Option<&Bytes>, catalog: &Catalog) -> BundleError {
    let other = || tree.read_small("manifest.json", 1 << 20).ok().flatten();
    let manifest_json = manifest_json.cloned().or_else(other);
    let (seems, hint) = sniff::tree_seems(tree, manifest_json.as_deref());
    let more = match tree.another_tar {
        Some(at) => format!("; another tar begins after it at byte {at}"),
        None if catalog.notes.is_empty() => String::new(),
        None => format!("; {}", catalog.notes.join("; ")),
    };
    let error = not_a_bundle(&format!("{seems}{more}"));
    hint.into_iter().fold(error, BundleError::hint)
}

/// Nothing was found; says what was looked for.
pub(super) fn not_a_bundle(seems: &str) -> BundleError {
    BundleError::new(
        Fault::NotABundle,
        format!(
            "no image in it: looked for an OCI layout (index.json), a docker-archive (manifest.json), a registry's \
             storage (docker/registry/v2) and archives of these; it seems to be {seems}"
        ),
    )
}
