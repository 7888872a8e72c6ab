//! Limits the number of requests that one mirror has in flight.
//!
//! Questions (HEADs, sessions, manifests, small blobs) and bodies have a limiter each, so that a question never waits
//! behind a layer. The round trip bounds questions, the link bounds bodies. Both limits start low and grow while growth
//! helps; overload halves them. A [`Controller`] decides; this file has the clock and the permits.

mod control;

use std::num::NonZeroUsize;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

pub(super) use self::control::{ByDelay, ByRate};
use self::control::{Controller, Observation};
use super::SMALL_BYTES;
use crate::clock::Instant;
use crate::engine::body::Buffering;
use crate::locks::Mutex;

/// The limiters of one mirror.
#[derive(Debug)]
pub(super) struct ConcurrencyLimiter {
    questions: Limiter<ByDelay>,
    bodies: Limiter<ByRate>,
    /// One permit for each KiB that small blobs hold.
    small: Semaphore,
    small_kibibytes: u32,
}

/// Bodies on their way to one mirror at the same time.
const MOST_BODIES: usize = 32;
/// Questions to one mirror at the same time.
const MOST_QUESTIONS: usize = 256;
/// Questions for each upload that `--threads` allows.
const QUESTIONS_PER_THREAD: usize = 4;

/// The highest limits of one mirror.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct MaxConcurrency {
    questions: usize,
    bodies: usize,
    /// What blobs that are sent as questions may hold of memory, in KiB.
    small_kibibytes: u32,
}

impl MaxConcurrency {
    /// Mirrors share the memory for bodies, down to one body for each mirror; of each share a quarter is for small blobs.
    pub(in crate::engine) fn new(memory_bytes: u64, mirrors: usize, threads: Option<NonZeroUsize>) -> Self {
        let share = memory_bytes / mirrors.max(1) as u64;
        let threads = threads.map(NonZeroUsize::get);
        let most = threads.unwrap_or(MOST_BODIES);
        let fit = (share - share / 4) / Self::buffering(memory_bytes, mirrors).bytes();
        let least = held_kibibytes(SMALL_BYTES);
        Self {
            questions: threads.map_or(MOST_QUESTIONS, |threads| threads * QUESTIONS_PER_THREAD),
            bodies: usize::try_from(fit).unwrap_or(most).clamp(1, most),
            small_kibibytes: u32::try_from(share / 4 / 1024).unwrap_or(u32::MAX >> 3).max(least),
        }
    }

    /// How large bodies hold their part of the memory.
    pub(in crate::engine) fn buffering(memory_bytes: u64, mirrors: usize) -> Buffering {
        Buffering::new(memory_bytes - memory_bytes / 4, mirrors)
    }
}

/// What a small blob on its way holds of memory: one copy waits while the other is written.
fn held_kibibytes(bytes: u64) -> u32 {
    u32::try_from((2 * bytes).div_ceil(1024)).unwrap_or(u32::MAX)
}

impl ConcurrencyLimiter {
    pub(super) fn new(max: MaxConcurrency) -> Self {
        let now = Instant::now();
        Self {
            questions: Limiter::new(ByDelay::new(max.questions)),
            bodies: Limiter::new(ByRate::new(max.bodies, now)),
            small: Semaphore::new(max.small_kibibytes as usize),
            small_kibibytes: max.small_kibibytes,
        }
    }

    /// A permit for a question, held until the answer is there.
    pub(super) async fn question(&self) -> Option<Permit<'_, ByDelay>> {
        self.questions.permit().await
    }

    /// A permit for a body.
    pub(super) async fn body(&self) -> Option<Permit<'_, ByRate>> {
        self.bodies.permit().await
    }

    /// Memory for a blob that is sent as a question.
    pub(super) async fn small(&self, bytes: u64) -> Option<SemaphorePermit<'_>> {
        let kibibytes = held_kibibytes(bytes).min(self.small_kibibytes);
        self.small.acquire_many(kibibytes).await.ok()
    }

    /// A permit for a body, if one is free.
    pub(super) fn spare_body(&self) -> Option<Permit<'_, ByRate>> {
        self.bodies.spare()
    }

    /// The round trip measured while connecting.
    pub(super) fn connected(&self, round_trip: Duration) {
        self.questions.observe(Observation::Connected(round_trip));
    }

    /// Body bytes went out.
    pub(super) fn sent(&self, bytes: u64) {
        self.bodies.observe(Observation::Sent(bytes));
    }

    /// Halves both limits: the mirror is overloaded.
    pub(super) fn overloaded(&self) {
        self.questions.observe(Observation::Overloaded);
        self.bodies.observe(Observation::Overloaded);
    }

    /// Whether the round trip is long.
    pub(super) fn is_far(&self) -> bool {
        self.questions.control.lock().0.is_far()
    }
}

/// A semaphore whose size a [`Controller`] sets.
#[derive(Debug)]
struct Limiter<C> {
    places: Semaphore,
    control: Mutex<(C, PermitCounts)>,
}

/// How many permits exist, and how many of them are forgotten when they are returned.
#[derive(Debug)]
struct PermitCounts {
    given: usize,
    owed: usize,
}

/// One request in flight.
#[derive(Debug)]
pub(super) struct Permit<'a, C: Controller> {
    place: Option<SemaphorePermit<'a>>,
    limiter: &'a Limiter<C>,
    since: Option<Instant>,
}

impl<C: Controller> Permit<'_, C> {
    /// Nothing was asked: how long it was held says nothing of the mirror.
    pub(super) fn unused(mut self) {
        self.since = None;
    }
}

impl<C: Controller> Limiter<C> {
    fn new(control: C) -> Self {
        let given = control.limit();
        let control = Mutex::new((control, PermitCounts { given, owed: 0 }));
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

    /// Lets the controller decide, and makes the semaphore follow.
    fn observe(&self, observation: Observation) {
        let mut guard = self.control.lock();
        let (control, places) = &mut *guard;
        control.observe(observation, Instant::now());
        let wanted = control.limit();
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

    /// Whether a permit that is returned is to be forgotten.
    fn pays(&self) -> bool {
        let places = &mut self.control.lock().1;
        let pays = places.owed > 0;
        places.owed -= usize::from(pays);
        pays
    }
}

impl<C: Controller> Drop for Permit<'_, C> {
    fn drop(&mut self) {
        let full = self.limiter.places.available_permits() == 0;
        if let Some(since) = self.since {
            self.limiter.observe(Observation::Ended { took: since.elapsed(), full });
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

    /// The limits that it is told, one for each observation.
    struct Scripted(Vec<usize>);

    impl Controller for Scripted {
        fn limit(&self) -> usize {
            *self.0.last().unwrap()
        }

        fn observe(&mut self, _observation: Observation, _now: Instant) {
            self.0.pop();
        }
    }

    #[test]
    fn bodies_of_many_mirrors_share_the_memory_until_each_has_one() {
        const MEMORY: u64 = 32 << 20;
        let max = |mirrors| MaxConcurrency::new(MEMORY, mirrors, None);
        assert_eq!([1, 4, 10, 1000].map(|mirrors| max(mirrors).bodies), [32, 8, 3, 1]);
        assert_eq!([1, 4, 10, 1000].map(|mirrors| max(mirrors).small_kibibytes), [8192, 2048, 819, 128]);
        let narrow = MaxConcurrency::new(MEMORY, 1, NonZeroUsize::new(2));
        assert_eq!((narrow.bodies, narrow.questions), (2, 8));
        for mirrors in 1..=64 {
            let (max, body) = (max(mirrors), MaxConcurrency::buffering(MEMORY, mirrors).bytes());
            let each = max.bodies as u64 * body + u64::from(max.small_kibibytes) * 1024;
            assert!(each * mirrors as u64 <= MEMORY, "{mirrors} mirrors");
        }
    }

    #[tokio::test]
    async fn a_limit_shrinks_as_its_permits_come_back() {
        let limiter = Limiter::new(Scripted(vec![3, 2, 4]));
        let held =
            [limiter.permit().await, limiter.permit().await, limiter.permit().await, limiter.permit().await];
        limiter.observe(Observation::Overloaded);
        assert_eq!(limiter.places.available_permits(), 0);
        held.into_iter().flatten().for_each(Permit::unused);
        assert_eq!(limiter.places.available_permits(), 2);
        limiter.observe(Observation::Overloaded);
        assert_eq!(limiter.places.available_permits(), 3);
    }
}
