//! Decides from recent answers whether a probe is worth its request. Pure.
//!
//! An empty mirror answers every probe with "no". Where a wrong guess costs little more than the probe, only one in
//! `ASK_EVERY` is sent after `SURE_AFTER` answers of "no" in a row, and every one again after the first "yes".

/// After this many answers of "no" in a row the next is assumed.
const SURE_AFTER: u32 = 12;
/// One probe in this many is sent nevertheless.
const ASK_EVERY: u32 = 16;

/// The number of answers of "no" in a row, assumed ones included.
#[derive(Debug, Default)]
pub(crate) struct ProbeHeuristic(u32);

impl ProbeHeuristic {
    /// Starts by assuming "no" if `sure`.
    pub(super) fn new(sure: bool) -> Self {
        Self(if sure { SURE_AFTER } else { 0 })
    }

    /// Whether to send the probe. One that is not sent counts as another "no".
    pub(crate) fn should_ask(&mut self) -> bool {
        if self.0 < SURE_AFTER {
            return true;
        }
        let noes = self.0;
        self.0 = noes.wrapping_add(1).max(SURE_AFTER);
        noes.is_multiple_of(ASK_EVERY)
    }

    /// Records the answer of a probe.
    pub(crate) fn record(&mut self, yes: bool) {
        if yes {
            self.0 = 0;
        } else if self.0 < SURE_AFTER {
            self.0 += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_until_it_is_sure_and_again_after_a_yes() {
        let mut heuristic = ProbeHeuristic::default();
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
