//! What `inspect --json` says.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::SchemaVersion;
use crate::archive::{LeftOut, Stored};
use crate::oci::Digest;
use crate::report::Class;

/// What is in bundles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BundleDocument {
    /// The version of the schema.
    pub schema_version: SchemaVersion,
    /// The bundles.
    pub sources: Vec<SourceEntry>,
    /// The images that are whole, in the order of the bundle.
    pub images: Vec<ImageEntry>,
    /// Images that cannot be pushed.
    pub broken: Vec<BrokenEntry>,
    /// Entries that were not taken.
    pub left_out: Vec<LeftOut>,
    /// Oddities that harm nothing.
    pub notes: Vec<String>,
    /// Bytes of all blobs, each once.
    pub distinct_bytes: u64,
    /// Bytes of all blobs, as often as images name them.
    pub referenced_bytes: u64,
}

/// One bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SourceEntry {
    /// Its path, `-` for standard input.
    pub path: PathBuf,
    /// Its size on disk; none for a pipe or a folder.
    pub stored_bytes: Option<u64>,
    /// How it is compressed and cut; none for a folder.
    pub structure: Option<StructureEntry>,
}

/// How a file is compressed and cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StructureEntry {
    /// What it is compressed with.
    pub format: String,
    /// How it is read: `plain`, `blocks` or `spool`.
    pub kind: String,
    /// How many parts can be decoded alone.
    pub parts: usize,
    /// The decoded size of the largest part, or a bound for it.
    pub largest_part_bytes: u64,
    /// The decoded size.
    pub decoded_bytes: Option<u64>,
}

/// What an image is of another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttachmentEntry {
    /// `signatures`, `attestations`, `sbom` or `referrer`.
    pub kind: String,
    /// The digest of the other image.
    pub subject: Digest,
}

/// One image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImageEntry {
    /// What the bundle calls it.
    pub names: Vec<String>,
    /// Names that are not valid.
    pub names_not_valid: Vec<InvalidName>,
    /// Platforms of its index that the bundle lacks, where it has only a part of that.
    pub missing_platforms: Option<Vec<String>>,
    /// What it is of another image, whose places are its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<AttachmentEntry>,
    /// The archive of the bundle that it lies in; empty for the bundle itself.
    pub origin: String,
    /// The digest of its manifest; none for an image of a docker-archive.
    pub digest: Option<Digest>,
    /// The digest of its configuration, where it has no manifest yet.
    pub config_digest: Option<Digest>,
    /// The machines that it is for.
    pub platforms: Vec<String>,
    /// Bytes of its blobs.
    pub bytes: u64,
    /// Its configurations and layers.
    pub blobs: Vec<BlobEntry>,
    /// The layers of an image that has no manifest yet.
    pub unpacked_layers: Vec<LayerEntry>,
}

/// A name that is not valid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InvalidName {
    /// The text.
    pub text: String,
    /// Why it is not valid.
    pub why: String,
}

/// A configuration or layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BlobEntry {
    /// Its digest; of a layer that will be compressed, that of its plain tar.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
}

/// A layer of a docker-archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LayerEntry {
    /// The digest of its plain tar.
    pub diff_id: Digest,
    /// Its size as stored.
    pub bytes: u64,
    /// How it is stored.
    pub stored: Stored,
}

/// An image that cannot be pushed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BrokenEntry {
    /// What the bundle calls it, or its digest, or its place.
    pub name: String,
    /// What kind of fault it is.
    pub class: Class,
    /// What is wrong with it.
    pub message: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}
