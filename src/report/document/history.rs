//! What `history --json` says.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::SchemaVersion;
use crate::state::{MirrorResult, PastRun, RecordedFailure};

/// The last runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct HistoryDocument {
    /// The version of the schema.
    pub schema_version: SchemaVersion,
    /// The runs, the latest first.
    pub runs: Vec<RunEntry>,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunEntry {
    /// Runs are numbered in the order in which they began.
    pub number: i64,
    /// When it began, RFC 3339.
    pub started: String,
    /// When it ended; none where it was killed or goes on.
    pub ended: Option<String>,
    /// Its exit code.
    pub exit_code: Option<u8>,
    /// The class of the failure if it failed as a whole.
    pub class: Option<String>,
    /// That failure, in words.
    pub message: Option<String>,
    /// The command, where it was none that fills sites: `prune` or `rollback`. What is said of images is about tags then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The bundles.
    pub bundle: String,
    /// Its process.
    pub pid: u32,
    /// The version of the program.
    pub layercast_version: String,
    /// Its sites.
    pub sites: Vec<SiteEntry>,
}

/// The result of a run at one site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SiteEntry {
    /// Its name.
    pub name: String,
    /// How the run left it: `complete`, `incomplete`, `failed`, `deferred`; none where it was killed or goes on.
    pub result: Option<String>,
    /// The class of the first failure.
    pub class: Option<String>,
    /// That failure, in words.
    pub message: Option<String>,
    /// Images that it was to get.
    pub images: u64,
    /// Images that are complete.
    pub images_complete: u64,
    /// Blobs that were uploaded.
    pub blobs_sent: u64,
    /// Their bytes on the wire.
    pub bytes_sent: u64,
    /// How long it took.
    pub elapsed_seconds: f64,
}

impl From<PastRun> for RunEntry {
    fn from(run: PastRun) -> Self {
        let (class, message) = split(run.why);
        Self {
            number: run.number,
            started: time(run.started_at),
            ended: run.ended_at.map(time),
            exit_code: run.exit,
            class,
            message,
            command: run.command,
            bundle: run.bundle,
            pid: run.pid,
            layercast_version: run.version,
            sites: run.mirrors.into_iter().map(|(name, result)| SiteEntry::new(name, result)).collect(),
        }
    }
}

impl SiteEntry {
    fn new(name: String, result: MirrorResult) -> Self {
        let (class, message) = split(result.why);
        Self {
            name,
            result: result.end.map(|end| end.name().to_owned()),
            class,
            message,
            images: result.images,
            images_complete: result.images_complete,
            blobs_sent: result.blobs_sent,
            bytes_sent: result.bytes_sent,
            elapsed_seconds: result.seconds,
        }
    }
}

fn split(why: Option<RecordedFailure>) -> (Option<String>, Option<String>) {
    why.map_or((None, None), |why| (Some(why.class), Some(why.message)))
}

fn time(seconds: i64) -> String {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}
