//! Settings to use, and how long a push would take with them. Pure.

use std::fmt::Write as _;

use crate::report::document::{
    BundleEstimate, Figure, LatencyFigures, LinkLimit, LinkRecommendation, ThroughputFigures,
};
use crate::units::ByteCount;

/// Fewer uploads at a time make small blobs wait for each other, and save nothing where many lose nothing: it is what a push
/// begins with.
const LEAST_THREADS: u32 = 16;
/// The same where many bring less.
const LEAST_THREADS_WHERE_FEW_ARE_BETTER: u32 = 4;
/// Where requests are counted, more than this at a time only meets the limit sooner.
const THREADS_WHERE_COUNTED: u32 = 2;
/// What is beside the transfer: tags, manifests, questions; in round trips.
const ROUND_TRIPS: f64 = 10.0;
/// How far the same link differs from one hour to the next.
const SPREAD: f64 = 0.1;

/// What follows from a measurement.
pub(super) fn settings(
    limit: LinkLimit,
    upload: &ThroughputFigures,
    equivalent: &[u32],
    loses_by_many: bool,
    most_bytes: Option<u64>,
) -> LinkRecommendation {
    let threads = match limit {
        LinkLimit::RateLimit => THREADS_WHERE_COUNTED,
        _ if loses_by_many => upload.streams.max(LEAST_THREADS_WHERE_FEW_ARE_BETTER),
        _ => upload.streams.max(LEAST_THREADS),
    };
    let as_good = equivalent.iter().copied().chain([upload.streams]);
    let mut others: Vec<u32> = as_good.filter(|other| *other != threads).collect();
    others.sort_unstable();
    others.dedup();
    let mut site = format!("threads: {threads}\n");
    if let Some(bytes) = most_bytes {
        let _ = writeln!(
            site,
            "# requests above {} are refused: --apply keeps that, or the next run finds it out by itself",
            ByteCount(bytes)
        );
    }
    let method = upload.method;
    LinkRecommendation { threads, request_bytes: most_bytes, method, site, equivalent_threads: others }
}

/// What a mirror lacks of bundles.
#[derive(Debug, Clone)]
pub(crate) struct LackingBytes {
    /// The bundles.
    pub(crate) bundles: Vec<String>,
    pub(crate) bytes: u64,
    pub(crate) blobs: u64,
    /// Whether the bytes are known.
    pub(crate) is_exact: bool,
}

/// How long they would take, from a rate in bytes a second, small blobs a second, and the round trip.
pub(super) fn estimate(
    lacking: &LackingBytes,
    rate: &Figure,
    small: Option<&Figure>,
    rtt: Option<&LatencyFigures>,
) -> BundleEstimate {
    let beside = ROUND_TRIPS * rtt.map_or(0.0, |rtt| rtt.p50);
    let questions = small.map_or(0.0, |small| lacking.blobs as f64 / small.median.max(0.1));
    let at = |rate: f64| lacking.bytes as f64 / rate.max(1.0) + questions + beside;
    let low = at(rate.high) * (1.0 - SPREAD);
    // What is yet to be compressed becomes less.
    let low = if lacking.is_exact { low } else { low / 4.0 };
    BundleEstimate {
        bundles: lacking.bundles.clone(),
        bytes: lacking.bytes,
        blobs: lacking.blobs,
        bytes_are_exact: lacking.is_exact,
        seconds: at(rate.median),
        seconds_low: low,
        seconds_high: at(rate.low) * (1.0 + SPREAD),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::link::statistics::figure;
    use crate::report::document::{HttpVersion, TransferMethod};

    #[test]
    fn a_block_for_the_sites_file_has_what_the_limit_asks_for() {
        let of = |limit, streams, loses_by_many, most| {
            let rate = figure(&[1e6; 5]).unwrap();
            let upload = ThroughputFigures {
                best_bytes_per_second: rate.median,
                rate,
                streams,
                request_bytes: 1 << 20,
                method: TransferMethod::Put,
                protocol: HttpVersion::Http1,
                one_stream_bytes_per_second: None,
                busy_cores: None,
                trials: Vec::new(),
            };
            settings(limit, &upload, &[4, 8, 8], loses_by_many, most)
        };
        let plain = of(LinkLimit::Bandwidth, 4, false, None);
        assert_eq!((plain.threads, plain.site.as_str()), (16, "threads: 16\n"));
        assert_eq!(plain.equivalent_threads, [4, 8]);
        let few = of(LinkLimit::Bandwidth, 4, true, None);
        assert_eq!((few.threads, few.equivalent_threads), (4, vec![8]));
        assert_eq!(of(LinkLimit::RoundTrip, 32, false, None).threads, 32);
        assert_eq!(of(LinkLimit::RateLimit, 8, false, None).threads, 2);
        let cut = of(LinkLimit::RequestSize, 8, false, Some(1 << 20));
        assert!(cut.site.contains("above 1.0 MiB") && cut.request_bytes == Some(1 << 20), "{cut:?}");
    }

    #[test]
    fn an_estimate_is_a_range_around_bytes_by_rate() {
        let rate = figure(&[9.9e6, 10e6, 10e6, 10e6, 10.1e6]).unwrap();
        let lacking = LackingBytes { bundles: Vec::new(), bytes: 1_000_000_000, blobs: 100, is_exact: true };
        let small = figure(&[50.0; 5]).unwrap();
        let estimate = estimate(&lacking, &rate, Some(&small), None);
        assert!((estimate.seconds - 102.0).abs() < 1e-6, "{estimate:?}");
        assert!(estimate.seconds_low < 95.0 && estimate.seconds_high > 110.0, "{estimate:?}");
    }
}
