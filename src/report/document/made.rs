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
    /// What was met in the input and not taken.
    pub left_out: Vec<LeftOut>,
    /// Oddities that harm nothing.
    pub notes: Vec<String>,
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
