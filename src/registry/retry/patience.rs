//! How long a host may be waited for. Pure.

use std::time::Duration;

/// All waiting of a run, as a multiple of the patience.
const OUTAGES_PER_RUN: u32 = 10;

/// The waiting that a host may cost: `limit` since it last did what was asked, and ten times that in the whole run.
#[derive(Debug)]
pub(super) struct HostPatience {
    limit: Duration,
    waited: Duration,
    waited_in_run: Duration,
}

impl HostPatience {
    pub(super) const fn new(limit: Duration) -> Self {
        Self { limit, waited: Duration::ZERO, waited_in_run: Duration::ZERO }
    }

    /// Books waiting.
    pub(super) fn spend(&mut self, wait: Duration) {
        self.waited += wait;
        self.waited_in_run += wait;
    }

    /// The host did what was asked: its next outage has the whole limit again.
    pub(super) const fn renew(&mut self) {
        self.waited = Duration::ZERO;
    }

    /// Waited since the host last did what was asked.
    pub(super) const fn waited(&self) -> Duration {
        self.waited
    }

    /// How long the host may still be waited for.
    pub(super) fn left(&self) -> Duration {
        let in_run = (self.limit * OUTAGES_PER_RUN).saturating_sub(self.waited_in_run);
        self.limit.saturating_sub(self.waited).min(in_run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outage_has_the_limit_and_all_of_a_run_ten_times_that() {
        let limit = Duration::from_secs(20);
        let mut patience = HostPatience::new(limit);
        for _ in 0..10 {
            assert_eq!(patience.left(), limit);
            patience.spend(Duration::from_secs(18));
            assert_eq!(patience.left(), Duration::from_secs(2));
            patience.renew();
        }
        assert_eq!(patience.left(), limit, "20 of 200 seconds are left");
        patience.spend(Duration::from_secs(15));
        patience.renew();
        assert_eq!(patience.left(), Duration::from_secs(5));
    }
}
