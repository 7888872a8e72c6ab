//! The report of a run: one JSON document, described in `docs/report.md`.

use serde::Serialize;

use crate::archive::LeftOut;
use crate::decode::Decoder;
use crate::exit::Exit;
use crate::report::{Failure, Outcome};

/// The version of the schema. Fields are only ever added within one version.
const SCHEMA_VERSION: u32 = 1;

/// What a run did.
#[derive(Debug, Serialize)]
pub(super) struct Document {
    /// [`SCHEMA_VERSION`].
    pub(super) schema_version: u32,
    /// The version of the program.
    pub(super) layercast_version: &'static str,
    /// When the run began, RFC 3339.
    pub(super) started: String,
    /// The bundles.
    pub(super) sources: Vec<String>,
    /// Images in the plan.
    pub(super) images: usize,
    /// What was met in the bundles and not taken.
    pub(super) left_out: Vec<LeftOut>,
    /// What people should know of the bundles, and what they accepted.
    pub(super) notes: Vec<String>,
    /// One entry for each mirror.
    pub(super) mirrors: Vec<Outcome>,
    /// What was decoded to know and to send all this.
    pub(super) decode: Decode,
    /// From the first look at the bundle to the last answer.
    pub(super) elapsed_seconds: f64,
    /// Largest resident memory, pages of mapped files left out.
    pub(super) peak_rss_bytes: u64,
    /// Why the run as a whole failed, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<Failure>,
    /// The exit code.
    pub(super) exit_code: u8,
}

/// What was decoded.
#[derive(Debug, Default, Serialize)]
pub(super) struct Decode {
    /// Bytes that came out of decoders. A part that is decoded twice counts twice; plain bundles decode nothing.
    pub(super) bytes: u64,
    /// Parts (xz blocks, zstd frames) decoded.
    pub(super) parts: u64,
    /// Largest size of spool files on disk.
    pub(super) spool_peak_bytes: u64,
}

impl Decode {
    /// What a decoder has done so far.
    pub(super) fn of(decoder: &Decoder) -> Self {
        let meter = decoder.meter();
        Self {
            bytes: meter.decoded_bytes(),
            parts: meter.parts_decoded(),
            spool_peak_bytes: meter.spool_high_water_bytes(),
        }
    }
}

impl Document {
    /// A document of a run that began now.
    pub(super) fn begin(sources: Vec<String>) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            layercast_version: env!("CARGO_PKG_VERSION"),
            started: jiff::Timestamp::now().to_string(),
            sources,
            images: 0,
            left_out: Vec::new(),
            notes: Vec::new(),
            mirrors: Vec::new(),
            decode: Decode::default(),
            elapsed_seconds: 0.0,
            peak_rss_bytes: 0,
            error: None,
            exit_code: Exit::Complete.code(),
        }
    }
}
