use std::io::Write;

use proptest::prelude::*;
use xz2::stream::Check;

use super::testing::{bgzf, content, decoder, drain, gzip, skippable, space, xz, zstd, zstd_frames};
use super::*;

/// Small files of every build, and what they decode to.
fn files() -> Vec<(&'static str, Format, Vec<u8>, Vec<u8>)> {
    let data = content(360, 1);
    let join = |parts: &[&[u8]]| parts.concat();
    vec![
        ("xz of five blocks", Format::Xz, xz(&data, 80, Check::Crc64), data.clone()),
        ("xz of one block", Format::Xz, xz(&data, 360, Check::Crc32), data.clone()),
        (
            "xz streams and padding",
            Format::Xz,
            join(&[
                &xz(&data[..200], 120, Check::Sha256),
                &[0; 8],
                &xz(&data[200..], 120, Check::Crc32),
                &[0; 4],
            ]),
            data.clone(),
        ),
        ("zstd frames", Format::Zstd, zstd_frames(&data, 120), data.clone()),
        ("one zstd frame", Format::Zstd, zstd(&data, true), data.clone()),
        (
            "zstd without sizes",
            Format::Zstd,
            join(&[&zstd(&data[..150], false), &zstd(&data[150..], false)]),
            data.clone(),
        ),
        (
            "zstd with skippable frames",
            Format::Zstd,
            join(&[&skippable(b"x"), &zstd(&data[..1], true), &skippable(b""), &zstd(&data[1..], true)]),
            data.clone(),
        ),
        ("gzip", Format::Gzip, gzip(&data), data.clone()),
        (
            "gzip members",
            Format::Gzip,
            join(&[&gzip(&data[..70]), &gzip(&data[70..]), &[0; 9]]),
            data.clone(),
        ),
        ("bgzf", Format::Bgzf, bgzf(&data, 120), data.clone()),
    ]
}

fn decode_all(decoder: &Decoder, stored: &[u8]) -> Result<(Format, Vec<u8>), BundleError> {
    let volume = decoder.open(space(stored))?;
    Ok((volume.structure.format, drain(&volume)?))
}

fn decode_pipe(decoder: &Decoder, stored: &[u8]) -> Result<(Format, Vec<u8>), BundleError> {
    let volume = decoder.open_reader(std::io::Cursor::new(stored.to_vec()))?;
    Ok((volume.structure.format, drain(&volume)?))
}

#[test]
fn every_build_decodes_from_a_space_and_from_a_pipe() {
    let decoder = decoder(2, DecodeOptions::default());
    for (name, format, stored, data) in files() {
        let (found, decoded) = decode_all(&decoder, &stored).unwrap();
        assert_eq!((found, decoded == data), (format, true), "{name}");
        assert!(decode_pipe(&decoder, &stored).unwrap().1 == data, "{name} from a pipe");
    }
    assert_eq!(decoder.meter().spooled_bytes(), 0, "nothing is left");
}

#[test]
fn plain_bytes_are_their_own_volume() {
    let decoder = decoder(1, DecodeOptions::default());
    let data = content(5000, 2);
    let stored = space(&data);
    let volume = decoder.open(Arc::clone(&stored)).unwrap();
    assert_eq!(volume.structure.kind, StructureKind::Plain);
    assert_eq!(
        volume.space.chunk_at(7, 9).unwrap().as_ptr(),
        stored.chunk_at(7, 9).unwrap().as_ptr(),
        "not a copy"
    );
    assert!(decode_pipe(&decoder, &data).unwrap().1 == data);
    assert!(decode_pipe(&decoder, b"").unwrap().1.is_empty());
    assert!(decoder.open(space(b"")).unwrap().space.is_empty().unwrap());
}

#[test]
fn a_cut_file_is_an_error_or_ends_between_two_members() {
    let decoder = decoder(1, DecodeOptions::default());
    for (name, format, stored, data) in files() {
        for len in 2..stored.len() {
            let cut = &stored[..len];
            for result in [decode_all(&decoder, cut), decode_pipe(&decoder, cut)] {
                match result {
                    Ok((found, decoded)) => {
                        assert!(data.starts_with(&decoded), "{name} cut at {len}");
                        assert!(found == format || format == Format::Bgzf, "{name} cut at {len}");
                        let whole = decoded.len() == data.len();
                        let streams = name.contains("streams");
                        assert!(whole || streams || format != Format::Xz, "{name} cut at {len}: not noticed");
                    }
                    // A cut through stream padding leaves a whole file with odd padding.
                    Err(e) if name.contains("padding") => {
                        assert!(
                            matches!(e.fault(), Fault::Truncated | Fault::CorruptCompression),
                            "{name} {len} {e}"
                        );
                    }
                    Err(e) => assert_eq!(e.fault(), Fault::Truncated, "{name} cut at {len}: {e}"),
                }
            }
        }
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_changes_nothing() {
    let decoder = decoder(1, DecodeOptions::default());
    for (name, format, stored, data) in files() {
        for at in 0..stored.len() {
            let mut damaged = stored.clone();
            damaged[at] ^= 1 << (at % 8);
            for result in [decode_all(&decoder, &damaged), decode_pipe(&decoder, &damaged)] {
                // With another magic number it is another file.
                let Ok((found, decoded)) = result else { continue };
                let same = decoded == data || (found == Format::Plain && at < 6);
                assert!(same, "{name}, byte {at} of {format}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_behind_a_magic_number_are_read_without_panic(
        magic in 0_usize..4,
        bytes in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let magics: [&[u8]; 4] =
            [b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4F", b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18", b"\x1f\x8b\x08"];
        let stored = [magics[magic], &bytes].concat();
        let decoder = decoder(1, DecodeOptions::default());
        let _ = decode_all(&decoder, &stored);
        let _ = decode_pipe(&decoder, &stored);
    }

    #[test]
    fn a_range_reads_the_same_in_every_build(start in 0_usize..360, len in 1_usize..360, build in 0_usize..10) {
        let decoder = decoder(2, DecodeOptions::default());
        let (name, _, stored, data) = files().swap_remove(build);
        let volume = decoder.open(space(&stored)).unwrap();
        let len = len.min(data.len() - start);
        let read = crate::source::read_exact(&*volume.space, start as u64, len).unwrap();
        prop_assert_eq!(&read[..], &data[start..start + len], "{}", name);
        prop_assert!(volume.space.chunk_at(360, 1).unwrap().is_empty());
    }
}

#[test]
fn garbage_behind_the_data_is_corruption_and_a_beginning_of_more_is_truncation() {
    let decoder = decoder(1, DecodeOptions::default());
    for (name, _, stored, _) in files() {
        let garbage = [&stored[..], b"<html>an error page</html>"].concat();
        let error = decode_all(&decoder, &garbage).unwrap_err();
        assert_eq!(error.fault(), Fault::CorruptCompression, "{name}: {error}");
        let begun = [&stored[..], &stored[..stored.len() / 2]].concat();
        if !name.contains("padding") && !name.contains("members") {
            let result = decode_all(&decoder, &begun).map_err(|e| e.fault());
            assert_eq!(result.unwrap_err(), Fault::Truncated, "{name}");
        }
    }
}

#[test]
fn memory_limits_name_the_figure_and_the_flag() {
    let decoder = decoder(1, DecodeOptions { memory_bytes: 1 << 20, ..DecodeOptions::default() });
    let mut options = xz2::stream::LzmaOptions::new_preset(0).unwrap();
    options.dict_size(8 << 20);
    let mut filters = xz2::stream::Filters::new();
    filters.lzma2(&options);
    let stream = xz2::stream::Stream::new_stream_encoder(&filters, Check::Crc32).unwrap();
    let mut encoder = xz2::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(b"needs little, asks for much").unwrap();
    let large_dictionary = encoder.finish().unwrap();
    // Magic, a descriptor with nothing in it, a window of 128 MiB, an empty last block.
    let large_window = b"\x28\xb5\x2f\xfd\x00\x88\x01\0\0".to_vec();
    for (stored, figure) in [(&large_dictionary, "8 MiB"), (&large_window, "128 MiB")] {
        let error = decode_all(&decoder, stored).unwrap_err();
        assert_eq!(error.fault(), Fault::LimitExceeded);
        assert!(error.to_string().contains(figure), "{error}");
        assert!(error.hint_text().unwrap().contains("--decode-memory"));
        assert_eq!(decode_pipe(&decoder, stored).unwrap_err().fault(), Fault::LimitExceeded);
    }
}

#[test]
fn only_skippable_frames_are_a_volume_of_nothing() {
    let decoder = decoder(1, DecodeOptions::default());
    let stored = [skippable(b"one"), skippable(b"")].concat();
    assert!(decode_all(&decoder, &stored).unwrap().1.is_empty());
    assert!(decode_pipe(&decoder, &stored).unwrap().1.is_empty());
}

#[test]
fn a_frame_that_names_a_dictionary_is_unsupported() {
    let decoder = decoder(1, DecodeOptions::default());
    // Magic, one byte of dictionary id, a small window, the id, an empty last block.
    let stored = b"\x28\xb5\x2f\xfd\x01\x00\x07\x01\0\0";
    assert_eq!(decode_all(&decoder, stored).unwrap_err().fault(), Fault::Unsupported);
    assert_eq!(decode_pipe(&decoder, stored).unwrap_err().fault(), Fault::Unsupported);
}
