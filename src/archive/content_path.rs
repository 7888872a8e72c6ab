//! The digests that paths claim for their content.

use crate::oci::Digest;

/// `<algorithm>-<hex>`, as digests stand in names of files.
pub(super) fn digest_with_dash(name: &str) -> Option<Digest> {
    let (algorithm, hex) = name.split_once('-')?;
    format!("{algorithm}:{hex}").parse().ok()
}

/// The digest that a path claims for its content: `blobs/sha256/<hex>` of an OCI layout, `blobs/sha256/ab/<hex>/data` of
/// a registry's storage, `blobs/sha256/ab/<hex>` of that of `layercast serve`, `blobs/sha256:<hex>` of `oc`, `sha256-<hex>.tar.gz` of imgpkg.
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
            None if folder.len() == 2 && last.starts_with(folder) => {
                let algorithm = parts.next()?;
                (parts.next()? == "blobs").then_some((algorithm, last))?
            }
            None => (parts.next()? == "blobs").then_some((folder, last))?,
        }
    };
    format!("{algorithm}:{hex}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_content_name_its_digest() {
        let hex = Digest::of(b"x").hex();
        let shard = &hex[..2];
        for path in [
            format!("blobs/sha256/{hex}"),
            format!("docker/registry/v2/blobs/sha256/{shard}/{hex}/data"),
            format!("srv/blobs/sha256/{shard}/{hex}"),
            format!("v2/team/app/blobs/sha256:{hex}"),
            format!("sha256-{hex}.tar.gz"),
        ] {
            assert_eq!(digest_of_path(&path), Some(Digest::of(b"x")), "{path}");
        }
        for path in [format!("blobs/sha256/zz/{hex}"), format!("{shard}/{hex}"), format!("blobs/{hex}")] {
            assert_eq!(digest_of_path(&path), None, "{path}");
        }
    }
}
