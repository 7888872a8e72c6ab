//! What `version --json` says.

use serde::{Deserialize, Serialize};

use super::SchemaVersion;

/// Which build it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct VersionDocument {
    /// The version of the schema.
    pub schema_version: SchemaVersion,
    /// Of layercast.
    pub version: String,
    /// The commit it was built from; none for a build from source that was not told.
    pub commit: Option<String>,
    /// Its day, as 2026-11-28.
    pub commit_date: Option<String>,
    /// The machine it is for, as `x86_64-linux`.
    pub target: String,
    /// Features of the build: `kube`.
    pub features: Vec<String>,
}
