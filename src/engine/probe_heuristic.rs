//! Decides from recent answers whether a probe is worth its request.
//!
//! An empty mirror answers every probe with "no". Where a wrong guess costs little more than the probe, only one in
//! `ASK_EVERY` is sent after `SURE_AFTER` answers of "no" in a row, and every one again after the first "yes".

use std::sync::atomic::{AtomicU32, Ordering};

/// After this many answers of "no" in a row the next is assumed.
const SURE_AFTER: u32 = 12;
/// One probe in this many is sent all the same.
const ASK_EVERY: u32 = 16;

/// The number of answers of "no" in a row, assumed ones included.
#[derive(Debug, Default)]
pub(super) struct ProbeHeuristic(AtomicU32);

impl ProbeHeuristic {
    /// Starts by assuming "no" if `sure`.
    pub(super) fn new(sure: bool) -> Self {
        Self(AtomicU32::new(if sure { SURE_AFTER } else { 0 }))
    }

    /// Whether to send the probe. One that is not sent counts as another "no".
    pub(super) fn should_ask(&self) -> bool {
        let noes = self.0.load(Ordering::Relaxed);
        if noes < SURE_AFTER {
            return true;
        }
        let noes = self.0.fetch_add(1, Ordering::Relaxed);
        noes.is_multiple_of(ASK_EVERY)
    }

    /// Records the answer of a probe.
    pub(super) fn record(&self, yes: bool) {
        if yes {
            self.0.store(0, Ordering::Relaxed);
        } else if self.0.load(Ordering::Relaxed) < SURE_AFTER {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_until_it_is_sure_and_again_after_a_yes() {
        let heuristic = ProbeHeuristic::default();
        for _ in 0..SURE_AFTER {
            assert!(heuristic.should_ask());
            heuristic.record(false);
        }
        let asked = (0..160).filter(|_| heuristic.should_ask()).count();
        assert_eq!(asked, 10, "one in sixteen is asked to see whether it still holds");
        heuristic.record(true);
        assert!((0..SURE_AFTER).all(|_| {
            let asks = heuristic.should_ask();
            heuristic.record(false);
            asks
        }));
    }
}
