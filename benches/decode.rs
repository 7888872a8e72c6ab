//! Stored bytes to decoded bytes, read from beginning to end through a volume as a push reads them: by format and by the
//! number of threads.
#![allow(clippy::unwrap_used)] // what cannot be set up cannot be measured

mod support;

use std::hint::black_box;
use std::io::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};
use layercast::measured::ByteSpace;
use layercast::measured::{DecodeOptions, Decoder, StructureKind};
use xz2::stream::{Action, Check, Status, Stream};
use zstd_safe::{CCtx, CParameter};

const DECODED_BYTES: usize = 8 << 20;
/// Of an xz block and a zstd frame: enough parts for some threads to share.
const PART_BYTES: usize = 1 << 20;
/// What a BGZF member holds at most is a little less than 64 KiB.
const BGZF_BYTES: usize = 60_000;
const READ_BYTES: usize = 256 << 10;

fn decode(c: &mut Criterion) {
    let data = support::content(DECODED_BYTES, 1);
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Bytes(DECODED_BYTES as u64)).sample_size(10);
    for (kind, file) in
        [("xz blocks", xz_blocks(&data)), ("zstd frames", zstd_frames(&data)), ("bgzf", bgzf(&data))]
    {
        let stored: Arc<dyn ByteSpace> = Arc::new(Bytes::from(file));
        for threads in thread_counts() {
            let pool = pool(threads);
            group.bench_function(BenchmarkId::new(kind, threads), |b| {
                b.iter(|| assert_eq!(read(&pool, &stored, StructureKind::Blocks), DECODED_BYTES as u64));
            });
        }
    }
    // Handed through without a copy, so this is the price of asking, and no pool has a part in it.
    let (pool, stored) = (pool(1), Arc::new(Bytes::from(data)) as Arc<dyn ByteSpace>);
    group.bench_function("plain", |b| {
        b.iter(|| assert_eq!(read(&pool, &stored, StructureKind::Plain), DECODED_BYTES as u64));
    });
}

/// Reads all of it with a new decoder: one that was used before has parts in its cache.
fn read(pool: &Arc<rayon::ThreadPool>, stored: &Arc<dyn ByteSpace>, kind: StructureKind) -> u64 {
    let volume = Decoder::new(Arc::clone(pool), DecodeOptions::default()).open(Arc::clone(stored)).unwrap();
    assert_eq!(volume.structure.kind, kind);
    let mut offset = 0;
    loop {
        let chunk = black_box(volume.space.chunk_at(offset, READ_BYTES).unwrap());
        if chunk.is_empty() {
            return offset;
        }
        offset += chunk.len() as u64;
    }
}

/// One, two, and all that the machine has.
fn thread_counts() -> Vec<usize> {
    let all = std::thread::available_parallelism().unwrap().get();
    let mut counts = vec![1, 2, all];
    counts.sort_unstable();
    counts.dedup();
    counts
}

fn pool(threads: usize) -> Arc<rayon::ThreadPool> {
    Arc::new(rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap())
}

/// One stream of several blocks, as `xz -T` writes it.
fn xz_blocks(data: &[u8]) -> Vec<u8> {
    let mut stream = Stream::new_easy_encoder(6, Check::Crc64).unwrap();
    let mut out = Vec::new();
    let mut run = |input: &[u8], action: Action| {
        let start = stream.total_in();
        loop {
            out.reserve(64 << 10);
            let used = usize::try_from(stream.total_in() - start).unwrap();
            if stream.process_vec(&input[used..], &mut out, action).unwrap() == Status::StreamEnd {
                return;
            }
        }
    };
    for block in data.chunks(PART_BYTES) {
        run(block, Action::FullFlush);
    }
    run(&[], Action::Finish);
    out
}

/// Frames that tell their sizes, as `pzstd` writes them.
fn zstd_frames(data: &[u8]) -> Vec<u8> {
    let frame = |data: &[u8]| {
        let mut context = CCtx::create();
        context.set_parameter(CParameter::CompressionLevel(3)).unwrap();
        context.set_parameter(CParameter::ChecksumFlag(true)).unwrap();
        let mut out = Vec::with_capacity(zstd_safe::compress_bound(data.len()));
        context.compress2(&mut out, data).unwrap();
        out
    };
    data.chunks(PART_BYTES).flat_map(frame).collect()
}

/// Members that tell their sizes, and an empty one at the end, as `bgzip` writes them
/// ([SAM specification, 4.1](https://samtools.github.io/hts-specs/SAMv1.pdf)).
fn bgzf(data: &[u8]) -> Vec<u8> {
    let member = |data: &[u8]| {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(data).unwrap();
        let deflated = encoder.finish().unwrap();
        let mut crc = Crc::new();
        crc.update(data);
        let mut out = b"\x1f\x8b\x08\x04\0\0\0\0\0\xff\x06\0BC\x02\0".to_vec();
        // The size of the whole member (18 bytes of header, 8 of trailer) less one.
        out.extend(u16::try_from(18 + deflated.len() + 8 - 1).unwrap().to_le_bytes());
        out.extend(deflated);
        out.extend(crc.sum().to_le_bytes());
        out.extend(crc.amount().to_le_bytes());
        out
    };
    data.chunks(BGZF_BYTES).chain([&[][..]]).flat_map(member).collect()
}

criterion_group!(benches, decode);
criterion_main!(benches);
