//! What `bench link --json` says; `bench compare` and the report for people read it back.

use serde::{Deserialize, Serialize};

use super::SchemaVersion;
use crate::report::Failure;

/// The links to some mirrors, as they were measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LinkDocument {
    /// The version of the schema.
    pub schema_version: SchemaVersion,
    /// The version of the program.
    pub layercast_version: String,
    /// When the measurement began (RFC 3339).
    pub started: String,
    /// How long it took.
    pub elapsed_seconds: f64,
    /// One entry for each mirror, in the order in which they were given.
    pub targets: Vec<LinkTarget>,
    /// How the command ended.
    pub exit_code: u8,
}

/// The link to one mirror. A figure that was not measured is null, and `notes` has the reason.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct LinkTarget {
    /// The site, or the mirror as it was given.
    pub name: String,
    /// Host, port and the repository that was used.
    pub place: String,
    /// Why there are no more figures.
    pub error: Option<Failure>,
    /// Bytes of bodies that were sent.
    pub bytes_sent: u64,
    /// Bytes of blobs that were read.
    pub bytes_received: u64,
    /// Requests that were sent.
    pub requests: u64,
    /// How long the steps to the first answer take.
    pub connect: ConnectSeconds,
    /// How the connection is encrypted; none in clear text, and behind a proxy.
    pub tls: Option<TlsSession>,
    /// A HEAD of a blob over a connection that stands.
    pub rtt_seconds: Option<LatencyFigures>,
    /// The same over a new connection.
    pub cold_seconds: Option<LatencyFigures>,
    /// A mount of a blob that is there.
    pub mount_seconds: Option<LatencyFigures>,
    /// Blobs of 4 KiB that were taken in a second, each with two requests.
    pub small_blobs_per_second: Option<Figure>,
    /// Throughput to the mirror.
    pub upload: Option<ThroughputFigures>,
    /// Throughput from the mirror.
    pub download: Option<ThroughputFigures>,
    /// How long a commit takes, by the size of the blob, the round trip included.
    pub commit_seconds: Vec<CommitTime>,
    /// The smallest request that was refused as too large (413).
    pub refused_bytes: Option<u64>,
    /// Answers that asked for fewer requests (429).
    pub rate_limited: u64,
    /// Requests that were taken in a second, where more were refused with 429.
    pub requests_per_second: Option<f64>,
    /// What the mirror keeps of a request that breaks off: `nothing`, `chunks` or `bytes`; only where it was probed.
    pub keeps: Option<String>,
    /// The rate over time.
    pub soak: Vec<SoakSecond>,
    /// What holds uploads back.
    pub limit: Option<LinkLimit>,
    /// How that was seen, in sentences.
    pub evidence: Vec<String>,
    /// The settings to use.
    pub recommendation: Option<LinkRecommendation>,
    /// How long pushes of bundles would take.
    pub estimates: Vec<BundleEstimate>,
    /// What stayed at the mirror.
    pub left_behind: Vec<LeftBehind>,
    /// What was not measured, and why; what a figure depends on.
    pub notes: Vec<String>,
}

/// How long the steps to the first answer take, each measured once.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct ConnectSeconds {
    /// The addresses that the name has.
    pub addresses: Vec<String>,
    /// Resolving the name.
    pub name_seconds: Option<f64>,
    /// Opening a TCP connection.
    pub tcp_seconds: Option<f64>,
    /// The handshake of TLS.
    pub tls_seconds: Option<f64>,
    /// Entering the registry: the first answer, and the login where one is wanted.
    pub enter_seconds: Option<f64>,
    /// Fetching a token for the repository, or showing the login there; with one request.
    pub token_seconds: Option<f64>,
}

/// How a connection is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TlsSession {
    /// As `TLSv1_3`.
    pub version: String,
    /// The cipher suite.
    pub cipher: String,
    /// The protocol that was agreed on (ALPN), if any.
    pub alpn: Option<String>,
}

/// Latencies, in seconds, each counted from the moment for which its request was planned.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LatencyFigures {
    /// The quickest answer: the way alone, where others waited for a busy machine on either side.
    pub least: f64,
    /// Half of all answers came sooner.
    pub p50: f64,
    /// Nine of ten came sooner.
    pub p90: f64,
    /// Ninety-nine of a hundred came sooner.
    pub p99: f64,
    /// The median with its confidence interval.
    pub median: Figure,
}

/// A median, its confidence interval of 95 %, and what it was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// The median.
    pub median: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
    /// What was measured, in the order in which it was.
    pub samples: Vec<f64>,
}

/// Throughput in one direction.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ThroughputFigures {
    /// The rate of the best setting.
    pub best_bytes_per_second: f64,
    /// The same with its confidence interval.
    pub rate: Figure,
    /// Requests with a body at the same time, of the best setting.
    pub streams: u32,
    /// Bytes in one request, of the best setting.
    pub request_bytes: u64,
    /// How the bytes went, of the best setting.
    pub method: TransferMethod,
    /// The protocol, of the best setting.
    pub protocol: HttpVersion,
    /// The rate of one stream.
    pub one_stream_bytes_per_second: Option<f64>,
    /// Cores of this machine that were busy for it, of those that it may use.
    pub busy_cores: Option<f64>,
    /// Every setting that was tried.
    pub trials: Vec<TrialEntry>,
}

/// One setting that was tried.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrialEntry {
    /// Requests with a body at the same time.
    pub streams: u32,
    /// Bytes in one request.
    pub request_bytes: u64,
    /// How the bytes went.
    pub method: TransferMethod,
    /// The protocol.
    pub protocol: HttpVersion,
    /// The rate of each repeat.
    pub bytes_per_second: Vec<f64>,
}

/// How the bytes of a blob go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TransferMethod {
    /// One PUT with all bytes, which also commits them.
    Put,
    /// One PATCH with all bytes, and a PUT that commits them.
    Patch,
    /// Several PATCHes, and a PUT that commits them.
    Chunks,
    /// One GET.
    Get,
}

/// The version of HTTP that bodies go over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum HttpVersion {
    /// A connection for each request.
    #[serde(rename = "HTTP/1.1")]
    Http1,
    /// One connection for all.
    #[serde(rename = "HTTP/2")]
    Http2,
}

/// How long one commit took.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct CommitTime {
    /// The size of the blob.
    pub bytes: u64,
    /// From the request without a body to its answer.
    pub seconds: f64,
}

/// One second at the best setting.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct SoakSecond {
    /// When it began, from the beginning of the soak.
    pub at_seconds: f64,
    /// Bytes that were handed to the network in it.
    pub bytes_per_second: f64,
}

/// What holds uploads back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LinkLimit {
    /// The way there and back: more streams would bring more.
    RoundTrip,
    /// The network, or whoever limits it: more streams bring nothing.
    Bandwidth,
    /// What the registry does with bytes that it has.
    Server,
    /// Requests above a size are refused.
    RequestSize,
    /// Requests above a number in a second are refused.
    RateLimit,
    /// This machine.
    ClientCpu,
}

/// The settings to use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LinkRecommendation {
    /// Uploads at the same time.
    pub threads: u32,
    /// The most that one request should carry; none where all sizes are taken.
    pub request_bytes: Option<u64>,
    /// How blobs get in.
    pub method: TransferMethod,
    /// What to write into the sites file.
    pub site: String,
    /// Other numbers of uploads that are as good, as far as could be measured.
    pub equivalent_threads: Vec<u32>,
}

/// How long a push of bundles would take now, if nothing but the link held it back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BundleEstimate {
    /// The bundles, as they were given.
    pub bundles: Vec<String>,
    /// Bytes that the mirror lacks.
    pub bytes: u64,
    /// Blobs that it lacks.
    pub blobs: u64,
    /// Whether the bytes are known: layers that are yet to be compressed count as they are.
    pub bytes_are_exact: bool,
    /// The most likely time.
    pub seconds: f64,
    /// The shortest time to expect.
    pub seconds_low: f64,
    /// The longest time to expect.
    pub seconds_high: f64,
}

/// Something that stayed at the mirror.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeftBehind {
    /// A blob by its digest, or upload sessions by their number.
    pub what: String,
    /// How many bytes it holds.
    pub bytes: u64,
    /// Why it stayed, and what removes it.
    pub why: String,
}
