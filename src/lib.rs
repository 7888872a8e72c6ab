//! layercast pours a bundle of container images into one or many registry mirrors.
//!
//! ```text
//!  path ─► source ─► decode ─► archive ─► plan ─► engine ┬► mirror A: probe ─► upload ─► publish ─► verify
//!         bytes as   one big   catalog    per mirror,    ├► mirror B: …
//!         stored     decoded   of images  pure           └► mirror C: …            ─► report
//!                    volume    and blobs
//! ```
//!
//! The modules below stand in the order in which a byte meets them.

pub mod source;

pub mod decode;

pub mod archive;
pub mod oci;

pub mod plan;

pub mod compress;
pub mod engine;

pub mod probe;
pub mod publish;
pub mod registry;

pub mod state;

pub mod report;

pub mod mirror;
pub mod serve;

pub mod bench;

pub mod cli;

pub mod error;
pub mod exit;
pub mod units;
