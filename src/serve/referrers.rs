//! Who is about whom: signatures and the like, found by the manifest they name as their subject
//! ([distribution-spec, listing referrers](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers)).
//!
//! The descriptor of each such manifest is written once, when the manifest comes in; a list is those files, less the ones
//! whose manifest has gone.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{Code, Refusal, json_answer};
use super::request::Query;
use super::store::{Shelf, Store, blocking, entries};
use crate::oci::{Digest, Repository, media_type};

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// What a manifest says of itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Claims {
    pub(super) media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Config>,
    annotations: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Config {
    media_type: Option<String>,
}

impl Claims {
    pub(super) fn read(manifest: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(manifest).map_err(|error| {
            Refusal::new(Code::ManifestInvalid, format!("not the JSON it should be: {error}"))
        })
    }

    /// The entry of a list. An image without an artifact type of its own has its configuration's.
    pub(super) fn descriptor(&self, media_type: &str, digest: &Digest, size: usize) -> Value {
        let mut descriptor = json!({ "mediaType": media_type, "digest": digest, "size": size });
        let config = self.config.as_ref().and_then(|config| config.media_type.as_ref());
        if let Some(artifact_type) = self.artifact_type.as_ref().filter(|kind| !kind.is_empty()).or(config) {
            descriptor["artifactType"] = json!(artifact_type);
        }
        if let Some(annotations) = self.annotations.as_ref().filter(|value| value.is_object()) {
            descriptor["annotations"] = annotations.clone();
        }
        descriptor
    }
}

fn folder(store: &Store, repository: &Repository, subject: &Digest) -> PathBuf {
    store.repository(repository).join("_referrers").join(subject.algorithm().name()).join(subject.hex())
}

/// Notes that a manifest has this subject. It counts from the moment the manifest is there.
pub(super) fn write(
    store: &Store,
    repository: &Repository,
    subject: &Digest,
    referrer: &Digest,
    descriptor: &Value,
) -> io::Result<()> {
    let name = format!("{}-{}", referrer.algorithm().name(), referrer.hex());
    let path = folder(store, repository, subject).join(name);
    store.write_durable(&path, descriptor.to_string().as_bytes())
}

fn read(store: &Store, repository: &Repository, subject: &Digest) -> io::Result<Vec<Value>> {
    let mut files = entries(&folder(store, repository, subject))?;
    files.sort_by_key(fs::DirEntry::file_name);
    let mut descriptors = Vec::new();
    for file in files {
        let digest = file.file_name().to_str().and_then(|name| name.replacen('-', ":", 1).parse().ok());
        let Some(digest) = digest else { continue };
        if store.link(repository, Shelf::Manifests, &digest)?.is_some() {
            let text = fs::read(file.path())?;
            descriptors.push(serde_json::from_slice(&text).map_err(io::Error::other)?);
        }
    }
    Ok(descriptors)
}

/// `GET referrers/<digest>`: an index, empty where nobody refers to it.
pub(super) async fn list(
    store: &Arc<Store>,
    repository: Repository,
    subject: Digest,
    query: &Query,
) -> Result<Response, Refusal> {
    let mut manifests = blocking(store, move |store| read(store, &repository, &subject)).await?;
    let filter = query.text("artifactType").filter(|filter| !filter.is_empty());
    if let Some(filter) = filter {
        manifests.retain(|descriptor| descriptor["artifactType"] == filter);
    }
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests });
    let mut response = json_answer(media_type::OCI_INDEX, &index);
    if filter.is_some() {
        response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    Ok(response)
}
