//! What `bench decode --json` says.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::SchemaVersion;

/// How fast this machine reads a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DecodeDocument {
    /// The version of the schema.
    pub schema_version: SchemaVersion,
    /// The bundle.
    pub path: PathBuf,
    /// What it is compressed with.
    pub format: String,
    /// How it is read: `plain`, `blocks` or `spool`.
    pub kind: String,
    /// How many parts can be decoded alone.
    pub parts: usize,
    /// The decoded size of the largest part, or a bound for it.
    pub largest_part_bytes: u64,
    /// The size as stored.
    pub stored_bytes: Option<u64>,
    /// The decoded size.
    pub decoded_bytes: u64,
    /// Threads that decoded.
    pub threads: usize,
    /// How long it took.
    pub seconds: f64,
    /// How long decoders were at work, all together.
    pub busy_seconds: f64,
    /// The share of the time of those threads in which they decoded.
    #[serde(default)]
    pub pool_busy_share: f64,
    /// Bytes that came out of all decoders in a second; none where nothing is decoded.
    pub bytes_per_second: Option<f64>,
    /// The same for one decoder.
    pub bytes_per_second_per_core: Option<f64>,
    /// The rates of one core on a sample.
    pub one_core: CoreRates,
    /// What pushes would cost.
    pub push: PushBudgets,
}

/// Rates of one core; none that were too fast to measure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct CoreRates {
    /// Hashing.
    pub sha256_bytes_per_second: Option<f64>,
    /// Compressing with gzip.
    pub gzip_bytes_per_second: Option<f64>,
    /// Compressed by plain size.
    pub gzip_ratio: f64,
    /// Compressing with zstd.
    pub zstd_bytes_per_second: Option<f64>,
    /// Compressed by plain size.
    pub zstd_ratio: f64,
}

/// The cost of a push, by how layers are sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct PushBudgets {
    /// They are pushed as they are stored.
    pub as_stored: PushBudget,
    /// Plain ones are compressed with gzip.
    pub gzip: PushBudget,
    /// Plain ones are compressed with zstd.
    pub zstd: PushBudget,
}

/// The least that a push would cost this machine.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct PushBudget {
    /// The stage that limits the time.
    pub bottleneck: BenchStep,
    /// The time it takes if no core ever waits.
    pub seconds_at_best: f64,
    /// Work by stage.
    pub core_seconds: CoreSeconds,
}

/// Seconds of one core, by stage.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct CoreSeconds {
    /// Decoding the bundle.
    pub decode: f64,
    /// Hashing layers and blobs.
    pub sha256: f64,
    /// Compressing layers.
    pub compress: f64,
}

impl CoreSeconds {
    /// All stages, in order.
    pub(crate) const fn by_stage(self) -> [(BenchStep, f64); 3] {
        [
            (BenchStep::Decode, self.decode),
            (BenchStep::Sha256, self.sha256),
            (BenchStep::Compress, self.compress),
        ]
    }
}

/// A stage of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BenchStep {
    /// Decoding the bundle.
    Decode,
    /// Hashing layers and blobs.
    Sha256,
    /// Compressing layers.
    Compress,
}

impl std::fmt::Display for BenchStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.serialize(f)
    }
}
