//! The referrers tag schema: for registries that do not link a manifest to its subject themselves
//! ([distribution-spec, unavailable referrers API](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#unavailable-referrers-api)).

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::confirm::read_back;
use crate::engine::mirror::knowledge::Knowledge;
use crate::locks::Mutex;
use crate::oci::manifest::{Kind, MAX_MANIFEST_BYTES};
use crate::oci::{Digest, Manifest, Repository, media_type};
use crate::registry::{Registry, RegistryError};

/// Adds a manifest to the index under its subject's fallback tag, `sha256-<hex>`.
///
/// Reading and writing back is a race. Writers of one tag of a mirror take turns; the specification has nothing against
/// writers elsewhere.
pub(super) async fn fallback_tag(
    registry: &Registry,
    knowledge: &Mutex<Knowledge>,
    repository: &Repository,
    manifest: &Manifest,
    subject: &Digest,
) -> Result<(), RegistryError> {
    let tag = format!("{}-{}", subject.algorithm().name(), subject.hex());
    let turn = knowledge.lock().fallback_tags.location(subject);
    let _turn = turn.lock().await;
    let stored = registry.get_manifest(repository, &tag, MAX_MANIFEST_BYTES).await?;
    let referrers = match stored {
        Some(stored) => Referrers::read(&stored.bytes)
            .map_err(|why| RegistryError::not_referrers(format!("{repository}:{tag}"), why))?,
        None => Referrers::none(),
    };
    let Some(index) = referrers.with(manifest) else { return Ok(()) };
    let index = Bytes::from(index.to_string());
    let answer = registry.put_manifest(repository, &tag, media_type::OCI_INDEX, index.clone()).await?;
    if answer.confirmed {
        return Ok(());
    }
    read_back(registry, repository, &tag, &index).await
}

/// The index under a fallback tag.
#[derive(Debug, Clone, PartialEq)]
struct Referrers {
    index: Map<String, Value>,
    entries: Vec<Value>,
}

impl Referrers {
    fn none() -> Self {
        let head = [("schemaVersion", Value::from(2)), ("mediaType", Value::from(media_type::OCI_INDEX))];
        let index = head.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        Self { index, entries: Vec::new() }
    }

    /// # Errors
    /// The tag shows something else, which belongs to somebody else and must not be replaced.
    fn read(bytes: &[u8]) -> Result<Self, String> {
        let Ok(Value::Object(mut index)) = serde_json::from_slice(bytes) else {
            return Err("it shows something that is no JSON object".to_owned());
        };
        let media_type = index.get("mediaType").and_then(Value::as_str).unwrap_or(media_type::OCI_INDEX);
        if media_type != media_type::OCI_INDEX {
            let media_type: String = media_type.chars().take(80).collect();
            return Err(format!("it shows {media_type}, and not an image index"));
        }
        match index.remove("manifests") {
            Some(Value::Array(entries)) => Ok(Self { index, entries }),
            Some(Value::Null) => Ok(Self { index, entries: Vec::new() }),
            _ => Err("it shows a manifest that lists no others".to_owned()),
        }
    }

    /// The index with the manifest in it; none when it is in it already.
    fn with(mut self, manifest: &Manifest) -> Option<Value> {
        let digest = manifest.digest.to_string();
        if self.entries.iter().any(|entry| entry["digest"] == digest) {
            return None;
        }
        self.entries.push(entry(manifest));
        self.index.insert("manifests".to_owned(), self.entries.into());
        Some(self.index.into())
    }
}

/// How an index lists a manifest that refers to an image.
fn entry(manifest: &Manifest) -> Value {
    let digest = manifest.digest.to_string();
    let body: Value = serde_json::from_slice(&manifest.bytes).unwrap_or_default();
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
    entry
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_added_once_and_says_what_it_is() {
        let digest = Digest::of(b"");
        let json = format!(
            r#"{{"schemaVersion":2,"artifactType":"application/x.sig","config":{{"mediaType":"c","digest":"{digest}","size":0}},
            "layers":[],"subject":{{"digest":"{digest}","size":1}},"annotations":{{"k":"v"}}}}"#
        );
        let manifest = Manifest::parse(Bytes::from(json), media_type::OCI_MANIFEST).unwrap();
        let once = Referrers::none().with(&manifest).unwrap();
        assert_eq!(once["manifests"][0]["artifactType"], "application/x.sig");
        assert_eq!(once["manifests"][0]["annotations"]["k"], "v");
        let again = Referrers::read(once.to_string().as_bytes()).unwrap();
        assert_eq!(again.clone().with(&manifest), None);
        assert_eq!(again.entries.len(), 1);
    }

    #[test]
    fn what_is_no_index_is_left_alone_and_named() {
        let index = media_type::OCI_INDEX;
        for good in [
            r#"{"schemaVersion":2,"manifests":[]}"#.to_owned(),
            format!(
                r#"{{"schemaVersion":2,"mediaType":"{index}","manifests":null,"annotations":{{"k":"v"}}}}"#
            ),
        ] {
            assert!(Referrers::read(good.as_bytes()).is_ok(), "{good}");
        }
        for (foreign, why) in [
            (r#"{"schemaVersion":2,"config":{},"layers":[]}"#, "lists no others"),
            (r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{}}"#, "manifest.v1+json"),
            (
                r#"{"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[]}"#,
                "not an image index",
            ),
            ("[]", "no JSON object"),
            ("<html>", "no JSON object"),
        ] {
            let said = Referrers::read(foreign.as_bytes()).unwrap_err();
            assert!(said.contains(why), "{foreign}: {said}");
        }
    }
}
