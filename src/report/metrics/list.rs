//! Every metric there is: its name, kind, unit, labels and meaning. `docs/metrics.md` is made from this list.
//!
//! What has a label `site` is a gauge or a counter: a histogram for each of 2,000 sites would be 30,000 series.

use std::marker::PhantomData;

use metrics::Unit;

/// The label of what belongs to one site: its name, or the registry with its namespace.
pub(super) const SITE: &str = "site";
/// The label that all metrics of a process have.
pub(super) const RUN: &str = "run";

/// Upper bounds of the buckets of all histograms, in seconds: from a registry next door to one that hashes 12 GB.
pub(super) const BUCKETS_SECONDS: [f64; 15] =
    [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0];

/// What a metric is to Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MetricKind {
    Counter,
    Gauge,
    Histogram,
}

/// The description of a metric, for people and for Prometheus.
#[derive(Debug, Clone, Copy)]
pub(super) struct Description {
    pub(super) name: &'static str,
    pub(super) kind: MetricKind,
    pub(super) unit: Unit,
    #[cfg(test)]
    pub(super) labels: &'static [&'static str],
    pub(super) help: &'static str,
}

/// A kind, as a type.
pub(super) trait OfKind {
    const KIND: MetricKind;
}

#[derive(Debug)]
pub(super) struct Counter;
#[derive(Debug)]
pub(super) struct Gauge;
#[derive(Debug)]
pub(super) struct Histogram;

impl OfKind for Counter {
    const KIND: MetricKind = MetricKind::Counter;
}
impl OfKind for Gauge {
    const KIND: MetricKind = MetricKind::Gauge;
}
impl OfKind for Histogram {
    const KIND: MetricKind = MetricKind::Histogram;
}

/// A metric of a kind, with this many labels: no value is ever recorded under others.
#[derive(Debug)]
pub(super) struct Metric<K, const LABELS: usize> {
    pub(super) name: &'static str,
    pub(super) labels: [&'static str; LABELS],
    kind: PhantomData<K>,
}

macro_rules! list {
    ($(#[doc = $help:literal] $id:ident: $kind:ident<$count:literal>($name:literal, $unit:ident, [$($label:expr),*]);)+) => {
        $(
            #[doc = $help]
            pub(super) const $id: Metric<$kind, $count> = Metric { name: $name, labels: [$($label),*], kind: PhantomData };
        )+
        /// All of them, in the order of the documentation.
        pub(super) const ALL: &[Description] = &[$(Description {
            name: $name,
            kind: <$kind as OfKind>::KIND,
            unit: Unit::$unit,
            #[cfg(test)]
            labels: &[$($label),*],
            help: $help.trim_ascii(),
        }),+];
    };
}

list! {
    /// The version of the program. Always 1.
    BUILD_INFO: Gauge<1>("layercast_build_info", Count, ["version"]);
    /// When the run began.
    RUN_START: Gauge<0>("layercast_run_start_timestamp_seconds", Seconds, []);
    /// When the run ended. Absent while it goes on.
    RUN_END: Gauge<0>("layercast_run_end_timestamp_seconds", Seconds, []);
    /// The exit code of the run. Absent while it goes on.
    RUN_EXIT_CODE: Gauge<0>("layercast_run_exit_code", Count, []);
    /// Newer files of bundles that the run could not take: still arriving, a wrong sum, not readable. Absent while it goes on.
    RUN_PASSED_OVER: Gauge<0>("layercast_run_bundles_passed_over", Count, []);
    /// Images in the plan of the run, of the site that gets most.
    RUN_IMAGES: Gauge<0>("layercast_run_images", Count, []);
    /// Largest resident memory of the run, pages of mapped files left out.
    RUN_MEMORY_PEAK: Gauge<0>("layercast_run_resident_memory_peak_bytes", Bytes, []);
    /// Largest size of the run's spool files.
    SPOOL_PEAK: Gauge<0>("layercast_run_spool_peak_bytes", Bytes, []);
    /// Bytes that decoders put out; a part that is decoded twice counts twice.
    DECODED_BYTES: Counter<0>("layercast_decoded_bytes_total", Bytes, []);
    /// Parts of bundles (xz blocks, zstd frames) that were decoded.
    DECODED_PARTS: Counter<0>("layercast_decoded_parts_total", Count, []);
    /// CPU time that the run has spent on decoding bundles. A stream that cannot be cut is added at its end.
    DECODE_CPU: Gauge<0>("layercast_decode_cpu_seconds", Seconds, []);
    /// CPU time that the run has spent on compressing layers.
    COMPRESS_CPU: Gauge<0>("layercast_compress_cpu_seconds", Seconds, []);
    /// When the site was last complete: every image there, with its tags. 0 if that is not known.
    SITE_LAST_COMPLETE: Gauge<1>("layercast_site_last_complete_timestamp_seconds", Seconds, [SITE]);
    /// Whether this run left the site complete (1) or not (0).
    SITE_COMPLETE: Gauge<1>("layercast_site_complete", Count, [SITE]);
    /// Whether this run left the site for a later one (1), because its window is closed or another run is at it.
    SITE_DEFERRED: Gauge<1>("layercast_site_deferred", Count, [SITE]);
    /// Images that the site is to have. Absent until the bundle has been read.
    SITE_IMAGES: Gauge<1>("layercast_site_images", Count, [SITE]);
    /// Images that are not complete on the site. Absent until the bundle has been read.
    SITE_IMAGES_MISSING: Gauge<1>("layercast_site_images_missing", Count, [SITE]);
    /// How long the run was at the site. Absent until it is done with it.
    SITE_DURATION: Gauge<1>("layercast_site_duration_seconds", Seconds, [SITE]);
    /// Blob bytes that were put on the wire, failed tries among them.
    SENT_BYTES: Counter<1>("layercast_sent_bytes_total", Bytes, [SITE]);
    /// Blobs by what became of them: `sent`, `skipped` (the site had it), `mounted` (taken over from another repository).
    BLOBS: Counter<2>("layercast_blobs_total", Count, [SITE, "outcome"]);
    /// Tags that were moved or made.
    TAGS: Counter<1>("layercast_tags_moved_total", Count, [SITE]);
    /// Requests by outcome (`ok`, `not_found`, `refused`, `throttled`, `failed`, `no_answer`) and class of status (`2xx` to `5xx`, `none`).
    REQUESTS: Counter<3>("layercast_requests_total", Count, [SITE, "outcome", "status"]);
    /// Requests that were tried again.
    RETRIES: Counter<1>("layercast_retries_total", Count, [SITE]);
    /// How long the requests that were tried again have waited for that, added up.
    RETRY_WAIT: Gauge<1>("layercast_retry_wait_seconds", Seconds, [SITE]);
    /// Answers that asked for less: 429 and 503.
    THROTTLED: Counter<1>("layercast_throttled_total", Count, [SITE]);
    /// Time from sending a request to the head of its answer, its body included, by method.
    REQUEST_DURATION: Histogram<1>("layercast_request_duration_seconds", Seconds, ["method"]);
}
