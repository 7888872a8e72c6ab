//! A manifest or index: the media type that a server states for it, a line feed, and the document.
#![no_main]

use bytes::Bytes;
use layercast::measured::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let line_feed = data.iter().position(|byte| *byte == b'\n').unwrap_or(0);
    let (stated, document) = data.split_at(line_feed);
    let stated = String::from_utf8_lossy(stated);
    let _ = Manifest::parse(Bytes::copy_from_slice(document.trim_ascii_start()), &stated);
});
