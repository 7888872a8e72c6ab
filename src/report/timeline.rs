//! What happened on one mirror in the course of a run. Bounded: a long run has fewer points, not more of them.

use serde::{Deserialize, Serialize};

use crate::oci::Digest;

/// The course of a run on one mirror. All moments are seconds since the run began.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Timeline {
    /// What was done from when to when.
    pub stages: Vec<StageSpan>,
    /// The limit on bytes a second; none where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_bytes_per_second: Option<u64>,
    /// Bytes of blobs that had been sent, and confirmed, by a moment.
    pub bytes: Vec<BytesPoint>,
    /// The uploads that took longest, the longest first.
    pub slowest_blobs: Vec<SlowBlob>,
    /// Requests that were tried again, by cause.
    pub retries: Vec<RetryCount>,
    /// Bytes that were sent and had to be sent again.
    pub bytes_repeated: u64,
}

/// What was done on a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum MirrorStage {
    /// It is connected to, login included.
    Connect,
    /// It is asked what it has; nothing has been sent yet.
    Probe,
    /// It gets blobs and manifests.
    Send,
    /// Tags are moved.
    Tag,
    /// A word of a later version.
    #[serde(other)]
    Other,
}

/// A stage and its time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct StageSpan {
    /// What was done.
    pub stage: MirrorStage,
    /// From this moment.
    pub from_seconds: f64,
    /// To this one.
    pub to_seconds: f64,
}

/// How far it had come.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct BytesPoint {
    /// At this moment.
    pub at_seconds: f64,
    /// Bytes that the network had taken.
    pub sent: u64,
    /// Bytes of blobs that the mirror had confirmed.
    pub acknowledged: u64,
}

/// An upload that took long.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct SlowBlob {
    /// The blob.
    pub digest: Digest,
    /// Its size.
    pub bytes: u64,
    /// From the moment when it was known to be lacking to its confirmation.
    pub seconds: f64,
    /// Of that, until its bytes could be had.
    pub bundle_seconds: f64,
    /// Of that, until it was its turn.
    pub turn_seconds: f64,
}

/// Requests that failed for one cause and were tried again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RetryCount {
    /// In few words.
    pub cause: String,
    /// How many.
    pub count: u64,
    /// The pauses before they were tried again, together.
    pub seconds: f64,
}
