//! The body of a request becomes bytes in a session's file, hashed as they pass.
//!
//! In: a body, and the file it is appended to. Out: the new length. Writing and hashing happen on threads that may block,
//! one batch behind the network; a slow client holds memory for two batches, and no thread. When a client goes away in
//! the middle, what has arrived stays: that is what it will resume from.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use axum::body::{Body, BodyDataStream, Bytes};
use futures_util::StreamExt as _;

use super::error::{Code, Refusal};
use super::stats::Stats;
use crate::oci::{Digest, Hasher};

/// How much is written and hashed at once.
const BATCH_BYTES: usize = 1 << 20;

/// What is read at once when a file is hashed again.
const REHASH_BYTES: usize = 1 << 18;

/// A hasher that has seen the first `len` bytes of a session. Worth nothing for a file of another length.
#[derive(Debug)]
pub(super) struct Hashed {
    pub(super) hasher: Hasher,
    pub(super) len: u64,
}

/// A session's file, open for appending.
struct Appender {
    file: File,
    hashed: Option<Hashed>,
}

impl Appender {
    fn open(path: &Path, hashed: Option<Hashed>) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(path)?;
        let len = file.metadata()?.len();
        // After a restart, or a write that failed half way: the file is hashed when it is finished.
        Ok(Self { file, hashed: hashed.filter(|hashed| hashed.len == len) })
    }

    fn append(mut self, batch: &[Bytes]) -> (Self, io::Result<()>) {
        let mut work = || {
            for bytes in batch {
                self.file.write_all(bytes)?;
                if let Some(hashed) = &mut self.hashed {
                    hashed.hasher.update(bytes);
                    hashed.len += bytes.len() as u64;
                }
            }
            Ok(())
        };
        let result = work();
        (self, result)
    }
}

/// Appends a body to the file at `path`. More than `limit` bytes are an error, and none past it are kept. `hashed` is
/// taken, and put back when it still fits the file.
pub(super) async fn append(
    path: &Path,
    hashed: &mut Option<Hashed>,
    body: Body,
    limit: u64,
    stats: &Stats,
) -> Result<(), Refusal> {
    let (path, before) = (path.to_owned(), hashed.take());
    let open = tokio::task::spawn_blocking(move || Appender::open(&path, before));
    let mut appender = open.await.map_err(io::Error::other)??;
    let mut stream = body.into_data_stream();
    let mut batch = Vec::new();
    let mut left = limit;
    loop {
        let write = tokio::task::spawn_blocking(move || appender.append(&batch));
        let (next, end) = gather(&mut stream, &mut left).await;
        stats.count_blob_bytes(next.iter().map(|bytes| bytes.len() as u64).sum());
        let (written, result) = write.await.map_err(io::Error::other)?;
        result?;
        (appender, batch) = (written, next);
        if let Some(end) = end {
            let last = tokio::task::spawn_blocking(move || appender.append(&batch));
            let (written, result) = last.await.map_err(io::Error::other)?;
            result?;
            *hashed = written.hashed;
            return end;
        }
    }
}

/// The next batch of a body, and how the body ended if it did.
async fn gather(stream: &mut BodyDataStream, left: &mut u64) -> (Vec<Bytes>, Option<Result<(), Refusal>>) {
    let (mut batch, mut len) = (Vec::new(), 0);
    while len < BATCH_BYTES {
        match stream.next().await {
            None => return (batch, Some(Ok(()))),
            Some(Err(error)) => {
                tracing::debug!(%error, "a body broke off");
                let refusal = Refusal::new(Code::BlobUploadInvalid, "the body broke off");
                return (batch, Some(Err(refusal)));
            }
            Some(Ok(bytes)) if bytes.len() as u64 > *left => {
                let why = "the body is longer than its Content-Range";
                return (batch, Some(Err(Refusal::new(Code::SizeInvalid, why))));
            }
            Some(Ok(bytes)) => {
                *left -= bytes.len() as u64;
                len += bytes.len();
                batch.push(bytes);
            }
        }
    }
    (batch, None)
}

/// A small body as a whole; `None` when it is longer than `limit`. Of a longer one some more is read and forgotten, so
/// that the client is still there to hear the answer.
pub(super) async fn read_small(body: Body, limit: usize) -> Result<Option<Vec<u8>>, Refusal> {
    let mut stream = body.into_data_stream();
    let (mut bytes, mut total) = (Vec::new(), 0);
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| Refusal::new(Code::ManifestInvalid, "the body broke off"))?;
        total += chunk.len();
        if total > limit * 4 {
            break;
        }
        if total <= limit {
            bytes.extend_from_slice(&chunk);
        }
    }
    Ok((total <= limit).then_some(bytes))
}

/// The digest of a session's synced file: from what was hashed on the way, else by reading it. `expected` names the
/// algorithm.
pub(super) fn digest_of(file: &mut File, hashed: Option<Hashed>, expected: &Digest) -> io::Result<Digest> {
    let len = file.metadata()?.len();
    let so_far = hashed.filter(|hashed| hashed.len == len).map(|hashed| hashed.hasher.finish());
    if let Some(digest) = so_far.filter(|digest| digest.algorithm() == expected.algorithm()) {
        return Ok(digest);
    }
    let mut hasher = expected.hasher();
    let mut buffer = vec![0; REHASH_BYTES];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher.finish()),
            n => hasher.update(&buffer[..n]),
        }
    }
}
