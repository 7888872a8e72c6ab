//! The `WWW-Authenticate` of a registry.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| layercast::fuzzed::challenge(text));
