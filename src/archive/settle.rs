//! One name, one image: what to do where a bundle gives a name twice.

use std::collections::{HashMap, HashSet};

use crate::archive::catalog::{BrokenImage, Catalog, Content, Image, ImageName};
use crate::error::{BundleError, Fault};
use crate::oci::manifest::Kind;

/// What two images under one name are to each other.
enum Likeness {
    Same,
    /// The same image; the later has its manifest, the earlier has none.
    LaterIsBetter,
    /// The same image; the earlier has its manifest, the later has none.
    EarlierIsBetter,
    Different,
}

/// Breaks images that bear one name and are not one image: nobody can say which of them is meant. An image that is in
/// the bundle with and without its manifest is taken with it. Names that are only tags count `within_archives` alone:
/// the archive, or the user, gives them their repository.
pub(super) fn names(catalog: &mut Catalog, within_archives: bool) {
    let mut bearers: HashMap<(&str, &ImageName), usize> = HashMap::new();
    let mut conflicts: HashMap<usize, BundleError> = HashMap::new();
    let mut copies: HashSet<(usize, ImageName)> = HashSet::new();
    for (at, image) in catalog.images.iter().enumerate() {
        for name in &image.names {
            let scope = match name {
                ImageName::TagOnly(_) if !within_archives => continue,
                ImageName::TagOnly(_) => image.origin.as_str(),
                ImageName::Full(_) | ImageName::Hostless(..) => "",
            };
            let bearer = bearers.entry((scope, name)).or_insert(at);
            let earlier = &catalog.images[*bearer];
            match compare(catalog, earlier, image) {
                Likeness::Same => {}
                Likeness::LaterIsBetter => {
                    copies.insert((*bearer, name.clone()));
                    *bearer = at;
                }
                Likeness::EarlierIsBetter => drop(copies.insert((at, name.clone()))),
                Likeness::Different => {
                    let what = format!(
                        "the name {name} is given to two images, {} and {}",
                        identity(earlier),
                        identity(image)
                    );
                    let error = BundleError::new(Fault::Conflict, what)
                        .hint("keep one of them in the bundle, or give them different names");
                    conflicts.entry(*bearer).or_insert_with(|| error.clone());
                    conflicts.entry(at).or_insert(error);
                }
            }
        }
    }
    for (at, mut image) in std::mem::take(&mut catalog.images).into_iter().enumerate() {
        let name = image.names.first().map_or_else(|| identity(&image), ImageName::to_string);
        let bore = image.names.len();
        image.names.retain(|name| !copies.contains(&(at, name.clone())));
        match conflicts.remove(&at) {
            Some(error) => catalog.broken.push(BrokenImage { name, error }),
            None if image.names.is_empty() && bore > 0 => {
                catalog
                    .notes
                    .push(format!("{name} is in the bundle with and without its manifest: taken with it"));
            }
            None => catalog.images.push(image),
        }
    }
}

fn compare(catalog: &Catalog, earlier: &Image, later: &Image) -> Likeness {
    let made_from = |manifest, config| {
        let kind = catalog.manifests.get(manifest).map(|manifest| &manifest.kind);
        matches!(kind, Some(Kind::Image { config: of, .. }) if of.digest == config)
    };
    match (&earlier.content, &later.content) {
        (Content::Manifest(a), Content::Manifest(b)) if a == b => Likeness::Same,
        (Content::Unpacked(a), Content::Unpacked(b)) if a.config_digest == b.config_digest => Likeness::Same,
        (Content::Manifest(a), Content::Unpacked(b)) if made_from(a, b.config_digest) => {
            Likeness::EarlierIsBetter
        }
        (Content::Unpacked(a), Content::Manifest(b)) if made_from(b, a.config_digest) => {
            Likeness::LaterIsBetter
        }
        _ => Likeness::Different,
    }
}

fn identity(image: &Image) -> String {
    match &image.content {
        Content::Manifest(digest) => digest.to_string(),
        Content::Unpacked(unpacked) => format!("configuration {}", unpacked.config_digest),
    }
}
