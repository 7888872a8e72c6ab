//! What `bundle repack --json` and its like say.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::SchemaVersion;
use crate::archive::LeftOut;
use crate::oci::Digest;

/// A bundle that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MadeDocument {
    /// The version of the schema.
    pub schema_version: SchemaVersion,
    /// The file, or its pieces in order.
    pub files: Vec<MadeFile>,
    /// How many images it has.
    pub images: usize,
    /// How many blobs it has, manifests and configurations among them.
    pub blobs: usize,
    /// How many bytes these are.
    pub blob_bytes: u64,
    /// How many parts of it decode alone.
    pub parts: u64,
    /// For a pull, what came over the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fetched: Option<FetchedBlobs>,
    /// The bundle that a delta is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<MadeBase>,
    /// Entries of the input that were not taken.
    pub left_out: Vec<LeftOut>,
    /// Oddities that harm nothing.
    pub notes: Vec<String>,
}

/// Blobs that came over the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FetchedBlobs {
    /// How many.
    pub blobs: u64,
    /// How many bytes they are.
    pub bytes: u64,
}

/// The bundle that a delta is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MadeBase {
    /// Of the digests of its images.
    pub digest: Digest,
    /// What it was called.
    pub name: String,
    /// How many blobs are left to it.
    pub blobs: usize,
    /// How many bytes they are.
    pub blob_bytes: u64,
}

/// A file that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MadeFile {
    /// Its path.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The digest of its bytes.
    pub digest: Digest,
}
