//! The report of a run: what `--report` writes and `verify --json` prints. That of `sync` has [`SyncRun`] besides.

use serde::{Deserialize, Serialize};

use super::{SchemaVersion, SyncRun, Utilisation};
use crate::archive::LeftOut;
use crate::clock;
use crate::exit::Exit;
use crate::report::outcome::WindowClosing;
use crate::report::{Failure, Outcome};

/// What a run did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Document {
    /// The version of the schema.
    pub schema_version: SchemaVersion,
    /// The version of the program.
    pub layercast_version: String,
    /// When the run began, RFC 3339.
    pub started: String,
    /// The bundles.
    pub sources: Vec<String>,
    /// Images in the plan.
    pub images: usize,
    /// Entries of the bundles that were not taken.
    pub left_out: Vec<LeftOut>,
    /// What people should know of the bundles, and what they accepted.
    pub notes: Vec<String>,
    /// One entry for each mirror.
    pub mirrors: Vec<Outcome>,
    /// Sites that were left for a later run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deferred: Vec<DeferredSite>,
    /// What was decoded for the run.
    pub decode: Decoded,
    /// The cost of compressing layers.
    #[serde(default)]
    pub compress: Compressed,
    /// How well the run used the machine; none of one that sent nothing by its nature, or ended before its mirrors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilisation: Option<Utilisation>,
    /// How the run used its stage; none where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Staged>,
    /// The additional fields of `sync`.
    #[serde(flatten, default, skip_serializing_if = "Option::is_none")]
    pub sync: Option<SyncRun>,
    /// From opening the bundles until all of their content was known; none where that never happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read_seconds: Option<f64>,
    /// From opening the bundle to the last answer.
    pub elapsed_seconds: f64,
    /// Largest resident memory, pages of mapped files left out.
    pub peak_rss_bytes: u64,
    /// Why the run as a whole failed, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// The exit code.
    pub exit_code: u8,
}

/// A site that was left for a later run, as the user asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeferredSite {
    /// Its name.
    pub name: String,
    /// Why.
    pub why: DeferralCause,
    /// The same for people.
    pub message: String,
    /// Where its window closed while it was fed: when, with how much left, and when it opens next.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub closing: Option<WindowClosing>,
}

/// Why a site was left for a later run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DeferralCause {
    /// Another run is at it.
    Running,
    /// Its window is closed.
    Window,
}

/// What was decoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Decoded {
    /// Bytes that came out of decoders. A part that is decoded twice counts twice; plain bundles decode nothing.
    pub bytes: u64,
    /// Parts (xz blocks, zstd frames) decoded.
    pub parts: u64,
    /// Largest size of spool files on disk.
    pub spool_peak_bytes: u64,
    /// CPU time that decoding took.
    #[serde(default)]
    pub cpu_seconds: f64,
}

/// What compressing layers of docker-archives took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Compressed {
    /// CPU time.
    pub cpu_seconds: f64,
}

/// How a run used its stage.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Staged {
    /// The folder.
    pub dir: String,
    /// Images of the run that are whole in it.
    pub images: u64,
    /// Images of the run that are not.
    pub images_left_out: u64,
    /// Blobs that were put there.
    pub blobs_written: u64,
    /// Their bytes.
    pub bytes_written: u64,
    /// Bodies that mirrors got from there.
    pub blobs_read: u64,
    /// Their bytes.
    pub bytes_read: u64,
    /// Blobs that were damaged: they were removed, and read from the bundle.
    pub blobs_damaged: u64,
    /// Bundles that were removed, because nobody needs them or room was short.
    pub bundles_removed: u64,
}

impl Staged {
    /// What two shards of a run did together. The images of the run are those of the one that had most.
    #[must_use]
    pub(crate) fn and(self, other: &Self) -> Self {
        Self {
            images: self.images.max(other.images),
            images_left_out: self.images_left_out.max(other.images_left_out),
            blobs_written: self.blobs_written + other.blobs_written,
            bytes_written: self.bytes_written + other.bytes_written,
            blobs_read: self.blobs_read + other.blobs_read,
            bytes_read: self.bytes_read + other.bytes_read,
            blobs_damaged: self.blobs_damaged + other.blobs_damaged,
            bundles_removed: self.bundles_removed + other.bundles_removed,
            ..self
        }
    }
}

impl Document {
    /// Newer files of bundles that could not be taken.
    pub(crate) fn passed_over(&self) -> &[String] {
        self.sync.as_ref().map_or(&[], |sync| &sync.passed_over)
    }

    /// A document of a run that began now.
    pub(crate) fn begin(sources: Vec<String>) -> Self {
        Self {
            schema_version: SchemaVersion::One,
            layercast_version: env!("CARGO_PKG_VERSION").to_owned(),
            started: clock::timestamp().to_string(),
            sources,
            images: 0,
            left_out: Vec::new(),
            notes: Vec::new(),
            mirrors: Vec::new(),
            deferred: Vec::new(),
            decode: Decoded::default(),
            compress: Compressed::default(),
            utilisation: None,
            stage: None,
            sync: None,
            read_seconds: None,
            elapsed_seconds: 0.0,
            peak_rss_bytes: 0,
            error: None,
            exit_code: Exit::Complete.code(),
        }
    }
}
