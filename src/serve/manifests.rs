//! Manifests: stored byte for byte, and only when everything they name is there
//! ([distribution-spec, pushing manifests](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests)).

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::blobs::{CONTENT_DIGEST, file_body, text_value};
use super::error::{Code, Refusal};
use super::fsync::found;
use super::named::needed_by;
use super::receive::{READ_AND_DROPPED, receive_document};
use super::referrers;
use super::request::{self, ManifestReference, Query};
use super::store::{ContentKind, ContentLink, Store, blocking};
use super::{pages, tags};
use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::oci::{Descriptor, Digest, Manifest, Repository, Tag, media_type};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAGS: HeaderName = HeaderName::from_static("oci-tag");

fn unknown(target: &ManifestReference) -> Refusal {
    let what = match target {
        ManifestReference::Tag(tag) => tag.to_string(),
        ManifestReference::Digest(digest) => digest.to_string(),
    };
    Refusal::new(Code::ManifestUnknown, format!("{what} is not in this repository"))
}

/// The digest of a reference; for a tag, the one it points to now.
fn resolve(store: &Store, repository: &Repository, target: &ManifestReference) -> io::Result<Option<Digest>> {
    match target {
        ManifestReference::Digest(digest) => Ok(Some(*digest)),
        ManifestReference::Tag(tag) => tags::read(store, repository, tag),
    }
}

/// `GET` and `HEAD manifests/<tag or digest>`
pub(super) async fn fetch(
    store: &Arc<Store>,
    repository: Repository,
    target: ManifestReference,
    method: &Method,
) -> Result<Response, Refusal> {
    let refusal = unknown(&target);
    let with_bytes = method == Method::GET;
    let read = blocking(store, move |store| {
        let Some(digest) = resolve(store, &repository, &target)? else { return Ok(None) };
        let Some(link) = store.manifest_link(&repository, &digest)? else { return Ok(None) };
        // Another process may just have removed it.
        let file = if with_bytes { found(File::open(store.content_path(&digest)))? } else { None };
        Ok((file.is_some() || !with_bytes).then_some((digest, link, file)))
    })
    .await?;
    let (digest, link, file) = read.ok_or(refusal)?;
    let body = file.map_or_else(Body::empty, |file| file_body(file, 0..link.size));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, text_value(link.media_type.unwrap_or_default()));
    headers.insert(header::CONTENT_LENGTH, link.size.into());
    headers.insert(header::ETAG, text_value(format!("\"{digest}\"")));
    headers.insert(CONTENT_DIGEST, text_value(digest.to_string()));
    Ok(response)
}

/// `PUT manifests/<tag>`, or `PUT manifests/<digest>`, the latter with any number of `tag=`
/// ([coming after 1.1](https://github.com/opencontainers/distribution-spec/blob/main/spec.md#pushing-manifests)).
pub(super) async fn store(
    store: &Arc<Store>,
    repository: Repository,
    target: ManifestReference,
    query: &Query,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let invalid = |why: String| Refusal::new(Code::ManifestInvalid, why);
    let limit = usize::try_from(MAX_MANIFEST_BYTES).unwrap_or(usize::MAX);
    let too_long = || {
        invalid(format!("a manifest may have {MAX_MANIFEST_BYTES} bytes"))
            .status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    let sent_as = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::trim);
    let sent_as = sent_as.filter(|sent| !sent.is_empty()).map(str::to_owned);
    // A client with `Expect: 100-continue` need not send the body, and a body that is far too long is not read to its end.
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    let read_at_most = if headers.contains_key(header::EXPECT) { limit } else { limit * READ_AND_DROPPED };
    if length.is_some_and(|length| length > read_at_most) {
        return Err(too_long());
    }
    let document = receive_document(body, limit, || store.nameless_file()).await?.ok_or_else(too_long)?;
    let sent_as = sent_as.ok_or_else(|| invalid("a manifest needs a Content-Type".to_owned()))?;
    let _turn = pages::turn(store).await?;
    let bytes = Bytes::from(document.read()?);
    let (digest, tags): (_, Vec<Tag>) = match target {
        ManifestReference::Tag(tag) => (Digest::of(&bytes), vec![tag]),
        ManifestReference::Digest(digest) if digest.matches(&bytes) => {
            (digest, query.texts("tag").map(request::tag).collect::<Result<_, _>>()?)
        }
        ManifestReference::Digest(digest) => {
            return Err(Refusal::new(Code::DigestInvalid, format!("the manifest is not {digest}")));
        }
    };
    let manifest = IncomingManifest::read(bytes, &sent_as)?;
    let subject = manifest.subject;

    let mut response = StatusCode::CREATED.into_response();
    let answer = response.headers_mut();
    answer.insert(header::LOCATION, text_value(format!("/v2/{repository}/manifests/{digest}")));
    answer.insert(CONTENT_DIGEST, text_value(digest.to_string()));
    if let Some(subject) = subject {
        answer.insert(SUBJECT, text_value(subject.to_string()));
    }
    if query.text("tag").is_some() {
        let tags: Vec<_> = tags.iter().map(Tag::as_str).collect();
        answer.insert(TAGS, text_value(tags.join(", ")));
    }
    let missing = blocking(store, move |store| {
        let len = manifest.bytes.len() as u64;
        store.with_room(len, || {
            let _nothing_goes = store.deletions.read();
            let missing = manifest.missing(store, &repository)?;
            if missing.is_empty() {
                store.put_content(&digest, &manifest.bytes)?;
                if let Some(subject) = subject {
                    let descriptor = manifest.claims.descriptor(&sent_as, &digest, manifest.bytes.len());
                    referrers::write(store, &repository, &subject, &digest, &descriptor)?;
                }
                let link = ContentLink { size: len, media_type: Some(sent_as.clone()) };
                store.put_link(&repository, ContentKind::Manifests, &digest, &link)?;
                // Tags are written last: they never point to a manifest that is not there.
                for tag in &tags {
                    tags::write(store, &repository, tag, &digest)?;
                }
            }
            Ok(missing)
        })
    })
    .await?;
    if missing.is_empty() { Ok(response) } else { Err(Refusal::missing_blobs(&missing)) }
}

/// A received manifest, and the content that must exist before it is stored.
struct IncomingManifest {
    bytes: Bytes,
    claims: referrers::ManifestFields,
    subject: Option<Digest>,
    /// What the repository must have as blobs, and what it must have as blobs or manifests.
    blobs: Vec<Digest>,
    children: Vec<Digest>,
}

impl IncomingManifest {
    /// A manifest of an unknown type is stored as it is, if it is a JSON object and everything it names is there.
    fn read(bytes: Bytes, sent_as: &str) -> Result<Self, Refusal> {
        let invalid = |why: String| Refusal::new(Code::ManifestInvalid, why);
        let essence = sent_as.split(';').next().map_or("", str::trim);
        let claims = referrers::ManifestFields::read(&bytes)?;
        if let Some(says) = claims.media_type.as_deref()
            && says != essence
        {
            return Err(invalid(format!("sent as {essence:?}, but says of itself that it is {says:?}")));
        }
        if !media_type::is_manifest(essence) && !media_type::DOCKER_SCHEMA1.contains(&essence) {
            let document: Value =
                serde_json::from_slice(&bytes).map_err(|error| invalid(error.to_string()))?;
            let subject = document["subject"]["digest"].as_str().map(request::digest).transpose()?;
            let children = needed_by(&document);
            return Ok(Self { bytes, claims, subject, blobs: Vec::new(), children });
        }
        let manifest = Manifest::parse(bytes, essence).map_err(|error| invalid(error.to_string()))?;
        let here = |child: &&Descriptor| !child.is_foreign();
        Ok(Self {
            claims,
            subject: manifest.subject.as_ref().map(|subject| subject.digest),
            blobs: manifest.blobs().map(|blob| blob.digest).collect(),
            children: manifest.children().iter().filter(here).map(|child| child.digest).collect(),
            bytes: manifest.bytes,
        })
    }

    /// What it names and the repository lacks. Its subject may be missing: it may come later.
    fn missing(&self, store: &Store, repository: &Repository) -> io::Result<Vec<Digest>> {
        let mut missing = Vec::new();
        for blob in &self.blobs {
            if store.link(repository, ContentKind::Blobs, blob)?.is_none() {
                missing.push(*blob);
            }
        }
        for child in &self.children {
            // An index may list blobs.
            if store.manifest_link(repository, child)?.is_none()
                && store.link(repository, ContentKind::Blobs, child)?.is_none()
            {
                missing.push(*child);
            }
        }
        Ok(missing)
    }
}

/// `DELETE manifests/<tag or digest>`: a tag alone, or a manifest with the tags that point to it.
pub(super) async fn delete(
    store: &Arc<Store>,
    repository: Repository,
    target: ManifestReference,
) -> Result<Response, Refusal> {
    let refusal = unknown(&target);
    let was_there = blocking(store, move |store| {
        let _alone = store.deletions.write();
        let digest = match target {
            ManifestReference::Tag(tag) => return tags::remove(store, &repository, &tag),
            ManifestReference::Digest(digest) => digest,
        };
        for tag in tags::all(store, &repository)? {
            if tags::read(store, &repository, &tag)? == Some(digest) {
                tags::remove(store, &repository, &tag)?;
            }
        }
        store.delete_manifest(&repository, &digest)
    })
    .await?;
    if was_there { Ok(StatusCode::ACCEPTED.into_response()) } else { Err(refusal) }
}
