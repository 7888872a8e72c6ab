//! The `Range` of an upload session.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| layercast::fuzzed::range(text));
