//! The `dir:` transport of skopeo and podman: `manifest.json`, which is the manifest itself, and beside it each blob under
//! the hex of its digest and each child of an index as `<hex>.manifest.json`
//! ([containers-transports](https://github.com/containers/image/blob/v5.36.0/docs/containers-transports.5.md#dirpath),
//! [directory_transport.go](https://github.com/containers/image/blob/v5.36.0/directory/directory_transport.go)).
//!
//! There is no name in it; `skopeo sync` puts it into the path of the folder.

use std::collections::HashSet;

use bytes::Bytes;

use crate::archive::Listed;
use crate::archive::names;
use crate::archive::pool::Pool;
use crate::archive::tree::{Tree, base_name, parent};
use crate::error::BundleError;
use crate::oci::manifest::Kind;
use crate::oci::{Digest, Manifest};

/// A `manifest.json` of this transport: a manifest, with the version file or one of its blobs beside it.
pub(super) fn manifest(tree: &Tree<'_>, folder: &str, bytes: &Bytes) -> Option<Manifest> {
    let manifest = Manifest::parse(bytes.clone(), "").ok()?;
    let beside = |digest: &Digest| {
        let hex = digest.hex();
        [format!("{folder}{hex}"), format!("{folder}{hex}.manifest.json")]
            .iter()
            .any(|path| tree.contains(path))
    };
    let is_dir = tree.contains(&format!("{folder}version"))
        || manifest.blobs().chain(manifest.children()).any(|it| beside(&it.digest));
    // What is an image and says so is one, whether or not its blobs are there.
    let is_image = matches!(manifest.kind, Kind::Image { .. }) && has_media_type(bytes);
    (is_dir || is_image).then_some(manifest)
}

fn has_media_type(bytes: &Bytes) -> bool {
    let json: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
    json.is_some_and(|json| json["schemaVersion"] == 2 && json["config"]["digest"].is_string())
}

/// The image in the folder. `used` gets the files that belong to it.
pub(super) fn read<'t>(
    tree: &'t Tree<'_>,
    folder: &str,
    manifest: Manifest,
    pool: &mut Pool<'t>,
    used: &mut HashSet<String>,
) -> Result<Vec<Listed>, BundleError> {
    used.extend(["manifest.json", "version"].map(|name| format!("{folder}{name}")));
    for path in tree.below(folder).filter(|path| parent(path) == folder) {
        let name = base_name(path);
        if let Some(digest) = digest_of(name.strip_suffix(".manifest.json").unwrap_or(name)) {
            pool.add_path(digest, path);
            used.insert(path.to_owned());
        } else if name.strip_prefix("signature-").is_some_and(|number| number.parse::<u32>().is_ok()) {
            used.insert(path.to_owned());
        }
    }
    let top = pool.add_manifest(manifest);
    let fault = pool.visit(&top)?.err();
    let names: Vec<_> = names::from_folder(folder).into_iter().collect();
    let label = names.first().map_or_else(|| top.digest.to_string(), ToString::to_string);
    Ok(vec![Listed { fault, ..Listed::new(label, names, top.digest) }])
}

/// The digest that a file is called by: its hex, or `<algorithm>-<hex>` where that is not SHA-256.
fn digest_of(name: &str) -> Option<Digest> {
    match name.split_once('-') {
        Some((algorithm, hex)) => format!("{algorithm}:{hex}").parse().ok(),
        None => format!("sha256:{name}").parse().ok(),
    }
}
