//! How many requests of one kind a mirror gets at once: additive increase, multiplicative decrease, as in TCP
//! ([Chiu and Jain, 1989](https://doi.org/10.1016/0169-7552(89)90019-6)).
//!
//! Pure: a [`Controller`] turns observations and the times at which they were made into a limit. It has no clock, no lock
//! and no semaphore; those are the limiter's.

use std::time::Duration;

use crate::clock::Instant;

/// A mirror is far when a question takes this long: then a round trip saved is worth more than a request.
const FAR: Duration = Duration::from_millis(20);
/// A question that takes this many times the quickest answer plus `PATIENCE` waited in a queue, and the limit stops
/// growing. A small blob on a new connection takes three round trips.
const SLOWER: u32 = 4;
const PATIENCE: Duration = Duration::from_millis(5);
/// Signs of overload closer together than this count as one.
const CUT_APART: Duration = Duration::from_millis(250);
/// The rate of bodies is measured over this time.
const RATE_OVER: Duration = Duration::from_secs(1);

/// An observation of a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Observation {
    /// Connecting took one round trip of this length.
    Connected(Duration),
    /// Bytes of bodies went out.
    Sent(u64),
    /// A request has ended.
    Ended {
        /// How long it took.
        took: Duration,
        /// Whether the limit was used up meanwhile.
        full: bool,
    },
    /// The mirror is overloaded: 429, 503, a connection that broke or stalled.
    Overloaded,
}

/// Sets a limit from observations and their times alone.
pub(crate) trait Controller {
    /// The number of requests that may be in flight.
    fn limit(&self) -> usize;
    /// Takes in an observation at this time.
    fn observe(&mut self, observation: Observation, now: Instant);
}

/// A number of requests between one and a bound.
#[derive(Debug)]
struct Limit {
    now: f64,
    most: f64,
    last_cut: Option<Instant>,
}

impl Limit {
    #[allow(clippy::cast_precision_loss)]
    fn new(start: usize, most: usize) -> Self {
        let most = most.max(1) as f64;
        Self { now: (start as f64).min(most), most, last_cut: None }
    }

    fn grow(&mut self, by: f64) {
        self.now = (self.now + by).clamp(1.0, self.most);
    }

    fn cut(&mut self, now: Instant) {
        if self.last_cut.is_none_or(|last| now.saturating_duration_since(last) >= CUT_APART) {
            self.last_cut = Some(now);
            self.now = (self.now / 2.0).max(1.0);
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn get(&self) -> usize {
        self.now as usize
    }
}

/// Grows while answers are about as fast as the fastest: by one for each answer until the first cut, then by one for each round.
#[derive(Debug)]
pub(crate) struct ByDelay {
    limit: Limit,
    quickest: Option<Duration>,
}

impl ByDelay {
    const START: usize = 32;
    const START_FAR: f64 = 128.0;

    pub(crate) fn new(most: usize) -> Self {
        Self { limit: Limit::new(Self::START, most), quickest: None }
    }

    /// Whether the round trip is long.
    pub(crate) fn is_far(&self) -> bool {
        self.quickest.is_some_and(|quickest| quickest >= FAR)
    }

    /// A far mirror starts with many questions in flight: growing to that number would take longer than all the questions.
    fn connected(&mut self, round_trip: Duration) {
        self.quickest = Some(round_trip);
        if round_trip >= FAR && self.limit.last_cut.is_none() {
            self.limit.grow(Self::START_FAR - self.limit.now);
        }
    }

    fn ended(&mut self, took: Duration, full: bool) {
        let quickest = self.quickest.map_or(took, |quickest| quickest.min(took));
        self.quickest = Some(quickest);
        if full && took <= quickest * SLOWER + PATIENCE {
            let step = if self.limit.last_cut.is_none() { 1.0 } else { 1.0 / self.limit.now };
            self.limit.grow(step);
        }
    }
}

impl Controller for ByDelay {
    fn limit(&self) -> usize {
        self.limit.get()
    }

    fn observe(&mut self, observation: Observation, now: Instant) {
        match observation {
            Observation::Connected(round_trip) => self.connected(round_trip),
            Observation::Sent(_) => {}
            Observation::Ended { took, full } => self.ended(took, full),
            Observation::Overloaded => self.limit.cut(now),
        }
    }
}

/// Grows while more bodies at once bring more bytes a second.
#[derive(Debug)]
pub(crate) struct ByRate {
    limit: Limit,
    sent: u64,
    since: Instant,
    /// The best rate seen, in bytes a second.
    best: f64,
}

impl ByRate {
    const START: usize = 16;
    const STEP: f64 = 2.0;

    pub(crate) fn new(most: usize, now: Instant) -> Self {
        Self { limit: Limit::new(Self::START, most), sent: 0, since: now, best: 0.0 }
    }

    fn ended(&mut self, full: bool, now: Instant) {
        let span = now.saturating_duration_since(self.since);
        if span < RATE_OVER {
            return;
        }
        #[allow(clippy::cast_precision_loss)]
        let rate = self.sent as f64 / span.as_secs_f64();
        (self.sent, self.since) = (0, now);
        if rate > self.best * 1.05 {
            self.best = rate;
            if full {
                self.limit.grow(Self::STEP);
            }
        } else if full && rate < self.best * 0.9 && self.limit.now > Self::START as f64 {
            // More at once brought less.
            self.limit.grow(-1.0);
        }
    }
}

impl Controller for ByRate {
    fn limit(&self) -> usize {
        self.limit.get()
    }

    fn observe(&mut self, observation: Observation, now: Instant) {
        match observation {
            Observation::Connected(_) => {}
            Observation::Sent(bytes) => self.sent += bytes,
            Observation::Ended { full, .. } => self.ended(full, now),
            Observation::Overloaded => {
                self.limit.cut(now);
                self.best = 0.0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Observation::{Connected, Ended, Overloaded, Sent};
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn ended(took: Duration) -> Observation {
        Ended { took, full: true }
    }

    #[test]
    fn questions_grow_while_answers_are_quick_and_are_halved_on_overload() {
        let start = Instant::now();
        let mut questions = ByDelay::new(256);
        (0..500).for_each(|_| questions.observe(ended(80 * MILLI), start));
        assert_eq!(questions.limit(), 256, "a long way alone is no reason to hold back");
        questions.observe(Overloaded, start);
        questions.observe(Overloaded, start + 10 * MILLI);
        assert_eq!(questions.limit(), 128, "signs of overload that come together are one");
        questions.observe(ended(80 * MILLI), start);
        assert_eq!(questions.limit(), 128, "after a cut it grows by one for a whole round");
        (0..128).for_each(|_| questions.observe(ended(80 * MILLI), start));
        assert_eq!(questions.limit(), 129);
        (0..200).for_each(|_| questions.observe(ended(400 * MILLI), start));
        assert_eq!(questions.limit(), 129, "late answers wait in a queue: more would only wait with them");
    }

    #[test]
    fn questions_that_do_not_use_the_limit_do_not_raise_it() {
        let mut questions = ByDelay::new(256);
        (0..50).for_each(|_| questions.observe(Ended { took: MILLI, full: false }, Instant::now()));
        assert_eq!(questions.limit(), ByDelay::START);
    }

    #[test]
    fn a_far_mirror_starts_with_many_questions_unless_it_was_overloaded_before() {
        let start = Instant::now();
        let connected = |before: &[Observation], round_trip| {
            let mut questions = ByDelay::new(256);
            for seen in before {
                questions.observe(*seen, start);
            }
            questions.observe(Connected(round_trip), start);
            (questions.limit(), questions.is_far())
        };
        assert_eq!(connected(&[], MILLI), (32, false));
        assert_eq!(connected(&[], 50 * MILLI), (128, true));
        assert_eq!(connected(&[Overloaded], 50 * MILLI), (16, true));
    }

    #[test]
    fn bodies_grow_while_that_brings_more_bytes() {
        let start = Instant::now();
        let mut bodies = ByRate::new(32, start);
        for second in 1..=4 {
            bodies.observe(Sent(10_000_000 * u64::from(second)), start);
            bodies.observe(ended(MILLI), start + second * SECOND);
        }
        assert_eq!(bodies.limit(), 24);
        for second in 5..=8 {
            bodies.observe(Sent(40_000_000), start);
            bodies.observe(ended(MILLI), start + second * SECOND);
        }
        assert_eq!(bodies.limit(), 24, "the link is full");
        for second in 9..=10 {
            bodies.observe(Sent(20_000_000), start);
            bodies.observe(ended(MILLI), start + second * SECOND);
        }
        assert_eq!(bodies.limit(), 22, "more at once brought less");
        bodies.observe(Overloaded, start + 11 * SECOND);
        assert_eq!(bodies.limit(), 11);
    }

    #[test]
    fn a_limit_stays_between_one_and_its_bound() {
        let start = Instant::now();
        let mut bodies = ByRate::new(3, start);
        assert_eq!(bodies.limit(), 3);
        (0..9).for_each(|second| bodies.observe(Overloaded, start + second * SECOND));
        assert_eq!(bodies.limit(), 1);
    }
}
