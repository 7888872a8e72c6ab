//! layercast pours a bundle of container images into one or many registry mirrors.
//!
//! ```text
//!  path ─► source ─► decode ─► archive ─► bundle ─► plan ─► engine ┬► mirror A: probe ─► upload ─► publish
//!         bytes as   one big   catalog    opened,    per mirror,    ├► mirror B: …
//!         stored     decoded   of images  identified pure           └► mirror C: …            ─► report
//!                    volume    and blobs  and recalled
//! ```
//!
//! The modules below stand in the order in which a byte meets them.

#![cfg_attr(test, allow(clippy::disallowed_methods))] // tests may look at the clock

mod source;

mod decode;

mod archive;
mod oci;

mod stage;

mod bundle;

mod plan;

mod compress;
mod engine;

mod registry;
mod tls;

mod state;

mod report;

mod make;

mod config;
mod document;

mod node;

mod cluster;
mod serve;

mod bench;

pub mod cli;

mod budget;
mod clock;
mod error;
mod exit;
mod file_lock;
mod hook;
mod locks;
mod loopback;
mod program;
mod schedule;
mod small_file;
#[cfg(test)]
mod testing;
mod units;

/// What `benches/` measure. No promise to anybody else.
#[doc(hidden)]
pub mod measured {
    pub use crate::archive::{Blob, Catalog, Content, Image, ImageName, Limits, read as read_archive};
    pub use crate::bundle::Accept;
    pub use crate::compress::{Method, compress_member};
    pub use crate::decode::{DecodeOptions, Decoder, StructureKind};
    pub use crate::oci::{Algorithm, Digest, Hasher, Manifest, Reference, Repository, media_type};
    pub use crate::plan::{Plan, Rules};
    pub use crate::registry::{BlobBody, ClientOptions, Registry, Target};
    pub use crate::serve::{Discard, Server, ServerOptions};
    pub use crate::source::{ByteSpace, Extent, Origin};
}

/// What `fuzz/` feeds with bytes of strangers. No promise to anybody else.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzed {
    pub use crate::node::hosts::fuzzed::hosts_toml;
    pub use crate::registry::fuzzed::{challenge, location, range};
}
