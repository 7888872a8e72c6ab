//! The registry manifest that an image of a docker-archive lacks.

use std::fmt::Write as _;

use crate::archive::Unpacked;
use crate::compress::{LayerFacts, Method};
use crate::error::BundleError;
use crate::oci::{Digest, Manifest, media_type};

/// The registry manifest of a docker-archive's image: a function of the image and the method alone, written by hand so
/// that no library's taste in field order or spaces can ever change a digest.
pub(crate) fn synthesise(
    image: &Unpacked,
    layers: &[LayerFacts],
    method: Method,
) -> Result<Manifest, BundleError> {
    let docker =
        layers.iter().all(|layer| layer.media_type != media_type::OCI_LAYER_ZSTD) && method != Method::Zstd;
    let (manifest_type, config_type) = if docker {
        (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG)
    } else {
        (media_type::OCI_MANIFEST, media_type::OCI_CONFIG)
    };
    let descriptor = |media_type: &str, digest: &Digest, size: u64| {
        format!(r#"{{"mediaType":"{media_type}","size":{size},"digest":"{digest}"}}"#)
    };
    let config = descriptor(config_type, &image.config_digest, image.config.len() as u64);
    let mut json =
        format!(r#"{{"schemaVersion":2,"mediaType":"{manifest_type}","config":{config},"layers":["#);
    for (number, layer) in layers.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        let layer_type = if docker { layer.media_type } else { in_oci(layer.media_type) };
        let _ = write!(json, "{comma}{}", descriptor(layer_type, &layer.digest, layer.size));
    }
    json.push_str("]}");
    Manifest::parse(json.into_bytes().into(), manifest_type)
}

/// The OCI name of a layer's media type.
fn in_oci(layer_type: &'static str) -> &'static str {
    match layer_type {
        media_type::DOCKER_LAYER => media_type::OCI_LAYER,
        media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Platform;

    #[test]
    fn a_made_manifest_is_the_same_for_ever() {
        let image = Unpacked {
            config: bytes::Bytes::from_static(b"{}"),
            config_digest: Digest::of(b"{}"),
            platform: Platform { os: "linux".into(), architecture: "amd64".into(), variant: None },
            layers: Vec::new(),
        };
        let layer = |media_type| LayerFacts { digest: Digest::of(b""), size: 3, media_type };
        let gzip = synthesise(&image, &[layer(media_type::DOCKER_LAYER_GZIP)], Method::Gzip).unwrap();
        assert_eq!(
            gzip.digest.to_string(),
            "sha256:ac3de89b4d8d7ecc3ddd710897d5de8bc777af359af65001f457c0c6bf99d344"
        );
        let mixed = [layer(media_type::DOCKER_LAYER_GZIP), layer(media_type::OCI_LAYER_ZSTD)];
        let zstd = synthesise(&image, &mixed, Method::Zstd).unwrap();
        assert_eq!(zstd.media_type, media_type::OCI_MANIFEST);
        assert!(zstd.blobs().all(|blob| blob.media_type.starts_with("application/vnd.oci.")));
    }
}
