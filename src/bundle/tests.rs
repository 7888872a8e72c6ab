//! Messages about a bundle that did not arrive as it was sent, and what opening one costs.

use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;
use crate::error::Fault;
use crate::report::Listeners;
use crate::source::IoMode;

fn opener(memory_bytes: u64) -> Opener {
    let resources = Resources {
        memory_bytes,
        decode_memory_bytes: 64 << 20,
        spool_folder: std::env::temp_dir(),
        spool_limit_bytes: u64::MAX,
        threads: 1,
        io: IoMode::Auto,
    };
    Opener::new(resources, State::none()).unwrap()
}

fn open(path: &Path) -> Result<Bundle, BundleError> {
    opener(64 << 20).open(&[Input::Path(path.to_owned())], &Listeners::default(), &())
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

/// A `docker save` of several images, as Docker wrote it before 25: configurations among the layers, `manifest.json` last.
fn saved(images: usize) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut append = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    let mut entries = Vec::new();
    for image in 0..images {
        let layer = vec![u8::try_from(image).unwrap() + 1; 150_000];
        let diff_id = crate::oci::Digest::of(&layer);
        let config = serde_json::json!({
            "os": "linux", "architecture": "amd64", "rootfs": {"type": "layers", "diff_ids": [diff_id]}
        });
        append(&format!("{image}.json"), config.to_string().as_bytes());
        append(&format!("{image}/layer.tar"), &layer);
        entries.push(serde_json::json!({
            "Config": format!("{image}.json"), "RepoTags": [format!("x.io/a:{image}")], "Layers": [format!("{image}/layer.tar")]
        }));
    }
    append("manifest.json", serde_json::Value::from(entries).to_string().as_bytes());
    tar.into_inner().unwrap()
}

/// The list of images comes last, and what it names lies anywhere before it: nothing is decoded again for that.
#[test]
fn a_saved_archive_larger_than_memory_is_decoded_once_to_know_what_is_in_it() {
    const IMAGES: usize = 40;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("saved.tar.xz");
    let bytes = saved(IMAGES);
    std::fs::write(&path, crate::decode::testing::xz(&bytes, 64 << 10, xz2::stream::Check::Crc32)).unwrap();
    let opener = opener(1 << 20);
    let bundle = opener.open(&[Input::Path(path)], &Listeners::default(), &()).unwrap();
    assert_eq!(bundle.catalog.images.len(), IMAGES);
    let parts = bundle.parts[0].structure.as_ref().unwrap().parts as u64;
    let decoded = opener.decoded().parts;
    assert!(parts > 90 && bytes.len() > 5 << 20, "larger than memory: {parts} parts");
    assert!(decoded <= parts + parts / 10, "{decoded} decodings of {parts} parts");
}
