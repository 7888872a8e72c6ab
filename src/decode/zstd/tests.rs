use crate::decode::testing::{content, decoder, drain, skippable, space, with_parts, zstd};
use crate::decode::{DecodeOptions, Decoder, StructureKind, Volume};
use crate::error::Fault;

const FRAME: usize = 1 << 20;
const FRAMES: usize = 6;

/// As `pzstd` writes them: frames that do not tell their sizes, with skippable ones between them.
fn file(data: &[u8]) -> Vec<u8> {
    let frame = |data: &[u8]| [skippable(b"1234"), zstd(data, false)].concat();
    data.chunks(FRAME).flat_map(frame).collect()
}

fn opened(decoder: &Decoder) -> (Volume, Vec<u8>) {
    let data = content(FRAME * FRAMES, 5);
    (decoder.open(space(&file(&data))).unwrap(), data)
}

#[test]
fn frames_without_sizes_are_parts_that_are_decoded_once_and_nothing_is_spooled() {
    let decoder = decoder(2, DecodeOptions::default());
    let (volume, data) = opened(&decoder);
    let structure = volume.structure;
    assert_eq!((structure.kind, structure.parts), (StructureKind::Blocks, FRAMES));
    assert_eq!(structure.decoded_bytes, None);
    assert_eq!(decoder.meter().decoded_bytes(), 0, "opening reads headers only");

    assert!(drain(&volume).unwrap() == data);
    assert_eq!(volume.space.len().unwrap(), data.len() as u64);
    let meter = decoder.meter();
    assert_eq!((meter.parts_decoded(), meter.decoded_bytes()), (FRAMES as u64, data.len() as u64));
    assert_eq!(meter.spool_high_water_bytes(), 0);
}

#[test]
fn a_place_among_frames_without_sizes_is_found_by_decoding_what_is_before_it() {
    let decoder = decoder(1, DecodeOptions::default());
    let (volume, data) = opened(&decoder);
    let offset = 2 * FRAME + 9;
    let chunk = volume.space.chunk_at(offset as u64, 50).unwrap();
    assert_eq!(chunk[..], data[offset..offset + chunk.len()]);
    assert!(volume.space.chunk_at(data.len() as u64, 1).unwrap().is_empty());
    assert!(volume.space.chunk_at(u64::MAX, 1).unwrap().is_empty());
}

#[test]
fn readers_side_by_side_find_the_same_bytes_in_frames_without_sizes() {
    let decoder = decoder(2, DecodeOptions::default());
    let (volume, data) = opened(&decoder);
    std::thread::scope(|scope| {
        for reader in 0..4 {
            let (volume, data) = (&volume, &data);
            scope.spawn(move || {
                for at in (0..data.len()).rev().step_by(FRAME / 3 + reader) {
                    let chunk = volume.space.chunk_at(at as u64, 500).unwrap();
                    assert_eq!(chunk[..], data[at..at + chunk.len()]);
                }
            });
        }
    });
    assert_eq!(decoder.meter().parts_decoded(), FRAMES as u64);
}

/// Where parts must go for others, those that are found again are decoded again, and still right.
#[test]
fn frames_without_sizes_are_read_in_any_order_with_little_room() {
    let options = with_parts(10 * FRAME as u64);
    let decoder = decoder(2, options);
    let (volume, data) = opened(&decoder);
    assert_eq!(volume.structure.kind, StructureKind::Blocks);
    for frame in [5, 0, 3, 1, 4, 2] {
        let at = frame * FRAME + 77;
        let chunk = volume.space.chunk_at(at as u64, 500).unwrap();
        assert_eq!(chunk[..], data[at..at + chunk.len()]);
        volume.space.release((frame * FRAME) as u64..((frame + 1) * FRAME) as u64);
    }
}

#[test]
fn small_frames_and_empty_ones_without_sizes_share_parts() {
    let data = content(FRAME + 70_000, 6);
    let empty = zstd(&[], false);
    let small = data.chunks(3000).flat_map(|data| [zstd(data, false), empty.clone()].concat());
    let stored: Vec<u8> = [empty.clone(), small.collect(), empty.clone(), skippable(b"")].concat();
    let decoder = decoder(2, DecodeOptions::default());
    let volume = decoder.open(space(&stored)).unwrap();
    assert_eq!(volume.structure.kind, StructureKind::Blocks);
    assert!(drain(&volume).unwrap() == data);
    assert_eq!(decoder.meter().decoded_bytes(), data.len() as u64);
}

/// What is put together to be decoded at once is frames, and no more of them than are worth a part.
#[test]
fn parts_of_small_frames_reach_over_nothing_else() {
    let small = [zstd(&content(100, 1), false), zstd(&content(100, 2), true)].concat();
    let wide = [small.clone(), skippable(&vec![0; 8 << 20]), small.clone()].concat();
    // Sixteen thousand blocks of nothing, and a frame of them.
    let hollow = [&small[..], &[0x28, 0xb5, 0x2f, 0xfd, 0x20, 0], &vec![0; 3 << 14], &[1, 0, 0]].concat();
    let hollow = [hollow.repeat(64), small.clone()].concat();
    for stored in [wide, hollow] {
        let options = DecodeOptions::default();
        let outline = super::outline(&*space(&stored), stored.len() as u64, &options).unwrap();
        let longest = outline.parts.iter().map(|part| part.stored.end - part.stored.start).max();
        assert!(longest < Some(3 << 19), "{longest:?} bytes of {}", stored.len());
        drain(&decoder(1, options).open(space(&stored)).unwrap()).unwrap();
    }
}

#[test]
fn frames_that_decode_to_nothing_are_an_empty_volume() {
    let decoder = decoder(2, DecodeOptions::default());
    let volume = decoder.open(space(&[zstd(&[], false), zstd(&[], false)].concat())).unwrap();
    assert_eq!(volume.space.len().unwrap(), 0);
    assert!(volume.space.chunk_at(0, 10).unwrap().is_empty());
}

#[test]
fn a_frame_alone_stays_a_stream_and_is_not_decoded_twice() {
    let data = content(FRAME, 7);
    let decoder = decoder(2, DecodeOptions::default());
    let stored = [skippable(b""), zstd(&data, false)].concat();
    let volume = decoder.open(space(&stored)).unwrap();
    assert_eq!(volume.structure.kind, StructureKind::Spool);
    assert!(drain(&volume).unwrap() == data);
    assert_eq!(decoder.meter().decoded_bytes(), data.len() as u64);
}

/// A guess of six times what is stored is far too low here, twice.
#[test]
fn frames_that_decode_to_more_than_was_guessed_are_given_more_room() {
    let data = [content(FRAME, 8), content(1 << 10, 7).repeat(5 << 10), content(FRAME, 9)].concat();
    let stored: Vec<u8> =
        [&data[..FRAME], &data[FRAME..6 * FRAME], &data[6 * FRAME..]].map(|data| zstd(data, false)).concat();
    let decoder = decoder(2, DecodeOptions::default());
    let volume = decoder.open(space(&stored)).unwrap();
    assert_eq!(volume.structure.kind, StructureKind::Blocks);
    assert!(drain(&volume).unwrap() == data);
    let meter = decoder.meter();
    assert_eq!((meter.parts_decoded(), meter.spool_high_water_bytes()), (3, 0));
}

#[test]
fn where_a_frame_proves_too_large_for_a_part_the_rest_is_decoded_in_order() {
    let options = with_parts(8 << 20);
    let data = [content(FRAME / 2, 8), content(1000, 9).repeat(64 << 10)].concat();
    let stored = [zstd(&data[..FRAME / 2], false), zstd(&data[FRAME / 2..], false)].concat();
    let decoder = decoder(1, options);
    let volume = decoder.open(space(&stored)).unwrap();
    assert_eq!(volume.structure.kind, StructureKind::Blocks);
    assert!(drain(&volume).unwrap() == data);
    assert_eq!(volume.space.len().unwrap(), data.len() as u64);
    assert!(decoder.meter().decoded_bytes() < data.len() as u64 + (14 << 20), "{:?}", decoder.meter());
    assert_eq!(decoder.meter().spool_high_water_bytes(), data.len() as u64);
    assert_eq!(decoder.decode_once(space(&stored)).unwrap().decoded_bytes, data.len() as u64);
}

#[test]
fn damage_in_a_frame_without_a_size_is_placed_and_what_is_before_it_is_read() {
    let data = content(2 * FRAME, 9);
    let first = zstd(&data[..FRAME], false);
    let mut stored = [&first[..], &zstd(&data[FRAME..], false)].concat();
    let last = stored.len() - 1;
    stored[last] ^= 1;
    let volume = decoder(1, DecodeOptions::default()).open(space(&stored)).unwrap();
    let chunk = volume.space.chunk_at(0, FRAME).unwrap();
    assert_eq!(chunk[..], data[..chunk.len()]);
    for error in [volume.space.len().unwrap_err(), volume.space.chunk_at(FRAME as u64, 1).unwrap_err()] {
        assert_eq!(error.fault(), Fault::CorruptCompression);
        assert!(error.to_string().contains(&format!("part 2 of 2 at byte {}", first.len())), "{error}");
    }
}

#[test]
fn a_cancelled_decoder_finds_no_place() {
    let decoder = decoder(2, DecodeOptions::default());
    decoder.cancel();
    let volume = decoder.open(space(&file(&content(2 * FRAME, 11)))).unwrap();
    assert_eq!(volume.space.len().unwrap_err().fault(), Fault::Cancelled);
    assert_eq!(decoder.meter().decoded_bytes(), 0);
}
