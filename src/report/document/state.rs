//! What `state show --json` says.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::SchemaVersion;
use crate::state::{KeptUpload, RememberedMirror, StateCounts};

/// The content of the state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StateDocument {
    /// The version of the schema.
    pub schema_version: SchemaVersion,
    /// The folder.
    pub folder: String,
    /// Bundles whose content is known.
    pub bundles: u32,
    /// Layers of docker-archives whose blobs are known.
    pub layers: u32,
    /// Verdicts of gates on images.
    pub gate_verdicts: u32,
    /// Manifests that were put on registries.
    #[serde(default)]
    pub manifests: u32,
    /// Runs.
    pub runs: u32,
    /// Registries with observed behaviour.
    pub mirrors: Vec<MirrorEntry>,
    /// Uploads that broke off, or are under way.
    pub uploads: Vec<UploadEntry>,
}

/// The observed behaviour of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MirrorEntry {
    /// The registry, with its scheme.
    pub registry: String,
    /// What its server says of itself.
    pub server: String,
    /// When it was learned, RFC 3339.
    pub learned: String,
    /// When it is forgotten.
    pub expires: String,
    /// What it does, in words.
    pub does: Vec<String>,
}

/// An upload that a later run may go on with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UploadEntry {
    /// The registry, with its scheme.
    pub registry: String,
    /// The repository there.
    pub repository: String,
    /// The blob.
    pub digest: String,
    /// Its bytes.
    pub bytes: u64,
    /// Bytes that the registry has acknowledged; it may have more.
    pub bytes_acknowledged: u64,
    /// When it was last gone on with, RFC 3339.
    pub used: String,
    /// When it is forgotten.
    pub expires: String,
}

impl StateDocument {
    /// `in_words` makes words of what was learned of a registry.
    pub(crate) fn new(
        folder: String,
        contents: StateCounts,
        mirrors: Vec<RememberedMirror>,
        uploads: Vec<KeptUpload>,
        in_words: impl Fn(&str) -> Vec<String>,
    ) -> Self {
        let mirror = |mirror: RememberedMirror| MirrorEntry {
            learned: time(mirror.learned_at),
            expires: time(mirror.expires_at),
            does: in_words(&mirror.quirks),
            registry: mirror.registry,
            server: mirror.server,
        };
        let upload = |kept: KeptUpload| UploadEntry {
            registry: kept.upload.registry,
            repository: kept.upload.repository.to_string(),
            digest: kept.upload.digest.to_string(),
            bytes: kept.size,
            bytes_acknowledged: kept.acknowledged,
            used: time(kept.used_at),
            expires: time(kept.expires_at),
        };
        Self {
            schema_version: SchemaVersion::One,
            folder,
            bundles: contents.bundles,
            layers: contents.layers,
            gate_verdicts: contents.verdicts,
            manifests: contents.manifests,
            runs: contents.runs,
            mirrors: mirrors.into_iter().map(mirror).collect(),
            uploads: uploads.into_iter().map(upload).collect(),
        }
    }
}

fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}
