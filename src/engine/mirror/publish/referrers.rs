//! The referrers tag schema: for registries that do not link a manifest to its subject themselves
//! ([distribution-spec, unavailable referrers API](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#unavailable-referrers-api)).

use crate::sync::Mutex;
use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use crate::oci::manifest::{Kind, MAX_MANIFEST_BYTES};
use crate::oci::{Digest, Manifest, Repository, media_type};
use crate::registry::{Registry, RegistryError};

/// Adds a manifest to the index under its subject's fallback tag, `sha256-<hex>`.
///
/// Reading and writing back is a race. Within this process writers of one tag take turns; the specification has nothing
/// against writers elsewhere.
pub(super) async fn fallback_tag(
    registry: &Registry,
    repository: &Repository,
    manifest: &Manifest,
    subject: &Digest,
) -> Result<(), RegistryError> {
    let tag = format!("{}-{}", subject.algorithm().name(), subject.hex());
    let turn = turn(&format!("{} {repository} {tag}", registry.endpoint()));
    let _turn = turn.lock().await;
    let stored = registry.get_manifest(repository, &tag, MAX_MANIFEST_BYTES).await?;
    let index = match stored {
        Some(stored) => serde_json::from_slice(&stored.bytes).unwrap_or(Value::Null),
        None => json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": []}),
    };
    let Some(index) = with_entry(index, manifest) else { return Ok(()) };
    registry.put_manifest(repository, &tag, media_type::OCI_INDEX, index.to_string().into()).await.map(drop)
}

/// The index with the manifest in it; none when it is in it already, or when what is there is no index.
fn with_entry(mut index: Value, manifest: &Manifest) -> Option<Value> {
    let digest = manifest.digest.to_string();
    let entries = index.get_mut("manifests")?.as_array_mut()?;
    if entries.iter().any(|entry| entry["digest"] == digest) {
        return None;
    }
    let body: Value = serde_json::from_slice(&manifest.bytes).ok()?;
    let mut entry = json!({"mediaType": manifest.media_type, "digest": digest, "size": manifest.bytes.len()});
    let config_type = match &manifest.kind {
        Kind::Image { config, .. } => Some(Value::from(config.media_type.clone())),
        Kind::Index { .. } | Kind::Artifact { .. } => None,
    };
    let stated =
        body.get("artifactType").filter(|kind| kind.as_str().is_some_and(|kind| !kind.is_empty())).cloned();
    if let Some(artifact_type) = stated.or(config_type) {
        entry["artifactType"] = artifact_type;
    }
    if let Some(annotations) = body.get("annotations") {
        entry["annotations"] = annotations.clone();
    }
    entries.push(entry);
    Some(index)
}

/// One lock for each fallback tag that this process writes.
fn turn(key: &str) -> Arc<tokio::sync::Mutex<()>> {
    static TURNS: LazyLock<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>> =
        LazyLock::new(Mutex::default);
    let mut turns = TURNS.lock();
    Arc::clone(turns.entry(key.to_owned()).or_default())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn an_entry_is_added_once_and_says_what_it_is() {
        let digest = Digest::of(b"");
        let json = format!(
            r#"{{"schemaVersion":2,"artifactType":"application/x.sig","config":{{"mediaType":"c","digest":"{digest}","size":0}},
            "layers":[],"subject":{{"digest":"{digest}","size":1}},"annotations":{{"k":"v"}}}}"#
        );
        let manifest = Manifest::parse(Bytes::from(json), media_type::OCI_MANIFEST).unwrap();
        let once = with_entry(json!({"manifests": []}), &manifest).unwrap();
        assert_eq!(once["manifests"][0]["artifactType"], "application/x.sig");
        assert_eq!(once["manifests"][0]["annotations"]["k"], "v");
        assert_eq!(with_entry(once, &manifest), None);
        assert_eq!(with_entry(Value::Null, &manifest), None);
    }
}
