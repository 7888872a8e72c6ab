//! Stored blobs: fetches them whole or in part, mounts them from another repository, deletes them.

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;

use super::error::{Code, Refusal};
use super::fsync::found;
use super::limits::SEND_BYTES;
use super::store::{ContentKind, ContentLink, Store, blocking};
use crate::oci::{Digest, Repository};

/// The digest of the content.
pub(super) const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

fn unknown(digest: &Digest) -> Refusal {
    Refusal::new(Code::BlobUnknown, format!("{digest} is not in this repository"))
}

/// `GET` and `HEAD blobs/<digest>`
pub(super) async fn fetch(
    store: &Arc<Store>,
    repository: Repository,
    digest: Digest,
    method: &Method,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let with_file = method == Method::GET;
    let opened = blocking(store, move |store| {
        let Some(link) = store.link(&repository, ContentKind::Blobs, &digest)? else { return Ok(None) };
        let path: PathBuf = store.content_path(&digest);
        // Another process may just have removed it.
        let file = if with_file { found(File::open(path))? } else { None };
        Ok((file.is_some() || !with_file).then_some((link.size, file)))
    })
    .await?;
    let (size, file) = opened.ok_or_else(|| unknown(&digest))?;
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let (status, range) = match byte_range(asked, size) {
        RequestedRange::Whole => (StatusCode::OK, 0..size),
        RequestedRange::Part(range) => (StatusCode::PARTIAL_CONTENT, range),
        RequestedRange::Nothing => {
            let refusal = Refusal::new(Code::RangeInvalid, "the range lies past the end of the blob");
            return Err(refusal.header(header::CONTENT_RANGE, text_value(format!("bytes */{size}"))));
        }
    };
    let length = range.end - range.start;
    let body = match file {
        Some(file) => file_body(file, range.clone()),
        None => Body::empty(),
    };
    let mut response = (status, body).into_response();
    let answer = response.headers_mut();
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    answer.insert(header::CONTENT_LENGTH, length.into());
    answer.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    answer.insert(header::ETAG, text_value(format!("\"{digest}\"")));
    answer.insert(CONTENT_DIGEST, text_value(digest.to_string()));
    if status == StatusCode::PARTIAL_CONTENT {
        let text = format!("bytes {}-{}/{size}", range.start, range.end - 1);
        answer.insert(header::CONTENT_RANGE, text_value(text));
    }
    Ok(response)
}

/// `DELETE blobs/<digest>`
pub(super) async fn delete(
    store: &Arc<Store>,
    repository: Repository,
    digest: Digest,
) -> Result<Response, Refusal> {
    let deleted = blocking(store, move |store| {
        let _alone = store.deletions.write();
        if store.is_named(&repository, &digest)? {
            return Ok(None);
        }
        store.remove_link(&repository, ContentKind::Blobs, &digest).map(Some)
    })
    .await?;
    match deleted {
        Some(true) => Ok(StatusCode::ACCEPTED.into_response()),
        Some(false) => Err(unknown(&digest)),
        None => {
            let why = format!(
                "a manifest of this repository names {digest}: delete the manifest, and the blob goes as well"
            );
            Err(Refusal::new(Code::Denied, why))
        }
    }
}

/// Makes a blob of another repository part of this one; of any repository where none is named. `None`: no repository has
/// it, and the client has to upload it.
pub(super) async fn mount(
    store: &Arc<Store>,
    repository: &Repository,
    digest: Digest,
    from: Option<&str>,
) -> Result<Option<Response>, Refusal> {
    let from: Option<Repository> = match from.map(str::parse) {
        Some(Err(_)) => return Ok(None),
        Some(Ok(from)) => Some(from),
        None => None,
    };
    let target = repository.clone();
    let mounted = blocking(store, move |store| {
        let _nothing_goes = store.deletions.read();
        // Any repository's link will do: only a link knows how long the content has to be.
        let link = match from {
            Some(from) => store.link(&from, ContentKind::Blobs, &digest)?,
            None => store.any_link(ContentKind::Blobs, &digest)?,
        };
        let Some(ContentLink { size, .. }) = link else { return Ok(false) };
        store.put_link(&target, ContentKind::Blobs, &digest, &ContentLink { size, media_type: None })?;
        Ok(true)
    })
    .await?;
    Ok(mounted.then(|| created(repository, &digest)))
}

/// The answer when a blob has been stored.
pub(super) fn created(repository: &Repository, digest: &Digest) -> Response {
    let location = text_value(format!("/v2/{repository}/blobs/{digest}"));
    let headers = [(header::LOCATION, location), (CONTENT_DIGEST, text_value(digest.to_string()))];
    (StatusCode::CREATED, headers).into_response()
}

/// A header's value from names and digests, which are ASCII by construction.
pub(super) fn text_value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}

/// A body that reads a range of a file while it is sent. If the file ends too early, the connection is broken off, so
/// that the client notices.
pub(super) fn file_body(file: File, range: Range<u64>) -> Body {
    let chunks = stream::try_unfold((file, range), |(file, range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let left = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let read = move || {
            let mut chunk = vec![0; left.min(SEND_BYTES)];
            file.read_exact_at(&mut chunk, range.start)?;
            let next = range.start + chunk.len() as u64..range.end;
            Ok::<_, io::Error>(Some((Bytes::from(chunk), (file, next))))
        };
        tokio::task::spawn_blocking(read).await.map_err(io::Error::other)?
    });
    Body::from_stream(chunks)
}

/// The range of a `Range` header.
#[derive(Debug, PartialEq, Eq)]
enum RequestedRange {
    Whole,
    Part(Range<u64>),
    Nothing,
}

/// Reads a `Range` header ([RFC 9110, 14.2](https://www.rfc-editor.org/rfc/rfc9110#section-14.2)). What is not one range
/// of bytes is ignored, as the standard allows.
fn byte_range(header: Option<&str>, size: u64) -> RequestedRange {
    let part = |header: &str| {
        let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
        let number = |text: &str| text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?;
        let range = match (first, last) {
            ("", last) => size.saturating_sub(number(last)?)..size,
            (first, "") => number(first)?..size,
            (first, last) => {
                let (first, last): (u64, u64) = (number(first)?, number(last)?);
                if last < first {
                    return None;
                }
                first..size.min(last.saturating_add(1))
            }
        };
        Some(if range.start < range.end { RequestedRange::Part(range) } else { RequestedRange::Nothing })
    };
    header.and_then(part).unwrap_or(RequestedRange::Whole)
}
