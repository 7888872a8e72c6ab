//! What `prune --json` says.

use serde::{Deserialize, Serialize};

use super::SchemaVersion;
use crate::oci::Digest;
use crate::report::Failure;

/// What went from sites, or would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PruneDocument {
    /// The version of the schema.
    pub schema_version: SchemaVersion,
    /// Whether anything was to be removed (`--yes`), and not only shown.
    pub removed: bool,
    /// The sites.
    pub sites: Vec<PruneSite>,
    /// The exit code.
    pub exit_code: u8,
}

/// What went from one site, or would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PruneSite {
    /// Its name.
    pub name: String,
    /// The bundles that stay, the latest first; those of the sites file stay as well.
    pub kept: Vec<String>,
    /// The tags that no kept bundle has.
    pub tags: Vec<PruneEntry>,
    /// Why nothing goes, if nothing does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// A tag that no kept bundle has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PruneEntry {
    /// Its name on the site.
    pub place: String,
    /// The digest that layercast put under it.
    pub digest: Digest,
    /// `goes`, `tag-goes` (where tags go alone), `gone`, `stays`, `failed`.
    pub fate: String,
    /// Why it stays, or could not be removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}
