//! The digests that a manifest of any type names: a registry stores types that are newer than itself.

use axum::body::Bytes;
use serde_json::Value;

use crate::oci::Digest;

/// Fields of manifests that hold a descriptor, or a list of them
/// ([image-spec](https://github.com/opencontainers/image-spec/blob/v1.1.1/manifest.md); `blobs` are those of the artifact
/// manifest that was in its release candidates).
const FIELDS: [&str; 4] = ["config", "layers", "blobs", "manifests"];

/// The digests that a manifest names, foreign layers included; none where it is not JSON.
pub(super) fn named_by(manifest: &Bytes) -> Vec<Digest> {
    let Ok(document) = serde_json::from_slice::<Value>(manifest) else { return Vec::new() };
    descriptors(&document).filter_map(|descriptor| descriptor["digest"].as_str()?.parse().ok()).collect()
}

/// The content that must exist for a manifest of an unknown type.
pub(super) fn needed_by(document: &Value) -> Vec<Digest> {
    let here = |descriptor: &&Value| descriptor["urls"].as_array().is_none_or(Vec::is_empty);
    descriptors(document)
        .filter(here)
        .filter_map(|descriptor| descriptor["digest"].as_str()?.parse().ok())
        .collect()
}

fn descriptors(document: &Value) -> impl Iterator<Item = &Value> {
    FIELDS.into_iter().flat_map(|field| match &document[field] {
        Value::Array(list) => list.as_slice(),
        Value::Null => &[],
        one => std::slice::from_ref(one),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn of_every_kind() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let descriptor = |text: &str| json!({ "digest": digest(text), "size": 1 });
        let document = json!({
            "config": descriptor("config"), "layers": [descriptor("layer"), {"digest": "nonsense"}, 7],
            "blobs": [descriptor("blob")], "manifests": null, "subject": descriptor("subject"), "x": descriptor("x"),
        });
        let expected = ["config", "layer", "blob"].map(digest);
        assert_eq!(named_by(&Bytes::from(document.to_string())), expected);
        assert_eq!(needed_by(&document), expected);
        assert_eq!(needed_by(&json!({ "layers": [{ "digest": digest("far"), "urls": ["https://x"] }] })), []);
        for nothing in ["", "[]", "7", r#"{"layers":{}}"#] {
            assert_eq!(named_by(&Bytes::from(nothing)), []);
        }
    }
}
