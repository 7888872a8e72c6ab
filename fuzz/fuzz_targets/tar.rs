//! A bundle as it stands: tar headers, extensions, and the documents of every kind of bundle.
#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use layercast::measured::{ByteSpace, Limits, read_archive};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let space: Arc<dyn ByteSpace> = Arc::new(Bytes::copy_from_slice(data));
    let limits = Limits { entries: 1000, descriptors: 1000, ..Limits::default() };
    let _ = read_archive(&space, &Ok, &limits, &|_| {});
});
