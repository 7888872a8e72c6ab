//! Bytes that nobody can compress and that come once only: neither a proxy nor a registry has them already.
//!
//! They are made as they are sent, by a generator that is many times faster than a network.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;

use crate::error::{BundleError, Fault};
use crate::oci::{Algorithm, Digest, Hasher};
use crate::registry::{BlobBody, BodyStream};

/// What is made at once.
const BLOCK: usize = 64 << 10;
const BLOCK_BYTES: u64 = BLOCK as u64;

/// How long nothing comes before a body breaks off.
const BEFORE_BREAK: Duration = Duration::from_secs(1);

/// A body of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct RandomBody {
    seed: u64,
    len: u64,
    /// Where it breaks off, if it does.
    breaks_at: u64,
}

impl RandomBody {
    /// One that nobody has had before.
    pub(super) fn new(len: u64) -> Self {
        Self::seeded(fastrand::u64(..), len)
    }

    fn seeded(seed: u64, len: u64) -> Self {
        Self { seed, len, breaks_at: u64::MAX }
    }

    /// The same, which breaks off there.
    pub(super) fn breaking_at(self, breaks_at: u64) -> Self {
        Self { breaks_at, ..self }
    }

    /// How many bytes it has.
    pub(super) const fn bytes(&self) -> u64 {
        self.len
    }

    /// The digest of its bytes.
    pub(super) fn digest(&self) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        for at in (0..self.len).step_by(BLOCK) {
            hasher.update(&self.piece(at..self.len));
        }
        hasher.finish()
    }

    /// The bytes of a range up to the end of the block in which it begins.
    fn piece(&self, range: Range<u64>) -> Bytes {
        let number = range.start / BLOCK_BYTES;
        let begins = number * BLOCK_BYTES;
        let mut block = BytesMut::zeroed(BLOCK);
        // Blocks of one body, and bodies of one process, are far apart in the generator's space.
        let seed = self.seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        fastrand::Rng::with_seed(seed).fill(&mut block);
        let from = usize::try_from(range.start - begins).unwrap_or(0);
        let to = usize::try_from((range.end - begins).min(BLOCK_BYTES)).unwrap_or(0);
        block.freeze().slice(from..to)
    }
}

impl BlobBody for RandomBody {
    fn len(&self) -> u64 {
        self.len
    }

    fn open(&self, range: Range<u64>) -> BodyStream {
        let body = *self;
        let end = range.end.min(body.len);
        let pieces = futures_util::stream::unfold(Some(range.start), move |at| async move {
            let at = at.filter(|at| *at < end)?;
            if at >= body.breaks_at {
                // What came before leaves this machine first.
                tokio::time::sleep(BEFORE_BREAK).await;
                let fault = BundleError::new(Fault::SizeMismatch, "the body breaks off here, as it is to");
                return Some((Err(fault), None));
            }
            let piece = body.piece(at..end);
            let next = at + piece.len() as u64;
            Some((Ok(piece), Some(next)))
        });
        pieces.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(body: RandomBody, range: Range<u64>) -> Vec<u8> {
        let pieces: Vec<_> = body.open(range).collect().await;
        pieces.into_iter().flat_map(Result::unwrap).collect()
    }

    #[tokio::test]
    async fn a_body_has_its_length_and_the_same_bytes_from_everywhere() {
        let body = RandomBody::seeded(7, 200_001);
        let whole = read(body, 0..200_001).await;
        assert_eq!(whole.len(), 200_001);
        for range in [0..1, 65_535..65_537, 70_000..200_001, 131_072..131_072] {
            let part = read(body, range.clone()).await;
            let (from, to) = (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
            assert_eq!(part, whole[from..to], "{range:?}");
        }
        assert_eq!(body.digest(), Digest::of(&whole));
    }

    #[tokio::test]
    async fn it_cannot_be_compressed_and_is_never_the_same() {
        let whole = read(RandomBody::seeded(7, 1 << 20), 0..1 << 20).await;
        let packed = crate::compress::compress_member(&whole, crate::compress::Method::Zstd).unwrap();
        assert!(packed.len() >= whole.len());
        assert_ne!(RandomBody::new(100).digest(), RandomBody::new(100).digest());
    }

    #[tokio::test(start_paused = true)]
    async fn it_breaks_off_where_it_is_to() {
        let pieces: Vec<_> =
            RandomBody::seeded(1, 1 << 20).breaking_at(1 << 17).open(0..1 << 20).collect().await;
        assert!(pieces.len() == 3 && pieces[2].is_err(), "{}", pieces.len());
    }
}
