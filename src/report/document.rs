//! The documents that commands write as JSON, described in `docs/report.md`. They can be read back.

mod bench;
mod compare;
mod history;
mod inspect;
mod link;
mod log;
mod made;
mod plan;
mod prune;
mod run;
mod sites;
mod state;
mod sync;
mod utilisation;
mod version;

use serde::{Deserialize, Serialize};

pub(crate) use bench::{BenchStep, CoreRates, CoreSeconds, DecodeDocument, PushBudget, PushBudgets};
pub(crate) use compare::{ChangeVerdict, CompareDocument, FigureChange, LinkChange};
pub(crate) use history::{HistoryDocument, RunEntry, SiteEntry};
pub(crate) use inspect::{
    AttachmentEntry, BlobEntry, BrokenEntry, BundleDocument, ImageEntry, InvalidName, LayerEntry,
    SourceEntry, StructureEntry,
};
pub(crate) use link::{
    BundleEstimate, CommitTime, ConnectSeconds, Figure, HttpVersion, LatencyFigures, LeftBehind,
    LinkDocument, LinkLimit, LinkRecommendation, LinkTarget, SoakSecond, ThroughputFigures, TlsSession,
    TransferMethod, TrialEntry,
};
pub(crate) use log::{LogEvent, LogLine, ProgressEntry, StepEntry};
pub(crate) use made::{FetchedBlobs, MadeBase, MadeDocument, MadeFile};
pub(crate) use plan::{Action, Forecast, ImageForecast, PlanDocument, Replacement};
pub(crate) use prune::{PruneDocument, PruneEntry, PruneSite};
pub(crate) use run::{Compressed, Decoded, DeferralCause, DeferredSite, Document, Staged};
pub(crate) use sites::{Aspect, CheckEntry, CheckState, SiteCheck, SitesDocument};
pub(crate) use state::StateDocument;
pub(crate) use sync::{BundleEntry, ShardEntry, SyncRun};
pub(crate) use utilisation::{Bottleneck, StageSeconds, Utilisation};
pub(crate) use version::VersionDocument;

/// The version of the schema. Within one version, fields are only added; the second has all that the first has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub(crate) enum SchemaVersion {
    /// Of all documents but the report of `sync`.
    One,
    /// Of the report of `sync`.
    Two,
}

impl From<SchemaVersion> for u32 {
    fn from(version: SchemaVersion) -> Self {
        match version {
            SchemaVersion::One => 1,
            SchemaVersion::Two => 2,
        }
    }
}

impl TryFrom<u32> for SchemaVersion {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        match number {
            1 => Ok(Self::One),
            2 => Ok(Self::Two),
            _ => Err(format!("schema_version {number} is not known, only 1 and 2")),
        }
    }
}

#[cfg(test)]
mod tests;
