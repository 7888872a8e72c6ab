//! Stored bytes become a [`Volume`]: the decoded bytes as one random-access space.
//!
//! In: a [`ByteSpace`] of stored bytes, or a pipe. Out: a `Volume`, by what the bytes are and never by a name:
//! * plain bytes are their own volume, without a copy;
//! * a file that falls into independent parts (xz blocks, zstd frames, BGZF members) becomes a block volume: any part
//!   is decoded alone, on the rayon pool, into a cache that all volumes of a [`Decoder`] share;
//! * anything else (one xz block, one zstd frame, ordinary gzip, bzip2, a pipe) becomes a spool volume: one thread decodes
//!   ahead into an unlinked, sparse file.
//!
//! Everything is capped. [`DecodeOptions::memory_bytes`] bounds a decoder's own memory. The run's [`crate::budget::Budget`] bounds
//! decoded parts together with what their decoders need (an xz dictionary, a zstd window): a part's whole need is reserved
//! before its decoding starts. A spooled volume holds 2 MiB and its decoder. A declared size only ever refuses: more or fewer
//! bytes than declared are a fault.
//!
//! Knows no tar, and nothing of what the bytes mean.

mod blocks;
mod bzip2;
mod cache;
mod feed;
mod guessed;
mod gzip;
mod limits;
pub(crate) mod magic;
mod once;
mod outline;
mod ranges;
mod spool;
mod volume;
mod xz;
mod zstd;

use crate::locks::Mutex;
use std::fmt;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;

use self::blocks::BlockVolume;
use self::cache::PartCache;
use self::feed::{Feed, PipeFeed};
use self::guessed::GuessedVolume;
pub use self::limits::DecodeOptions;
pub(crate) use self::once::Once;
use self::outline::Outline;
use self::spool::SpoolVolume;
pub use self::volume::StructureKind;
pub(crate) use self::volume::{Format, Structure, Volume};
use crate::clock::CpuTime;
use crate::error::{BundleError, Fault};
use crate::source::{ByteSpace, read_up_to};

/// Opens volumes. All volumes of one decoder share its pool of threads, its cache of parts and its limits.
#[derive(Clone)]
pub struct Decoder(Arc<Shared>);

/// What all volumes of a decoder share.
struct Shared {
    options: DecodeOptions,
    pool: Arc<rayon::ThreadPool>,
    cache: Arc<PartCache>,
    meter: Arc<Meter>,
    cancelled: AtomicBool,
    /// Volumes whose readers may be waiting.
    spools: Mutex<Vec<Weak<dyn Waiting>>>,
}

/// A volume whose readers may be waiting.
trait Waiting: Send + Sync {
    /// Those who wait check again whether the decoder was cancelled.
    fn wake(&self);

    /// What nobody said to read is not kept any more.
    fn settle(&self);
}

/// What was decoded so far. Reading it costs nothing.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    decoded_bytes: AtomicU64,
    parts_decoded: AtomicU64,
    spooled_bytes: AtomicU64,
    spool_high_water: AtomicU64,
    cpu: CpuTime,
}

impl Meter {
    /// Bytes that decoders have put out, those decoded again included.
    pub(crate) fn decoded_bytes(&self) -> u64 {
        self.decoded_bytes.load(Ordering::Relaxed)
    }

    /// Parts decoded, those decoded again included.
    pub(crate) fn parts_decoded(&self) -> u64 {
        self.parts_decoded.load(Ordering::Relaxed)
    }

    /// CPU time spent on that.
    pub(crate) fn cpu_time(&self) -> Duration {
        self.cpu.total()
    }

    /// Disk space that the spool files hold now.
    #[cfg(test)]
    pub(crate) fn spooled_bytes(&self) -> u64 {
        self.spooled_bytes.load(Ordering::Relaxed)
    }

    /// The most disk space that the spool files ever held together.
    pub(crate) fn spool_high_water_bytes(&self) -> u64 {
        self.spool_high_water.load(Ordering::Relaxed)
    }

    /// Counts bytes on their way to a spool file.
    fn spool(&self, bytes: u64) {
        let now = self.spooled_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.spool_high_water.fetch_max(now, Ordering::Relaxed);
    }

    fn unspool(&self, bytes: u64) {
        self.spooled_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Decoder {
    /// A decoder whose parts are decoded on `pool`.
    pub fn new(pool: Arc<rayon::ThreadPool>, options: DecodeOptions) -> Self {
        let (meter, cancelled) = (Arc::<Meter>::default(), AtomicBool::new(false));
        let cache = PartCache::new(Arc::clone(&pool), &options, Arc::clone(&meter));
        Self(Arc::new(Shared { options, pool, cache, meter, cancelled, spools: Mutex::default() }))
    }

    /// What was decoded so far.
    pub(crate) fn meter(&self) -> &Meter {
        &self.0.meter
    }

    /// Ends every wait for bytes, now and later, with [`Fault::Cancelled`], and stops the spooling threads.
    pub(crate) fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
        self.0.cache.cancel();
        let spools = std::mem::take(&mut *self.0.spools.lock());
        spools.iter().filter_map(Weak::upgrade).for_each(|spool| spool.wake());
    }

    /// Several mirrors will read, and not all at the same pace: parts that memory has no room for are kept on the disk as far
    /// as nobody else needs it, and are not decoded again.
    pub(crate) fn spill_to_disk(&self) {
        self.0.cache.spill_to_disk();
    }

    /// All who will read what is open now have said so: what nobody needs is not kept any more in memory. Where mirrors come
    /// later it stays on the disk.
    pub(crate) fn settle(&self, mirrors_come_later: bool) {
        self.0.cache.settle(mirrors_come_later);
        if !mirrors_come_later {
            let spools: Vec<_> = self.0.spools.lock().iter().filter_map(Weak::upgrade).collect();
            for spool in spools {
                spool.settle();
            }
        }
    }

    /// The volume of these stored bytes. Reads the beginning and, where the format keeps one, the table of its parts;
    /// that table is checked as a whole here, the parts when they are read. Several zstd frames that do not tell their
    /// sizes are all decoded once, to know them.
    pub fn open(&self, stored: Arc<dyn ByteSpace>) -> Result<Volume, BundleError> {
        let format = magic::compression(&read_up_to(&*stored, 0, magic::HEAD_BYTES)?)?;
        if format == Format::Plain {
            return Volume::plain(stored);
        }
        let (outline, structure) = self.outline(format, &stored)?;
        if structure.kind == StructureKind::Blocks {
            let space: Arc<dyn ByteSpace> = if outline.parts.is_empty() {
                Arc::new(Bytes::new())
            } else if outline.sizes_told {
                Arc::new(BlockVolume::new(Arc::clone(&self.0), stored, outline))
            } else {
                Arc::new(GuessedVolume::new(Arc::clone(&self.0), stored, outline))
            };
            return Ok(Volume { space, structure });
        }
        let space = SpoolVolume::of_space(&self.0, outline.format, &stored, outline.at_least_bytes)?;
        Ok(Volume { space: Arc::new(space), structure })
    }

    /// The volume of what comes out of a pipe, decoded while it comes.
    ///
    /// A thread that waits for a silent pipe is left to itself when the volume is dropped.
    pub(crate) fn open_reader(&self, reader: impl Read + Send + 'static) -> Result<Volume, BundleError> {
        let mut feed = PipeFeed::new(reader);
        let format = magic::compression(feed.head(magic::HEAD_BYTES)?)?;
        let structure = Structure {
            format,
            kind: StructureKind::Spool,
            parts: 1,
            largest_part_bytes: 0,
            stored_bytes: None,
            decoded_bytes: None,
        };
        let space = SpoolVolume::of_pipe(&self.0, format, Box::new(feed))?;
        Ok(Volume { space: Arc::new(space), structure })
    }

    /// What the file tells of itself, and how it will be read.
    fn outline(
        &self,
        format: Format,
        stored: &Arc<dyn ByteSpace>,
    ) -> Result<(Outline, Structure), BundleError> {
        let stored_len = stored.len()?;
        let outline = match format {
            Format::Xz => xz::outline(&**stored, stored_len, &self.0.options)?,
            Format::Zstd => zstd::outline(&**stored, stored_len, &self.0.options)?,
            Format::Gzip | Format::Bgzf | Format::Plain => gzip::outline(&**stored, stored_len)?,
            Format::Bzip2 => Outline::stream(Format::Bzip2, None),
        };
        let in_parts = self.falls_into_parts(&outline);
        let structure = Structure {
            format: outline.format,
            kind: if in_parts { StructureKind::Blocks } else { StructureKind::Spool },
            parts: outline.units,
            largest_part_bytes: outline.largest_bytes,
            stored_bytes: Some(stored_len),
            decoded_bytes: outline.decoded_bytes,
        };
        Ok((outline, structure))
    }

    /// Whether the file is worth decoding part by part: several parts, or none at all, and none too large for the cache.
    fn falls_into_parts(&self, outline: &Outline) -> bool {
        let limit = self.0.options.part_limit_bytes();
        let need = outline.largest_bytes + outline.working_bytes.min(outline.largest_bytes);
        outline.parts_known && (outline.units > 1 || outline.parts.is_empty()) && need <= limit
    }
}

impl fmt::Debug for Decoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Decoder").field(&self.0).finish()
    }
}

impl Shared {
    /// Wakes `spool` when the decoder is cancelled.
    fn wake_on_cancel(&self, spool: Weak<dyn Waiting>) {
        let mut spools = self.spools.lock();
        spools.retain(|spool| spool.strong_count() > 0);
        spools.push(spool);
    }

    fn check_cancelled(&self) -> Result<(), BundleError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(cancelled()) } else { Ok(()) }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("options", &self.options)
            .field("meter", &self.meter)
            .finish_non_exhaustive()
    }
}

/// Where decoded bytes go.
trait DecodeSink {
    /// Room for more bytes, never empty.
    fn room(&mut self) -> Result<&mut [u8], BundleError>;

    /// The first `len` bytes of the room were filled.
    fn filled(&mut self, len: usize) -> Result<(), BundleError>;
}

/// Decodes all of `feed`, verified to its end.
fn decode(
    format: Format,
    feed: &mut dyn Feed,
    out: &mut dyn DecodeSink,
    options: &DecodeOptions,
) -> Result<(), BundleError> {
    let decoded = match format {
        Format::Plain => copy(feed, out),
        Format::Xz => xz::decode(feed, out, options),
        Format::Zstd => zstd::decode(feed, out, options),
        Format::Gzip | Format::Bgzf => gzip::decode(feed, out),
        Format::Bzip2 => bzip2::decode(feed, out),
    };
    decoded.map_err(|error| match error.fault() {
        Fault::CorruptCompression => error.at(format!("found at byte {}", feed.position())),
        _ => error,
    })
}

/// Nothing but zeros may follow the last member or stream of a format.
fn padding(format: &str, feed: &mut dyn Feed) -> Result<(), BundleError> {
    loop {
        let position = feed.position();
        let stored = feed.window()?;
        if stored.is_empty() {
            return Ok(());
        }
        if let Some(at) = stored.iter().position(|byte| *byte != 0) {
            let at = position + at as u64;
            return Err(corrupt(format!("bytes that are no {format} data follow it, at byte {at}")));
        }
        let len = stored.len();
        feed.advance(len);
    }
}

fn copy(feed: &mut dyn Feed, out: &mut dyn DecodeSink) -> Result<(), BundleError> {
    loop {
        let stored = feed.window()?;
        if stored.is_empty() {
            return Ok(());
        }
        let room = out.room()?;
        let len = stored.len().min(room.len());
        room[..len].copy_from_slice(&stored[..len]);
        feed.advance(len);
        out.filled(len)?;
    }
}

fn corrupt(detail: impl Into<String>) -> BundleError {
    BundleError::new(Fault::CorruptCompression, detail)
}

fn truncated(format: &str, at: u64) -> BundleError {
    BundleError::new(Fault::Truncated, format!("{format} data ends too early, at byte {at}"))
        .hint(
            "the file was not copied or downloaded completely; if it is the first piece of a split archive, join the \
             pieces: cat PIECES | layercast … --source -",
        )
}

fn cancelled() -> BundleError {
    BundleError::new(Fault::Cancelled, "told to stop")
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
