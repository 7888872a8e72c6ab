//! Upload sessions
//! ([distribution-spec, pushing blobs](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-blobs)).
//!
//! A session is a file, and its offset is the file's length, so it outlives the process. The hasher in memory only saves
//! work. One request at a time has a session, until its last byte is written, even when its client has gone. A new request
//! interrupts the one before it, whose bytes stay. Chunks may have any length, so no answer has `OCI-Chunk-Min-Length`.

#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::blobs;
use super::collect::is_older;
use super::error::{Code, Refusal};
use super::evict::UPLOAD_GRACE;
use super::fsync::{found, parent, sync_dir};
use super::limits::{MAX_IDLE_UPLOADS, UPLOADS_PER_COUNT};
use super::receive;
use super::request::Query;
use super::sessions::{HashedPrefix, SessionId, SessionLock};
use super::store::{ContentKind, ContentLink, Store, blocking};
use crate::oci::{Algorithm, Digest, Hasher, Repository};

const UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");
/// What a session keeps of a request whose connection breaks. No specification has a header for that; a client that knows this
/// one need not wait for a connection to break.
const UPLOAD_KEEPS: HeaderName = HeaderName::from_static("layercast-upload-keeps");

/// Whether the client learns the name of a session, and can resume it.
#[derive(Debug, Clone, Copy)]
enum SessionKind {
    Resumable,
    /// The blob comes with the request.
    SingleRequest,
}

/// A session that this request alone has.
struct Session {
    store: Arc<Store>,
    repository: Repository,
    id: SessionId,
    path: PathBuf,
    lock: SessionLock,
}

impl Session {
    async fn create(
        store: &Arc<Store>,
        repository: Repository,
        algorithm: Algorithm,
        kind: SessionKind,
    ) -> Result<Self, Refusal> {
        let folder = match kind {
            SessionKind::Resumable => store.repository(&repository).join("_uploads"),
            // Emptied at the next start: nobody could go on with it.
            SessionKind::SingleRequest => store.root.join("tmp"),
        };
        let id = blocking(store, |_| SessionId::random()).await?;
        let mut lock = store.sessions.lock(&id).await?.ok_or_else(busy)?;
        let path = folder.join(id.as_str());
        let file = path.clone();
        blocking(store, move |store| {
            if store.sessions.count_opened().is_multiple_of(UPLOADS_PER_COUNT) {
                store.limit_uploads(MAX_IDLE_UPLOADS)?;
            }
            store.create_dir(&folder)?;
            File::create_new(file)
        })
        .await?;
        *lock.hashed = Some(HashedPrefix { hasher: Hasher::new(algorithm), len: 0 });
        Ok(Self { store: Arc::clone(store), repository, id, path, lock })
    }

    /// Takes a session that exists.
    async fn take(store: &Arc<Store>, repository: Repository, id: SessionId) -> Result<Self, Refusal> {
        let path = session_path(store, &repository, &id);
        // Before it is known in memory: nobody may fill that with names of sessions that do not exist.
        let len = length(store, path.clone()).await?;
        let Some(lock) = store.sessions.lock(&id).await? else {
            return Err(busy().headers(session_headers(&repository, &id, len)));
        };
        let session = Self { store: Arc::clone(store), repository, id, path, lock };
        session.length().await.inspect_err(|_| session.store.sessions.forget(&session.id))?;
        Ok(session)
    }

    async fn length(&self) -> Result<u64, Refusal> {
        length(&self.store, self.path.clone()).await
    }

    /// Appends a body that is to begin where the session ends.
    async fn receive(&mut self, range: Option<ContentRange>, body: Body) -> Result<u64, Refusal> {
        if let Some(range) = range {
            let len = self.length().await?;
            if range.first != len {
                let why = format!("the chunk begins at {}, but the upload ends at {len}", range.first);
                return Err(Refusal::new(Code::RangeInvalid, why).headers(self.headers(len)));
            }
        }
        let limit = range.map_or(u64::MAX, |range| range.len);
        receive::append(&self.store, &self.path, &mut self.lock, body, limit).await?;
        self.length().await
    }

    /// What is acknowledged survives a power cut: the client will not send it again.
    async fn sync(&self) -> Result<(), Refusal> {
        let path = self.path.clone();
        blocking(&self.store, move |_| {
            File::open(&path)?.sync_data()?;
            sync_dir(parent(&path)?)
        })
        .await
    }

    /// Makes what has arrived a blob of the repository, or deletes it if its digest is another one.
    async fn commit(mut self, digest: Digest) -> Result<Response, Refusal> {
        let (path, repository, hashed) =
            (self.path.clone(), self.repository.clone(), self.lock.hashed.take());
        let actual = blocking(&self.store, move |store| {
            let mut file = File::open(&path)?;
            file.sync_all()?;
            let actual = receive::digest_of(&mut file, hashed, &digest)?;
            if actual == digest {
                let link = ContentLink { size: file.metadata()?.len(), media_type: None };
                // Content without a link may be collected, and this content may lie there without one already.
                let _nothing_goes = store.deletions.read();
                store.adopt_content(&digest, &path)?;
                store.put_link(&repository, ContentKind::Blobs, &digest, &link)?;
            } else {
                store.remove_content(&path)?;
            }
            Ok(actual)
        })
        .await?;
        self.store.sessions.forget(&self.id);
        if actual == digest {
            drop_uploads_of(&self.store, &self.repository, digest).await;
            return Ok(blobs::created(&self.repository, &digest));
        }
        Err(Refusal::new(
            Code::DigestInvalid,
            format!("the content has the digest {actual}, not {digest}; it was deleted"),
        ))
    }

    /// The client means to send this blob.
    fn means(&self, digest: Digest) {
        self.store.sessions.means(&self.id, digest, &self.path);
    }

    async fn discard(self) -> Result<(), Refusal> {
        let path = self.path.clone();
        blocking(&self.store, move |store| store.remove_content(&path)).await?;
        self.store.sessions.forget(&self.id);
        Ok(())
    }

    fn headers(&self, len: u64) -> Vec<(HeaderName, HeaderValue)> {
        session_headers(&self.repository, &self.id, len)
    }

    fn answer(&self, status: StatusCode, len: u64) -> Response {
        let mut response = status.into_response();
        response.headers_mut().extend(self.headers(len));
        response
    }
}

fn busy() -> Refusal {
    Refusal::new(Code::RangeInvalid, "another request is writing to this upload")
}

fn session_path(store: &Store, repository: &Repository, id: &SessionId) -> PathBuf {
    store.repository(repository).join("_uploads").join(id.as_str())
}

async fn length(store: &Arc<Store>, path: PathBuf) -> Result<u64, Refusal> {
    blocking(store, move |_| found(fs::metadata(path)))
        .await?
        .map(|metadata| metadata.len())
        .ok_or_else(|| Refusal::new(Code::BlobUploadUnknown, "no such upload session"))
}

/// Where to continue, and at which byte. An empty session has `0-0` too, because the format has no form for it.
pub(super) fn session_headers(
    repository: &Repository,
    id: &SessionId,
    len: u64,
) -> Vec<(HeaderName, HeaderValue)> {
    let texts = [
        (header::LOCATION, format!("/v2/{repository}/blobs/uploads/{}", id.as_str())),
        (header::RANGE, format!("0-{}", len.saturating_sub(1))),
        (UPLOAD_UUID, id.as_str().to_owned()),
        (UPLOAD_KEEPS, "bytes".to_owned()),
    ];
    let value = |(name, text): (_, String)| Some((name, HeaderValue::try_from(text).ok()?));
    texts.into_iter().filter_map(value).collect()
}

/// `POST blobs/uploads/`: a mount, a whole blob, or a new session.
pub(super) async fn start(
    store: &Arc<Store>,
    repository: Repository,
    query: &Query,
    body: Body,
) -> Result<Response, Refusal> {
    if let Some(digest) = query.digest("mount")?
        && let Some(mounted) = blobs::mount(store, &repository, digest, query.text("from")).await?
    {
        return Ok(mounted);
    }
    let digest = query.digest("digest")?;
    let algorithm = match (digest, query.text("digest-algorithm")) {
        (Some(digest), _) => digest.algorithm(),
        (None, None | Some("sha256")) => Algorithm::Sha256,
        (None, Some("sha512")) => Algorithm::Sha512,
        (None, Some(_)) => {
            return Err(Refusal::new(Code::DigestInvalid, "the algorithm is neither sha256 nor sha512"));
        }
    };
    let kind = if digest.is_some() { SessionKind::SingleRequest } else { SessionKind::Resumable };
    let mut session = Session::create(store, repository, algorithm, kind).await?;
    let Some(digest) = digest else { return Ok(session.answer(StatusCode::ACCEPTED, 0)) };
    to_its_end(store, async move {
        match session.receive(None, body).await {
            Ok(_) => session.commit(digest).await,
            // The client never learnt the session's name, so nobody could go on with it.
            Err(refusal) => {
                session.discard().await?;
                Err(refusal)
            }
        }
    })
    .await
}

/// `GET <session>`: how much has arrived. Answered also while something arrives.
pub(super) async fn status(
    store: &Arc<Store>,
    repository: Repository,
    id: SessionId,
) -> Result<Response, Refusal> {
    let len = length(store, session_path(store, &repository, &id)).await?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    response.headers_mut().extend(session_headers(&repository, &id, len));
    Ok(response)
}

/// `PATCH <session>`: a chunk, or all of the blob.
pub(super) async fn append(
    store: &Arc<Store>,
    repository: Repository,
    id: SessionId,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let range = ContentRange::of(headers)?;
    let mut session = Session::take(store, repository, id).await?;
    to_its_end(store, async move {
        let len = session.receive(range, body).await?;
        session.sync().await?;
        Ok(session.answer(StatusCode::ACCEPTED, len))
    })
    .await
}

/// `PUT <session>?digest=`: the end, perhaps with the last or only chunk.
pub(super) async fn finish(
    store: &Arc<Store>,
    repository: Repository,
    id: SessionId,
    query: &Query,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let range = ContentRange::of(headers)?;
    let digest = query
        .digest("digest")?
        .ok_or_else(|| Refusal::new(Code::DigestInvalid, "the end of an upload needs a digest (?digest=)"))?;
    let mut session = Session::take(store, repository, id).await?;
    session.means(digest);
    to_its_end(store, async move {
        let was_empty = session.length().await? == 0;
        match session.receive(range, body).await {
            Ok(_) => session.commit(digest).await,
            // There is no room for the blob. The part that arrived would only take room from others.
            Err(refusal) if was_empty && refusal.status == StatusCode::INSUFFICIENT_STORAGE => {
                session.discard().await?;
                Err(refusal)
            }
            Err(refusal) => Err(refusal),
        }
    })
    .await
}

/// `DELETE <session>`
pub(super) async fn cancel(
    store: &Arc<Store>,
    repository: Repository,
    id: SessionId,
) -> Result<Response, Refusal> {
    Session::take(store, repository, id).await?.discard().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The blob is there, so nobody goes on with uploads of it that no request has. In another repository, a client may be about to:
/// it has a minute. Which blob an upload is of is known once a request was to end it.
async fn drop_uploads_of(store: &Arc<Store>, repository: &Repository, digest: Digest) {
    let here = store.repository(repository);
    let dropped = blocking(store, move |store| {
        for (id, path) in store.sessions.of_blob(&digest) {
            let Some(metadata) = found(fs::metadata(&path))? else { continue };
            // Repositories may lie below each other.
            let is_here = path.strip_prefix(&here).is_ok_and(|rest| rest.starts_with("_uploads"));
            if is_here || is_older(metadata.modified().ok(), UPLOAD_GRACE) {
                store.remove_idle_upload(&id, &path)?;
            }
        }
        Ok(())
    });
    if dropped.await.is_err() {
        tracing::warn!("partial uploads of a blob that is there stay; the error before this line says why");
    }
}

/// Completes work with a session also when the client goes away, which drops the future that waits for it.
async fn to_its_end<F>(store: &Arc<Store>, work: F) -> Result<Response, Refusal>
where
    F: Future<Output = Result<Response, Refusal>> + Send + 'static,
{
    store.tasks.spawn(work).await.map_err(io::Error::other)?
}

/// The range of a chunk: `<first>-<last>`, without the unit and the total of RFC 9110.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ContentRange {
    first: u64,
    len: u64,
}

impl ContentRange {
    fn of(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(None) };
        let range = value.to_str().ok().and_then(Self::parse).ok_or_else(|| {
            Refusal::new(Code::BlobUploadInvalid, "the Content-Range is not <first>-<last>")
        })?;
        let stated = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        if stated.is_some_and(|stated: u64| stated != range.len) {
            return Err(Refusal::new(Code::SizeInvalid, "Content-Range and Content-Length do not agree"));
        }
        Ok(Some(range))
    }

    fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| {
            (!text.is_empty() && text.bytes().all(|c| c.is_ascii_digit()))
                .then(|| text.parse::<u64>().ok())?
        };
        let (first, last) = text.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        Some(Self { first, len: last.checked_sub(first)?.checked_add(1)? })
    }
}
