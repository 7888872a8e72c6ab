//! What users are promised, held against real servers and real archives.
//!
//! The servers are Debian's `docker-registry` and the embedded one, each started by the test that needs it, on a free port
//! of this machine. A missing server or tool fails the test; `scripts/test.sh` installs them.
#![allow(clippy::unwrap_used, clippy::print_stdout)] // a test says what broke, and panics
#![allow(clippy::disallowed_methods)] // and may look at the clock

mod artifacts;
mod bench;
mod bench_link;
mod causes;
mod changed_bundle;
mod cli;
mod credentials;
mod damaged_state;
mod deployment;
mod docs;
mod failover;
mod fixtures;
mod formats;
mod gate;
mod history;
mod hostile;
mod interrupt;
#[cfg(feature = "kube")]
mod kube;
mod left_out;
mod make;
mod many_mirrors;
mod memory;
mod metrics;
mod mirrors;
mod newest;
mod node_containerd;
mod node_lint;
mod node_registries;
mod node_render;
mod pages;
mod peak_memory;
mod progress;
mod prune;
mod registry_source;
mod report_merge;
mod request_counts;
mod resume;
mod secrets;
mod serve;
mod shell;
mod sites_file;
mod stage;
mod stage_trouble;
mod support;
mod sweep;
mod sync;
mod sync_trouble;
mod tags;
mod tls;
mod verified;
mod vouched;
