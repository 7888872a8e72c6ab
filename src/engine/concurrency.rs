//! Limits the number of requests that one mirror has in flight.
//!
//! Questions (HEADs, sessions, manifests, small blobs) and bodies have a limiter each, so that a question never waits
//! behind a layer. The round trip bounds questions, the link bounds bodies. Both limits start low and grow while growth
//! helps. Overload (429, 503, connections that break or stall) halves them: additive increase, multiplicative decrease,
//! as in TCP
//! ([Chiu and Jain, 1989](https://doi.org/10.1016/0169-7552(89)90019-6)).

use crate::sync::Mutex;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};

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

/// The limiters of one mirror.
#[derive(Debug)]
pub(super) struct ConcurrencyLimiter {
    questions: Limiter<ByDelay>,
    bodies: Limiter<ByRate>,
}

/// The highest limits of one mirror.
#[derive(Debug, Clone, Copy)]
pub(super) struct MaxConcurrency {
    pub(super) questions: usize,
    pub(super) bodies: usize,
}

impl ConcurrencyLimiter {
    pub(super) fn new(max: MaxConcurrency) -> Self {
        let now = Instant::now();
        Self {
            questions: Limiter::new(ByDelay::new(max.questions)),
            bodies: Limiter::new(ByRate::new(max.bodies, now)),
        }
    }

    /// A permit for a question, held until the answer is there.
    pub(super) async fn question(&self) -> Option<Permit<'_, ByDelay>> {
        self.questions.permit().await
    }

    /// A permit for a body, if one is free.
    pub(super) fn spare_body(&self) -> Option<Permit<'_, ByRate>> {
        self.bodies.spare()
    }

    /// Sets the round trip measured while connecting. A far mirror starts with many questions in flight: growing to
    /// that number would take longer than all the questions.
    pub(super) fn expect(&self, round_trip: Duration) {
        self.questions.steer(|control| {
            control.best = Some(round_trip);
            if round_trip >= FAR && control.limit.last_cut.is_none() {
                control.limit.grow(ByDelay::START_FAR - control.limit.now);
            }
        });
    }

    /// A permit for a body.
    pub(super) async fn body(&self) -> Option<Permit<'_, ByRate>> {
        self.bodies.permit().await
    }

    /// Body bytes went out.
    pub(super) fn sent(&self, bytes: u64) {
        self.bodies.with(|control| control.sent += bytes);
    }

    /// Halves both limits: the mirror is overloaded.
    pub(super) fn overloaded(&self) {
        let now = Instant::now();
        self.questions.steer(|control| control.limit.cut(now));
        self.bodies.steer(|control| {
            control.limit.cut(now);
            control.best = 0.0;
        });
    }

    /// Whether the round trip is long.
    pub(super) fn is_far(&self) -> bool {
        self.questions.with(|control| control.best).is_some_and(|best| best >= FAR)
    }
}

/// Decides a limit. Pure: the caller gives the time.
pub(super) trait Control {
    /// The limit now.
    fn limit(&mut self) -> &mut Limit;
    /// A request has ended that took this long; `full` says whether all places were taken.
    fn ended(&mut self, took: Duration, full: bool, now: Instant);
}

/// A number of requests between one and a bound.
#[derive(Debug)]
pub(super) struct Limit {
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

/// Grows while answers come about as fast as the fastest: by one for each until the first cut, then by one for each round.
#[derive(Debug)]
pub(super) struct ByDelay {
    limit: Limit,
    best: Option<Duration>,
}

impl ByDelay {
    const START: usize = 32;
    const START_FAR: f64 = 128.0;

    fn new(most: usize) -> Self {
        Self { limit: Limit::new(Self::START, most), best: None }
    }
}

impl Control for ByDelay {
    fn limit(&mut self) -> &mut Limit {
        &mut self.limit
    }

    fn ended(&mut self, took: Duration, full: bool, _now: Instant) {
        let best = self.best.map_or(took, |best| best.min(took));
        self.best = Some(best);
        if full && took <= best * SLOWER + PATIENCE {
            let step = if self.limit.last_cut.is_none() { 1.0 } else { 1.0 / self.limit.now };
            self.limit.grow(step);
        }
    }
}

/// Grows while more bodies at once bring more bytes a second.
#[derive(Debug)]
pub(super) struct ByRate {
    limit: Limit,
    sent: u64,
    since: Instant,
    /// The best rate seen, in bytes a second.
    best: f64,
}

impl ByRate {
    const START: usize = 16;
    const STEP: f64 = 2.0;

    fn new(most: usize, now: Instant) -> Self {
        Self { limit: Limit::new(Self::START, most), sent: 0, since: now, best: 0.0 }
    }
}

impl Control for ByRate {
    fn limit(&mut self) -> &mut Limit {
        &mut self.limit
    }

    fn ended(&mut self, _took: Duration, full: bool, now: Instant) {
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

/// A semaphore whose size a [`Control`] sets.
#[derive(Debug)]
struct Limiter<C> {
    places: Semaphore,
    control: Mutex<(C, Places)>,
}

/// How many permits exist, and how many of them are forgotten when they are returned.
#[derive(Debug)]
struct Places {
    given: usize,
    owed: usize,
}

/// One request in flight.
#[derive(Debug)]
pub(super) struct Permit<'a, C: Control> {
    place: Option<SemaphorePermit<'a>>,
    limiter: &'a Limiter<C>,
    since: Option<Instant>,
}

impl<C: Control> Permit<'_, C> {
    /// Nothing was asked: how long it was held says nothing of the mirror.
    pub(super) fn unused(mut self) {
        self.since = None;
    }
}

impl<C: Control> Limiter<C> {
    fn new(mut control: C) -> Self {
        let given = control.limit().get();
        let control = Mutex::new((control, Places { given, owed: 0 }));
        Self { places: Semaphore::new(given), control }
    }

    async fn permit(&self) -> Option<Permit<'_, C>> {
        let place = self.places.acquire().await.ok()?;
        Some(Permit { place: Some(place), limiter: self, since: Some(Instant::now()) })
    }

    fn spare(&self) -> Option<Permit<'_, C>> {
        let place = self.places.try_acquire().ok()?;
        Some(Permit { place: Some(place), limiter: self, since: Some(Instant::now()) })
    }

    fn with<T>(&self, act: impl FnOnce(&mut C) -> T) -> T {
        act(&mut self.control.lock().0)
    }

    /// Lets the control decide, and makes the semaphore follow.
    fn steer(&self, act: impl FnOnce(&mut C)) {
        let mut guard = self.control.lock();
        let (control, places) = &mut *guard;
        act(control);
        let wanted = control.limit().get();
        if wanted > places.given {
            let more = wanted - places.given;
            let waived = more.min(places.owed);
            places.owed -= waived;
            self.places.add_permits(more - waived);
        } else {
            let fewer = places.given - wanted;
            places.owed += fewer - self.places.forget_permits(fewer);
        }
        places.given = wanted;
    }

    /// Whether a place that comes free is to go.
    fn pays(&self) -> bool {
        let places = &mut self.control.lock().1;
        let pays = places.owed > 0;
        places.owed -= usize::from(pays);
        pays
    }
}

impl<C: Control> Drop for Permit<'_, C> {
    fn drop(&mut self) {
        let full = self.limiter.places.available_permits() == 0;
        if let Some(since) = self.since {
            let now = Instant::now();
            self.limiter.steer(|control| control.ended(now.saturating_duration_since(since), full, now));
        }
        if let Some(place) = self.place.take()
            && self.limiter.pays()
        {
            place.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn questions_grow_while_answers_are_quick_and_are_cut_on_complaint() {
        let start = Instant::now();
        let mut limiter = ByDelay::new(256);
        for _ in 0..500 {
            limiter.ended(80 * MILLI, true, start);
        }
        assert_eq!(limiter.limit.get(), 256, "a long way alone is no reason to hold back");
        limiter.limit.cut(start);
        limiter.limit.cut(start + 10 * MILLI);
        assert_eq!(limiter.limit.get(), 128, "complaints that come together are one");
        limiter.ended(80 * MILLI, true, start);
        assert_eq!(limiter.limit.get(), 128, "after a complaint it grows by one for a whole round");
        (0..200).for_each(|_| limiter.ended(400 * MILLI, true, start));
        assert_eq!(limiter.limit.get(), 128, "late answers are a queue: more would only wait in it");
    }

    #[test]
    fn bodies_grow_while_that_brings_more_bytes() {
        let start = Instant::now();
        let mut limiter = ByRate::new(32, start);
        for second in 1..=4_u64 {
            limiter.sent = 10_000_000 * second;
            limiter.ended(MILLI, true, start + Duration::from_secs(second));
        }
        assert_eq!(limiter.limit.get(), 24);
        for second in 5..=8 {
            limiter.sent = 40_000_000;
            limiter.ended(MILLI, true, start + Duration::from_secs(second));
        }
        assert_eq!(limiter.limit.get(), 24, "the link is full");
    }

    #[tokio::test]
    async fn a_limit_shrinks_as_its_permits_come_back() {
        let limiter = Limiter::new(ByRate::new(4, Instant::now()));
        let held =
            [limiter.permit().await, limiter.permit().await, limiter.permit().await, limiter.permit().await];
        limiter.steer(|control| control.limit.cut(Instant::now()));
        assert_eq!(limiter.places.available_permits(), 0);
        drop(held);
        assert_eq!(limiter.places.available_permits(), 2);
        limiter.steer(|control| control.limit.grow(1.0));
        assert_eq!(limiter.places.available_permits(), 3);
    }
}
