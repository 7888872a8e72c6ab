//! Whether a question is worth asking, by how it was answered lately.
//!
//! An empty mirror says "no" to everything. Where a wrong guess costs little more than the question, it is asked only now
//! and then once it has been answered "no" for a while, and always again after the first "yes".

use std::sync::atomic::{AtomicU32, Ordering};

/// So many times "no" in a row, and the answer is taken for granted.
const SURE_AFTER: u32 = 12;
/// One in so many is asked all the same.
const ASK_EVERY: u32 = 16;

/// How often in a row a question was answered "no", counting those that were not asked.
#[derive(Debug, Default)]
pub(super) struct Hunch(AtomicU32);

impl Hunch {
    /// One that is sure of "no" from the beginning, or not.
    pub(super) fn new(sure: bool) -> Self {
        Self(AtomicU32::new(if sure { SURE_AFTER } else { 0 }))
    }

    /// Whether to ask. Not to ask counts as another "no".
    pub(super) fn asks(&self) -> bool {
        let noes = self.0.load(Ordering::Relaxed);
        if noes < SURE_AFTER {
            return true;
        }
        let noes = self.0.fetch_add(1, Ordering::Relaxed);
        noes.is_multiple_of(ASK_EVERY)
    }

    /// It was asked, and this was the answer.
    pub(super) fn learn(&self, yes: bool) {
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
        let hunch = Hunch::default();
        for _ in 0..SURE_AFTER {
            assert!(hunch.asks());
            hunch.learn(false);
        }
        let asked = (0..160).filter(|_| hunch.asks()).count();
        assert_eq!(asked, 10, "one in sixteen is asked to see whether it still holds");
        hunch.learn(true);
        assert!((0..SURE_AFTER).all(|_| {
            let asks = hunch.asks();
            hunch.learn(false);
            asks
        }));
    }
}
