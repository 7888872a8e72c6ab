//! The documents that commands write as JSON, described in `docs/report.md`. They can be read back.

mod bench;
mod history;
mod inspect;
mod plan;
mod run;
mod sites;

use serde::{Deserialize, Serialize};

pub(crate) use bench::{CoreRates, CoreSeconds, DecodeDocument, PushBudget, PushBudgets, Stage};
pub(crate) use history::{HistoryDocument, RunEntry, SiteEntry};
pub(crate) use inspect::{
    AttachmentEntry, BlobEntry, BrokenEntry, BundleDocument, ImageEntry, InvalidName, LayerEntry,
    SourceEntry, StructureEntry,
};
pub(crate) use plan::{Action, Forecast, ImageForecast, PlanDocument, Replacement};
pub(crate) use run::{Compressed, Decoded, DeferralCause, DeferredSite, Document};
pub(crate) use sites::{Aspect, CheckEntry, CheckState, SiteCheck, SitesDocument};

/// The version of the schema. Within one version, fields are only added.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub(crate) struct SchemaVersion;

impl SchemaVersion {
    const NUMBER: u32 = 1;
}

impl From<SchemaVersion> for u32 {
    fn from(_: SchemaVersion) -> Self {
        SchemaVersion::NUMBER
    }
}

impl TryFrom<u32> for SchemaVersion {
    type Error = String;

    fn try_from(number: u32) -> Result<Self, String> {
        if number == Self::NUMBER {
            return Ok(Self);
        }
        Err(format!("schema_version {number} is not known, only {}", Self::NUMBER))
    }
}

#[cfg(test)]
mod tests;
