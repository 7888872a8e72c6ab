//! The storage of a registry: distribution's `docker/registry/v2`, as mindthegap and oc-mirror put it into bundles
//! ([paths.go](https://github.com/distribution/distribution/blob/v3.0.0/registry/storage/paths.go)), and that of `layercast serve`.
//!
//! Tags are links to manifests, blobs lie by digest. There is no host: the names come out as [`ImageName::Hostless`]. An
//! image that was pushed by digest has a revision and no tag; one that lost its tag to a newer one is not pushed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::archive::catalog::{BrokenImage, Catalog, ImageName};
use crate::archive::leftovers::LeftOut;
use crate::archive::pool::{Pool, ends_the_bundle};
use crate::archive::tree::Tree;
use crate::archive::{Listed, names};
use crate::error::{BundleError, Fault, printable};
use crate::oci::{Descriptor, Digest};
use crate::units::count;

/// A link is a digest and perhaps a line feed.
const MAX_LINK_BYTES: u64 = 256;

const REPOSITORIES: &str = "repositories/";

/// A link of a registry's storage.
struct LinkFile<'p> {
    /// The folder with `repositories/` and `blobs/`, with its slash.
    folder: &'p str,
    repository: &'p str,
    kind: LinkKind<'p>,
}

enum LinkKind<'p> {
    /// The manifest of a tag.
    Tag(&'p str),
    /// A present or former manifest of a tag.
    History(Digest),
    /// A manifest of the repository.
    Revision(Digest),
}

fn parse(path: &str) -> Option<LinkFile<'_>> {
    parse_distribution(path).or_else(|| parse_serve(path))
}

/// `<folder>repositories/<repository>/_tags/<tag>`, `<folder>repositories/<repository>/_manifests/<algorithm>/<hex>`
fn parse_serve(path: &str) -> Option<LinkFile<'_>> {
    let (repository, kind) = if let Some((repository, tag)) = path.split_once("/_tags/") {
        (repository, (!tag.contains('/')).then_some(LinkKind::Tag(tag))?)
    } else {
        let (repository, rest) = path.split_once("/_manifests/")?;
        let (algorithm, hex) = rest.split_once('/').filter(|(_, hex)| !hex.contains('/'))?;
        (repository, LinkKind::Revision(format!("{algorithm}:{hex}").parse().ok()?))
    };
    let mut places = repository.match_indices(REPOSITORIES).map(|(at, _)| at);
    let at = places.find(|&at| at == 0 || repository[..at].ends_with('/'))?;
    let (folder, repository) = repository.split_at(at);
    Some(LinkFile { folder, repository: repository.strip_prefix(REPOSITORIES)?, kind })
}

/// `<folder>v2/repositories/<repository>/_manifests/…/link`
fn parse_distribution(path: &str) -> Option<LinkFile<'_>> {
    let (repository, rest) = path.strip_suffix("/link")?.split_once("/_manifests/")?;
    let kind = match rest.split('/').collect::<Vec<_>>().as_slice() {
        ["tags", tag, "current"] => LinkKind::Tag(tag),
        ["tags", _, "index", algorithm, hex] => LinkKind::History(format!("{algorithm}:{hex}").parse().ok()?),
        ["revisions", algorithm, hex] => LinkKind::Revision(format!("{algorithm}:{hex}").parse().ok()?),
        _ => return None,
    };
    let mut places = repository.match_indices("v2/repositories/").map(|(at, _)| at);
    let at = places.find(|&at| at == 0 || repository[..at].ends_with('/'))?;
    let (folder, repository) = repository.split_at(at + "v2/".len());
    Some(LinkFile { folder, repository: repository.strip_prefix(REPOSITORIES)?, kind })
}

/// The folders of a tree below which a registry keeps its `repositories/` and `blobs/`.
pub(super) fn folders(tree: &Tree<'_>) -> BTreeSet<String> {
    tree.paths().filter_map(|path| parse(path).map(|link| link.folder.to_owned())).collect()
}

/// Files of `serve` other than content: links, incomplete uploads, and temporary files.
pub(super) fn kept_by_serve<'t>(tree: &'t Tree<'_>, folder: &str) -> impl Iterator<Item = String> + use<'t> {
    const KINDS: [&str; 6] =
        ["/_tags/", "/_manifests/", "/_blobs/", "/_uploads/", "/_referrers/", "/_deleted/"];
    let (links, half) = (format!("{folder}{REPOSITORIES}"), format!("{folder}tmp/"));
    let is_store = tree.contains(&format!("{folder}layercast-store"));
    tree.paths().map(str::to_owned).filter(move |path| {
        let is_link = path.starts_with(&links) && KINDS.iter().any(|kind| path.contains(kind));
        is_link || (is_store && path.starts_with(&half))
    })
}

/// The content of one repository by digest.
#[derive(Default)]
struct Revisions {
    all: BTreeSet<Digest>,
    had_a_tag: HashSet<Digest>,
}

/// The images of the registry at `folder`, in the order of their names, those with tags first. A link that cannot be read
/// costs its tag and no other; it goes to the broken images of the catalog.
pub(super) fn read(
    tree: &Tree<'_>,
    folder: &str,
    pool: &mut Pool<'_>,
    catalog: &mut Catalog,
) -> Result<Vec<Listed>, BundleError> {
    let mut listed: Vec<Listed> = Vec::new();
    let mut known: HashMap<Digest, usize> = HashMap::new();
    let mut tagged_in: HashSet<(&str, Digest)> = HashSet::new();
    let mut revisions: BTreeMap<&str, Revisions> = BTreeMap::new();
    let prefix = format!("{folder}{REPOSITORIES}");
    for path in tree.below(&prefix) {
        let Some(link) = parse(path).filter(|link| link.folder == folder) else { continue };
        let tag = match link.kind {
            LinkKind::Tag(tag) => tag,
            LinkKind::History(digest) => {
                revisions.entry(link.repository).or_default().had_a_tag.insert(digest);
                continue;
            }
            LinkKind::Revision(digest) => {
                revisions.entry(link.repository).or_default().all.insert(digest);
                continue;
            }
        };
        let label = printable(&format!("{}:{tag}", link.repository));
        match tagged(tree, path, link.repository, tag, pool, label.clone()) {
            Ok(image) => {
                tagged_in.insert((link.repository, image.digest));
                let at = *known.entry(image.digest).or_insert(listed.len());
                match listed.get_mut(at) {
                    Some(same) => same.add_names(image.names),
                    None => listed.push(image),
                }
            }
            Err(error) if ends_the_bundle(error.fault()) => return Err(error),
            Err(error) => catalog.broken.push(BrokenImage::new(label, error.at(path))),
        }
    }
    for (repository, revisions) in revisions {
        let here = tagged_in.iter().filter(|(of, _)| *of == repository);
        let of_tags: HashSet<Digest> = here.flat_map(|(_, digest)| pool.family(digest)).collect();
        untagged(folder, repository, &revisions, &of_tags, pool, catalog, &mut listed)?;
    }
    Ok(listed)
}

fn tagged(
    tree: &Tree<'_>,
    path: &str,
    repository: &str,
    tag: &str,
    pool: &mut Pool<'_>,
    label: String,
) -> Result<Listed, BundleError> {
    let name = repository.parse().and_then(|path| Ok(ImageName::Hostless(path, tag.parse()?)));
    let names = vec![names::or_invalid(&label, name)];
    let bytes = tree.read_small(path, MAX_LINK_BYTES)?.unwrap_or_default();
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| BundleError::new(Fault::BadDigest, "the link is not text"))?;
    let digest: Digest = text.trim().parse()?;
    let size = pool.stored_bytes(&digest)?.ok_or_else(|| {
        BundleError::new(Fault::MissingBlob, format!("manifest {digest} is not in the bundle"))
    })?;
    let fault = pool.visit(&Descriptor::plain(digest, size))?.err();
    Ok(Listed { fault, ..Listed::new(label, names, digest) })
}

/// The images of one repository that never had a tag and are no part of another image.
fn untagged(
    folder: &str,
    repository: &str,
    revisions: &Revisions,
    of_tags: &HashSet<Digest>,
    pool: &mut Pool<'_>,
    catalog: &mut Catalog,
    listed: &mut Vec<Listed>,
) -> Result<(), BundleError> {
    let mut found = Vec::new();
    let mut superseded = 0;
    for &digest in revisions.all.iter().filter(|digest| !of_tags.contains(*digest)) {
        let label = printable(&format!("{repository}@{digest}"));
        let Some(size) = pool.stored_bytes(&digest)? else {
            let path = format!("{folder}{REPOSITORIES}{label}");
            let why = "its manifest is not in the bundle";
            catalog.left_out.push(LeftOut::unreadable(path, "an image that is known by its digest", why));
            continue;
        };
        let fault = pool.visit(&Descriptor::plain(digest, size))?.err();
        if revisions.had_a_tag.contains(&digest) {
            superseded += 1;
            continue;
        }
        let name = repository.parse().map(|repository| ImageName::HostlessDigest(repository, digest));
        let names = vec![names::or_invalid(&label, name)];
        found.push(Listed { fault, ..Listed::new(label, names, digest) });
    }
    if superseded > 0 {
        let repository = printable(repository);
        catalog.notes.push(format!(
            "{repository}: {} not taken, whose tags stand for newer ones",
            count(superseded, "image")
        ));
    }
    let children: HashSet<Digest> =
        revisions.all.iter().flat_map(|digest| pool.family(digest).into_iter().skip(1)).collect();
    listed.extend(found.into_iter().filter(|image| !children.contains(&image.digest)));
    Ok(())
}
