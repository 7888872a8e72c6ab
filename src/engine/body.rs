//! From a range of a volume to the body of a request, verified on the way.
//!
//! A feeder runs on a thread that may wait (for the disk, for a part being decoded) and hands chunks to the request over
//! a channel of one. It starts when the request first asks for bytes, so it holds nothing while the request waits for a
//! connection. It hashes on its own thread and not on the pool of the decoders: a chunk's hash takes 0.2 ms, and queueing it
//! behind the decoding of a block of 8 MiB would hold the socket for a tenth of a second.

use crate::locks::Mutex;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use tokio::sync::mpsc;

use crate::clock::CpuTime;
use crate::error::{BundleError, Fault};
use crate::oci::{Digest, Hasher};
use crate::registry::{BlobBody, BodyStream};
use crate::source::ByteSpace;

/// Bytes of one chunk: the least, where many mirrors share the memory, and the most.
const CHUNK_BYTES: std::ops::RangeInclusive<u64> = 16 << 10..=256 << 10;
/// Chunks between a feeder and the network: one in the feeder's hand, one waiting, one being written.
const BUFFERED_CHUNKS: u64 = 3;

/// How bodies share their memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Buffering {
    chunk_bytes: u64,
}

impl Buffering {
    /// Each mirror has at least one body. With many mirrors the chunks are smaller, so that the sum fits into the memory.
    pub(super) fn new(memory_bytes: u64, mirrors: usize) -> Self {
        let share = memory_bytes / mirrors.max(1) as u64 / BUFFERED_CHUNKS;
        Self { chunk_bytes: share.clamp(*CHUNK_BYTES.start(), *CHUNK_BYTES.end()) }
    }

    /// What one body holds of memory.
    pub(super) fn bytes(self) -> u64 {
        BUFFERED_CHUNKS * self.chunk_bytes
    }
}

/// A blob that is sent as it lies in a space.
#[derive(Debug)]
pub(super) struct SpaceBody {
    space: Arc<dyn ByteSpace>,
    size: u64,
    check: Option<Arc<BlobCheck>>,
    buffering: Buffering,
}

impl SpaceBody {
    /// `size` bytes of `space`. If they do not have this digest, the last chunk is withheld.
    pub(super) fn verified(
        space: Arc<dyn ByteSpace>,
        size: u64,
        digest: Digest,
        buffering: Buffering,
        sha256: &Arc<CpuTime>,
    ) -> Self {
        let check = Some(Arc::new(BlobCheck::new(digest, size, Arc::clone(sha256))));
        Self { space, size, check, buffering }
    }

    /// Bytes that layercast made and hashed itself; the registry hashes them once more.
    pub(super) fn made(space: Arc<dyn ByteSpace>, size: u64, buffering: Buffering) -> Self {
        Self { space, size, check: None, buffering }
    }
}

impl BlobBody for SpaceBody {
    fn len(&self) -> u64 {
        self.size
    }

    fn open(&self, range: Range<u64>) -> BodyStream {
        let (space, check) = (Arc::clone(&self.space), self.check.clone());
        let chunk_bytes = self.buffering.chunk_bytes;
        let start = async move {
            let (sender, mut receiver) = mpsc::channel(1);
            tokio::task::spawn_blocking(move || {
                feed(space.as_ref(), check.as_deref(), range, chunk_bytes, &sender);
            });
            stream::poll_fn(move |context| receiver.poll_recv(context))
        };
        start.into_stream().flatten().boxed()
    }
}

fn feed(
    space: &dyn ByteSpace,
    check: Option<&BlobCheck>,
    range: Range<u64>,
    chunk_bytes: u64,
    sender: &mpsc::Sender<Result<Bytes, BundleError>>,
) {
    // A request that goes on in the middle still has the bytes before it hashed, once.
    let mut offset = check.map_or(range.start, |check| range.start.min(check.hashed()));
    while offset < range.end {
        let max = usize::try_from((range.end - offset).min(chunk_bytes)).unwrap_or(0);
        let max = if offset < range.start {
            max.min(usize::try_from(range.start - offset).unwrap_or(max))
        } else {
            max
        };
        let chunk = space.chunk_at(offset, max).and_then(|chunk| {
            if chunk.is_empty() {
                return Err(BundleError::new(Fault::Truncated, format!("ends at byte {offset} of the blob")));
            }
            check.map_or(Ok(()), |check| check.take(offset, &chunk, space)).map(|()| chunk)
        });
        let at = offset;
        offset += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        let failed = chunk.is_err();
        // The receiver is gone once the request was given up.
        if (failed || at >= range.start) && sender.blocking_send(chunk).is_err() {
            return;
        }
        if failed {
            return;
        }
    }
}

/// Hashes a blob once, however many mirrors read it: the first reader of a chunk hashes it.
#[derive(Debug)]
struct BlobCheck {
    digest: Digest,
    size: u64,
    /// The CPU time of hashing.
    cpu: Arc<CpuTime>,
    state: Mutex<BlobCheckState>,
}

#[derive(Debug)]
struct BlobCheckState {
    hasher: Option<Hasher>,
    hashed: u64,
    outcome: Result<(), BundleError>,
}

impl BlobCheck {
    fn new(digest: Digest, size: u64, cpu: Arc<CpuTime>) -> Self {
        let state = BlobCheckState { hasher: Some(digest.hasher()), hashed: 0, outcome: Ok(()) };
        Self { digest, size, cpu, state: Mutex::new(state) }
    }

    fn hashed(&self) -> u64 {
        self.state.lock().hashed
    }

    /// Hashes the bytes at `offset` of a space. The end of a blob with a wrong digest is an error for every reader.
    fn take(&self, offset: u64, chunk: &Bytes, space: &dyn ByteSpace) -> Result<(), BundleError> {
        let mut state = self.state.lock();
        let end = offset + chunk.len() as u64;
        if offset <= state.hashed && end > state.hashed {
            let new = chunk.slice(usize::try_from(state.hashed - offset).unwrap_or(0)..);
            state.hashed = end;
            if let Some(hasher) = &mut state.hasher {
                self.cpu.of(|| hasher.update(&new));
            }
            if end == self.size
                && let Some(hasher) = state.hasher.take()
            {
                let found = hasher.finish();
                if found != self.digest {
                    let message = format!("blob {}: its content has digest {found}", self.digest);
                    // A disk that cannot be read does not make the bundle damaged.
                    let damaged = || Err(BundleError::new(Fault::DigestMismatch, message));
                    state.outcome = space.check_intact().and_then(|()| damaged());
                }
            }
        }
        if end == self.size { state.outcome.clone() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn collect(body: &SpaceBody, range: Range<u64>) -> Result<Vec<u8>, BundleError> {
        let mut stream = body.open(range);
        let mut out = Vec::new();
        while let Some(chunk) = stream.next().await {
            out.extend_from_slice(&chunk?);
        }
        Ok(out)
    }

    fn body(bytes: &Bytes, digest: Digest) -> SpaceBody {
        let buffering = Buffering::new(32 << 20, 1);
        SpaceBody::verified(Arc::new(bytes.clone()), bytes.len() as u64, digest, buffering, &Arc::default())
    }

    #[tokio::test]
    async fn bytes_arrive_as_they_lie_from_any_offset_any_number_of_times() {
        let bytes = Bytes::from((0..1_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<_>>());
        let body = body(&bytes, Digest::of(&bytes));
        let len = bytes.len() as u64;
        assert!(collect(&body, 3_000_000..len).await.unwrap() == bytes[3_000_000..]);
        assert!(collect(&body, 0..len).await.unwrap() == bytes);
        assert!(collect(&body, 5..7).await.unwrap() == bytes[5..7]);
    }

    #[test]
    fn bodies_of_many_mirrors_are_cut_smaller() {
        let bytes = |mirrors| Buffering::new(32 << 20, mirrors).bytes();
        assert_eq!([1, 40].map(bytes), [768 << 10, 768 << 10]);
        assert!(bytes(100) * 100 <= 32 << 20 && bytes(600) * 600 <= 32 << 20);
    }

    /// Reads as zeros, because its pages are lost.
    #[derive(Debug)]
    struct Lost;

    impl ByteSpace for Lost {
        fn len(&self) -> Result<u64, BundleError> {
            Ok(10)
        }

        fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
            Bytes::from_static(&[0; 10]).chunk_at(offset, max)
        }

        fn check_intact(&self) -> Result<(), BundleError> {
            Err(BundleError::new(Fault::Io, "lost"))
        }
    }

    #[tokio::test]
    async fn what_a_disk_could_not_read_is_no_damage_to_the_bundle() {
        let buffering = Buffering::new(32 << 20, 1);
        let body =
            SpaceBody::verified(Arc::new(Lost), 10, Digest::of(b"something"), buffering, &Arc::default());
        assert_eq!(collect(&body, 0..10).await.unwrap_err().fault(), Fault::Io);
    }

    #[tokio::test]
    async fn the_end_of_a_wrong_blob_is_never_given_out() {
        let bytes = Bytes::from(vec![7; 600_000]);
        let body = body(&bytes, Digest::of(b"something else"));
        for _ in 0..2 {
            let mut stream = body.open(0..600_000);
            let mut given = 0;
            let error = loop {
                match stream.next().await.unwrap() {
                    Ok(chunk) => given += chunk.len(),
                    Err(error) => break error,
                }
            };
            assert!(given < 600_000);
            assert_eq!(error.fault(), Fault::DigestMismatch);
        }
    }
}
