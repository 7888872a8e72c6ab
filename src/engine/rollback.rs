//! The tags of a mirror go back to what an earlier bundle had, if all of that is still there.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};

use futures_util::{StreamExt as _, stream};

use super::{MirrorSettings, failure};
use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::oci::{Digest, Manifest, Repository, media_type};
use crate::registry::{ManifestBytes, Registry};
use crate::report::{Class, Failure};
use crate::state::{PlacedBundle, PlacedTag};

/// Blobs asked for at once.
const AT_ONCE: usize = 16;
/// Missing content that a message names.
const MAX_NAMED: usize = 5;

/// A tag that goes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TagBack {
    pub tag: PlacedTag,
    /// What it stood for; nothing where it was gone.
    pub from: Option<Digest>,
}

/// Moves the tags that stand for something else, with `act`. Gives those; nothing is moved unless all of the bundle is there.
///
/// # Errors
/// The mirror cannot be talked to, or lacks something of the bundle.
pub(crate) async fn rollback(
    mirror: MirrorSettings,
    bundle: &PlacedBundle,
    act: bool,
) -> Result<Vec<TagBack>, Failure> {
    let connected = Registry::connect(&mirror.target.endpoint, mirror.client).await;
    let registry = connected.map_err(|error| failure::of_connection(&error))?;
    let (mut roots, mut missing) = (BTreeMap::new(), Vec::new());
    for placed in &bundle.tags {
        let key = (placed.repository.clone(), placed.digest);
        if let Entry::Vacant(place) = roots.entry(key) {
            place.insert(whole(&registry, &placed.repository, &placed.digest, &mut missing).await?);
        }
    }
    if !missing.is_empty() {
        let named: Vec<&str> = missing.iter().take(MAX_NAMED).map(String::as_str).collect();
        let message = format!(
            "{} is not all there any more, and no tag was moved: {} lacking, as {}",
            bundle.path,
            missing.len(),
            named.join(", ")
        );
        return Err(Failure::new(Class::Missing, message).hint("push that bundle again"));
    }
    let mut back = Vec::new();
    for placed in &bundle.tags {
        let Some(tag) = &placed.tag else { continue };
        let now = registry.head_manifest(&placed.repository, tag.as_str()).await?;
        let from = now.and_then(|now| now.digest);
        if from == Some(placed.digest) {
            continue;
        }
        let root = roots.get(&(placed.repository.clone(), placed.digest)).and_then(Option::as_ref);
        if let Some(ManifestBytes { bytes, media_type }) = root.filter(|_| act) {
            registry.put_manifest(&placed.repository, tag.as_str(), media_type, bytes.clone()).await?;
        }
        back.push(TagBack { tag: placed.clone(), from });
    }
    Ok(back)
}

/// A manifest, if it and all below it are there. What is not is added to `missing`.
async fn whole(
    registry: &Registry,
    repository: &Repository,
    root: &Digest,
    missing: &mut Vec<String>,
) -> Result<Option<ManifestBytes>, Failure> {
    let (mut rest, mut seen, mut found_root) = (vec![*root], HashSet::from([*root]), None);
    let mut blobs = Vec::new();
    while let Some(digest) = rest.pop() {
        let found = registry.get_manifest(repository, &digest.to_string(), MAX_MANIFEST_BYTES).await?;
        let Some(found) = found else {
            missing.push(format!("{repository}@{digest}"));
            continue;
        };
        if let Ok(manifest) = Manifest::parse(found.bytes.clone(), &found.media_type) {
            let children = manifest.children().iter();
            let (manifests, other): (Vec<_>, Vec<_>) =
                children.partition(|child| media_type::may_be_manifest(&child.media_type));
            rest.extend(manifests.into_iter().map(|child| child.digest).filter(|child| seen.insert(*child)));
            let needed = manifest.blobs().chain(other).filter(|blob| !blob.is_foreign());
            blobs.extend(needed.map(|blob| blob.digest).filter(|blob| seen.insert(*blob)));
        }
        if digest == *root {
            found_root = Some(found);
        }
    }
    let asked =
        blobs.into_iter().map(|blob| async move { (blob, registry.head_blob(repository, &blob).await) });
    let mut asked = stream::iter(asked).buffer_unordered(AT_ONCE);
    while let Some((blob, found)) = asked.next().await {
        if found?.is_none() {
            missing.push(format!("{repository}@{blob}"));
        }
    }
    Ok(found_root)
}
