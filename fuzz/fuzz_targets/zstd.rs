//! A zstd file: frame headers, block headers, and skippable frames.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "support/decode.rs"]
mod support;

fuzz_target!(|data: &[u8]| support::decode(b"\x28\xb5\x2f\xfd", data));
