//! What holds uploads back, and how that was seen. Pure.

use crate::report::document::{CommitTime, LinkLimit};
use crate::units::ByteCount;

/// A registry is slow with bytes that it has where it takes them in at less than this part of the rate at which they come.
const SLOW_COMMIT: f64 = 0.5;
/// A link that carries this part of what one stream could bring is busy.
const BUSY_LINK: f64 = 0.8;
/// This part of the cores makes this machine the limit.
const BUSY_CORES: f64 = 0.8;
/// Twice as many streams that bring this many times as much still bring more.
const GROWS: f64 = 1.2;

/// What was measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Observations<'a> {
    /// The round trip, in seconds.
    pub(super) rtt: f64,
    /// Bytes a second of one body, from its first byte to the answer that they have all come; without the commit.
    pub(super) wire: Option<f64>,
    /// Bytes a second at the best setting.
    pub(super) best: f64,
    /// Streams of the best setting.
    pub(super) streams: u32,
    /// How much twice as many streams brought, at the greatest number that was tried.
    pub(super) growth: Option<f64>,
    /// Cores that were busy, and how many there are.
    pub(super) cores: (f64, f64),
    pub(super) commits: &'a [CommitTime],
    pub(super) refused_bytes: Option<u64>,
    pub(super) rate_limited: u64,
    pub(super) requests_per_second: Option<f64>,
    /// A limit of our own, in bytes a second.
    pub(super) own_limit: Option<u64>,
}

/// What holds uploads back, with the evidence in sentences.
pub(super) fn judge(seen: &Observations<'_>) -> (LinkLimit, Vec<String>) {
    let rate = |bytes: f64| format!("{:.1} Mbit/s", bytes * 8e-6);
    let best = format!("{} with {} at a time", rate(seen.best), streams(seen.streams));
    if seen.rate_limited > 0 {
        let taken = seen.requests_per_second.map(|taken| format!("; it takes about {taken:.0} a second"));
        let said = format!(
            "the mirror answered {} requests with 429{}",
            seen.rate_limited,
            taken.unwrap_or_default()
        );
        return (LinkLimit::RateLimit, vec![said, best]);
    }
    if let Some(bytes) = seen.refused_bytes {
        let said = format!("a request of {} was refused as too large (413)", ByteCount(bytes));
        return (LinkLimit::RequestSize, vec![said, best]);
    }
    if let (Some(commit), Some(wire)) = (commit_rate(seen.commits), seen.wire)
        && commit < SLOW_COMMIT * wire
        && seen.best < BUSY_LINK * wire
    {
        let said = format!(
            "one body comes in at {}, and its commit goes at {}: the registry is at work on what it has",
            rate(wire),
            rate(commit)
        );
        return (LinkLimit::Server, vec![said, best]);
    }
    let (busy, all) = seen.cores;
    if busy >= BUSY_CORES * all {
        let said = format!("{busy:.1} of {all:.0} cores of this machine were busy");
        return (LinkLimit::ClientCpu, vec![said, best]);
    }
    if let Some(limit) = seen.own_limit.filter(|limit| seen.best > 0.9 * *limit as f64) {
        let said = format!("it is our own limit: {}", rate(limit as f64));
        return (LinkLimit::Bandwidth, vec![said, best]);
    }
    match seen.growth {
        Some(growth) if growth >= GROWS => {
            let said = format!(
                "twice as many streams still bring {:.0} % more, at a round trip of {:.1} ms",
                (growth - 1.0) * 100.0,
                seen.rtt * 1e3
            );
            (LinkLimit::RoundTrip, vec![best, said])
        }
        _ => (LinkLimit::Bandwidth, vec![best, "more streams bring no more".to_owned()]),
    }
}

/// Bytes a second that a commit takes, as far as it takes longer for more of them.
pub(super) fn commit_rate(commits: &[CommitTime]) -> Option<f64> {
    let least = commits.iter().min_by_key(|commit| commit.bytes)?;
    let most = commits.iter().max_by_key(|commit| commit.bytes)?;
    let (more, longer) = (most.bytes.checked_sub(least.bytes)?, most.seconds - least.seconds);
    (more > 0 && longer > 0.0).then(|| more as f64 / longer)
}

fn streams(number: u32) -> String {
    if number == 1 { "1 request".to_owned() } else { format!("{number} requests") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FAST: [CommitTime; 2] =
        [CommitTime { bytes: 1 << 16, seconds: 0.08 }, CommitTime { bytes: 16 << 20, seconds: 0.1 }];

    fn seen() -> Observations<'static> {
        Observations {
            rtt: 0.08,
            wire: Some(25e6),
            best: 24.9e6,
            streams: 4,
            growth: Some(1.0),
            cores: (0.2, 2.0),
            commits: &FAST,
            refused_bytes: None,
            rate_limited: 0,
            requests_per_second: None,
            own_limit: None,
        }
    }

    #[test]
    fn the_limit_is_named_with_what_it_was_seen_by() {
        let slow = [
            CommitTime { bytes: 1 << 16, seconds: 0.01 },
            CommitTime { bytes: 16 << 20, seconds: 0.01 + 16.0 * 1.048_576 / 20.0 },
        ];
        for (seen, limit, said) in [
            (seen(), LinkLimit::Bandwidth, "199.2 Mbit/s with 4 requests at a time"),
            (Observations { growth: Some(1.9), ..seen() }, LinkLimit::RoundTrip, "bring 90 % more"),
            (
                Observations { wire: Some(300e6), best: 19e6, commits: &slow, ..seen() },
                LinkLimit::Server,
                "its commit goes at 1",
            ),
            (
                Observations { refused_bytes: Some(4 << 20), ..seen() },
                LinkLimit::RequestSize,
                "a request of 4.0 MiB was refused",
            ),
            (
                Observations { rate_limited: 9, requests_per_second: Some(20.4), ..seen() },
                LinkLimit::RateLimit,
                "about 20 a second",
            ),
            (Observations { cores: (1.8, 2.0), ..seen() }, LinkLimit::ClientCpu, "1.8 of 2 cores"),
            (Observations { own_limit: Some(25_000_000), ..seen() }, LinkLimit::Bandwidth, "our own limit"),
        ] {
            let (found, evidence) = judge(&seen);
            assert_eq!(found, limit, "{evidence:?}");
            assert!(evidence.iter().any(|line| line.contains(said)), "{evidence:?}");
        }
    }

    #[test]
    fn a_registry_that_is_slow_on_a_slow_link_is_not_the_limit() {
        let slow = [
            CommitTime { bytes: 1 << 16, seconds: 0.08 },
            CommitTime { bytes: 16 << 20, seconds: 0.08 + 16.0 * 1.048_576 / 20.0 },
        ];
        let (found, evidence) = judge(&Observations { commits: &slow, ..seen() });
        assert_eq!(found, LinkLimit::Bandwidth, "{evidence:?}");
    }
}
