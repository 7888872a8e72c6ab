//! Where what is pulled is kept: a folder of its own, or the stage.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::folder::{BlobFault, LayoutFolder, MAX_DOCUMENT_BYTES, PartialBlob};
use crate::oci::Digest;
use crate::report::{Class, Failure};
use crate::stage::{BlobWriter, NotStaged, Stage};

/// Chunks between the network and the disk.
const CHUNKS: usize = 4;

/// Where blobs are kept.
#[derive(Debug)]
pub(crate) enum PullStore {
    /// A folder; a blob that broke off goes on from there in the next run.
    Folder(Arc<LayoutFolder>),
    /// The stage, within its limit. What it has of any bundle is not fetched.
    Stage(Arc<Stage>),
    /// Nothing is kept: for those who only ask what there is.
    Nowhere,
}

impl PullStore {
    /// The folder in which `blobs` lie, as in any layout; empty where nothing is kept.
    pub(crate) fn folder(&self) -> &Path {
        match self {
            Self::Folder(folder) => folder.root(),
            Self::Stage(stage) => stage.folder(),
            Self::Nowhere => Path::new(""),
        }
    }

    /// Whether a blob is there. It stays for this run.
    pub(super) fn has(&self, digest: &Digest, size: u64) -> bool {
        match self {
            Self::Folder(folder) => folder.has(digest, size),
            Self::Stage(stage) => {
                stage.rely_on([*digest]);
                stage.has(digest)
            }
            Self::Nowhere => false,
        }
    }

    /// A document that is there and right.
    pub(super) async fn document(&self, digest: &Digest) -> Option<Bytes> {
        match self {
            Self::Folder(folder) => folder.document(digest),
            Self::Stage(stage) if self.has(digest, 0) => {
                let (stage, digest) = (Arc::clone(stage), *digest);
                let read = tokio::task::spawn_blocking(move || stage.document(&digest, MAX_DOCUMENT_BYTES));
                read.await.ok().flatten()
            }
            Self::Stage(_) | Self::Nowhere => None,
        }
    }

    /// Puts a document there.
    pub(super) async fn put(&self, digest: &Digest, bytes: &Bytes) -> Result<(), Failure> {
        match self {
            Self::Folder(folder) => folder.put(digest, bytes),
            Self::Stage(_) => {
                let size = bytes.len() as u64;
                let Some(mut incoming) = self.begin(digest, size, true).await? else { return Ok(()) };
                incoming.append(bytes.clone()).await;
                match incoming.end().await {
                    Ok(()) => Ok(()),
                    Err(BlobFault::Here(failure)) => Err(failure),
                    Err(BlobFault::Cut | BlobFault::Wrong) => {
                        Err(Failure::new(Class::Integrity, format!("{digest} is another document")))
                    }
                }
            }
            Self::Nowhere => Ok(()),
        }
    }

    /// The place of a blob that is to come; none where it is there already. It has what came of it before, unless it is to begin
    /// `anew`.
    pub(super) async fn begin(
        &self,
        digest: &Digest,
        size: u64,
        anew: bool,
    ) -> Result<Option<IncomingBlob>, Failure> {
        match self {
            Self::Folder(folder) => {
                let (folder, digest) = (Arc::clone(folder), *digest);
                let begun = tokio::task::spawn_blocking(move || folder.begin(&digest, size, anew));
                let blob = begun.await.map_err(|error| Failure::internal(error.to_string()))??;
                let received = blob.written();
                Ok(Some(IncomingBlob::new(BlobSink::Folder(blob), received)))
            }
            Self::Stage(stage) => {
                let (own, digest) = (Arc::clone(stage), *digest);
                let opened = tokio::task::spawn_blocking(move || own.write(&digest, size));
                let opened = opened.await.map_err(|error| Failure::internal(error.to_string()))?;
                let writer = opened.map_err(|error| not_staged(&error, stage))?;
                let sink = |writer| BlobSink::Stage(Arc::clone(stage), writer);
                Ok(writer.map(|writer| IncomingBlob::new(sink(writer), 0)))
            }
            Self::Nowhere => Ok(None),
        }
    }
}

fn not_staged(error: &NotStaged, stage: &Stage) -> Failure {
    let message = format!("stage {}: {error}", stage.folder().display());
    match error {
        NotStaged::Wrong(_) => Failure::new(Class::Integrity, message),
        NotStaged::Limit(_) => Failure::new(Class::NoSpace, message)
            .hint("all that the source has must fit into it: raise `limit` of the stage (--stage-limit)"),
        NotStaged::Full(_) => {
            Failure::new(Class::NoSpace, message).hint("make room on that disk, or name another folder")
        }
        NotStaged::Io(_) => Failure::new(Class::Io, message),
    }
}

/// Where the bytes of a blob go.
enum BlobSink {
    Folder(PartialBlob),
    Stage(Arc<Stage>, BlobWriter),
}

impl BlobSink {
    fn append(&mut self, bytes: &[u8]) -> Result<(), BlobFault> {
        match self {
            Self::Folder(blob) => blob.append(bytes),
            Self::Stage(stage, writer) => {
                Ok(writer.append(bytes).map_err(|error| not_staged(&error, stage))?)
            }
        }
    }

    fn finish(self, is_whole: bool) -> Result<(), BlobFault> {
        match self {
            Self::Folder(blob) => blob.finish(),
            Self::Stage(..) if !is_whole => Err(BlobFault::Cut),
            Self::Stage(stage, writer) => match stage.put(writer) {
                Err(NotStaged::Wrong(_)) => Err(BlobFault::Wrong),
                put => Ok(put.map_err(|error| not_staged(&error, &stage))?),
            },
        }
    }
}

/// A blob on its way to the disk, which a thread writes.
pub(super) struct IncomingBlob {
    chunks: mpsc::Sender<Bytes>,
    writing: JoinHandle<Result<(), BlobFault>>,
    received: u64,
}

impl IncomingBlob {
    fn new(mut sink: BlobSink, received: u64) -> Self {
        let (chunks, mut incoming) = mpsc::channel::<Bytes>(CHUNKS);
        let writing = tokio::task::spawn_blocking(move || {
            while let Some(chunk) = incoming.blocking_recv() {
                if chunk.is_empty() {
                    return sink.finish(true);
                }
                sink.append(&chunk)?;
            }
            sink.finish(false)
        });
        Self { chunks, writing, received }
    }

    /// How many of its bytes came, in this run or before.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Takes the next bytes; false where they cannot be written, and [`Self::end`] says why.
    pub(super) async fn append(&mut self, chunk: Bytes) -> bool {
        self.received += chunk.len() as u64;
        chunk.is_empty() || self.chunks.send(chunk).await.is_ok()
    }

    /// All of it came.
    pub(super) async fn end(self) -> Result<(), BlobFault> {
        // The empty chunk says so: where a run is interrupted the channel ends without it.
        let _ = self.chunks.send(Bytes::new()).await;
        drop(self.chunks);
        match self.writing.await {
            Ok(written) => written,
            Err(error) => Err(Failure::internal(error.to_string()).into()),
        }
    }
}
