//! What people are told of a bundle that did not arrive as it was sent.

use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::error::Fault;
use crate::report::Listeners;
use crate::source::IoMode;

fn open(path: &Path) -> Result<Bundle, BundleError> {
    let resources = Resources {
        memory_bytes: 64 << 20,
        decode_memory_bytes: 64 << 20,
        spool_folder: std::env::temp_dir(),
        spool_limit_bytes: u64::MAX,
        threads: 1,
        io: IoMode::Auto,
    };
    let opener = Opener::new(resources, State::none()).unwrap();
    opener.open(&[Input::Path(path.to_owned())], &Listeners::default(), &|_| {})
}

/// A tar that is one member of noise, as gzip.
fn archive() -> Vec<u8> {
    let mut noise = 1_u32;
    let noise = (0..200_000).map(|_| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        noise.to_be_bytes()[0]
    });
    let noise: Vec<u8> = noise.collect();
    let mut header = tar::Header::new_gnu();
    header.set_size(noise.len() as u64);
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    tar.append_data(&mut header, "noise", noise.as_slice()).unwrap();
    tar.into_inner().unwrap().finish().unwrap()
}

#[test]
fn damaged_compression_says_where_it_was_found_and_what_to_compare() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("b.tar.gz");
    let whole = archive();
    let mut damaged = whole.clone();
    damaged[100_000] ^= 0x10;
    std::fs::File::create(&path).unwrap().write_all(&damaged).unwrap();
    let error = open(&path).unwrap_err();
    assert_eq!(error.fault(), Fault::CorruptCompression, "{error}");
    assert!(error.to_string().contains("found at byte"), "{error}");
    let hint = error.hint_text().unwrap();
    assert!(hint.contains(&format!("its {} bytes", whole.len())) && hint.contains("sha256sum"), "{hint}");

    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let error = open(&path).unwrap_err();
    assert_eq!(error.fault(), Fault::Truncated, "{error}");
    assert!(error.hint_text().unwrap().contains("sha256sum"));

    std::fs::write(&path, &whole).unwrap();
    assert!(open(&path).unwrap().check_has_images().is_err(), "whole, and without images");
}
