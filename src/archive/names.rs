//! What tools call an image, and where they write it.

use std::collections::BTreeMap;

use crate::archive::catalog::ImageName;
use crate::error::{BundleError, printable};
use crate::oci::{Digest, Reference, Tag};

/// Docker and containerd put the full name here.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The [specification](https://github.com/opencontainers/image-spec/blob/v1.1.1/annotations.md) wants a tag here or a
/// name; tools write either.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The names in the annotations of an entry of an `index.json`.
///
/// # Errors
/// [`Fault::BadReference`](crate::error::Fault::BadReference) where a name is none; nothing is ever made valid.
pub(super) fn from_annotations(
    annotations: &BTreeMap<String, String>,
) -> Result<Vec<ImageName>, BundleError> {
    let mut names = Vec::new();
    // containerd's CRI also names images by the digest of their configuration, which is no name to push to.
    if let Some(text) = annotations.get(CONTAINERD_NAME).filter(|text| text.parse::<Digest>().is_err()) {
        names.push(ImageName::Full(full(text)?));
    }
    if let Some(text) = annotations.get(REF_NAME) {
        match from_ref_name(text)? {
            // Beside a full name, a tag or a short form says nothing more.
            Some(name) if names.is_empty() => names.push(name),
            Some(name) if Reference::parse_full(text).is_some() && !names.contains(&name) => names.push(name),
            _ => {}
        }
    }
    Ok(names)
}

fn from_ref_name(text: &str) -> Result<Option<ImageName>, BundleError> {
    if text.is_empty() || text.parse::<Digest>().is_ok() {
        return Ok(None);
    }
    if text.contains(['/', ':', '@']) {
        return Ok(Some(ImageName::Full(full(text)?)));
    }
    Ok(Some(ImageName::TagOnly(text.parse::<Tag>()?)))
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
pub(super) fn from_repo_tag(text: &str) -> Result<Option<ImageName>, BundleError> {
    if text.is_empty() || text == "<none>:<none>" {
        return Ok(None);
    }
    Ok(Some(ImageName::Full(full(text)?)))
}

/// What messages call an image with these annotations, be it a valid name or not.
pub(super) fn label(annotations: &BTreeMap<String, String>) -> Option<String> {
    [CONTAINERD_NAME, REF_NAME].iter().find_map(|key| annotations.get(*key)).map(|text| printable(text))
}
