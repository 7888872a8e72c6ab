//! A bundle decoded once, and the rates of what comes after decoding, measured on a sample of its own bytes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::bundle::Opener;
use crate::clock::Instant;
use crate::compress::{Method, compress_member};
use crate::decode::{Decoder, Once, StructureKind};
use crate::error::BundleError;
use crate::oci::{Algorithm, Hasher};
use crate::report::document::{BenchStep, CoreSeconds, PushBudget};
use crate::report::event::WorkStep;
use crate::report::{Event, Listeners};
use crate::source::{ByteSpace, WatchedSpace, read_exact};

/// Taken from the bundle for the other rates. Real files differ much from one place to the next.
const SAMPLE_BYTES: u64 = 8 << 20;
/// Layers are compressed in members of this size.
const MEMBER_BYTES: usize = 1 << 20;
/// How long each rate is measured at the least.
const MEASURED: Duration = Duration::from_millis(150);

/// What was found out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DecodeFigures {
    /// Decoding.
    pub once: Once,
    /// Threads that decoded.
    pub threads: usize,
    /// What else is done with each byte.
    pub rates: Rates,
}

/// Bytes per second of one core, by stage, and how far a sample of the bundle could be compressed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    /// Hashing with sha256.
    pub sha256: f64,
    /// Compressing layers with gzip.
    pub gzip: f64,
    /// Compressing layers with zstd.
    pub zstd: f64,
    /// Compressed by plain size, with gzip.
    pub gzip_ratio: f64,
    /// Compressed by plain size, with zstd.
    pub zstd_ratio: f64,
}

/// What becomes of the bundle's layers on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerTreatment {
    /// Pushed as they are stored: OCI layouts.
    AsStored,
    /// Plain layers of docker-archives, compressed with gzip.
    Gzip,
    /// The same, compressed with zstd.
    Zstd,
}

/// Decodes the bundle at `path` once, on all threads of the opener, and measures the other stages on one core. `listeners` hear
/// how much of the file was read.
pub(crate) fn decode(
    opener: &Opener,
    path: &Path,
    listeners: &Listeners,
) -> Result<DecodeFigures, BundleError> {
    let file = opener.file(path)?;
    let measured = || {
        let (listeners, of) = (listeners.clone(), Some(file.space().len()?));
        let told = move |bytes| listeners.emit(&Event::Advanced { step: WorkStep::Decode, bytes, of });
        let once = opener.decoder.decode_once(WatchedSpace::over(file.space(), told))?;
        let rates = rates(&sample(&opener.decoder, file.space(), &once)?)?;
        Ok(DecodeFigures { once, threads: opener.pool.current_num_threads(), rates })
    };
    let figures = measured().map_err(|error: BundleError| error.at(path.display()))?;
    file.check_unchanged()?;
    Ok(figures)
}

impl DecodeFigures {
    /// Bytes that come out of one decoder in a second; None where nothing is decoded.
    pub(crate) fn decode_rate_per_core(&self) -> Option<f64> {
        rate(self.once.decoded_bytes, self.once.busy)
    }

    /// Bytes that come out of all of them; None where nothing is decoded.
    pub(crate) fn decode_rate(&self) -> Option<f64> {
        if self.once.busy.is_zero() { None } else { rate(self.once.decoded_bytes, self.once.elapsed) }
    }

    /// The share of the time of the threads in which they decoded.
    pub(crate) fn pool_busy_share(&self) -> f64 {
        let all = self.once.elapsed.as_secs_f64() * self.threads as f64;
        if all > 0.0 { (self.once.busy.as_secs_f64() / all).min(1.0) } else { 0.0 }
    }

    /// What a push of it would cost.
    pub(crate) fn budget(&self, layers: LayerTreatment) -> PushBudget {
        let bytes = self.once.decoded_bytes as f64;
        let (compress, ratio) = match layers {
            LayerTreatment::AsStored => (0.0, 0.0),
            LayerTreatment::Gzip => (bytes / self.rates.gzip, self.rates.gzip_ratio),
            LayerTreatment::Zstd => (bytes / self.rates.zstd, self.rates.zstd_ratio),
        };
        // A layer that is compressed has two digests: of what goes in and of what comes out.
        let sha256 = bytes * (1.0 + ratio) / self.rates.sha256;
        let decode = self.once.busy.as_secs_f64();
        let core_seconds = CoreSeconds { decode, sha256, compress };
        let shared = (decode + sha256 + compress) / self.threads.max(1) as f64;
        // What cannot be cut into parts keeps one core from beginning to end.
        let alone = if self.once.structure.kind == StructureKind::Spool { decode } else { 0.0 };
        let largest = core_seconds.by_stage().into_iter().max_by(|a, b| a.1.total_cmp(&b.1));
        let bottleneck = match largest {
            Some((stage, _)) if alone < shared => stage,
            _ => BenchStep::Decode,
        };
        PushBudget { bottleneck, seconds_at_best: shared.max(alone), core_seconds }
    }
}

/// Bytes from the middle, where they can be had without decoding all before them.
fn sample(decoder: &Decoder, stored: Arc<dyn ByteSpace>, once: &Once) -> Result<Bytes, BundleError> {
    let volume = decoder.open(stored)?;
    let len = once.decoded_bytes.min(SAMPLE_BYTES);
    let offset = match once.structure.kind {
        StructureKind::Spool => 0,
        StructureKind::Plain | StructureKind::Blocks => (once.decoded_bytes - len) / 2,
    };
    read_exact(&*volume.space, offset, usize::try_from(len).unwrap_or(0))
}

fn rates(sample: &[u8]) -> Result<Rates, BundleError> {
    let sha256 = repeat(sample, |bytes| {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        std::hint::black_box(hasher.finish());
        Ok(bytes.len())
    })?;
    let gzip = repeat(sample, |bytes| Ok(compress_member(bytes, Method::Gzip)?.len()))?;
    let zstd = repeat(sample, |bytes| Ok(compress_member(bytes, Method::Zstd)?.len()))?;
    Ok(Rates { sha256: sha256.0, gzip: gzip.0, zstd: zstd.0, gzip_ratio: gzip.1, zstd_ratio: zstd.1 })
}

/// Does `work` with member after member, at least once with all and for as long as is measured. Gives bytes per second,
/// and what came out by what went in.
fn repeat(
    sample: &[u8],
    work: impl Fn(&[u8]) -> Result<usize, BundleError>,
) -> Result<(f64, f64), BundleError> {
    let began = Instant::now();
    let (mut read, mut made) = (0_u64, 0_u64);
    while !sample.is_empty() && (read == 0 || began.elapsed() < MEASURED) {
        for member in sample.chunks(MEMBER_BYTES) {
            made += work(member)? as u64;
            read += member.len() as u64;
        }
    }
    let ratio = if read == 0 { 1.0 } else { made as f64 / read as f64 };
    Ok((rate(read, began.elapsed()).unwrap_or(f64::INFINITY), ratio))
}

fn rate(bytes: u64, time: Duration) -> Option<f64> {
    (bytes > 0 && !time.is_zero()).then(|| bytes as f64 / time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::{Format, Structure};

    fn figures(kind: StructureKind, busy: u64) -> DecodeFigures {
        let structure = Structure {
            format: Format::Xz,
            kind,
            parts: 8,
            largest_part_bytes: 1 << 20,
            stored_bytes: Some(1 << 20),
            decoded_bytes: Some(1_000_000_000),
        };
        let once = Once {
            structure,
            decoded_bytes: 1_000_000_000,
            elapsed: Duration::from_secs(5),
            busy: Duration::from_secs(busy),
        };
        let rates = Rates { sha256: 1e9, gzip: 1e8, zstd: 5e8, gzip_ratio: 0.5, zstd_ratio: 0.5 };
        DecodeFigures { once, threads: 2, rates }
    }

    #[test]
    fn parts_share_all_cores_and_the_dearest_stage_is_named() {
        let budget = figures(StructureKind::Blocks, 8).budget(LayerTreatment::Gzip);
        assert_eq!(budget.bottleneck, BenchStep::Compress);
        assert!((budget.seconds_at_best - (8.0 + 1.5 + 10.0) / 2.0).abs() < 1e-9);
        let budget = figures(StructureKind::Blocks, 8).budget(LayerTreatment::AsStored);
        assert_eq!(budget.bottleneck, BenchStep::Decode);
        assert!((budget.seconds_at_best - 4.5).abs() < 1e-9, "one digest, nothing compressed");
    }

    #[test]
    fn what_is_one_stream_is_never_faster_than_its_decoder() {
        let budget = figures(StructureKind::Spool, 10).budget(LayerTreatment::Zstd);
        assert_eq!(budget.bottleneck, BenchStep::Decode);
        assert!((budget.seconds_at_best - 10.0).abs() < 1e-9);
        // With so much to compress, two cores are busy for longer than the decoder.
        let budget = figures(StructureKind::Spool, 5).budget(LayerTreatment::Gzip);
        assert_eq!(budget.bottleneck, BenchStep::Compress);
    }

    #[test]
    fn plain_bytes_cost_no_decoding() {
        let budget = figures(StructureKind::Plain, 0).budget(LayerTreatment::AsStored);
        assert_eq!(budget.bottleneck, BenchStep::Sha256);
        assert_eq!(figures(StructureKind::Plain, 0).decode_rate(), None);
        assert!((figures(StructureKind::Blocks, 8).pool_busy_share() - 0.8).abs() < 1e-9);
    }
}
