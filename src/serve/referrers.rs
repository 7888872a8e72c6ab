//! Referrers: signatures and other manifests, found by the manifest they name as their subject
//! ([distribution-spec, listing referrers](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#listing-referrers)).
//!
//! The descriptor of each such manifest is written once, when the manifest comes in; a list is those files, less the ones
//! whose manifest has gone.

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::{Code, Refusal};
use super::fsync::entries;
use super::pages::{self, MAX_PAGE, Page};
use super::request::Query;
use super::store::{ContentKind, Store, blocking};
use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::oci::{Digest, Repository, media_type};
use crate::small_file;

/// A page of a list ends at this length, however few entries it has.
const PAGE_BYTES: usize = 1 << 20;

const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// The fields of a manifest that its descriptor repeats.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ManifestFields {
    pub(super) media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<ConfigDescriptor>,
    annotations: Option<Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConfigDescriptor {
    media_type: Option<String>,
}

impl ManifestFields {
    pub(super) fn read(manifest: &[u8]) -> Result<Self, Refusal> {
        serde_json::from_slice(manifest).map_err(|error| {
            Refusal::new(Code::ManifestInvalid, format!("the manifest is not valid JSON: {error}"))
        })
    }

    /// The manifest's entry in a list. Without an artifact type of its own it has its configuration's.
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

/// A page of the list: the descriptors, and the name of the last one looked at when more may follow.
fn read(store: &Store, asked: &ReferrersQuery) -> io::Result<(Vec<Value>, Option<String>)> {
    let ReferrersQuery { repository, subject, artifact_type, after, len } = asked;
    let names = entries(&folder(store, repository, subject))?.into_iter();
    let mut names: Vec<String> = names.filter_map(|file| file.file_name().into_string().ok()).collect();
    names.sort_unstable();
    let after = after.as_deref().unwrap_or_default();
    let (mut descriptors, mut bytes, mut last) = (Vec::new(), 0, None);
    for name in names.into_iter().filter(|name| name.as_str() > after) {
        if descriptors.len() >= *len || bytes >= PAGE_BYTES {
            return Ok((descriptors, last));
        }
        let Ok(digest) = name.replacen('-', ":", 1).parse() else { continue };
        if store.link(repository, ContentKind::Manifests, &digest)?.is_some() {
            let text = small_file::read(&folder(store, repository, subject).join(&name), MAX_MANIFEST_BYTES)?;
            let descriptor: Value = serde_json::from_slice(&text).map_err(io::Error::other)?;
            if artifact_type.as_ref().is_none_or(|filter| descriptor["artifactType"] == **filter) {
                bytes += text.len();
                descriptors.push(descriptor);
            }
        }
        last = Some(name);
    }
    Ok((descriptors, None))
}

/// What the client asks for.
struct ReferrersQuery {
    repository: Repository,
    subject: Digest,
    artifact_type: Option<String>,
    after: Option<String>,
    len: usize,
}

/// `GET referrers/<digest>`: an index, which is empty where there are none.
pub(super) async fn list(
    store: &Arc<Store>,
    repository: Repository,
    subject: Digest,
    query: &Query,
) -> Result<Response, Refusal> {
    let page = Page::of(query)?;
    let filter = query.text("artifactType").filter(|filter| !filter.is_empty()).map(str::to_owned);
    let asked = ReferrersQuery {
        repository: repository.clone(),
        subject,
        artifact_type: filter.clone(),
        after: page.last.map(str::to_owned),
        len: page.len.unwrap_or(MAX_PAGE),
    };
    let len = asked.len;
    let _turn = pages::turn(store).await?;
    let (manifests, last) = blocking(store, move |store| read(store, &asked)).await?;
    let index = json!({ "schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests });
    let mut response = pages::document(store, media_type::OCI_INDEX, &index).await?;
    if filter.is_some() {
        response.headers_mut().insert(FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let Some(last) = last {
        let mut next = url::form_urlencoded::Serializer::new(String::new());
        next.append_pair("n", &len.to_string()).append_pair("last", &last);
        if let Some(filter) = &filter {
            next.append_pair("artifactType", filter);
        }
        pages::link_next(&mut response, &format!("/v2/{repository}/referrers/{subject}?{}", next.finish()));
    }
    Ok(response)
}
