use std::sync::Arc;

use xz2::stream::Check;

use crate::decode::testing::{bgzf, content, decoder, drain, space, with_parts, xz, zstd_frames};
use crate::decode::{DecodeOptions, Decoder, StructureKind, Volume};
use crate::error::Fault;
use crate::source::{Certainty, Extent, Intent, IoMode, SourceOptions, open, read_exact};
use crate::testing::eventually_blocking;

const BLOCK: usize = 20_000;
const BLOCKS: usize = 12;

fn volume(decoder: &Decoder) -> (Volume, Vec<u8>) {
    let data = content(BLOCK * BLOCKS, 3);
    let volume = decoder.open(space(&xz(&data, BLOCK, Check::Crc64))).unwrap();
    assert_eq!((volume.structure.kind, volume.structure.parts), (StructureKind::Blocks, BLOCKS));
    assert_eq!(volume.structure.largest_part_bytes, BLOCK as u64);
    (volume, data)
}

/// How many parts were decoded, with those that were begun ahead of the reader.
fn assert_decoded(decoder: &Decoder, expected: u64) {
    eventually_blocking("what was begun is decoded", || decoder.0.cache.is_idle());
    assert_eq!(decoder.meter().parts_decoded(), expected);
}

#[test]
fn reading_inside_one_part_decodes_that_part_alone_and_once() {
    let decoder = decoder(2, DecodeOptions::default());
    let (volume, data) = volume(&decoder);
    for offset in [5 * BLOCK + 10, 5 * BLOCK, 6 * BLOCK - 3] {
        let chunk = volume.space.chunk_at(offset as u64, 50).unwrap();
        assert_eq!(chunk[..], data[offset..offset + chunk.len()]);
    }
    volume.space.chunk_at(9 * BLOCK as u64, 50).unwrap();
    assert_decoded(&decoder, 2);
}

#[test]
fn the_second_part_in_order_begins_the_read_ahead() {
    let decoder = decoder(2, DecodeOptions::default());
    let (volume, _) = volume(&decoder);
    volume.space.chunk_at(0, 10).unwrap();
    assert_decoded(&decoder, 1);
    volume.space.chunk_at(BLOCK as u64, 10).unwrap();
    // Part 1, and one more for each of two threads.
    assert_decoded(&decoder, 4);
}

#[test]
fn readers_side_by_side_decode_each_part_once() {
    let decoder = decoder(2, DecodeOptions::default());
    let (volume, data) = volume(&decoder);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(drain(&volume).unwrap() == data));
        }
    });
    assert_eq!(decoder.meter().parts_decoded(), BLOCKS as u64);
    assert_eq!(decoder.meter().decoded_bytes(), data.len() as u64);
}

/// A walk over headers that goes on while what it found in the first parts is not yet read.
#[test]
fn what_will_be_read_stays_while_others_go_on() {
    const FOUND: usize = 5;
    let decodings = |says_so: bool| {
        let decoder = decoder(2, with_parts(9 * BLOCK as u64));
        let (volume, data) = volume(&decoder);
        let walk = |parts: std::ops::Range<usize>| {
            parts.for_each(|part| drop(volume.space.chunk_at((part * BLOCK) as u64, 10).unwrap()));
        };
        walk(0..FOUND);
        let layer = Extent::new(Arc::clone(&volume.space), 0, (FOUND * BLOCK) as u64);
        let intent = says_so.then(|| Intent::to_read(&layer, Certainty::Certain));
        walk(FOUND..BLOCKS);
        let before = decoder.meter().parts_decoded();
        assert!(read_exact(&layer, 0, FOUND * BLOCK).unwrap() == data[..FOUND * BLOCK]);
        drop(intent);
        decoder.meter().parts_decoded() - before
    };
    assert!(decodings(false) >= 3, "the longest left went first");
    // Two parts behind it are decoded ahead, and what was to be decoded ahead of the walk may come late once.
    let fewest = (0..3).map(|_| decodings(true)).min();
    assert!(fewest <= Some(2), "what will be read went: {fewest:?}");
}

#[test]
fn a_cache_of_three_parts_serves_more_readers_than_that() {
    let options = with_parts(7 * BLOCK as u64);
    let decoder = decoder(2, options);
    let (volume, data) = volume(&decoder);
    std::thread::scope(|scope| {
        for reader in 0..6 {
            let (volume, data) = (&volume, &data);
            scope.spawn(move || {
                let start = reader * 2 * BLOCK;
                for at in (start..start + 2 * BLOCK).step_by(500) {
                    let chunk = volume.space.chunk_at(at as u64, 500).unwrap();
                    assert_eq!(chunk[..], data[at..at + chunk.len()]);
                }
            });
        }
    });
    // 480 chunks were read; without turns, nearly each of them would have cost a part.
    assert!(decoder.meter().parts_decoded() <= 4 * BLOCKS as u64, "{:?}", decoder.meter());
}

#[test]
fn threads_of_the_pool_read_without_deadlock() {
    let pool = std::sync::Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap());
    let decoder = Decoder::new(std::sync::Arc::clone(&pool), DecodeOptions::default());
    let (volume, data) = volume(&decoder);
    pool.scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|_| assert!(drain(&volume).unwrap() == data));
        }
    });
}

#[test]
fn a_volume_inside_a_volume_needs_no_second_cache() {
    let data = content(BLOCK * BLOCKS, 4);
    let inner = xz(&data, BLOCK, Check::Crc32);
    let outer = xz(&inner, BLOCK, Check::Crc32);
    let options = with_parts(7 * BLOCK as u64);
    let decoder = decoder(2, options);
    let outer = decoder.open(space(&outer)).unwrap();
    let inner = decoder.open(std::sync::Arc::clone(&outer.space)).unwrap();
    assert_eq!(inner.structure.kind, StructureKind::Blocks);
    assert!(drain(&inner).unwrap() == data);
}

#[test]
fn a_damaged_part_fails_for_all_and_the_others_are_read() {
    let data = content(BLOCK * BLOCKS, 5);
    let mut stored = xz(&data, BLOCK, Check::Crc64);
    let at = stored.len() / 2;
    stored[at] ^= 4;
    let decoder = decoder(2, DecodeOptions::default());
    let volume = decoder.open(space(&stored)).unwrap();
    let results: Vec<_> = (0..BLOCKS).map(|part| volume.space.chunk_at((part * BLOCK) as u64, 10)).collect();
    let failed: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].fault(), Fault::CorruptCompression);
    let text = failed[0].to_string();
    assert!(text.starts_with("xz block ") && text.contains(" of 12 at byte "), "{text}");
    let part = results.iter().position(Result::is_err).unwrap();
    let decoded = decoder.meter().parts_decoded();
    let again = volume.space.chunk_at((part * BLOCK) as u64, 10).unwrap_err();
    assert_eq!(again.to_string(), text);
    assert_eq!(decoder.meter().parts_decoded(), decoded);
}

#[test]
fn small_frames_and_members_share_parts() {
    let data = content(3 << 20, 6);
    for stored in [zstd_frames(&data, 300_000), bgzf(&data, 60_000)] {
        let decoder = decoder(2, DecodeOptions::default());
        let volume = decoder.open(space(&stored)).unwrap();
        assert_eq!(volume.structure.kind, StructureKind::Blocks);
        volume.space.chunk_at(2 << 20, 10).unwrap();
        assert_decoded(&decoder, 1);
        assert!(decoder.meter().decoded_bytes() < 3 << 19);
        assert!(drain(&volume).unwrap() == data);
        assert_decoded(&decoder, 3);
    }
}

#[test]
fn large_parts_are_spooled() {
    let options = with_parts(3 * BLOCK as u64);
    let decoder = decoder(2, options);
    let data = content(BLOCK * 3, 7);
    let volume = decoder.open(space(&xz(&data, BLOCK, Check::Crc64))).unwrap();
    assert_eq!((volume.structure.kind, volume.structure.parts), (StructureKind::Spool, 3));
    assert!(drain(&volume).unwrap() == data);
}

#[test]
fn a_file_cut_while_it_is_read_has_changed() {
    let data = content(BLOCK * BLOCKS, 8);
    for io in [IoMode::Map, IoMode::Pread] {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), xz(&data, BLOCK, Check::Crc64)).unwrap();
        let source = open(file.path(), SourceOptions { io }).unwrap();
        let volume = decoder(1, DecodeOptions::default()).open(source.space()).unwrap();
        assert_eq!(volume.space.chunk_at(0, 10).unwrap()[..], data[..10]);
        file.as_file().set_len(source.identity().size_bytes / 2).unwrap();
        let error = volume.space.chunk_at((8 * BLOCK) as u64, 10).unwrap_err();
        assert_eq!(error.fault(), Fault::Changed, "{io:?}: {error}");
    }
}

#[test]
fn a_cancelled_decoder_decodes_no_more() {
    let decoder = decoder(1, DecodeOptions::default());
    let (volume, _) = volume(&decoder);
    decoder.cancel();
    assert_eq!(volume.space.chunk_at(0, 10).unwrap_err().fault(), Fault::Cancelled);
}
