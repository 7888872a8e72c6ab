//! The names that tools give an image, and where they write them.

use std::collections::BTreeMap;

use crate::archive::catalog::ImageName;
use crate::error::{BundleError, printable};
use crate::oci::{Digest, Reference, Tag};

/// Docker and containerd put the full name here.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The [specification](https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md) wants a tag here or a
/// name; tools write either.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Our own stage puts here what has no host, as names of other tools cannot say it: `PATH:TAG` or `PATH@DIGEST`.
pub(crate) const HOSTLESS_NAME: &str = "io.layercast.image.hostless-name";

/// The names in the annotations of an entry of an `index.json`. What is no valid name comes as [`ImageName::Invalid`].
pub(crate) fn from_annotations(annotations: &BTreeMap<String, String>) -> Vec<ImageName> {
    if let Some(name) = annotations.get(HOSTLESS_NAME).and_then(|text| hostless(text)) {
        return vec![name];
    }
    let mut names = Vec::new();
    // containerd's CRI also names images by the digest of their configuration, which is no name to push to.
    if let Some(text) = annotations.get(CONTAINERD_NAME).filter(|text| text.parse::<Digest>().is_err()) {
        names.push(or_invalid(text, full(text).map(ImageName::Full)));
    }
    if let Some(text) = annotations.get(REF_NAME) {
        match from_ref_name(text) {
            // Beside a full name, a tag or a short form says nothing more.
            Some(name) if names.is_empty() => names.push(name),
            Some(name) if Reference::parse_full(text).is_some() && !names.contains(&name) => names.push(name),
            _ => {}
        }
    }
    names
}

/// The annotation of cosign and hauler for the kind of an entry.
const KIND: &str = "kind";

/// The kind of an entry, where its tool tells images from what belongs to them.
pub(super) fn kind(annotations: &BTreeMap<String, String>) -> Option<&str> {
    annotations.get(KIND).map(String::as_str)
}

/// Whether `cosign save` wrote the entry.
pub(super) fn is_of_cosign(annotations: &BTreeMap<String, String>) -> bool {
    kind(annotations).is_some_and(|kind| kind.starts_with("dev.cosignproject.cosign/"))
}

/// Whether containerd, or a tool that exports its images, wrote the entry. It exports what its content store holds, which
/// may be some platforms of an index.
pub(super) fn is_of_containerd(annotations: &BTreeMap<String, String>) -> bool {
    annotations.contains_key(CONTAINERD_NAME)
}

fn from_ref_name(text: &str) -> Option<ImageName> {
    if text.is_empty() || text.parse::<Digest>().is_ok() {
        return None;
    }
    let name = if text.contains(['/', ':', '@']) {
        full(text).map(ImageName::Full)
    } else {
        text.parse::<Tag>().map(ImageName::TagOnly)
    };
    Some(or_invalid(text, name))
}

/// A name, valid or not.
pub(super) fn or_invalid(text: &str, name: Result<ImageName, BundleError>) -> ImageName {
    name.unwrap_or_else(|error| ImageName::Invalid { text: printable(text), why: error.to_string() })
}

/// A full name; where it has neither tag nor digest, Docker's tag `latest` is meant.
fn full(text: &str) -> Result<Reference, BundleError> {
    let mut name: Reference = text.parse()?;
    if name.tag.is_none() && name.digest.is_none() {
        name.tag = Some("latest".parse()?);
    }
    Ok(name)
}

/// A name in `RepoTags`, where Docker writes `<none>:<none>` for no name.
pub(super) fn from_repo_tag(text: &str) -> Option<ImageName> {
    let is_none = text.is_empty() || text == "<none>:<none>";
    (!is_none).then(|| or_invalid(text, full(text).map(ImageName::Full)))
}

/// The name that the path of a folder is, as `skopeo sync` makes folders: `[HOST/]PATH:TAG` or `[HOST/]PATH@DIGEST`.
pub(super) fn from_folder(folder: &str) -> Option<ImageName> {
    let path = folder.trim_end_matches('/');
    // The tree may lie below other folders.
    let ends = std::iter::once(0).chain(path.match_indices('/').map(|(at, _)| at + 1));
    let mut full = ends.filter_map(|at| Reference::parse_full(&path[at..]));
    if let Some(full) = full.find(|name| name.tag.is_some() || name.digest.is_some()) {
        return Some(ImageName::Full(full));
    }
    hostless(path)
}

/// `PATH:TAG` or `PATH@DIGEST`.
fn hostless(text: &str) -> Option<ImageName> {
    if let Some((repository, digest)) = text.split_once('@') {
        return Some(ImageName::HostlessDigest(repository.parse().ok()?, digest.parse().ok()?));
    }
    let (repository, tag) = text.rsplit_once(':')?;
    Some(ImageName::Hostless(repository.parse().ok()?, tag.parse().ok()?))
}

/// The name of an image with these annotations in messages, valid or not.
pub(super) fn label(annotations: &BTreeMap<String, String>) -> Option<String> {
    [CONTAINERD_NAME, REF_NAME].iter().find_map(|key| annotations.get(*key)).map(|text| printable(text))
}
