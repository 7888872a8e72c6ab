//! Manifests, tags and referrers
//! ([distribution-spec](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md)).
//!
//! Bytes go in and out as they are; what is asked for by digest is checked against it.

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use reqwest::{Method, Url};
use serde_json::Value;

use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::oci::{Digest, Repository, Tag, media_type};
use crate::registry::client::{Request, Want};
use crate::registry::error::{Cause, RegistryError};
use crate::registry::retry::Replay;
use crate::registry::transport::Payload;
use crate::registry::{Registry, headers, location};

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
/// Pages of a list that are followed before a server is taken to lead in circles.
const MAX_PAGES: usize = 1000;
const MAX_PAGE_BYTES: u64 = 8 << 20;

/// What a HEAD tells of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestHead {
    /// Its digest, if the registry says it.
    pub digest: Option<Digest>,
    /// Its size in bytes, if the registry says it.
    pub size: Option<u64>,
    /// Its media type, empty if the registry does not say it.
    pub media_type: String,
}

/// A manifest as it is stored.
#[derive(Debug, Clone)]
pub struct ManifestBytes {
    /// The bytes.
    pub bytes: Bytes,
    /// The media type that the registry serves it as.
    pub media_type: String,
}

/// A manifest was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutManifest {
    /// Its digest.
    pub digest: Digest,
    /// Whether the registry said so itself, of what it stored.
    pub confirmed: bool,
    /// Whether the registry itself lists it among the referrers of its subject.
    pub subject_honoured: bool,
}

impl Registry {
    /// Whether a manifest is there, by tag or digest.
    pub async fn head_manifest(
        &self,
        repository: &Repository,
        reference: &str,
    ) -> Result<Option<ManifestHead>, RegistryError> {
        let url = self.manifest_url(repository, reference)?;
        let request = Request::new(Method::HEAD, url)
            .header(ACCEPT, media_type::ACCEPT_MANIFESTS)
            .also(&[400, 403, 404, 405]);
        let reply = self.call(repository, &request).await?;
        match reply.status {
            404 => Ok(None),
            // No HEAD, or a refusal without words: a GET works, or says why not.
            400 | 403 | 405 => {
                let found = self.get_manifest(repository, reference, MAX_MANIFEST_BYTES).await?;
                Ok(found.map(|manifest| ManifestHead {
                    digest: Some(Digest::of(&manifest.bytes)),
                    size: Some(manifest.bytes.len() as u64),
                    media_type: manifest.media_type,
                }))
            }
            _ => Ok(Some(ManifestHead {
                digest: headers::text(&reply.headers, DOCKER_CONTENT_DIGEST)
                    .and_then(|text| text.parse().ok()),
                size: headers::content_length(&reply.headers),
                media_type: headers::text(&reply.headers, CONTENT_TYPE)
                    .map(headers::media_type)
                    .unwrap_or_default(),
            })),
        }
    }

    /// A manifest by tag or digest, if it is there.
    pub async fn get_manifest(
        &self,
        repository: &Repository,
        reference: &str,
        max_bytes: u64,
    ) -> Result<Option<ManifestBytes>, RegistryError> {
        let url = self.manifest_url(repository, reference)?;
        let request = Request::new(Method::GET, url)
            .header(ACCEPT, media_type::ACCEPT_MANIFESTS)
            .want(Want::Whole(max_bytes))
            .also(&[404]);
        let reply = self.call(repository, &request).await?;
        if reply.status == 404 {
            return Ok(None);
        }
        if reference.parse::<Digest>().is_ok_and(|digest| !digest.matches(&reply.body)) {
            let found = Digest::of(&reply.body);
            return Err(
                request.failed(Cause::Integrity(format!("the registry serves other content, {found}")))
            );
        }
        let media_type =
            headers::text(&reply.headers, CONTENT_TYPE).map(headers::media_type).unwrap_or_default();
        Ok(Some(ManifestBytes { bytes: reply.body, media_type }))
    }

    /// Stores a manifest under a tag or its digest. Sending it twice is harmless, so this is retried as a question is.
    pub async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<PutManifest, RegistryError> {
        let url = self.manifest_url(repository, reference)?;
        let request = Request::new(Method::PUT, url)
            .header(CONTENT_TYPE, media_type)
            .payload(Payload::Bytes(bytes.clone()), Replay::Safe);
        let reply = self.call(repository, &request).await?;
        let told =
            headers::text(&reply.headers, DOCKER_CONTENT_DIGEST).and_then(|text| text.parse::<Digest>().ok());
        if let Some(told) = told.filter(|digest| !digest.matches(&bytes)) {
            let why = format!("the registry stored it as {told}: it or a proxy changes content");
            return Err(request.failed(Cause::Integrity(why)));
        }
        let digest = reference.parse().unwrap_or_else(|_| Digest::of(&bytes));
        let confirmed = told.is_some();
        Ok(PutManifest { digest, confirmed, subject_honoured: reply.headers.contains_key(OCI_SUBJECT) })
    }

    /// All tags of a repository; none if there is no such repository.
    pub async fn tags(&self, repository: &Repository) -> Result<Vec<String>, RegistryError> {
        let mut next = Some(self.url(&format!("{repository}/tags/list?n=1000"))?);
        let mut tags = Vec::new();
        for _ in 0..MAX_PAGES {
            let Some(url) = next else { return Ok(tags) };
            let Some((page, link)) = self.page(repository, url, &[404]).await? else { return Ok(tags) };
            let list = page.get("tags").and_then(Value::as_array);
            tags.extend(list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
            next = link;
        }
        Err(Cause::TooMuch { what: format!("the list of tags of {repository}"), limit_bytes: MAX_PAGE_BYTES }
            .into())
    }

    /// The index of what refers to a manifest (signatures, SBOMs); `None` if the registry has no such API. Several pages
    /// come as one index.
    pub async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<Option<Bytes>, RegistryError> {
        let mut next = Some(self.url(&format!("{repository}/referrers/{digest}"))?);
        let mut index: Option<Value> = None;
        for _ in 0..MAX_PAGES {
            let Some(url) = next else { break };
            let Some((mut page, link)) = self.page(repository, url, &[400, 404, 405, 501]).await? else {
                break;
            };
            next = link;
            match &mut index {
                None => index = Some(page),
                Some(index) => {
                    let more = page.get_mut("manifests").and_then(Value::as_array_mut).map(std::mem::take);
                    if let Some(list) = index.get_mut("manifests").and_then(Value::as_array_mut) {
                        list.extend(more.into_iter().flatten());
                    }
                }
            }
        }
        Ok(index.map(|index| Bytes::from(index.to_string())))
    }

    /// One page of a list and the address of the next.
    async fn page(
        &self,
        repository: &Repository,
        url: Url,
        absent: &[u16],
    ) -> Result<Option<(Value, Option<Url>)>, RegistryError> {
        let request = Request::new(Method::GET, url)
            .header(ACCEPT, "application/json, application/vnd.oci.image.index.v1+json")
            .want(Want::Whole(MAX_PAGE_BYTES))
            .also(absent);
        let reply = self.call(repository, &request).await?;
        if absent.contains(&reply.status) {
            return Ok(None);
        }
        let page = serde_json::from_slice(&reply.body)
            .map_err(|e| request.failed(Cause::Protocol(format!("the answer is not JSON: {e}"))))?;
        let next = headers::next_link(&reply.headers)
            .map(|link| location::page(&reply.url, link))
            .transpose()
            .map_err(|why| request.failed(Cause::Protocol(why)))?;
        Ok(Some((page, next)))
    }

    fn manifest_url(&self, repository: &Repository, reference: &str) -> Result<Url, RegistryError> {
        if reference.parse::<Digest>().is_err() && reference.parse::<Tag>().is_err() {
            return Err(Cause::Internal(format!("{reference:?} is neither a tag nor a digest")).into());
        }
        self.url(&format!("{repository}/manifests/{reference}"))
    }
}
