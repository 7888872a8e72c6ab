//! What `plan --json` says.

use serde::{Deserialize, Serialize};

use super::SchemaVersion;
use crate::archive::LeftOut;
use crate::oci::Digest;
use crate::report::Failure;

/// What a push would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PlanDocument {
    /// The version of the schema.
    pub schema_version: SchemaVersion,
    /// One entry for each mirror.
    pub mirrors: Vec<Forecast>,
    /// Entries of the bundles that were not taken.
    pub left_out: Vec<LeftOut>,
    /// What people should know of the bundles, and what they accepted.
    pub notes: Vec<String>,
}

/// What a push would do on one mirror.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Forecast {
    /// The mirror.
    pub name: String,
    /// Its images, in order.
    pub images: Vec<ImageForecast>,
    /// Blob bytes that would go over the wire; each blob once, for it is mounted where it is wanted again.
    pub bytes_to_send: u64,
    /// Whether that is the exact figure: layers that are yet to be compressed count as they are.
    pub bytes_are_exact: bool,
    /// Why nothing is known.
    pub error: Option<Failure>,
}

impl Forecast {
    /// For a mirror that cannot be asked.
    pub(crate) fn failed(name: String, failure: Failure) -> Self {
        Self { name, images: Vec::new(), bytes_to_send: 0, bytes_are_exact: true, error: Some(failure) }
    }
}

/// What would happen to one image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageForecast {
    /// Its name in the bundle.
    #[serde(rename = "image")]
    pub name: String,
    /// Its name on the mirror.
    pub place: String,
    /// What would be done.
    #[serde(rename = "verdict")]
    pub action: Action,
    /// Tags that stand for another image.
    pub replaces: Vec<Replacement>,
    /// Why it cannot be complete.
    pub shortfall: Option<Failure>,
    /// Blobs that the repository lacks.
    pub missing_blobs: usize,
    /// Their bytes.
    pub missing_bytes: u64,
}

/// A tag that would be moved from one image to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Replacement {
    /// The name on the mirror, tag included.
    pub place: String,
    /// The digest that it stands for, or words where the registry does not tell it.
    pub from: String,
    /// The digest that it will stand for; none where that is known only once layers are compressed.
    pub to: Option<Digest>,
}

/// What would be done with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// Nothing: it is there, tags and all.
    Unchanged,
    /// Only tags are moved.
    Tag,
    /// It is sent.
    Push,
    /// It has no manifest yet, so whether it is there is known only once its layers are compressed.
    Compress,
}

impl std::fmt::Display for Action {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Unchanged => "unchanged",
            Self::Tag => "tag",
            Self::Push => "push",
            Self::Compress => "compress",
        })
    }
}
