//! Decoding under small limits: what is decoded may be far larger than what was given.

use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use layercast::measured::{ByteSpace, DecodeOptions, Decoder};

/// The most that is read of what comes out.
const MOST_BYTES: u64 = 4 << 20;

static POOL: LazyLock<Arc<rayon::ThreadPool>> =
    LazyLock::new(|| Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap()));

/// Reads `data` as a compressed file that begins with `magic`, from its beginning and at its end.
pub fn decode(magic: &[u8], data: &[u8]) {
    let stored: Arc<dyn ByteSpace> = Arc::new(Bytes::from([magic, data].concat()));
    let mut options = DecodeOptions::default();
    options.memory_bytes = 16 << 20;
    let Ok(volume) = Decoder::new(Arc::clone(&POOL), options).open(stored) else { return };
    let mut offset = 0;
    while offset < MOST_BYTES {
        match volume.space.chunk_at(offset, 64 << 10) {
            Ok(chunk) if !chunk.is_empty() => offset += chunk.len() as u64,
            _ => return,
        }
    }
}
