//! Which setting is tried next: halving instead of a grid. Pure.
//!
//! A rate grows with streams, and with the size of requests, up to a point and hardly beyond it. So what is looked for is the
//! least value with (almost) the best rate, and half of the values that are left fall away with each trial.

use std::collections::BTreeMap;

/// What has this part of the best rate is as good: noise is larger.
const AS_GOOD: f64 = 0.95;

/// What came of a trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Tried {
    /// Bytes a second.
    Rate(f64),
    /// This value is not taken, and no greater one.
    Refused,
}

/// Looks for the least of some values, which lie in ascending order, with almost the best rate.
#[derive(Debug)]
pub(super) struct Halving {
    values: Vec<u64>,
    rates: BTreeMap<usize, f64>,
    /// All values below this one are worse.
    low: usize,
    /// This value is as good as any that is left, once it was tried.
    high: usize,
}

impl Halving {
    /// Among these values.
    pub(super) fn new(mut values: Vec<u64>) -> Self {
        values.sort_unstable();
        values.dedup();
        let high = values.len().saturating_sub(1);
        Self { values, rates: BTreeMap::new(), low: 0, high }
    }

    /// The value to try next; none once it is settled.
    pub(super) fn next(&self) -> Option<u64> {
        let at = self.place()?;
        self.values.get(at).copied()
    }

    fn place(&self) -> Option<usize> {
        // The greatest one first: it says what can be had.
        if !self.rates.contains_key(&self.high) {
            return Some(self.high);
        }
        if self.low < self.high {
            return Some(self.low + (self.high - self.low) / 2);
        }
        // The greatest one may have been too many, and the rate may go on growing up to there.
        let above = self.high + 1;
        (above < self.values.len() && !self.rates.contains_key(&above)).then_some(above)
    }

    /// Takes in what came of the value that was to be tried.
    pub(super) fn learn(&mut self, tried: Tried) {
        let Some(at) = self.place() else { return };
        let rate = match tried {
            Tried::Rate(rate) => rate,
            Tried::Refused => {
                // Nothing of this size or above; what is left is below it.
                self.values.truncate(at);
                self.high = at.saturating_sub(1);
                self.low = self.low.min(self.high);
                return;
            }
        };
        self.rates.insert(at, rate);
        if at == self.high {
            return;
        }
        if at > self.high {
            if self.rates.get(&self.high).is_some_and(|below| *below < AS_GOOD * rate) {
                (self.low, self.high) = (at, at);
            }
            return;
        }
        if rate >= AS_GOOD * self.best() {
            self.high = at;
        } else {
            self.low = at + 1;
        }
    }

    /// The value that is as good as any, with its rate; none where all were refused.
    pub(super) fn settled(&self) -> Option<(u64, f64)> {
        let best = self.best();
        let as_good = self.rates.iter().find(|(_, rate)| **rate >= AS_GOOD * best)?;
        Some((*self.values.get(*as_good.0)?, *as_good.1))
    }

    fn best(&self) -> f64 {
        self.rates.values().copied().fold(0.0, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(values: &[u64], rate: impl Fn(u64) -> Tried) -> (Option<u64>, usize) {
        let mut search = Halving::new(values.to_vec());
        let mut trials = 0;
        while let Some(value) = search.next() {
            search.learn(rate(value));
            trials += 1;
            assert!(trials < 20, "it does not end");
        }
        (search.settled().map(|(value, _)| value), trials)
    }

    const STREAMS: [u64; 6] = [1, 2, 4, 8, 16, 32];

    #[test]
    fn the_least_value_that_is_as_good_is_found_in_few_trials() {
        for enough in STREAMS {
            let (found, trials) = search(&STREAMS, |n| Tried::Rate(n.min(enough) as f64));
            assert_eq!(found, Some(enough));
            assert!(trials <= 5, "{trials}");
        }
    }

    #[test]
    fn a_link_that_suffers_from_many_streams_gets_few() {
        let rates = BTreeMap::from([(1, 60.0), (2, 90.0), (4, 100.0), (8, 99.0), (16, 70.0), (32, 40.0)]);
        let (found, _) = search(&STREAMS, |n| Tried::Rate(rates[&n]));
        assert_eq!(found, Some(4));
        let rates = BTreeMap::from([(1, 60.0), (2, 90.0), (4, 100.0), (8, 120.0), (16, 140.0), (32, 40.0)]);
        let (found, _) = search(&STREAMS, |n| Tried::Rate(rates[&n]));
        assert_eq!(found, Some(16), "it is climbed on where the greatest one was too many");
    }

    #[test]
    fn what_is_refused_is_not_found() {
        let sizes = [1, 4, 16, 64];
        let upto = |most: u64| move |n: u64| if n > most { Tried::Refused } else { Tried::Rate(n as f64) };
        assert_eq!(search(&sizes, upto(4)).0, Some(4));
        assert_eq!(search(&sizes, upto(1)).0, Some(1));
        assert_eq!(search(&sizes, upto(0)), (None, 4));
        assert_eq!(search(&[], upto(9)), (None, 0));
    }
}
