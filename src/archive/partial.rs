//! Indexes of which a bundle holds a part: `docker save` and `ctr export` write the index of an image, and only the platforms
//! that the machine had.
//!
//! In: an incomplete index. Out: what can be pushed in its place, unless a part of it is damaged rather than left out. A
//! platform was left out if its manifest is missing, or everything that it alone needs. It is damaged if only a part of that is
//! missing.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

use crate::archive::catalog::PartialIndex;
use crate::archive::pool::Pool;
use crate::error::Fault;
use crate::oci::{Descriptor, Digest, Manifest};

/// Indexes inside indexes that are looked into here.
const MAX_DEPTH: usize = 4;

/// What can be pushed in the place of an index.
#[derive(Debug, Clone)]
pub(super) struct IndexSubstitute {
    /// The one platform that is whole, or an index of those that are.
    pub(super) content: Digest,
    pub(super) index: PartialIndex,
}

/// The platforms of an index: those that are whole, and those that are missing.
#[derive(Default)]
struct Platforms {
    whole: Vec<(Descriptor, Value)>,
    /// Manifests about platforms (provenance, SBOMs) that buildkit puts into the index.
    attestations: Vec<Value>,
    missing: Vec<Descriptor>,
    /// Whose manifest is there and something below it is not.
    incomplete: Vec<(Descriptor, Arc<Manifest>)>,
}

/// The platforms that the bundle has of an index, where it lacks others.
pub(super) fn of(pool: &mut Pool<'_>, digest: &Digest) -> Option<IndexSubstitute> {
    let top = pool.manifest(digest)?;
    let mut platforms = Platforms::default();
    collect(pool, &top, 0, &mut platforms)?;
    let Platforms { whole, attestations, mut missing, incomplete } = platforms;
    let of_whole: HashSet<Digest> = whole
        .iter()
        .filter_map(|(child, _)| pool.manifest(&child.digest))
        .flat_map(|manifest| manifest.blobs().map(|blob| blob.digest).collect::<Vec<_>>())
        .collect();
    for (child, manifest) in incomplete {
        let own = |blob: &Descriptor| !of_whole.contains(&blob.digest);
        if manifest.blobs().any(|blob| own(blob) && pool.has_content(&blob.digest)) {
            return None;
        }
        missing.push(child);
    }
    if whole.is_empty() {
        return None;
    }
    let present = whole.iter().map(|(child, _)| (child.digest, platform(child))).collect();
    let index = PartialIndex { index: *digest, present, missing: missing.iter().map(platform).collect() };
    let content = if let [(only, _)] = whole.as_slice() {
        only.digest
    } else {
        let kept = whole.into_iter().map(|(_, entry)| entry).chain(attestations).collect();
        pool.add_manifest(narrowed(&top, kept)?).digest
    };
    Some(IndexSubstitute { content, index })
}

fn collect(pool: &Pool<'_>, index: &Manifest, depth: usize, platforms: &mut Platforms) -> Option<()> {
    let json: Value = serde_json::from_slice(&index.bytes).ok()?;
    let entries = json["manifests"].as_array()?;
    if depth > MAX_DEPTH || entries.len() != index.children().len() || entries.is_empty() {
        return None;
    }
    for (child, entry) in index.children().iter().zip(entries) {
        if pool.is_blob(child).ok()? {
            pool.has_content(&child.digest).then_some(())?;
            continue;
        }
        match pool.visited(child)? {
            Ok(()) if is_attestation(child) => platforms.attestations.push(entry.clone()),
            Ok(()) => platforms.whole.push((child.clone(), entry.clone())),
            Err(Fault::MissingBlob) => match pool.manifest(&child.digest) {
                None => platforms.missing.push(child.clone()),
                Some(inner) if !inner.children().is_empty() => collect(pool, &inner, depth + 1, platforms)?,
                Some(image) => platforms.incomplete.push((child.clone(), image)),
            },
            Err(_) => return None,
        }
    }
    Some(())
}

/// The index with other entries, and all else as it is.
fn narrowed(index: &Manifest, entries: Vec<Value>) -> Option<Manifest> {
    let mut json: Value = serde_json::from_slice(&index.bytes).ok()?;
    json["manifests"] = Value::Array(entries);
    Manifest::parse(Bytes::from(json.to_string()), &index.media_type).ok()
}

fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor.annotations.contains_key("vnd.docker.reference.type")
        || descriptor.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}

fn platform(descriptor: &Descriptor) -> String {
    if is_attestation(descriptor) {
        return format!("the attestation {}", descriptor.digest);
    }
    match &descriptor.platform {
        Some(platform) if !platform.os.is_empty() => platform.to_string(),
        _ => descriptor.digest.to_string(),
    }
}

impl PartialIndex {
    /// What is there and what is not, for people.
    pub(crate) fn in_words(&self) -> String {
        let present: Vec<&str> = self.present.iter().map(|(_, platform)| platform.as_str()).collect();
        format!(
            "the bundle holds a part of the index {}: of its platforms {} (missing: {})",
            self.index,
            present.join(", "),
            self.missing.join(", ")
        )
    }
}
