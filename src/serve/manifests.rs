//! Manifests: taken byte for byte, and only when everything they name is there
//! ([distribution-spec, pushing manifests](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests)).

use std::fs;
use std::io;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::blobs::{CONTENT_DIGEST, text_value};
use super::error::{Code, Refusal};
use super::receive::read_small;
use super::referrers;
use super::request::{self, Query, Target};
use super::store::{Link, Shelf, Store, blocking, found};
use super::tags;
use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::oci::{Digest, Manifest, Repository, Tag};

const SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
const TAGS: HeaderName = HeaderName::from_static("oci-tag");

fn unknown(target: &Target) -> Refusal {
    let what = match target {
        Target::Tag(tag) => tag.to_string(),
        Target::Digest(digest) => digest.to_string(),
    };
    Refusal::new(Code::ManifestUnknown, format!("{what} is not in this repository"))
}

/// The digest that is meant; for a tag, the one it stands for now.
fn resolve(store: &Store, repository: &Repository, target: &Target) -> io::Result<Option<Digest>> {
    match target {
        Target::Digest(digest) => Ok(Some(*digest)),
        Target::Tag(tag) => tags::read(store, repository, tag),
    }
}

/// `GET` and `HEAD manifests/<tag or digest>`
pub(super) async fn fetch(
    store: &Arc<Store>,
    repository: Repository,
    target: Target,
    method: &Method,
) -> Result<Response, Refusal> {
    let refusal = unknown(&target);
    let with_bytes = method == Method::GET;
    let read = blocking(store, move |store| {
        let Some(digest) = resolve(store, &repository, &target)? else { return Ok(None) };
        let Some(link) = store.link(&repository, Shelf::Manifests, &digest)? else { return Ok(None) };
        let bytes = if with_bytes { found(fs::read(store.content_path(&digest)))? } else { None };
        Ok(Some((digest, link, bytes)))
    })
    .await?;
    let (digest, link, bytes) = read.ok_or(refusal)?;
    let mut response = Body::from(bytes.unwrap_or_default()).into_response();
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
    target: Target,
    query: &Query,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let invalid = |why: String| Refusal::new(Code::ManifestInvalid, why);
    let limit = usize::try_from(MAX_MANIFEST_BYTES).unwrap_or(usize::MAX);
    let bytes = read_small(body, limit).await?.ok_or_else(|| {
        invalid(format!("a manifest may have {MAX_MANIFEST_BYTES} bytes"))
            .status(StatusCode::PAYLOAD_TOO_LARGE)
    })?;
    let bytes = Bytes::from(bytes);
    let (digest, tags): (_, Vec<Tag>) = match target {
        Target::Tag(tag) => (Digest::of(&bytes), vec![tag]),
        Target::Digest(digest) if digest.matches(&bytes) => {
            (digest, query.texts("tag").map(request::tag).collect::<Result<_, _>>()?)
        }
        Target::Digest(digest) => {
            return Err(Refusal::new(Code::DigestInvalid, format!("the manifest is not {digest}")));
        }
    };
    let sent_as = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = sent_as.and_then(|sent| sent.split(';').next()).map_or("", str::trim);
    let manifest = Manifest::parse(bytes, essence).map_err(|error| invalid(error.to_string()))?;
    let claimed = referrers::Claims::read(&manifest.bytes)?;
    if let Some(says) = claimed.media_type.as_deref()
        && !essence.is_empty()
        && says != essence
    {
        return Err(invalid(format!("sent as {essence:?}, but says of itself that it is {says:?}")));
    }
    let media_type = sent_as.map_or_else(|| manifest.media_type.clone(), str::to_owned);
    let subject = manifest.subject.as_ref().map(|subject| subject.digest);

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
        let _nothing_goes = store.deletions.read();
        let missing = missing(store, &repository, &manifest)?;
        if missing.is_empty() {
            store.put_content(&digest, &manifest.bytes)?;
            if let Some(subject) = subject {
                let descriptor = claimed.descriptor(&media_type, &digest, manifest.bytes.len());
                referrers::write(store, &repository, &subject, &digest, &descriptor)?;
            }
            let link = Link { size: manifest.bytes.len() as u64, media_type: Some(media_type) };
            store.put_link(&repository, Shelf::Manifests, &digest, &link)?;
            // Tags are last: they never stand for what is not there.
            for tag in &tags {
                tags::write(store, &repository, tag, &digest)?;
            }
        }
        Ok(missing)
    })
    .await?;
    if missing.is_empty() { Ok(response) } else { Err(Refusal::missing_blobs(&missing)) }
}

/// What a manifest names and the repository has not. Its subject may be missing, it may come later.
fn missing(store: &Store, repository: &Repository, manifest: &Manifest) -> io::Result<Vec<Digest>> {
    let mut missing = Vec::new();
    for blob in manifest.blobs() {
        if store.link(repository, Shelf::Blobs, &blob.digest)?.is_none() {
            missing.push(blob.digest);
        }
    }
    for child in manifest.children().iter().filter(|child| !child.is_foreign()) {
        // An index may list what is not a manifest.
        let shelves = [Shelf::Manifests, Shelf::Blobs];
        let mut links = shelves.into_iter().map(|shelf| store.link(repository, shelf, &child.digest));
        if !links.try_fold(false, |found, link| link.map(|link| found || link.is_some()))? {
            missing.push(child.digest);
        }
    }
    Ok(missing)
}

/// `DELETE manifests/<tag or digest>`: a tag alone, or a manifest with the tags that stand for it.
pub(super) async fn delete(
    store: &Arc<Store>,
    repository: Repository,
    target: Target,
) -> Result<Response, Refusal> {
    let refusal = unknown(&target);
    let was_there = blocking(store, move |store| {
        let _alone = store.deletions.write();
        let digest = match target {
            Target::Tag(tag) => return tags::remove(store, &repository, &tag),
            Target::Digest(digest) => digest,
        };
        for tag in tags::all(store, &repository)? {
            if tags::read(store, &repository, &tag)? == Some(digest) {
                tags::remove(store, &repository, &tag)?;
            }
        }
        store.remove_link(&repository, Shelf::Manifests, &digest)
    })
    .await?;
    if was_there { Ok(StatusCode::ACCEPTED.into_response()) } else { Err(refusal) }
}
