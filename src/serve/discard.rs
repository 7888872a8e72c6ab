//! A registry that throws blobs away. It shows how fast a client can send.
//!
//! In: the requests of a push. Out: the answers that let it complete. Bodies of blobs are read and dropped, neither
//! hashed nor kept. The registry remembers which blobs it received, so that mounts and HEAD get the usual answers.
//! Manifests stay in memory, because a push reads them back. For measurements only: nothing can be pulled from it.

use crate::locks::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt as _;

use super::blobs::{self, CONTENT_DIGEST, text_value};
use super::error::{Code, Refusal, json_answer};
use super::receive::receive_document;
use super::request::{ManifestReference, Query, Route};
use super::sessions::SessionId;
use super::uploads;
use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::oci::{Digest, Repository};

/// Limits on memory: names of blobs and sessions, and bytes of manifests.
const MAX_REMEMBERED: usize = 1 << 18;
const MAX_MANIFESTS_BYTES: usize = 64 << 20;

/// Reads bodies and throws them away.
#[derive(Debug, Default)]
pub struct Discard {
    memory: Mutex<Memory>,
}

#[derive(Debug, Default)]
struct Memory {
    /// Sizes of the blobs that were received.
    blobs: HashMap<(Repository, Digest), u64>,
    /// Bytes received in each session.
    sessions: HashMap<SessionId, u64>,
    manifests: HashMap<(Repository, ManifestReference), Arc<StoredManifest>>,
    manifest_bytes: usize,
}

/// A manifest as it was received.
#[derive(Debug)]
struct StoredManifest {
    digest: Digest,
    media_type: String,
    bytes: Bytes,
}

impl Discard {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock()
    }

    /// Reads a body to its end; gives its length.
    async fn drain(body: Body) -> Result<u64, Refusal> {
        let mut stream = body.into_data_stream();
        let mut len = 0;
        while let Some(chunk) = stream.next().await {
            let broke_off =
                |_| Refusal::new(Code::BlobUploadInvalid, "the body ended early, or came too slowly");
            len += chunk.map_err(broke_off)?.len() as u64;
        }
        Ok(len)
    }
}

impl Memory {
    fn check(&self, more_bytes: usize) -> Result<(), Refusal> {
        let entries = self.blobs.len() + self.sessions.len() + self.manifests.len();
        if entries < MAX_REMEMBERED && self.manifest_bytes + more_bytes <= MAX_MANIFESTS_BYTES {
            return Ok(());
        }
        Err(Refusal::new(Code::Unavailable, "the sink's memory is full; start it again"))
    }
}

/// The answer of the sink.
pub(super) async fn answer(sink: &Arc<Discard>, request: Request) -> Response {
    let result = match Route::parse(request.uri().path()) {
        Ok(route) => dispatch(sink, route, request).await,
        Err(refusal) => Err(refusal),
    };
    result.unwrap_or_else(IntoResponse::into_response)
}

async fn dispatch(sink: &Arc<Discard>, route: Route, request: Request) -> Result<Response, Refusal> {
    let query = Query::parse(request.uri().query().unwrap_or_default());
    let (head, body) = request.into_parts();
    match (route, head.method) {
        (Route::Base | Route::Health, Method::GET | Method::HEAD) => {
            Ok(json_answer("application/json", &serde_json::json!({})))
        }
        (Route::Blob(repository, digest), Method::HEAD) => has_blob(sink, repository, digest),
        (Route::Uploads(repository), Method::POST) => start(sink, repository, &query, body).await,
        (Route::Upload(repository, id), Method::PATCH) => {
            let len = Discard::drain(body).await?;
            advance(sink, &repository, &id, len, StatusCode::ACCEPTED)
        }
        (Route::Upload(repository, id), Method::GET) => {
            advance(sink, &repository, &id, 0, StatusCode::NO_CONTENT)
        }
        (Route::Upload(repository, id), Method::PUT) => {
            let digest = query.digest("digest")?.ok_or_else(|| {
                Refusal::new(Code::DigestInvalid, "a digest must be given to finish an upload")
            })?;
            let len = Discard::drain(body).await?;
            let mut memory = sink.memory();
            let before = memory.sessions.remove(&id).ok_or_else(no_session)?;
            memory.blobs.insert((repository.clone(), digest), before + len);
            Ok(blobs::created(&repository, &digest))
        }
        (Route::Upload(_, id), Method::DELETE) => {
            sink.memory().sessions.remove(&id).ok_or_else(no_session)?;
            Ok(StatusCode::NO_CONTENT.into_response())
        }
        (Route::Manifest(repository, target), Method::PUT) => {
            put_manifest(sink, repository, target, &query, &head.headers, body).await
        }
        (Route::Manifest(repository, target), method @ (Method::GET | Method::HEAD)) => {
            manifest(sink, repository, target, &method)
        }
        _ => Err(Refusal::new(
            Code::Unsupported,
            "`serve --discard` only takes pushes; nothing can be pulled from it",
        )),
    }
}

fn no_session() -> Refusal {
    Refusal::new(Code::BlobUploadUnknown, "no such upload session")
}

fn has_blob(sink: &Discard, repository: Repository, digest: Digest) -> Result<Response, Refusal> {
    let size = sink.memory().blobs.get(&(repository, digest)).copied();
    let size =
        size.ok_or_else(|| Refusal::new(Code::BlobUnknown, format!("{digest} is not in this repository")))?;
    let mut response = StatusCode::OK.into_response();
    response.headers_mut().insert(header::CONTENT_LENGTH, size.into());
    response.headers_mut().insert(CONTENT_DIGEST, text_value(digest.to_string()));
    Ok(response)
}

/// A mount, a whole blob, or a new session.
async fn start(
    sink: &Discard,
    repository: Repository,
    query: &Query,
    body: Body,
) -> Result<Response, Refusal> {
    if let (Some(digest), Some(from)) = (query.digest("mount")?, query.text("from"))
        && let Ok(from) = from.parse::<Repository>()
    {
        let mut memory = sink.memory();
        if let Some(size) = memory.blobs.get(&(from, digest)).copied() {
            memory.check(0)?;
            memory.blobs.insert((repository.clone(), digest), size);
            return Ok(blobs::created(&repository, &digest));
        }
    }
    if let Some(digest) = query.digest("digest")? {
        let len = Discard::drain(body).await?;
        let mut memory = sink.memory();
        memory.check(0)?;
        memory.blobs.insert((repository.clone(), digest), len);
        return Ok(blobs::created(&repository, &digest));
    }
    let id = SessionId::random()?;
    let mut memory = sink.memory();
    memory.check(0)?;
    memory.sessions.insert(id.clone(), 0);
    Ok(session(&repository, &id, 0, StatusCode::ACCEPTED))
}

/// Adds bytes to a session, and answers with its length.
fn advance(
    sink: &Discard,
    repository: &Repository,
    id: &SessionId,
    more: u64,
    status: StatusCode,
) -> Result<Response, Refusal> {
    let mut memory = sink.memory();
    let len = memory.sessions.get_mut(id).ok_or_else(no_session)?;
    *len += more;
    Ok(session(repository, id, *len, status))
}

fn session(repository: &Repository, id: &SessionId, len: u64, status: StatusCode) -> Response {
    let mut response = status.into_response();
    response.headers_mut().extend(uploads::session_headers(repository, id, len));
    response
}

async fn put_manifest(
    sink: &Discard,
    repository: Repository,
    target: ManifestReference,
    query: &Query,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let limit = usize::try_from(MAX_MANIFEST_BYTES).unwrap_or(usize::MAX);
    let document = receive_document(body, limit, tempfile::tempfile)
        .await?
        .ok_or_else(|| Refusal::new(Code::ManifestInvalid, "the manifest is too large"))?;
    let bytes = document.read()?;
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let digest = Digest::of(&bytes);
    let kept = StoredManifest {
        digest,
        media_type: media_type.unwrap_or_default().to_owned(),
        bytes: Bytes::from(bytes),
    };
    let kept = Arc::new(kept);
    let tags = query.texts("tag").map(super::request::tag).collect::<Result<Vec<_>, _>>()?;
    let mut memory = sink.memory();
    memory.check(kept.bytes.len())?;
    memory.manifest_bytes += kept.bytes.len();
    let targets =
        tags.into_iter().map(ManifestReference::Tag).chain([target, ManifestReference::Digest(digest)]);
    memory.manifests.extend(targets.map(|target| ((repository.clone(), target), Arc::clone(&kept))));
    let location = text_value(format!("/v2/{repository}/manifests/{digest}"));
    let answer = [(header::LOCATION, location), (CONTENT_DIGEST, text_value(digest.to_string()))];
    Ok((StatusCode::CREATED, answer).into_response())
}

fn manifest(
    sink: &Discard,
    repository: Repository,
    target: ManifestReference,
    method: &Method,
) -> Result<Response, Refusal> {
    let kept = sink.memory().manifests.get(&(repository, target)).cloned();
    let kept =
        kept.ok_or_else(|| Refusal::new(Code::ManifestUnknown, "no such manifest in this repository"))?;
    let body = if method == Method::GET { Body::from(kept.bytes.clone()) } else { Body::empty() };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, text_value(kept.media_type.clone()));
    headers.insert(header::CONTENT_LENGTH, kept.bytes.len().into());
    headers.insert(CONTENT_DIGEST, text_value(kept.digest.to_string()));
    Ok(response)
}
