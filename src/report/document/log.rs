//! Lines of `--log-format json`: one object a line, each with its `event` and `time`.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::archive::LeftOutClass;
use crate::clock;
use crate::document::{Finding, Severity};
use crate::oci::Digest;
use crate::report::{Class, Failure};

/// One line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogLine {
    /// When it was written, in UTC (RFC 3339).
    pub time: String,
    #[serde(flatten)]
    pub event: LogEvent,
}

/// What a line is about; `event` names it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum LogEvent {
    /// A bundle was opened.
    Opened {
        path: String,
        /// How it is compressed and cut, in words.
        structure: String,
        /// Bytes on disk; none for a pipe.
        stored_bytes: Option<u64>,
    },
    /// It is known what is in all bundles.
    Catalogued { images: usize, blobs: usize, seconds: f64 },
    /// The run to the mirrors begins.
    Started { mirrors: Vec<String> },
    /// The bundles have been read: the most images that a mirror is to have.
    Planned { images: Option<usize> },
    /// The bundle could not be read, so the run ends.
    Abandoned,
    /// A mirror answered and took the credentials.
    Connected { mirror: String },
    /// A mirror has confirmed a blob.
    Blob { mirror: String, digest: Digest, bytes: u64 },
    /// An image is whole on a mirror; `already` if it was there before.
    Image { mirror: String, image: String, already: bool },
    /// An image could not be completed on a mirror.
    ImageFailed { mirror: String, image: String, why: String },
    /// A request is tried again.
    Retried { mirror: String, what: String, why: String, cause: String, after_seconds: f64 },
    /// A tag that stands for another image is about to be moved.
    Replaces { mirror: String, place: String, from: String, to: Digest },
    /// The images of a mirror are there, and its tags move next.
    Publishes { mirror: String },
    /// This many tags have been moved.
    Tagged { mirror: String, tags: usize },
    /// A mirror is done, well or not.
    Finished { mirror: String, images_complete: usize, images_failed: usize, seconds: f64 },
    /// The mirrors are done, and the run waits for the stage.
    FillsStage { bytes: u64, of: u64 },
    /// The window of a mirror closed before the mirror was complete.
    WindowClosed { mirror: String, images_left: Option<usize>, opens_at: String, is_waited_for: bool },
    /// How far the run has come.
    Progress(ProgressEntry),
    /// Something worth knowing that harms nothing.
    Note {
        message: String,
        /// The same, in lines of a run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// Something that is not as it should be; the command goes on.
    Warning { message: String },
    /// A mirror, or one image of it, is not complete at the end.
    Failed { mirror: String, image: Option<String>, class: Class, message: String, hint: Option<String> },
    /// Why the command ended.
    Error { class: Class, message: String, hint: Option<String>, exit_code: u8 },
    /// Something is wrong with a file.
    Finding { file: String, finding: FindingEntry },
    /// An entry of a bundle is not pushed.
    LeftOut { path: String, what: String, why: String, class: LeftOutClass },
    /// The embedded registry answered a request.
    Request {
        peer: String,
        method: String,
        path: String,
        status: u16,
        received_bytes: u64,
        sent_bytes: u64,
        elapsed_seconds: f64,
    },
}

/// How far a run has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ProgressEntry {
    /// Read of the bundle that is open.
    pub bundle_bytes_read: Option<u64>,
    pub bundle_bytes: Option<u64>,
    pub bytes_sent: u64,
    pub bytes_acknowledged: u64,
    /// To be sent in all; known once the bundles have been read.
    pub bytes_expected: Option<u64>,
    pub bytes_per_second: Option<f64>,
    pub eta_seconds: Option<f64>,
    /// How many mirrors are in each state.
    pub mirrors: BTreeMap<String, usize>,
    pub elapsed_seconds: f64,
    /// What goes on that no mirror sees.
    #[serde(default)]
    pub step: Option<StepEntry>,
}

/// How far a step of the work has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StepEntry {
    /// `fetch`, `compress`, `write`, `decode`, `fill_stage` or `measure`.
    pub name: String,
    pub bytes: u64,
    /// All of them, where that is known.
    pub bytes_expected: Option<u64>,
    pub bytes_per_second: Option<f64>,
    pub eta_seconds: Option<f64>,
}

/// One mistake in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct FindingEntry {
    pub severity: Severity,
    pub line: Option<usize>,
    pub column: Option<usize>,
    pub message: String,
    pub fix: String,
}

impl LogLine {
    /// What happens now.
    pub(crate) fn now(event: LogEvent) -> Self {
        Self { time: clock::timestamp().to_string(), event }
    }
}

/// As JSON.
impl fmt::Display for LogLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

impl From<&Failure> for LogEvent {
    fn from(failure: &Failure) -> Self {
        let Failure { class, message, hint, exit, .. } = failure;
        Self::Error { class: *class, message: message.clone(), hint: hint.clone(), exit_code: exit.code() }
    }
}

impl From<&Finding> for LogEvent {
    fn from(finding: &Finding) -> Self {
        let entry = FindingEntry {
            severity: finding.severity,
            line: finding.line,
            column: finding.column,
            message: finding.what.clone(),
            fix: finding.fix.clone(),
        };
        Self::Finding { file: finding.path.display().to_string(), finding: entry }
    }
}
