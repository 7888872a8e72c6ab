//! What the report of `sync` says besides: which file, which bundles and which shard.

use serde::{Deserialize, Serialize};

/// What version 2 of the report has besides version 1.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SyncRun {
    /// The sites file, as given.
    pub config: String,
    /// The digest of what stood in it.
    pub config_sha256: String,
    /// What all shards of one run have in common, if their caller says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Which shard of the sites this is; none of a run that has them all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<ShardEntry>,
    /// The bundles that were taken.
    pub bundles: Vec<BundleEntry>,
    /// Newer files of bundles that could not be taken, each with the reason and what was taken in its place.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub passed_over: Vec<String>,
}

/// One of several runs that share the sites of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShardEntry {
    /// From 0.
    pub index: u32,
    /// How many there are.
    pub count: u32,
}

/// A bundle that was taken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct BundleEntry {
    /// Its path.
    pub path: String,
    /// The digest of the file, where it was checked.
    pub sha256: Option<String>,
}
