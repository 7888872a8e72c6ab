//! What `oc image mirror --dir` and `oc adm release mirror --to-dir` write, and oc-mirror before version 2:
//! `v2/<repository>/manifests/<tag or digest>` and `v2/<repository>/blobs/<digest>`
//! ([imagesource/file.go](https://github.com/openshift/oc/blob/release-4.19/pkg/cli/image/imagesource/file.go)).
//!
//! A tag is a link to a digest, or a copy. There is no host: the names come out as [`ImageName::Hostless`].

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::archive::Listed;
use crate::archive::catalog::{BrokenImage, ImageName};
use crate::archive::content_path::digest_with_dash;
use crate::archive::limits::Limits;
use crate::archive::names;
use crate::archive::pool::{Pool, ends_the_bundle};
use crate::archive::tree::Tree;
use crate::error::{BundleError, Fault, printable};
use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::oci::{Descriptor, Digest};

/// A manifest of the tree: `<folder>v2/<repository>/manifests/<reference>`.
struct ManifestFile<'p> {
    /// With its slash, `v2/` at its end.
    folder: &'p str,
    repository: &'p str,
    reference: &'p str,
}

fn parse(path: &str) -> Option<ManifestFile<'_>> {
    let (repository, reference) = path.rsplit_once("/manifests/")?;
    let mut places = repository.match_indices("v2/").map(|(at, _)| at);
    let at = places.find(|&at| at == 0 || repository[..at].ends_with('/'))?;
    let (folder, repository) = repository.split_at(at + "v2/".len());
    // The storage of a registry has folders that begin with an underscore (`_manifests`), which no repository has.
    let plain = !repository.is_empty() && !reference.contains('/') && !repository.contains("/_");
    plain.then_some(ManifestFile { folder, repository, reference })
}

/// Whether a path is that of a manifest in such a tree, by tag or digest.
pub(super) fn is_manifest(path: &str) -> bool {
    parse(path).is_some()
}

/// The folders of a tree that are such trees, `v2/` at their end.
pub(super) fn folders(tree: &Tree<'_>) -> BTreeSet<String> {
    // Many trees have a folder `manifests`; only these have digests in it.
    let entries =
        tree.paths().filter_map(|path| parse(path).filter(|it| digest_of(tree, path, it).is_some()));
    entries.map(|entry| entry.folder.to_owned()).collect()
}

/// A digest as it is in a path: `sha256:<hex>`, or with a dash where a file system has no colons. Tags look like the
/// latter too (`sha256-<hex>` is where the referrers of an image are listed), so the content has to have that digest.
fn digest_of(tree: &Tree<'_>, path: &str, entry: &ManifestFile<'_>) -> Option<Digest> {
    if let Ok(digest) = entry.reference.parse() {
        return Some(digest);
    }
    let digest = digest_with_dash(entry.reference)?;
    let bytes = tree.read_small(path, MAX_MANIFEST_BYTES).ok()??;
    digest.matches(&bytes).then_some(digest)
}

/// The images of the tree at `folder`: those with tags, then those that are known by digest alone and are no part of
/// another. What cannot be read costs its tag and no other; it goes to `broken`.
pub(super) fn read<'t>(
    tree: &'t Tree<'_>,
    folder: &str,
    limits: &Limits,
    pool: &mut Pool<'t>,
    broken: &mut Vec<BrokenImage>,
) -> Result<Vec<Listed>, BundleError> {
    let mut by_digest: BTreeMap<(String, Digest), &str> = BTreeMap::new();
    let mut listed: Vec<Listed> = Vec::new();
    let mut known: BTreeSet<(String, Digest)> = BTreeSet::new();
    for path in tree.below(folder) {
        let Some(entry) = parse(path).filter(|entry| entry.folder == folder) else { continue };
        if let Some(digest) = digest_of(tree, path, &entry) {
            by_digest.insert((entry.repository.to_owned(), digest), path);
            pool.add_path(digest, path);
        }
    }
    for path in tree.below(folder) {
        let Some(entry) = parse(path).filter(|entry| entry.folder == folder) else { continue };
        if digest_of(tree, path, &entry).is_some() {
            continue;
        }
        let label = printable(&format!("{}:{}", entry.repository, entry.reference));
        let name = entry
            .repository
            .parse()
            .and_then(|repository| Ok(ImageName::Hostless(repository, entry.reference.parse()?)));
        match tagged(tree, path, limits, pool) {
            Ok((digest, fault)) => {
                known.insert((entry.repository.to_owned(), digest));
                let names = vec![names::or_invalid(&label, name)];
                listed.push(Listed { fault, ..Listed::new(label, names, digest) });
            }
            Err(error) if ends_the_bundle(error.fault()) => return Err(error),
            Err(error) => broken.push(BrokenImage::new(label, error.at(path))),
        }
    }
    let mut rest = Vec::new();
    for ((repository, digest), path) in &by_digest {
        if known.contains(&(repository.clone(), *digest)) {
            continue;
        }
        let label = printable(&format!("{repository}@{digest}"));
        let name = repository.parse().map(|repository| ImageName::HostlessDigest(repository, *digest));
        let Some(size) = pool.stored_bytes(digest)? else { continue };
        let fault = pool.visit(&Descriptor::plain(*digest, size))?.err().map(|error| error.at(*path));
        let names = vec![names::or_invalid(&label, name)];
        rest.push((repository.clone(), Listed { fault, ..Listed::new(label, names, *digest) }));
    }
    // A child of an index in the same repository goes with it.
    let mut children: HashSet<(String, Digest)> = HashSet::new();
    for (repository, digest) in known.iter().cloned().chain(rest.iter().map(|(r, it)| (r.clone(), it.digest)))
    {
        let below = pool.family(&digest).into_iter().skip(1);
        children.extend(below.map(|child| (repository.clone(), child)));
    }
    listed.extend(
        rest.into_iter()
            .filter(|(repository, it)| !children.contains(&(repository.clone(), it.digest)))
            .map(|(_, it)| it),
    );
    Ok(listed)
}

fn tagged<'t>(
    tree: &'t Tree<'_>,
    path: &'t str,
    limits: &Limits,
    pool: &mut Pool<'t>,
) -> Result<(Digest, Option<BundleError>), BundleError> {
    let missing = || BundleError::new(Fault::MissingBlob, "the tag leads to no manifest");
    let bytes = tree.read_small(path, limits.manifest_bytes)?.ok_or_else(missing)?;
    let digest = Digest::of(&bytes);
    pool.add_path(digest, path);
    let fault = pool.visit(&Descriptor::plain(digest, bytes.len() as u64))?.err();
    Ok((digest, fault))
}
