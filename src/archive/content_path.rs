//! The digests that paths claim for their content.

use crate::oci::Digest;

/// `<algorithm>-<hex>`, as digests stand in names of files.
pub(super) fn digest_with_dash(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// The digest that a path claims for its content: `blobs/sha256/<hex>` of an OCI layout, `blobs/sha256/ab/<hex>/data` of
/// a registry's storage, `blobs/sha256:<hex>` of `oc`, `sha256-<hex>.tar.gz` of imgpkg.
pub(super) fn digest_of_path(path: &str) -> Option<Digest> {
    let mut parts = path.rsplit('/');
    let last = parts.next()?;
    let (algorithm, hex) = if last == "data" {
        let hex = parts.next()?;
        let shard = parts.next()?;
        let algorithm = parts.next()?;
        (hex.starts_with(shard) && parts.next()? == "blobs").then_some((algorithm, hex))?
    } else if let Some((algorithm, hex)) = last.strip_suffix(".tar.gz").and_then(|name| name.split_once('-'))
    {
        (algorithm, hex)
    } else {
        let folder = parts.next()?;
        match last.split_once([':', '-']).filter(|_| folder == "blobs") {
            Some(whole) => whole,
            None => (parts.next()? == "blobs").then_some((folder, last))?,
        }
    };
    format!("{algorithm}:{hex}").parse().ok()
}
