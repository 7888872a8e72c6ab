//! Exponential back-off with full jitter. Pure but for the random numbers.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Delays without an end. Each is a random part of a span that doubles, so that many requests that failed at the same moment
/// are not sent again at the same moment.
#[derive(Debug)]
pub(in crate::registry) struct Backoff {
    spans: ExponentialBackoff,
    longest: Duration,
}

impl Backoff {
    /// The first span is `first`, and none is longer than `longest`.
    pub(super) fn new(first: Duration, longest: Duration) -> Self {
        let longest = longest.max(first);
        let spans = ExponentialBuilder::new().with_min_delay(first).with_max_delay(longest);
        Self { spans: spans.without_max_times().build(), longest }
    }

    /// The next delay.
    pub(in crate::registry) fn next(&mut self) -> Duration {
        self.spans.next().unwrap_or(self.longest).mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_random_parts_of_spans_that_double_up_to_the_longest() {
        let (first, longest) = (Duration::from_millis(500), Duration::from_secs(20));
        let sequences = || std::iter::repeat_with(|| Backoff::new(first, longest)).take(400);
        for n in 0..12 {
            let span = (first * 2_u32.pow(n)).min(longest);
            let nth = |mut delays: Backoff| std::iter::repeat_with(|| delays.next()).nth(n as usize).unwrap();
            let all: Vec<Duration> = sequences().map(nth).collect();
            assert!(all.iter().all(|delay| *delay <= span), "{n}: more than {span:?}");
            let mean = all.iter().sum::<Duration>() / 400;
            assert!(mean > span * 2 / 5 && mean < span * 3 / 5, "{n}: {mean:?} of {span:?}");
        }
    }
}
