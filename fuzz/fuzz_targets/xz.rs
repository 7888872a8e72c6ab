//! An xz file: stream headers, block headers, and the index from which blocks are found.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "support/decode.rs"]
mod support;

fuzz_target!(|data: &[u8]| support::decode(b"\xfd7zXZ\0", data));
