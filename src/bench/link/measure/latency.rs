//! Latencies of questions.
//!
//! Questions are planned for fixed moments, and a latency counts from the moment for which its question was planned. So an
//! answer that is late makes those behind it late too, as it would for anybody who waits in that queue ("coordinated omission").
//! Where nothing waited, it counts from the moment at which the question was asked: that this machine woke up late is not the
//! link's.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::{Link, is_reset};
use crate::bench::link::statistics::{figure, whole};
use crate::bench::link::stop::Ended;
use crate::clock::Instant;
use crate::registry::RegistryError;
use crate::report::document::LatencyFigures;

/// What a percentile is exact to: a tenth of a percent.
const DIGITS: u8 = 3;
const MICROSECONDS: f64 = 1e6;
/// Questions come no closer than this, so that they are no load.
const LEAST_APART: Duration = Duration::from_millis(10);
/// Between the first and the last tenth of them lie so many.
const QUESTIONS: std::ops::RangeInclusive<u32> = 10..=100;

/// Asks for `time`, one question after the other, and gives what the answers took. The first ones only warm up.
pub(in crate::bench::link) async fn latencies<F>(
    link: &Link,
    time: Duration,
    warm_up: u32,
    ask: impl Fn() -> F,
) -> Result<Option<LatencyFigures>, Ended>
where
    F: Future<Output = Result<(), RegistryError>>,
{
    let mut slowest = Duration::ZERO;
    for _ in 0..warm_up {
        let began = Instant::now();
        link.ask(&link.stop, &ask).await?;
        // The first one may have opened a connection.
        slowest = began.elapsed();
    }
    // So far apart that one which is a little late makes no other late.
    let mut apart = (slowest * 2).max(LEAST_APART);
    let number = u32::try_from(time.as_nanos() / apart.as_nanos().max(1)).unwrap_or(u32::MAX);
    let number = number.clamp(*QUESTIONS.start(), *QUESTIONS.end());
    let (mut samples, mut resets) = (Vec::new(), 0);
    let mut planned = Instant::now();
    for _ in 0..number {
        planned += apart;
        let begins = if Instant::now() > planned {
            planned
        } else {
            link.stop.or(tokio::time::sleep_until(planned)).await?;
            Instant::now()
        };
        match link.stop.or(ask()).await? {
            Ok(()) => samples.push(begins.elapsed().as_secs_f64()),
            Err(error) if error.wants_fewer_requests() => {
                // The plan was too dense for this mirror.
                link.pause(&link.stop, &error).await?;
                apart *= 2;
                planned = Instant::now();
            }
            // A kept connection that the other side had closed: the next question opens another one.
            Err(error) if is_reset(&error) && samples.len() * 2 >= resets => resets += 1,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(figures(&samples))
}

/// Percentiles of samples, in seconds.
pub(in crate::bench::link) fn figures(samples: &[f64]) -> Option<LatencyFigures> {
    let median = figure(samples)?;
    let mut histogram = Histogram::<u32>::new(DIGITS).ok()?;
    for sample in samples {
        histogram.record(whole(sample * MICROSECONDS)).ok()?;
    }
    let at = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / MICROSECONDS;
    let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
    Some(LatencyFigures { least, p50: at(0.5), p90: at(0.9), p99: at(0.99), median })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_samples() {
        let samples: Vec<f64> = (1..=100).rev().map(|ms| f64::from(ms) / 1e3).collect();
        let figures = figures(&samples).unwrap();
        for (found, expected) in
            [(figures.least, 0.001), (figures.p50, 0.05), (figures.p90, 0.09), (figures.p99, 0.099)]
        {
            assert!((found / expected - 1.0).abs() < 2e-3, "{figures:?}");
        }
        assert_eq!(super::figures(&[]), None);
    }
}
