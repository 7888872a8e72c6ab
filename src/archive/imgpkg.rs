//! The tar of [imgpkg](https://carvel.dev/imgpkg): a `manifest.json` of its own kind, in which manifests, indexes and
//! configurations stand as text, and layers as `sha256-<hex>.tar.gz` beside it.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

use crate::archive::catalog::ImageName;
use crate::archive::pool::Pool;
use crate::archive::{Listed, names};
use crate::error::{BundleError, printable};
use crate::oci::json::parse_json;
use crate::oci::{Descriptor, Digest, Reference};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "an image or an index of imgpkg")]
struct LockedImage {
    image: Option<ImgpkgImage>,
    image_index: Option<ImgpkgIndex>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "an image of imgpkg")]
struct ImgpkgImage {
    config: ImgpkgDocument,
    manifest: ImgpkgDocument,
    #[serde(flatten)]
    names: Names,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "an index of imgpkg")]
struct ImgpkgIndex {
    images: Option<Vec<ImgpkgImage>>,
    indexes: Option<Vec<ImgpkgIndex>>,
    #[serde(flatten)]
    document: ImgpkgDocument,
    #[serde(flatten)]
    names: Names,
}

/// A document of a registry, byte for byte, as a JSON string.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "a document of imgpkg")]
struct ImgpkgDocument {
    #[serde(default)]
    media_type: String,
    digest: Digest,
    raw: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", expecting = "the names of an image")]
struct Names {
    refs: Option<Vec<String>>,
    #[serde(default)]
    tag: String,
    #[serde(default)]
    orig_ref: String,
}

/// Whether a `manifest.json` is of imgpkg's kind.
pub(super) fn wrote(manifest_json: &[u8]) -> bool {
    let holds = |key: &[u8]| manifest_json.windows(key.len()).any(|window| window == key);
    holds(b"\"ImageIndex\"") && holds(b"\"Raw\"")
}

/// The images of such a `manifest.json`, which lies at `position` in its tree.
pub(super) fn read(
    manifest_json: &[u8],
    position: u64,
    pool: &mut Pool<'_>,
) -> Result<Vec<Listed>, BundleError> {
    let entries: Vec<LockedImage> = parse_json(manifest_json)?;
    let mut listed = Vec::new();
    for entry in entries {
        let (top, names) = match entry {
            LockedImage { image_index: Some(index), .. } => (add_index(&index, position, pool), index.names),
            LockedImage { image: Some(image), .. } => (add_image(&image, position, pool), image.names),
            LockedImage { image: None, image_index: None } => continue,
        };
        let visited = pool.visit(&top)?.err();
        let label =
            names.refs.iter().flatten().next().map_or_else(|| top.digest.to_string(), |r| printable(r));
        let names = names.parse();
        listed.push(Listed { fault: visited, ..Listed::new(label, names, top.digest) });
    }
    Ok(listed)
}

/// The nesting of indexes is bounded by that of JSON.
fn add_index(index: &ImgpkgIndex, position: u64, pool: &mut Pool<'_>) -> Descriptor {
    for image in index.images.iter().flatten() {
        add_image(image, position, pool);
    }
    for inner in index.indexes.iter().flatten() {
        add_index(inner, position, pool);
    }
    index.document.add(position, pool)
}

fn add_image(image: &ImgpkgImage, position: u64, pool: &mut Pool<'_>) -> Descriptor {
    image.config.add(position, pool);
    image.manifest.add(position, pool)
}

impl ImgpkgDocument {
    fn add(&self, position: u64, pool: &mut Pool<'_>) -> Descriptor {
        pool.add_inline(self.digest, Bytes::from(self.raw.clone().into_bytes()), position);
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest,
            size: self.raw.len() as u64,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            platform: None,
            data: None,
        }
    }
}

impl Names {
    /// The name of the image when it was copied. Without one: where it was found, by digest, with its tag there.
    fn parse(&self) -> Vec<ImageName> {
        if let Some(name) = Reference::parse_full(&self.orig_ref).filter(|name| name.tag.is_some()) {
            return vec![ImageName::Full(name)];
        }
        let name = |text: &String| {
            let mut name: Reference = text.parse()?;
            if !self.tag.is_empty() {
                name.tag = Some(self.tag.parse()?);
            }
            Ok(ImageName::Full(name))
        };
        self.refs.iter().flatten().map(|text| names::or_invalid(text, name(text))).collect()
    }
}
