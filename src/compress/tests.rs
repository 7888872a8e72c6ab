use std::io::Read;

use bytes::Bytes;

use super::*;
use crate::budget::{Budget, Shares};
use crate::source::Extent;

fn pool(threads: usize) -> rayon::ThreadPool {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap()
}

fn sample(len: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 & 15
    };
    (0..len).map(|_| next()).collect()
}

fn unpacked(bytes: &[u8], diff_id: Digest, stored: Stored) -> UnpackedLayer {
    let size = bytes.len() as u64;
    let space = Arc::new(Bytes::copy_from_slice(bytes));
    UnpackedLayer {
        diff_id,
        member: "l/layer.tar".into(),
        extent: Extent::new(space, 0, size),
        size,
        stored,
        order: 0,
    }
}

fn layer(
    pool: &rayon::ThreadPool,
    layer: &UnpackedLayer,
    method: Method,
    settings: &SpillSettings,
) -> Result<LayerBlob, BundleError> {
    super::layer(pool, layer, method, settings, &CpuMeters::default())
}

fn settings(quota: u64) -> SpillSettings {
    let budget = Budget::new(Shares { layers: quota, ..Shares::default() });
    SpillSettings { budget, room: None, folder: std::env::temp_dir() }
}

fn content(blob: &LayerBlob) -> Vec<u8> {
    let space: Arc<dyn ByteSpace> = match &blob.content {
        LayerContent::Made(spill) => Arc::clone(spill) as _,
        LayerContent::Stored(extent) => Arc::new(extent.clone()),
    };
    let mut out = Vec::new();
    loop {
        let chunk = space.chunk_at(out.len() as u64, 100_000).unwrap();
        if chunk.is_empty() {
            return out;
        }
        out.extend_from_slice(&chunk);
    }
}

/// The digests of pushed layers hang on these bytes: a change here changes every digest that users have seen.
#[test]
fn the_same_layer_has_the_same_digest_for_ever() {
    let plain = sample(5_000_000);
    let layer_in = unpacked(&plain, Digest::of(&plain), Stored::Plain);
    for (method, golden) in [
        (Method::Gzip, "sha256:12b75af6a53c4c03cdd31082f0b61559281d620f957b34e8480c070433302a2f"),
        (Method::Zstd, "sha256:9323c2e564a504189396ef35dc0ac609eba6fbb0f6f6437679d52e7856fb5c40"),
    ] {
        for threads in [1, 4] {
            let blob = layer(&pool(threads), &layer_in, method, &settings(u64::MAX)).unwrap();
            assert_eq!(blob.facts.digest.to_string(), golden, "{method:?} with {threads} threads");
            assert_eq!(Digest::of(&content(&blob)), blob.facts.digest);
        }
    }
}

#[test]
fn what_was_compressed_reads_back_whole() {
    for len in [0, 1, MEMBER_BYTES - 1, MEMBER_BYTES, MEMBER_BYTES * WINDOW_MEMBERS + 1] {
        let plain = sample(len);
        let layer_in = unpacked(&plain, Digest::of(&plain), Stored::Plain);
        let blob = layer(&pool(2), &layer_in, Method::Gzip, &settings(u64::MAX)).unwrap();
        let mut back = Vec::new();
        flate2::read::MultiGzDecoder::new(content(&blob).as_slice()).read_to_end(&mut back).unwrap();
        assert!(back == plain, "{len} bytes");
        let blob = layer(&pool(2), &layer_in, Method::Zstd, &settings(u64::MAX)).unwrap();
        let mut back = Vec::new();
        zstd::stream::read::Decoder::new(content(&blob).as_slice()).unwrap().read_to_end(&mut back).unwrap();
        assert!(back == plain, "{len} bytes");
    }
}

#[test]
fn no_blob_is_larger_than_is_promised_for_it() {
    let mut state = 7_u64;
    let mut noise = |len: usize| -> Vec<u8> {
        let next = |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32).to_le_bytes()[0]
        };
        (0..len).map(next).collect()
    };
    for len in [0, 1, 100, 70_000, MEMBER_BYTES - 1, MEMBER_BYTES, 3 * MEMBER_BYTES + 5] {
        let plain = noise(len);
        let layer_in = unpacked(&plain, Digest::of(&plain), Stored::Plain);
        for method in [Method::Gzip, Method::Zstd] {
            let blob = layer(&pool(2), &layer_in, method, &settings(u64::MAX)).unwrap();
            let most = method.most_bytes(len as u64);
            assert!(blob.facts.size <= most, "{method:?}, {len}: {} of {most}", blob.facts.size);
            assert!(blob.facts.size >= len as u64, "noise does not compress");
        }
    }
}

#[test]
fn what_memory_does_not_hold_lies_on_disk_and_both_come_back() {
    let plain = sample(5_000_000);
    let layer_in = unpacked(&plain, Digest::of(&plain), Stored::Plain);
    let (roomy, tight) = (settings(10_000_000), settings(1_000_000));
    let in_memory = layer(&pool(2), &layer_in, Method::Gzip, &roomy).unwrap();
    let on_disk = layer(&pool(2), &layer_in, Method::Gzip, &tight).unwrap();
    let left = |settings: &SpillSettings| {
        let mut probe = settings.budget.layer(None);
        (0..1000).take_while(|_| probe.grow(100_000) == Ok(100_000)).count()
    };
    assert!((1..100).contains(&left(&roomy)), "one lies in memory");
    assert_eq!(left(&tight), 0, "the other as far as it fits");
    assert!(content(&in_memory) == content(&on_disk));
    drop((in_memory, on_disk));
    assert_eq!((left(&roomy), left(&tight)), (100, 10));
}

#[test]
fn a_layer_that_finds_no_room_says_what_there_is() {
    let plain = sample(3_000_000);
    let layer_in = unpacked(&plain, Digest::of(&plain), Stored::Plain);
    let shares = Shares { layers: 1 << 20, disk: 1 << 16, ..Shares::default() };
    let settings = SpillSettings { budget: Budget::new(shares), ..settings(0) };
    let error = layer(&pool(2), &layer_in, Method::Gzip, &settings).unwrap_err();
    assert_eq!(error.fault(), Fault::Io);
    assert!(error.to_string().contains("1.1 MiB"), "{error}");
    assert!(error.hint_text().unwrap().contains("--spool-limit"));
}

#[test]
fn a_layer_that_is_not_what_the_configuration_says_is_refused() {
    let plain = sample(100_000);
    for (stored, bytes) in [(Stored::Plain, plain.clone()), (Stored::Gzip, gzip(&plain))] {
        let wrong = unpacked(&bytes, Digest::of(b"other"), stored);
        let error = layer(&pool(2), &wrong, Method::Gzip, &settings(u64::MAX)).unwrap_err();
        assert_eq!(error.fault(), Fault::DigestMismatch);
        assert!(error.to_string().starts_with("l/layer.tar: "));
    }
}

#[test]
fn what_is_stored_compressed_stays_as_it_is() {
    let plain = sample(300_000);
    let mut bytes = gzip(&plain[..100_000]);
    bytes.extend(gzip(&plain[100_000..]));
    let blob =
        layer(&pool(2), &unpacked(&bytes, Digest::of(&plain), Stored::Gzip), Method::Zstd, &settings(0))
            .unwrap();
    assert_eq!((blob.facts.digest, blob.facts.size), (Digest::of(&bytes), bytes.len() as u64));
    assert!(content(&blob) == bytes);
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}
