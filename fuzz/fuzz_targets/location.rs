//! The `Location` of an upload or a redirect.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| layercast::fuzzed::location(text));
