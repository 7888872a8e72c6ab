//! Since Docker 25, `docker save` writes one image twice: as an OCI layout and as a docker-archive. Here the two views
//! become one.
//!
//! Where the layout holds the registry manifest of a saved image, that manifest is what is pushed, byte for byte, under
//! the names of both views. Where the layout's index lists platforms that were not saved (`docker save` of one platform
//! of many), the index is not whole; what is pushed is the image that `manifest.json` names.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::archive::catalog::{BrokenImage, Catalog, Content, ImageName};
use crate::archive::docker_archive::{Saved, SavedImage};
use crate::archive::pool::{Pool, ends_the_bundle};
use crate::archive::{BundleFolder, CatalogReader, Listed};
use crate::error::{BundleError, Fault};
use crate::oci::Digest;

/// An image that only the docker-archive's view gives.
#[derive(Debug)]
pub(super) struct Extra {
    pub(super) names: Vec<ImageName>,
    pub(super) content: Content,
}

/// Joins the images of a `manifest.json` to those that the layout of the same folder lists.
pub(super) fn join(
    reader: &CatalogReader<'_>,
    section: &BundleFolder<'_>,
    pool: &mut Pool<'_>,
    entries: Vec<SavedImage>,
    listed: &mut Vec<Listed>,
    catalog: &mut Catalog,
) -> Result<Vec<Extra>, BundleError> {
    let BundleFolder { tree, folder, .. } = section;
    let holders = holders(pool, listed);
    let (mut extras, mut known) = (Vec::<Extra>::new(), HashMap::new());
    let mut looked_for_unlisted = false;
    for entry in entries {
        let label = entry.label();
        let break_with = |error: BundleError, catalog: &mut Catalog| {
            if ends_the_bundle(error.fault()) {
                return Err(error);
            }
            let error = error.at(format!("image {label}"));
            catalog.broken.push(BrokenImage::new(label.clone(), error));
            Ok(())
        };
        let saved = match entry.read(reader, tree, folder) {
            Ok(saved) => saved,
            Err(error) => {
                break_with(error, catalog)?;
                continue;
            }
        };
        if let Some(claimed) = saved.claimed {
            let digest = saved.config_digest;
            catalog.notes.push(format!(
                "image {label}: its configuration is called {claimed} and is {digest}, as after an edit by hand; it is \
                 taken as it is"
            ));
        }
        if pool.images_of_config(&saved.config_digest).is_empty() && !looked_for_unlisted {
            pool.visit_unlisted(folder)?;
            looked_for_unlisted = true;
        }
        let manifests = pool.images_of_config(&saved.config_digest).to_vec();
        if let Some(image) = whole_holder(listed, &holders, &manifests, &saved) {
            image.add_names(saved.names);
            continue;
        }
        let sparse = broken_holders(listed, &holders, &manifests, &saved);
        if !sparse.iter().all(|&at| lacks_platforms(pool, &listed[at])) {
            continue; // its error stands in the catalog, and it is not that platforms were left out
        }
        let content = match manifests.first() {
            Some(manifest) => Content::Manifest(*manifest),
            None => match saved.unpacked(reader, tree, folder) {
                Ok(image) => Content::Unpacked(Arc::new(image)),
                // A layer that is compressed by itself is damaged by itself.
                Err(error) if matches!(error.fault(), Fault::Truncated | Fault::CorruptCompression) => {
                    let error = error.at(format!("image {label}"));
                    catalog.broken.push(BrokenImage::new(label.clone(), error));
                    continue;
                }
                Err(error) if sparse.is_empty() || ends_the_bundle(error.fault()) => {
                    break_with(error, catalog)?;
                    continue;
                }
                Err(_) => continue, // the error of the index stands for both
            },
        };
        let names = replace(listed, &sparse, saved.names, catalog);
        let at = *known.entry(key(&content)).or_insert(extras.len());
        match extras.get_mut(at) {
            Some(extra) => extra.names.extend(names),
            None => extras.push(Extra { names, content }),
        }
    }
    listed.retain(|image| !image.replaced);
    Ok(extras)
}

/// Which listed images hold a manifest, themselves or below them.
fn holders(pool: &Pool<'_>, listed: &[Listed]) -> HashMap<Digest, Vec<usize>> {
    let mut holders: HashMap<Digest, Vec<usize>> = HashMap::new();
    for (at, image) in listed.iter().enumerate() {
        for digest in pool.family(&image.digest) {
            holders.entry(digest).or_default().push(at);
        }
    }
    holders
}

fn positions(holders: &HashMap<Digest, Vec<usize>>, manifests: &[Digest]) -> HashSet<usize> {
    manifests.iter().filter_map(|digest| holders.get(digest)).flatten().copied().collect()
}

fn shares_name(image: &Listed, saved: &Saved) -> bool {
    saved.names.iter().any(|name| image.names.contains(name))
}

/// The image of the layout that a saved image is, or is one platform of: a whole one, or one saved in part.
fn whole_holder<'l>(
    listed: &'l mut [Listed],
    holders: &HashMap<Digest, Vec<usize>>,
    manifests: &[Digest],
    saved: &Saved,
) -> Option<&'l mut Listed> {
    let at = positions(holders, manifests)
        .into_iter()
        .filter(|&at| listed[at].fault.is_none() || listed[at].part.is_some())
        .filter(|&at| {
            let image = &listed[at];
            let unnamed = image.names.is_empty() || saved.names.is_empty();
            unnamed || shares_name(image, saved) || manifests.contains(&image.digest)
        })
        .min_by_key(|&at| (!shares_name(&listed[at], saved), !manifests.contains(&listed[at].digest), at))?;
    listed.get_mut(at)
}

/// The images of the layout that are not whole and that a saved image belongs to.
fn broken_holders(
    listed: &[Listed],
    holders: &HashMap<Digest, Vec<usize>>,
    manifests: &[Digest],
    saved: &Saved,
) -> Vec<usize> {
    let holding = positions(holders, manifests);
    let belongs = |at: usize, image: &Listed| {
        let unnamed = image.names.is_empty() || saved.names.is_empty();
        shares_name(image, saved) || (unnamed && holding.contains(&at))
    };
    let is_broken = |image: &Listed| image.fault.is_some() && image.part.is_none() && !image.replaced;
    let broken = listed.iter().enumerate().filter(|(_, image)| is_broken(image));
    broken.filter(|(at, image)| belongs(*at, image)).map(|(at, _)| at).collect()
}

/// An index that lists manifests which were not saved.
fn lacks_platforms(pool: &Pool<'_>, image: &Listed) -> bool {
    image.fault.as_ref().is_some_and(|fault| fault.fault() == Fault::MissingBlob)
        && pool.is_index(&image.digest)
}

/// The names under which a saved image is pushed in the place of indexes that are not whole.
fn replace(
    listed: &mut [Listed],
    sparse: &[usize],
    mut names: Vec<ImageName>,
    catalog: &mut Catalog,
) -> Vec<ImageName> {
    for &at in sparse {
        let image = &mut listed[at];
        if names.is_empty() {
            names.clone_from(&image.names);
        }
        image.names.retain(|name| !names.contains(name));
        image.replaced = image.names.is_empty();
        catalog.notes.push(format!(
            "{}: the index {} lists platforms that are not in the bundle; only the image that manifest.json names is taken",
            image.label, image.digest
        ));
    }
    names
}

/// Equal for equal images: a manifest and a configuration never have one digest.
fn key(content: &Content) -> Digest {
    match content {
        Content::Manifest(digest) => *digest,
        Content::Unpacked(image) => image.config_digest,
    }
}
