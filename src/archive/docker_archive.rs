//! What `docker save` writes, and the many tools that write the same: `manifest.json` with a configuration and layers
//! for each image, at the root of a tree or below a folder.
//!
//! Up to Docker 24 there is no registry manifest in it, and the image comes out as [`Unpacked`]. Since Docker 25 the
//! same tar is an OCI layout too; who reads both joins them by the digest of the configuration.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use crate::archive::CatalogReader;
use crate::archive::catalog::{ImageName, Stored, Unpacked, UnpackedLayer};
use crate::archive::content_path::digest_of_path;
use crate::archive::limits::check_length;
use crate::archive::names;
use crate::archive::sniff::DetectedFormat;
use crate::archive::tree::{Tree, TreeFile, base_name, normalise, parent};
use crate::decode::Format as Compression;
use crate::error::{BundleError, Fault, printable};
use crate::oci::json::parse_json;
use crate::oci::{Digest, Platform};
use crate::source::Extent;

/// Advice on a layer that `docker save` leaves out.
const FOREIGN: &str = "docker save leaves out layers of Windows base images that are to be had elsewhere (LayerSources): copy \
                       the image with a tool that keeps its manifest, as `skopeo copy docker://NAME oci-archive:FILE`";

/// An entry of `manifest.json`. jib writes its keys in lower case.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an image with Config, RepoTags and Layers")]
pub(super) struct SavedImage {
    #[serde(rename = "Config", alias = "config")]
    config: String,
    #[serde(rename = "RepoTags", alias = "repoTags", default)]
    repo_tags: Option<Vec<String>>,
    #[serde(rename = "Layers", alias = "layers", default)]
    layers: Option<Vec<String>>,
    /// Layers by their diff_ids that Docker does not save, because another registry has them.
    #[serde(rename = "LayerSources", default)]
    layer_sources: Option<HashMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
#[serde(expecting = "the configuration of an image")]
struct ConfigFile {
    #[serde(flatten)]
    platform: Platform,
    #[serde(default)]
    rootfs: Option<RootFs>,
}

#[derive(Deserialize)]
#[serde(expecting = "a rootfs with diff_ids")]
struct RootFs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

/// An image of a docker-archive whose configuration could be read. Its layers have not been looked at.
#[derive(Debug)]
pub(super) struct Saved {
    pub(super) names: Vec<ImageName>,
    pub(super) config_digest: Digest,
    /// The digest that the name of the configuration claims, where it is another one.
    pub(super) claimed: Option<Digest>,
    config: Bytes,
    layers: Vec<String>,
    /// The diff_ids of layers that were left out on purpose.
    foreign: HashSet<String>,
}

/// The entries of `manifest.json`, if it has Docker's format.
pub(super) fn entries(manifest_json: &Bytes) -> Result<Vec<SavedImage>, BundleError> {
    parse_json(manifest_json)
}

impl SavedImage {
    /// The name of the image in messages.
    pub(super) fn label(&self) -> String {
        printable(self.repo_tags.iter().flatten().next().unwrap_or(&self.config))
    }

    /// The members that belong to this image, and so are no archives of their own.
    pub(super) fn members(&self, tree: &Tree<'_>, folder: &str, used: &mut HashSet<String>) {
        used.extend(["manifest.json", "repositories"].map(|name| format!("{folder}{name}")));
        for name in self.layers.iter().flatten().chain([&self.config]) {
            let Some(path) = normalise(folder, name.trim_start_matches('/')) else { continue };
            if let Ok(Some(file)) = tree.file(&path) {
                used.insert(file.path.to_owned());
            }
            // Up to Docker 24 each layer has a folder of its own, with these beside it.
            used.extend(["json", "VERSION"].map(|name| format!("{}{name}", parent(&path))));
            used.insert(path);
        }
    }

    /// Reads the configuration and checks it, and the names.
    pub(super) fn read(
        self,
        reader: &CatalogReader<'_>,
        tree: &Tree<'_>,
        folder: &str,
    ) -> Result<Saved, BundleError> {
        let mut names = Vec::new();
        for text in self.repo_tags.iter().flatten() {
            names.extend(names::from_repo_tag(text).filter(|name| !names.contains(name)));
        }
        let file = find(tree, folder, &self.config).map_err(|e| e.at("configuration"))?;
        check_length("the configuration", file.len, reader.limits.config_bytes)?;
        let config = tree.read(file)?;
        let config_digest = Digest::of(&config);
        let claimed = claimed_digest(&self.config).filter(|claimed| !claimed.matches(&config));
        // A blob is what its name says. Elsewhere the name is only a name: people edit configurations, and Docker, podman
        // and crane take them as they are.
        if let Some(claimed) = claimed.filter(|_| digest_of_path(&self.config).is_some()) {
            let what = format!("should have the digest {claimed}, but has {config_digest}");
            return Err(
                BundleError::new(Fault::DigestMismatch, what).at(format!("configuration {:?}", self.config))
            );
        }
        let foreign = self.layer_sources.into_iter().flatten().map(|(diff_id, _)| diff_id).collect();
        let layers = self.layers.unwrap_or_default();
        Ok(Saved { names, config_digest, claimed, config, layers, foreign })
    }
}

impl Saved {
    /// Finds the layers. Their bytes are looked at for how they are stored; those that no registry takes as they are, are decoded.
    pub(super) fn unpacked(
        &self,
        reader: &CatalogReader<'_>,
        tree: &Tree<'_>,
        folder: &str,
    ) -> Result<Unpacked, BundleError> {
        let at = |e: BundleError| e.at(format!("configuration {}", self.config_digest));
        let ConfigFile { platform, rootfs } = parse_json(&self.config).map_err(at)?;
        let diff_ids = rootfs.and_then(|rootfs| rootfs.diff_ids).unwrap_or_default();
        if diff_ids.len() != self.layers.len() {
            let (layers, ids) = (self.layers.len(), diff_ids.len());
            let what = format!("manifest.json lists {layers} layers, the configuration {ids}");
            return Err(BundleError::new(Fault::BadJson, what));
        }
        let mut layers = Vec::with_capacity(diff_ids.len());
        for (name, diff_id) in self.layers.iter().zip(diff_ids) {
            let file = find(tree, folder, name).map_err(|error| {
                let error = error.at("layer");
                if self.foreign.contains(&diff_id) { error.hint(FOREIGN) } else { error }
            })?;
            let (extent, size, stored) = content(reader, tree, file).map_err(|e| e.at(file.path))?;
            layers.push(UnpackedLayer {
                diff_id: diff_id.parse().map_err(at)?,
                member: name.clone(),
                stored,
                extent,
                size,
                order: file.position,
            });
        }
        Ok(Unpacked { config: self.config.clone(), config_digest: self.config_digest, platform, layers })
    }
}

fn find<'t>(tree: &'t Tree<'_>, folder: &str, name: &str) -> Result<TreeFile<'t>, BundleError> {
    // From the root of the archive, with a slash or without.
    let Some(path) = normalise(folder, name.trim_start_matches('/')) else {
        let what = format!("the name {name:?} leaves the bundle");
        return Err(BundleError::new(Fault::UnsafePath, what));
    };
    let missing = || {
        let is = tree
            .link_target(&path)
            .map(|target| format!(" is a link to {target:?}, which"))
            .unwrap_or_default();
        let what = if name.is_empty() {
            "an empty name, as for a layer that was not saved, is no file".to_owned()
        } else {
            format!("{name:?}{is} is not in the bundle")
        };
        BundleError::new(Fault::MissingBlob, what)
    };
    tree.file(&path)?.ok_or_else(missing)
}

/// The digest in the name of a configuration: `<hex>.json`, `sha256:<hex>` (crane, kaniko) or a blob of a layout.
/// `config.json` (jib) has none.
fn claimed_digest(name: &str) -> Option<Digest> {
    let base = base_name(name);
    let hex = base.strip_suffix(".json").unwrap_or(base);
    hex.parse().ok().or_else(|| format!("sha256:{hex}").parse().ok()).or_else(|| digest_of_path(name))
}

/// Where the bytes of a layer lie, how many they are and how they are stored. Registries and runtimes know no xz and no
/// bzip2: such a layer is decoded here, and is from then on what its diff_id says.
fn content(
    reader: &CatalogReader<'_>,
    tree: &Tree<'_>,
    file: TreeFile<'_>,
) -> Result<(Extent, u64, Stored), BundleError> {
    let extent = tree.extent(file)?;
    Ok(match tree.format(file)? {
        DetectedFormat::Compressed(Compression::Gzip | Compression::Bgzf) => (extent, file.len, Stored::Gzip),
        DetectedFormat::Compressed(Compression::Zstd) => (extent, file.len, Stored::Zstd),
        DetectedFormat::Compressed(_) => {
            let decoded = (reader.open)(Arc::new(extent))?;
            let len = decoded.len()?;
            (Extent::new(decoded, 0, len), len, Stored::Plain)
        }
        DetectedFormat::Tar | DetectedFormat::Unreadable(_) | DetectedFormat::Other => {
            (extent, file.len, Stored::Plain)
        }
    })
}
