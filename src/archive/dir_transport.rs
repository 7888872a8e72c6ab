//! The `dir:` transport of skopeo and podman: `manifest.json`, which is the manifest itself, and beside it each blob under
//! the hex of its digest and each child of an index as `<hex>.manifest.json`
//! ([containers-transports](https://github.com/containers/image/blob/v5.36.0/docs/containers-transports.5.md#dirpath),
//! [directory_transport.go](https://github.com/containers/image/blob/v5.36.0/directory/directory_transport.go)).
//!
//! There is no name in it; `skopeo sync` puts it into the path of the folder.

use std::collections::HashSet;

use bytes::Bytes;

use crate::archive::Listed;
use crate::archive::content_path::digest_with_dash;
use crate::archive::names;
use crate::archive::pool::Pool;
use crate::archive::tree::{Tree, base_name, parent};
use crate::error::BundleError;
use crate::oci::{Digest, Manifest};

const MAX_VERSION_BYTES: u64 = 1 << 10;

/// A `manifest.json` of this transport: a manifest, with the version file or one of its blobs beside it.
pub(super) fn manifest(tree: &Tree<'_>, folder: &str, bytes: &Bytes) -> Option<Manifest> {
    let manifest = Manifest::parse(bytes.clone(), "").ok()?;
    let beside = |digest: &Digest| {
        let hex = digest.hex();
        [format!("{folder}{hex}"), format!("{folder}{hex}.manifest.json")]
            .iter()
            .any(|path| tree.contains(path))
    };
    let mut listed = manifest.blobs().chain(manifest.children());
    let is_dir = has_version_file(tree, folder) || listed.any(|it| beside(&it.digest));
    drop(listed);
    is_dir.then_some(manifest)
}

/// Whether a folder has the version file of this transport, which says what it is.
pub(super) fn has_version_file(tree: &Tree<'_>, folder: &str) -> bool {
    let version = tree.read_small(&format!("{folder}version"), MAX_VERSION_BYTES).ok().flatten();
    version.is_some_and(|version| version.starts_with(b"Directory Transport Version"))
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

/// The digest in the name of a file: its hex, or `<algorithm>-<hex>` where that is not SHA-256.
fn digest_of(name: &str) -> Option<Digest> {
    digest_with_dash(name).or_else(|| format!("sha256:{name}").parse().ok())
}
