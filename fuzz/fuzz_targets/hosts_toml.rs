//! A `hosts.toml` of containerd.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| layercast::fuzzed::hosts_toml(text));
