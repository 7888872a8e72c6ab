//! What `bench compare --json` says.

use serde::{Deserialize, Serialize};

use super::SchemaVersion;
use super::link::LinkLimit;

/// Two measurements of the same links, held against each other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct CompareDocument {
    /// The version of the schema.
    pub schema_version: SchemaVersion,
    /// Mirrors that both have, in the order of the first.
    pub targets: Vec<LinkChange>,
    /// Mirrors that only the first has.
    pub only_before: Vec<String>,
    /// Mirrors that only the second has.
    pub only_after: Vec<String>,
}

/// What has become of the link to one mirror.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LinkChange {
    /// The mirror.
    pub name: String,
    /// Every figure that both have.
    pub figures: Vec<FigureChange>,
    /// What held uploads back before.
    pub limit_before: Option<LinkLimit>,
    /// What holds them back now.
    pub limit_after: Option<LinkLimit>,
}

/// What has become of one figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FigureChange {
    /// Its field in the document of `bench link`.
    pub figure: String,
    /// Its median before.
    pub before: f64,
    /// Its median now.
    pub after: f64,
    /// The second by the first.
    pub ratio: f64,
    /// The lower end of the confidence interval of the ratio.
    pub ratio_low: f64,
    /// Its upper end.
    pub ratio_high: f64,
    /// What that means.
    pub verdict: ChangeVerdict,
}

/// What a change means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ChangeVerdict {
    /// It is better, and that is no chance.
    Better,
    /// It is worse, and that is no chance.
    Worse,
    /// There is no significant difference.
    Same,
    /// There are too few samples to tell.
    Unknown,
}
