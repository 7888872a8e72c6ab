//! Finds out what a `manifest.json` or an `index.json` without an image was meant to be.
//!
//! Many programs have files of these names. What lies beside one, or what can still be made out in it, tells whether it
//! was to list images; a damaged one must not make them look like any other files.

use bytes::Bytes;
use serde_json::Value;

use crate::archive::content_path::digest_with_dash;
use crate::archive::dir_transport;
use crate::archive::tree::{Tree, base_name, parent};
use crate::error::printable;
use crate::oci::Digest;
use crate::oci::json::{what_is_wrong, without_mark};

/// A document is looked at up to this length.
const MAX_LOOKED_AT: u64 = 32 << 20;
/// How many files beside it are looked into.
const CONFIGS_LOOKED_AT: usize = 3;

const SAVE_AGAIN: &str = "copy the bundle again, or save the image again";
const SCHEMA1: &str = "registries no longer take schema 1: pull and save the image again with a current tool";

/// A document that was meant to list images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meant {
    pub(super) what: &'static str,
    /// What is wrong with the document, unless `what` says it.
    pub(super) why: Option<String>,
    pub(super) next: Option<&'static str>,
}

impl Meant {
    fn plain(what: &'static str, next: Option<&'static str>) -> Self {
        Self { what, why: None, next }
    }

    fn unread(what: &'static str, path: &str, why: &str) -> Self {
        Self { what, why: Some(format!("{} {why}", base_name(path))), next: Some(SAVE_AGAIN) }
    }
}

/// The evidence of the files beside a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Neighbours {
    /// Nothing of images.
    None,
    /// Files that are called by their digests.
    Digests,
    /// What only an image saved by Docker has.
    Saved,
    /// The version file of the `dir:` transport.
    Dir,
}

impl Neighbours {
    fn of(tree: &Tree<'_>, folder: &str) -> Self {
        if dir_transport::has_version_file(tree, folder) {
            return Self::Dir;
        }
        let (mut found, mut configs) = (Self::None, 0);
        for path in tree.below(folder) {
            let name = &path[folder.len()..];
            let is_layer = name.split_once('/').is_some_and(|(_, inner)| inner == "layer.tar");
            let is_config =
                || is_called_as_config(name) && configs < CONFIGS_LOOKED_AT && is_config(tree, path);
            if is_layer || is_config() {
                return Self::Saved;
            }
            configs += usize::from(is_called_as_config(name));
            if is_called_by_digest(name) || name.starts_with("blobs/sha256/") {
                found = Self::Digests;
            }
        }
        found
    }

    const fn what(self) -> &'static str {
        match self {
            Self::Dir => {
                "an image of the containers-image `dir:` transport whose manifest.json cannot be read"
            }
            Self::Saved => "a docker-archive whose manifest.json cannot be read",
            Self::Digests | Self::None => "an archive of images whose manifest.json cannot be read",
        }
    }
}

/// Whether a name in a folder is `<hex>.json`, as the configuration of a docker-archive is called.
pub(super) fn is_called_as_config(name: &str) -> bool {
    name.strip_suffix(".json").is_some_and(is_hex)
}

/// Whether a document is the configuration of an image.
pub(super) fn is_config(tree: &Tree<'_>, path: &str) -> bool {
    json(tree, path).is_some_and(|json| json["rootfs"]["diff_ids"].is_array())
}

/// `<hex>`, `<hex>.tar`, `<hex>.tar.gz`, `sha256:<hex>` and `sha256-<hex>.tar.gz`: contents of images in the flat archives
/// of skopeo, podman, crane, kaniko and imgpkg.
fn is_called_by_digest(name: &str) -> bool {
    let stem = [".tar.gz", ".tar", ".json", ".manifest.json"].iter().find_map(|end| name.strip_suffix(end));
    let stem = stem.unwrap_or(name);
    is_hex(stem) || stem.parse::<Digest>().is_ok() || digest_with_dash(stem).is_some()
}

fn is_hex(name: &str) -> bool {
    format!("sha256:{name}").parse::<Digest>().is_ok()
}

/// What a `manifest.json` was meant to be that describes no image. `is_layout` says that an OCI layout in the same folder
/// was read, to which it adds nothing unless it says something.
pub(super) fn meant(tree: &Tree<'_>, path: &str, is_layout: bool) -> Option<Meant> {
    let folder = parent(path);
    let neighbours = || Neighbours::of(tree, folder);
    let bytes = match read(tree, path) {
        Ok(bytes) => bytes,
        Err(why) => {
            let beside = neighbours();
            return (beside > Neighbours::None).then(|| Meant::unread(beside.what(), path, &why));
        }
    };
    let Ok(json) = serde_json::from_slice::<Value>(&bytes) else {
        let beside = neighbours();
        let why = what_is_wrong(&bytes).unwrap_or_else(|| "it is no JSON".to_owned());
        let why = format!("cannot be read: {why}");
        let is_mark = beside > Neighbours::None || speaks_of_images(&bytes);
        return is_mark.then(|| Meant::unread(beside.what(), path, &why));
    };
    let is_key_of_images =
        |entry: &Value| ["Config", "config", "RepoTags"].iter().any(|key| entry.get(key).is_some());
    let lists_none = Meant::plain("an archive whose manifest.json lists no image", None);
    match json {
        Value::Array(entries) if !entries.is_empty() && entries.iter().all(is_key_of_images) => {
            Some(lists_none)
        }
        Value::Array(entries) => {
            let others = || {
                tree.below(folder).any(|other| !matches!(base_name(other), "manifest.json" | "repositories"))
            };
            let is_alone = entries.is_empty() && !others();
            (is_alone || !is_layout && neighbours() > Neighbours::None).then_some(lists_none)
        }
        json if json["fsLayers"].is_array() => Some(Meant::plain("a Docker schema 1 image", Some(SCHEMA1))),
        json if json["config"]["digest"].is_string() || json["manifests"][0]["digest"].is_string() => {
            Some(Meant::plain("the manifest of an image without its blobs", None))
        }
        Value::Object(entry) => {
            let is_entry = entry.get("Layers").is_some_and(Value::is_array)
                && entry.get("Config").is_some_and(Value::is_string);
            let beside = neighbours();
            if is_entry || beside == Neighbours::Saved && !is_layout {
                return Some(Meant::unread(
                    Neighbours::Saved.what(),
                    path,
                    "is one object, where a list of images must be",
                ));
            }
            (beside == Neighbours::Dir)
                .then(|| Meant::unread(beside.what(), path, "is no manifest of an image"))
        }
        other => (!is_layout && neighbours() > Neighbours::None).then(|| {
            let why = format!("is {}, where a list of images must be", printable(&other.to_string()));
            Meant::unread(neighbours().what(), path, &why)
        }),
    }
}

/// What an `index.json` was meant to be that no layout was read from.
pub(super) fn index_meant(tree: &Tree<'_>, path: &str) -> Option<Meant> {
    let unread = |why: &str| Meant::unread("an OCI layout whose index.json cannot be read", path, why);
    let has_blobs = || tree.below(&format!("{}blobs/sha256/", parent(path))).next().is_some();
    let bytes = match read(tree, path) {
        Ok(bytes) => bytes,
        Err(why) => return has_blobs().then(|| unread(&why)),
    };
    if lists_manifests(tree, path) {
        return Some(Meant::plain("an index.json without blobs beside it", None));
    }
    if serde_json::from_slice::<Value>(&bytes).is_ok() {
        return has_blobs().then(|| unread("lists no manifests"));
    }
    let why = what_is_wrong(&bytes).unwrap_or_else(|| "it is no JSON".to_owned());
    (has_blobs() || speaks_of_images(&bytes)).then(|| unread(&format!("cannot be read: {why}")))
}

/// Whether a document lists manifests as an index does: each with a digest.
pub(super) fn lists_manifests(tree: &Tree<'_>, path: &str) -> bool {
    let Some(json) = json(tree, path) else { return false };
    let entries = json["manifests"].as_array();
    entries.is_some_and(|entries| entries.iter().all(|entry| entry["digest"].is_string()))
}

/// Whether what is left of a document is one about images.
fn speaks_of_images(bytes: &[u8]) -> bool {
    let holds = |key: &[u8]| bytes.windows(key.len()).any(|window| window == key);
    holds(b"\"RepoTags\"")
        || holds(b"\"Config\"") && (holds(b"\"Layers\"") || bytes.trim_ascii_start().starts_with(b"["))
        || holds(b"application/vnd.oci.image.")
        || holds(b"application/vnd.docker.distribution.")
}

pub(super) fn json(tree: &Tree<'_>, path: &str) -> Option<Value> {
    serde_json::from_slice(&read(tree, path).ok()?).ok()
}

/// The document, or why it cannot be read.
fn read(tree: &Tree<'_>, path: &str) -> Result<Bytes, String> {
    match tree.read_small(path, MAX_LOOKED_AT) {
        Ok(Some(bytes)) => Ok(without_mark(bytes)),
        Ok(None) => Err(match tree.link_target(path) {
            Some(target) => format!("is a link to {:?}, which is not in the bundle", printable(target)),
            None => "is not in the bundle".to_owned(),
        }),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}
