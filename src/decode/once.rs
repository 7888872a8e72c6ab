//! Decodes everything once and throws it away, to measure how fast that is.
//!
//! In: stored bytes. Out: the bytes decoded, and the time of the decoders. Nothing is kept and nothing is spooled:
//! each thread of the pool has one buffer, as large as the largest part.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::blocks::{CHUNK_BYTES, Parts};
use super::cache::{DecodeAttempt, PartSet as _};
use super::feed::SpaceFeed;
use super::magic;
use super::{DecodeSink, Decoder, Format, Structure, StructureKind, Volume, decode};
use crate::clock::Instant;
use crate::error::BundleError;
use crate::source::{ByteSpace, read_up_to};

/// The result of decoding a file once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Once {
    /// How the file is built.
    pub structure: Structure,
    /// Bytes that came out.
    pub decoded_bytes: u64,
    /// From the first byte to the last, opening included.
    pub elapsed: Duration,
    /// The time that each decoder was at work, added up.
    pub busy: Duration,
}

impl Decoder {
    /// Decodes all of `stored` once, on all threads of the pool where it falls into parts, and keeps nothing. Plain bytes
    /// are not looked at.
    ///
    /// # Errors
    /// Whatever is wrong with the file: every part is verified.
    pub(crate) fn decode_once(&self, stored: Arc<dyn ByteSpace>) -> Result<Once, BundleError> {
        let began = Instant::now();
        let format = magic::compression(&read_up_to(&*stored, 0, magic::HEAD_BYTES)?)?;
        if format == Format::Plain {
            let structure = Volume::plain(Arc::clone(&stored))?.structure;
            let decoded_bytes = stored.len()?;
            return Ok(Once { structure, decoded_bytes, elapsed: began.elapsed(), busy: Duration::ZERO });
        }
        let (outline, structure) = self.outline(format, &stored)?;
        let (decoded_bytes, busy) = if structure.kind == StructureKind::Blocks {
            let count = outline.parts.len();
            let parts = Parts::new(Arc::clone(&self.0), stored, outline);
            match self.decode_parts(&parts, count) {
                Err(_) if parts.one_is_too_large() => self.decode_in_order(format, parts.stored())?,
                result => result?,
            }
        } else {
            self.decode_in_order(outline.format, stored)?
        };
        Ok(Once { structure, decoded_bytes, elapsed: began.elapsed(), busy })
    }

    fn decode_parts(&self, parts: &Parts, count: usize) -> Result<(u64, Duration), BundleError> {
        let (next, decoded_bytes) = (AtomicUsize::new(0), AtomicU64::new(0));
        let work = |_: rayon::BroadcastContext<'_>| {
            let began = Instant::now();
            let mut buffer = Vec::new();
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return Ok(began.elapsed());
                }
                // After a failure the others have nothing left to do.
                while parts
                    .decode(index, &mut buffer)
                    .inspect_err(|_| next.store(count, Ordering::Relaxed))?
                    == DecodeAttempt::NeedsRoom
                {}
                decoded_bytes.fetch_add(buffer.len() as u64, Ordering::Relaxed);
            }
        };
        let times = self.0.pool.broadcast(work);
        let busy = times.into_iter().sum::<Result<Duration, BundleError>>()?;
        Ok((decoded_bytes.into_inner(), busy))
    }

    fn decode_in_order(
        &self,
        format: Format,
        stored: Arc<dyn ByteSpace>,
    ) -> Result<(u64, Duration), BundleError> {
        let began = Instant::now();
        let mut nowhere = Nowhere { room: vec![0; CHUNK_BYTES], bytes: 0 };
        let decoding = || decode(format, &mut SpaceFeed::all(stored), &mut nowhere, &self.0.options);
        self.0.meter.cpu.of(decoding)?;
        self.0.meter.decoded_bytes.fetch_add(nowhere.bytes, Ordering::Relaxed);
        Ok((nowhere.bytes, began.elapsed()))
    }
}

/// Counts what it is given.
struct Nowhere {
    room: Vec<u8>,
    bytes: u64,
}

impl DecodeSink for Nowhere {
    fn room(&mut self) -> Result<&mut [u8], BundleError> {
        Ok(&mut self.room)
    }

    fn filled(&mut self, len: usize) -> Result<(), BundleError> {
        self.bytes += len as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use xz2::stream::Check;

    use crate::decode::{DecodeOptions, testing};
    use crate::error::Fault;

    fn every_kind(data: &[u8]) -> [(&'static str, Vec<u8>); 6] {
        [
            ("xz blocks", testing::xz(data, 512 << 10, Check::Crc64)),
            ("one xz block", testing::xz(data, data.len(), Check::Crc64)),
            ("zstd frames", testing::zstd_frames(data, 1 << 20)),
            ("one zstd frame", testing::zstd(data, true)),
            ("gzip", testing::gzip(data)),
            ("bgzf", testing::bgzf(data, 60_000)),
        ]
    }

    #[test]
    fn each_byte_comes_out_once_whatever_the_format() {
        let data = testing::content(3 << 20, 1);
        for (name, file) in every_kind(&data) {
            let decoder = testing::decoder(2, DecodeOptions::default());
            let once = decoder.decode_once(testing::space(&file)).unwrap();
            assert_eq!(once.decoded_bytes, data.len() as u64, "{name}");
            let opened = decoder.open(testing::space(&file)).unwrap().structure;
            assert_eq!(once.structure, opened, "{name}: measured as it would be read");
        }
    }

    #[test]
    fn damage_in_any_part_is_told() {
        let data = testing::content(3 << 20, 2);
        for (name, mut file) in every_kind(&data) {
            let middle = file.len() / 2;
            file[middle] ^= 0x40;
            let decoder = testing::decoder(2, DecodeOptions::default());
            let error = decoder.decode_once(testing::space(&file)).unwrap_err();
            assert!(matches!(error.fault(), Fault::CorruptCompression | Fault::Truncated), "{name}: {error}");
        }
    }
}
