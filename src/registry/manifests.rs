//! Manifests, tags and referrers
//! ([distribution-spec](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md)).
//!
//! Bytes go in and out as they are; content that is fetched by digest is checked against it.

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName};
use reqwest::{Method, Url};

use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::oci::{Digest, Repository, Tag, media_type};
use crate::registry::client::{ApiRequest, Reply, Want};
use crate::registry::error::{Cause, RegistryError};
use crate::registry::error_response::ErrorResponse;
use crate::registry::retry::Replay;
use crate::registry::transport::Payload;
use crate::registry::{Registry, first_request, headers, webpage};

const OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");

/// The facts about a manifest that a HEAD gives.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct ManifestHead {
    /// Its digest, if the registry says it.
    pub digest: Option<Digest>,
    /// Its size in bytes, if the registry says it.
    pub size: Option<u64>,
    /// Its media type, empty if the registry does not say it.
    pub media_type: String,
    /// Whether the registry has it and does not serve it, as Harbor does by a policy against vulnerable images.
    pub withheld: bool,
}

/// A manifest as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct ManifestBytes {
    /// The bytes.
    pub bytes: Bytes,
    /// The media type that the registry serves it as.
    pub media_type: String,
}

/// A manifest was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PutManifest {
    /// Its digest.
    pub digest: Digest,
    /// Whether the registry named that digest itself, of what it stored.
    pub confirmed: bool,
    /// Whether the registry itself lists it among the referrers of its subject.
    pub subject_honoured: bool,
}

impl Registry {
    /// Whether a manifest is there, by tag or digest. A manifest with a digest is there only if the registry names that digest, or
    /// serves the bytes: some registries answer every question alike, and some have mixed up their content.
    pub(crate) async fn head_manifest(
        &self,
        repository: &Repository,
        reference: &str,
    ) -> Result<Option<ManifestHead>, RegistryError> {
        let reply = match self.first_response(repository, reference) {
            Some(answer) => answer?,
            None => {
                self.call(
                    repository,
                    &first_request::head_manifest(self.manifest_url(repository, reference)?),
                )
                .await?
            }
        };
        match reply.status {
            404 => Ok(None),
            // No HEAD, or a refusal without words: a GET works, or says why not.
            400 | 403 | 405 => self.head_by_get(repository, reference).await,
            412 => match self.head_by_get(repository, reference).await {
                Err(error) if error.is_withheld() => {
                    self.withholds(&error);
                    Ok(Some(ManifestHead { withheld: true, ..ManifestHead::default() }))
                }
                outcome => outcome,
            },
            _ => {
                let told = headers::content_digest(&reply.headers);
                if let Ok(asked) = reference.parse::<Digest>()
                    && told != Some(asked)
                {
                    self.doubt(told.filter(|told| told.algorithm() == asked.algorithm()));
                    return self.head_by_get(repository, reference).await;
                }
                Ok(Some(ManifestHead {
                    digest: told,
                    size: headers::content_length(&reply.headers),
                    media_type: headers::text(&reply.headers, CONTENT_TYPE)
                        .map(headers::media_type)
                        .unwrap_or_default(),
                    withheld: false,
                }))
            }
        }
    }

    /// Warns once, if the registry answered a question for one digest with another.
    fn doubt(&self, told: Option<Digest>) {
        let text = "answers a question for one digest with another: it is asked for the content instead";
        if told.is_some() && self.host().is_news(text) {
            self.observer().warning(&format!("{} {text}", self.endpoint()));
        }
    }

    /// Warns once that the registry does not serve what it has.
    fn withholds(&self, error: &RegistryError) {
        self.host().quirks().this_run.withholds_manifests = true;
        let why = error.answer().map(ToString::to_string).unwrap_or_default();
        let text =
            "has manifests that it gives to nobody: they are put again, and verified by its word alone";
        if self.host().is_news(text) {
            self.observer().warning(&format!("{} {text} ({why})", self.endpoint()));
        }
    }

    /// Whether the registry has manifests that it does not serve.
    pub(crate) fn withholds_manifests(&self) -> bool {
        self.host().quirks().this_run.withholds_manifests
    }

    /// The answer of a HEAD, from the bytes.
    async fn head_by_get(
        &self,
        repository: &Repository,
        reference: &str,
    ) -> Result<Option<ManifestHead>, RegistryError> {
        let found = self.get_manifest(repository, reference, MAX_MANIFEST_BYTES).await?;
        Ok(found.map(|manifest| ManifestHead {
            digest: Some(reference.parse().unwrap_or_else(|_| Digest::of(&manifest.bytes))),
            size: Some(manifest.bytes.len() as u64),
            media_type: manifest.media_type,
            withheld: false,
        }))
    }

    /// A manifest by tag or digest, if it is there.
    pub(crate) async fn get_manifest(
        &self,
        repository: &Repository,
        reference: &str,
        max_bytes: u64,
    ) -> Result<Option<ManifestBytes>, RegistryError> {
        let url = self.manifest_url(repository, reference)?;
        let request = ApiRequest::new(Method::GET, url)
            .header(ACCEPT, media_type::ACCEPT_MANIFESTS)
            .want(Want::Whole(max_bytes))
            .also(&[404]);
        let reply = self.call(repository, &request).await?;
        if reply.status == 404 {
            return Ok(None);
        }
        let media_type =
            headers::text(&reply.headers, CONTENT_TYPE).map(headers::media_type).unwrap_or_default();
        // A document of any other type is what somebody stored.
        let may_be_anything = is_general(&media_type);
        if let Some(page) = webpage::in_place_of_registry(&reply.headers, &reply.body)
            && may_be_anything
        {
            return Err(self.failed(&request, Cause::NotRegistry(page)));
        }
        if reference.parse::<Digest>().is_ok_and(|digest| !digest.matches(&reply.body)) {
            let found = Digest::of(&reply.body);
            let why = format!("the registry serves other content under this digest, {found}");
            return Err(self.failed(&request, Cause::Integrity(why)));
        }
        if may_be_anything && !is_manifest(&reply.body) {
            let why = "it answers a question for a manifest with something that is none";
            return Err(self.failed(&request, Cause::NotRegistry(why.to_owned())));
        }
        Ok(Some(ManifestBytes { bytes: reply.body, media_type }))
    }

    /// Stores a manifest under a tag or its digest. Sending it twice does no harm, so it is retried like a read.
    pub(crate) async fn put_manifest(
        &self,
        repository: &Repository,
        reference: &str,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<PutManifest, RegistryError> {
        let reply = self.put(repository, reference, media_type, &bytes).await?;
        self.host().breaker().acknowledged();
        let told = headers::content_digest(&reply.headers);
        let confirmed = told.is_some_and(|told| told.matches(&bytes));
        if told.is_some() && !confirmed {
            self.contradicts();
        }
        let digest = reference.parse().unwrap_or_else(|_| Digest::of(&bytes));
        Ok(PutManifest { digest, confirmed, subject_honoured: reply.headers.contains_key(OCI_SUBJECT) })
    }

    /// Sends a manifest. Some registries answer layers with `urls` with a 500, which no other attempt mends.
    async fn put(
        &self,
        repository: &Repository,
        reference: &str,
        media_type: &str,
        bytes: &Bytes,
    ) -> Result<Reply, RegistryError> {
        let url = self.manifest_url(repository, reference)?;
        let request = || {
            ApiRequest::new(Method::PUT, url.clone())
                .header(CONTENT_TYPE, media_type)
                .payload(Payload::Bytes(bytes.clone()), Replay::Safe)
        };
        if names_urls(bytes) {
            let once = request().also(&[500]);
            let reply = self.call(repository, &once).await?;
            if reply.status != 500 {
                return Ok(reply);
            }
            let shown = |words: &str| self.transport().shown(&reply.url, words.as_bytes());
            let refusal = ErrorResponse::new(500, None, &reply.body, shown);
            if refusal.has_code("UNKNOWN") && refusal.has_code("MANIFEST_BLOB_UNKNOWN") {
                return Err(self.failed(&once, Cause::UrlsRefused(refusal)));
            }
        }
        self.call(repository, &request()).await
    }

    /// Warns once that the registry named another digest than that of the manifest. What it stored is read back then.
    fn contradicts(&self) {
        let text = "calls a manifest by another digest than its own: what it stored is read back";
        if self.host().is_news(text) {
            self.observer().warning(&format!("{} {text}", self.endpoint()));
        }
    }

    fn manifest_url(&self, repository: &Repository, reference: &str) -> Result<Url, RegistryError> {
        if reference.parse::<Digest>().is_err() && reference.parse::<Tag>().is_err() {
            return Err(Cause::Internal(format!("{reference:?} is neither a tag nor a digest")).into());
        }
        self.url(&format!("{repository}/manifests/{reference}"))
    }
}

/// Whether a manifest has layers with `urls`.
fn names_urls(manifest: &[u8]) -> bool {
    let document: Option<serde_json::Value> = serde_json::from_slice(manifest).ok();
    let layers = document.as_ref().and_then(|document| document["layers"].as_array());
    layers.is_some_and(|layers| {
        layers.iter().any(|layer| layer["urls"].as_array().is_some_and(|it| !it.is_empty()))
    })
}

/// Whether a body can be a manifest: a JSON object that names its version or its type. One that was damaged on its way does
/// not parse, and still begins like one.
fn is_manifest(body: &[u8]) -> bool {
    match serde_json::from_slice::<serde_json::Value>(body) {
        Ok(document) => document.get("schemaVersion").is_some() || document.get("mediaType").is_some(),
        Err(_) => body.trim_ascii_start().starts_with(b"{"),
    }
}

/// Whether a media type leaves open what a document holds.
fn is_general(media_type: &str) -> bool {
    media_type.starts_with("text/")
        || matches!(
            media_type,
            "" | "application/json"
                | "application/octet-stream"
                | "application/xhtml+xml"
                | "application/xml"
        )
}

#[cfg(test)]
mod tests;
