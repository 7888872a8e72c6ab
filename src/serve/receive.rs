//! Writes the body of a request to the file of its session, and hashes it on the way.
//!
//! In: a body, and the file it is appended to. Out: the new length. Writing and hashing happen on threads that may block,
//! one batch behind the network: what arrives while a batch is written is the next one. A slow client holds the bytes it has
//! just sent, and no thread; all clients together hold no more than a budget. When a connection breaks, what has arrived is
//! written and stays, and the client resumes from there.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::StreamExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::error::{Code, Refusal};
use super::limits::SMALL_BYTES;
use super::sessions::{HashedPrefix, SessionLock};
use super::store::{Store, hash};
use crate::error::is_full;
use crate::oci::Digest;
use crate::small_file;

/// How much is written and hashed at once.
const BATCH_BYTES: usize = 1 << 20;

/// A session's file, open for appending.
struct Appender {
    store: Arc<Store>,
    file: File,
    hashed: Option<HashedPrefix>,
}

impl Appender {
    fn open(store: Arc<Store>, path: &Path, hashed: Option<HashedPrefix>) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(path)?;
        let len = file.metadata()?.len();
        // After a restart, or a write that failed half way: the file is hashed when it is finished.
        Ok(Self { store, file, hashed: hashed.filter(|hashed| hashed.len == len) })
    }

    fn append(mut self, batch: &Batch) -> (Self, io::Result<()>) {
        let result = batch.chunks.iter().try_for_each(|bytes| {
            self.write(bytes)?;
            if let Some(hashed) = &mut self.hashed {
                hashed.hasher.update(bytes);
                hashed.len += bytes.len() as u64;
            }
            Ok(())
        });
        (self, result)
    }

    /// Writes all of it. On a full disk it makes room, as long as something can be removed.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let wanted = bytes.len() as u64;
        self.store.take_room(wanted)?;
        let mut written = 0;
        while written < bytes.len() {
            match self.file.write(&bytes[written..]) {
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let left = wanted - written as u64;
                    if !is_full(&error) || !self.store.free_room(left) {
                        self.store.disk.give_back(left);
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }
}

/// Bytes that wait to be written, with what they take of the budget.
#[derive(Default)]
struct Batch {
    chunks: Vec<Bytes>,
    len: usize,
    share: Option<OwnedSemaphorePermit>,
}

impl Batch {
    fn push(&mut self, bytes: Bytes, share: Option<OwnedSemaphorePermit>) {
        match (&mut self.share, share) {
            (Some(all), Some(share)) => all.merge(share),
            (none, share) => *none = none.take().or(share),
        }
        self.len += bytes.len();
        self.chunks.push(bytes);
    }
}

/// A share of the budget for this number of bytes. A batch that is being written gives its own back when it is done.
async fn share(store: &Store, bytes: usize) -> Result<OwnedSemaphorePermit, Refusal> {
    let wanted = u32::try_from(bytes).unwrap_or(u32::MAX);
    let share = Arc::clone(&store.buffers).acquire_many_owned(wanted).await;
    share.map_err(|_| Refusal::new(Code::Unknown, "the registry is shutting down"))
}

/// Appends a body to the file at `path`, until the body ends or another request wants the session. More than `limit` bytes
/// are an error, and none past it are kept. The hasher is taken, and put back when it still fits the file.
pub(super) async fn append(
    store: &Arc<Store>,
    path: &Path,
    session: &mut SessionLock,
    body: Body,
    limit: u64,
) -> Result<(), Refusal> {
    let (owned, path, before) = (Arc::clone(store), path.to_owned(), session.hashed.take());
    let open = tokio::task::spawn_blocking(move || Appender::open(owned, &path, before));
    let mut writing = Writing::Idle(Box::new(open.await.map_err(io::Error::other)??));
    let mut stream = body.into_data_stream();
    let (mut batch, mut left) = (Batch::default(), limit);
    // What has arrived and has no share of the budget yet.
    let mut arrived: Option<Bytes> = None;
    let end = loop {
        if batch.len > 0 && writing.is_idle() {
            writing = writing.begin(std::mem::take(&mut batch)).await?;
        }
        tokio::select! {
            biased;
            done = writing.done(), if !writing.is_idle() => writing = done?,
            () = session.interrupted.cancelled() => {
                break Err(Refusal::new(Code::BlobUploadInvalid, "another request of the client continues this upload"));
            }
            // While a request waits for a share, its own batch is written: others wait for the share of that.
            share = share(store, arrived.as_ref().map_or(0, Bytes::len)), if arrived.is_some() => {
                let share = share?;
                if let Some(bytes) = arrived.take() {
                    batch.push(bytes, Some(share));
                }
            }
            next = next_chunk(&mut stream, &mut left), if arrived.is_none() && batch.len < BATCH_BYTES => match next {
                Ok(Some(bytes)) => arrived = Some(bytes),
                Ok(None) => break Ok(()),
                Err(refusal) => break Err(refusal),
            },
        }
    };
    if let Some(bytes) = arrived {
        batch.push(bytes, None);
    }
    let appender = writing.begin(batch).await?.finish().await?;
    *session.hashed = appender.hashed;
    end
}

/// Where the open file is.
enum Writing {
    Idle(Box<Appender>),
    Busy(JoinHandle<(Appender, io::Result<()>)>),
}

impl Writing {
    const fn is_idle(&self) -> bool {
        matches!(self, Self::Idle(_))
    }

    /// Writes a batch, after the one before.
    async fn begin(self, batch: Batch) -> Result<Self, Refusal> {
        let appender = self.finish().await?;
        Ok(Self::Busy(tokio::task::spawn_blocking(move || appender.append(&batch))))
    }

    /// Waits for the batch that is being written. Dropping this future loses nothing.
    async fn done(&mut self) -> Result<Self, Refusal> {
        match self {
            Self::Idle(_) => std::future::pending().await,
            Self::Busy(write) => {
                let (appender, result) = write.await.map_err(io::Error::other)?;
                result?;
                Ok(Self::Idle(Box::new(appender)))
            }
        }
    }

    async fn finish(mut self) -> Result<Appender, Refusal> {
        loop {
            match self {
                Self::Idle(appender) => return Ok(*appender),
                Self::Busy(_) => self = self.done().await?,
            }
        }
    }
}

async fn next_chunk(stream: &mut BodyDataStream, left: &mut u64) -> Result<Option<Bytes>, Refusal> {
    match stream.next().await {
        None => Ok(None),
        Some(Err(error)) => {
            tracing::debug!(%error, "a body ended early");
            Err(Refusal::new(Code::BlobUploadInvalid, "the body ended early, or came too slowly"))
        }
        Some(Ok(bytes)) if bytes.len() as u64 > *left => {
            Err(Refusal::new(Code::SizeInvalid, "the body is longer than its Content-Range"))
        }
        Some(Ok(bytes)) => {
            *left -= bytes.len() as u64;
            Ok(Some(bytes))
        }
    }
}

/// A document that has arrived: in memory when it is small, else in an unnamed file.
pub(super) enum ReceivedDocument {
    Small(Vec<u8>),
    Large(File),
}

impl ReceivedDocument {
    /// All of it, in memory.
    pub(super) fn read(self) -> io::Result<Vec<u8>> {
        match self {
            Self::Small(bytes) => Ok(bytes),
            Self::Large(mut file) => {
                file.rewind()?;
                let received = file.metadata()?.len();
                small_file::read_from(file, received)
            }
        }
    }
}

/// A document that is too long is read up to this multiple of the limit.
pub(super) const READ_AND_DROPPED: usize = 4;

/// Receives a document; `None` when it is longer than `limit`. Some bytes past the limit are read and dropped, so that the
/// client still reads the answer. `file` makes an unnamed file.
pub(super) async fn receive_document(
    body: Body,
    limit: usize,
    file: impl Fn() -> io::Result<File>,
) -> Result<Option<ReceivedDocument>, Refusal> {
    let mut stream = body.into_data_stream();
    let (mut document, mut total) = (ReceivedDocument::Small(Vec::new()), 0);
    while let Some(chunk) = stream.next().await {
        let broke_off = |_| Refusal::new(Code::ManifestInvalid, "the body ended early, or came too slowly");
        let chunk = chunk.map_err(broke_off)?;
        total += chunk.len();
        if total > limit * READ_AND_DROPPED {
            break;
        }
        if total > limit {
            continue;
        }
        document = match document {
            ReceivedDocument::Small(mut bytes) if bytes.len() + chunk.len() <= SMALL_BYTES => {
                bytes.extend_from_slice(&chunk);
                ReceivedDocument::Small(bytes)
            }
            ReceivedDocument::Small(bytes) => {
                let mut file = file()?;
                write_beside(move || {
                    file.write_all(&bytes)?;
                    file.write_all(&chunk)?;
                    Ok(file)
                })
                .await?
            }
            ReceivedDocument::Large(mut file) => {
                write_beside(move || {
                    file.write_all(&chunk)?;
                    Ok(file)
                })
                .await?
            }
        };
    }
    Ok((total <= limit).then_some(document))
}

async fn write_beside(
    write: impl FnOnce() -> io::Result<File> + Send + 'static,
) -> Result<ReceivedDocument, Refusal> {
    let file = tokio::task::spawn_blocking(write).await.map_err(io::Error::other)??;
    Ok(ReceivedDocument::Large(file))
}

/// The digest of a session's synced file: from what was hashed on the way, else by reading it. `expected` names the
/// algorithm.
pub(super) fn digest_of(
    file: &mut File,
    hashed: Option<HashedPrefix>,
    expected: &Digest,
) -> io::Result<Digest> {
    let len = file.metadata()?.len();
    let so_far = hashed.filter(|hashed| hashed.len == len).map(|hashed| hashed.hasher.finish());
    if let Some(digest) = so_far.filter(|digest| digest.algorithm() == expected.algorithm()) {
        return Ok(digest);
    }
    hash(file, expected)
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use futures_util::stream;

    use super::*;
    use crate::serve::limits::BUFFERED_BYTES;
    use crate::serve::sessions::{SessionId, Sessions};

    #[tokio::test]
    async fn who_waits_for_memory_lets_go_of_the_session_and_keeps_what_has_arrived() {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(folder.path()).unwrap());
        let path = folder.path().join("upload");
        std::fs::write(&path, "").unwrap();
        let _all_of_it = share(&store, BUFFERED_BYTES).await.unwrap();
        let mut session = Sessions::default().try_lock(&SessionId::random().unwrap()).unwrap();
        let another = session.interrupted.clone();
        let mut bytes = Some(Bytes::from_static(b"abc"));
        let body = Body::from_stream(stream::poll_fn(move |_| {
            // Another request wants the session as soon as these have arrived.
            another.cancel();
            bytes.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok::<_, io::Error>(bytes))))
        }));
        let receiving = append(&store, &path, &mut session, body, 100);
        let received = tokio::time::timeout(std::time::Duration::from_secs(20), receiving).await;
        assert!(received.expect("it lets go").is_err());
        assert_eq!(std::fs::read(&path).unwrap(), b"abc");
    }
}
