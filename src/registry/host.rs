//! What all requests to one host share: the pause it asked for, its circuit breaker, how many retries are left, its
//! quirks.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OnceCell, OwnedMutexGuard};
use url::Url;

use crate::clock::Instant;
use crate::locks::{Mutex, MutexGuard};
use crate::registry::breaker::Breaker;
use crate::registry::cause::Cause;
use crate::registry::overload::Overload;
use crate::registry::quirks::Quirks;
use crate::registry::server_errors::{LastingFailure, Manner};

/// Retries there are to begin with, and at most.
const BUDGET: (f64, f64) = (100.0, 200.0);
/// Retries that each new request adds: an overloaded registry sees at most half as many requests again.
const BUDGET_PER_REQUEST: f64 = 0.5;
/// Other hosts (token servers, object stores) whose state is kept; those beyond share one.
const MAX_OTHER_HOSTS: usize = 64;

/// How one kind of requests fares.
#[derive(Debug)]
struct Manners {
    lasting: Mutex<LastingFailure>,
    overload: Mutex<Overload>,
    /// Held by the one that asks while the others wait.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Manners {
    fn new(patience: Duration) -> Self {
        Self {
            lasting: Mutex::new(LastingFailure::new(patience)),
            overload: Mutex::default(),
            turn: Arc::default(),
        }
    }
}

/// A host that wants to be left alone until then, and how it said so.
#[derive(Debug)]
struct Absence {
    until: Instant,
    cause: Cause,
}

/// The state of one host, whatever mirrors of a run are on it.
#[derive(Debug)]
pub(super) struct HostState {
    patience: Duration,
    /// How many requests there were, to tell them apart.
    requests: AtomicU64,
    paused_until: Mutex<Option<Instant>>,
    /// It asked to be left alone for longer than there was patience.
    absence: Mutex<Option<Absence>>,
    breaker: Mutex<Breaker>,
    /// Held by the one that looks whether the host is back.
    probe: tokio::sync::Mutex<()>,
    questions: Manners,
    writes: Manners,
    budget: Mutex<f64>,
    warned: Mutex<HashSet<String>>,
    quirks: Mutex<Quirks>,
    /// The quirks that are kept for later runs.
    remembered: Mutex<Quirks>,
    recalled: OnceCell<()>,
    first_answer_after: OnceLock<Duration>,
    greeting: OnceLock<Greeting>,
}

/// What the first answer of a host says of it beside the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// What its clock showed.
    pub date: Option<Timestamp>,
    /// What ours showed then.
    pub at: Timestamp,
    /// Its certificate (DER), over TLS.
    pub certificate: Option<Vec<u8>>,
    /// What it says of itself: program and version, or nothing.
    pub server: String,
}

impl HostState {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            requests: AtomicU64::new(0),
            paused_until: Mutex::default(),
            absence: Mutex::default(),
            breaker: Mutex::new(Breaker::new(patience)),
            probe: tokio::sync::Mutex::default(),
            questions: Manners::new(patience),
            writes: Manners::new(patience),
            budget: Mutex::new(BUDGET.0),
            warned: Mutex::default(),
            quirks: Mutex::default(),
            remembered: Mutex::default(),
            recalled: OnceCell::new(),
            first_answer_after: OnceLock::new(),
            greeting: OnceLock::new(),
        }
    }

    /// Waits until this host may be talked to: as long as it asked for, and through an outage, whose end `look` finds.
    /// Of all who wait one looks; should it be cancelled, the next one does. An error is why the host was given up.
    pub(super) async fn ready<F>(&self, look: impl Fn() -> F) -> Result<(), Cause>
    where
        F: Future<Output = Result<(), Cause>>,
    {
        loop {
            self.absent(Instant::now()).map_or(Ok(()), Err)?;
            if let Some(left) = self.pause_left(Instant::now()) {
                tokio::time::sleep(left).await;
            } else if self.breaker().is_open()? {
                let _probe = self.probe.lock().await;
                if self.breaker().is_open()? {
                    look().await?;
                }
            } else {
                return Ok(());
            }
        }
    }

    /// The number of a request.
    pub(super) fn number(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// Whether nobody waits for it any longer.
    pub(super) fn is_given_up(&self) -> bool {
        self.breaker().given_up().is_some()
    }

    /// Why it is given up, if that was less than `rest` ago; what was given up earlier is tried again, with new patience.
    pub(super) fn given_up(&self, now: Instant, rest: Duration) -> Option<Cause> {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= rest;
        for manners in [&self.questions, &self.writes] {
            let mut lasting = manners.lasting.lock();
            if lasting.given_up().is_some_and(is_over) {
                *lasting = LastingFailure::new(self.patience);
            }
            drop(lasting);
            let mut overload = manners.overload.lock();
            if overload.given_up().is_some_and(is_over) {
                overload.ended();
            }
        }
        let mut breaker = self.breaker();
        let (cause, since) = breaker.given_up()?;
        if is_over(since) {
            *breaker = Breaker::new(self.patience);
            return None;
        }
        Some(cause)
    }

    /// The circuit breaker. Never held over a wait.
    pub(super) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock()
    }

    fn manners(&self, manner: Manner) -> &Manners {
        match manner {
            Manner::Question => &self.questions,
            Manner::Write => &self.writes,
        }
    }

    /// Whether it fails whatever is asked of it in this manner. Never held over a wait.
    pub(super) fn lasting(&self, manner: Manner) -> MutexGuard<'_, LastingFailure> {
        self.manners(manner).lasting.lock()
    }

    /// Whether it says "not now" to what is asked of it in this manner. Never held over a wait.
    pub(super) fn overload(&self, manner: Manner) -> MutexGuard<'_, Overload> {
        self.manners(manner).overload.lock()
    }

    /// The turn to ask in this manner, while all who want to have to wait for one.
    pub(super) async fn turn(&self, manner: Manner) -> OwnedMutexGuard<()> {
        Arc::clone(&self.manners(manner).turn).lock_owned().await
    }

    /// What the host was seen to do. Never held over a wait.
    pub(super) fn quirks(&self) -> MutexGuard<'_, Quirks> {
        self.quirks.lock()
    }

    /// Waits until somebody has asked what earlier runs have learned. The first one does, and the next one where it is cancelled.
    pub(super) async fn recall_once(&self, recall: impl Future<Output = ()>) {
        self.recalled.get_or_init(|| recall).await;
    }

    /// Notes that these quirks are kept for later runs; whether that is news.
    pub(super) fn remembered(&self, quirks: &Quirks) -> bool {
        let mut remembered = self.remembered.lock();
        let is_news = quirks.differ_from(&remembered);
        if is_news {
            remembered.clone_from(quirks);
        }
        is_news
    }

    /// How long this host is still to be left alone.
    pub(super) fn pause_left(&self, now: Instant) -> Option<Duration> {
        let until = (*self.paused_until.lock())?;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Nobody talks to this host for `delay` from `now` on.
    pub(super) fn pause(&self, now: Instant, delay: Duration) {
        let until = now + delay;
        let mut paused = self.paused_until.lock();
        *paused = Some(paused.map_or(until, |earlier| earlier.max(until)));
    }

    /// The same because the host asks for it, which is booked as waiting. False, and no pause, where there is not as much
    /// patience left.
    pub(super) fn pause_as_asked(&self, now: Instant, asked: Duration) -> bool {
        let longer = asked.saturating_sub(self.pause_left(now).unwrap_or_default());
        let mut breaker = self.breaker();
        let granted = longer <= breaker.left();
        if granted {
            breaker.book(longer);
            self.pause(now, asked);
        }
        granted
    }

    /// Nobody asks it before that time, unless there is patience for what is left of it.
    pub(super) fn leave_alone(&self, now: Instant, asked: Duration, cause: Cause) {
        *self.absence.lock() = Some(Absence { until: now + asked, cause });
    }

    /// Why it is to be left alone for longer than there is patience; where there is enough by now, that is a pause.
    fn absent(&self, now: Instant) -> Option<Cause> {
        let mut absence = self.absence.lock();
        let Absence { until, cause } = absence.as_ref()?;
        let left = until.saturating_duration_since(now);
        if left.is_zero() || self.pause_as_asked(now, left) {
            *absence = None;
            return None;
        }
        Some(cause.clone())
    }

    /// Pays into the budget of retries for one request.
    pub(super) fn pay_in(&self) {
        let mut budget = self.budget.lock();
        *budget = (*budget + BUDGET_PER_REQUEST).min(BUDGET.1);
    }

    /// Takes one retry from the budget, if there is one.
    pub(super) fn take_retry(&self) -> bool {
        let mut budget = self.budget.lock();
        let enough = *budget >= 1.0;
        if enough {
            *budget -= 1.0;
        }
        enough
    }

    /// The host answered something, so long after it was asked.
    pub(super) fn answered(&self, after: Duration) {
        self.first_answer_after.get_or_init(|| after);
    }

    /// What the first answer said.
    pub(super) fn greeting(&self, first: impl FnOnce() -> Greeting) -> &Greeting {
        self.greeting.get_or_init(first)
    }

    /// The same, if there was an answer.
    pub(super) fn greeted(&self) -> Option<Greeting> {
        self.greeting.get().cloned()
    }

    /// How long the first answer took, whatever it was, from the opening of its connection; no time if there was none.
    pub(super) fn first_answer_after(&self) -> Duration {
        self.first_answer_after.get().copied().unwrap_or_default()
    }

    /// Whether a text was not yet shown. Bounded, as the texts are the server's.
    pub(super) fn is_news(&self, text: &str) -> bool {
        let mut warned = self.warned.lock();
        warned.len() < 64 && warned.insert(text.to_owned())
    }
}

/// Hosts that a registry leads to.
#[derive(Debug)]
pub(super) struct OtherHosts {
    patience: Duration,
    /// By origin.
    states: Mutex<HashMap<String, Arc<HostState>>>,
}

impl OtherHosts {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, states: Mutex::default() }
    }

    /// The state of the host that a URL leads to.
    pub(super) fn of(&self, url: &Url) -> Arc<HostState> {
        let mut states = self.states.lock();
        let origin =
            if states.len() < MAX_OTHER_HOSTS { url.origin().ascii_serialization() } else { String::new() };
        Arc::clone(states.entry(origin).or_insert_with(|| Arc::new(HostState::new(self.patience))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::eventually;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::sync::Semaphore;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[test]
    fn the_longest_pause_counts() {
        let (host, now) = (HostState::new(PATIENCE), Instant::now());
        host.pause(now, Duration::from_secs(9));
        host.pause(now, Duration::from_secs(3));
        assert_eq!(host.pause_left(now + Duration::from_secs(2)), Some(Duration::from_secs(7)));
        assert_eq!(host.pause_left(now + Duration::from_secs(9)), None);
    }

    #[test]
    fn pauses_that_are_asked_for_use_up_patience() {
        let (host, now) = (HostState::new(PATIENCE), Instant::now());
        assert!(!host.pause_as_asked(now, Duration::from_secs(21)));
        assert_eq!(host.pause_left(now), None);
        assert!(host.pause_as_asked(now, Duration::from_secs(12)));
        assert!(host.pause_as_asked(now, Duration::from_secs(12)), "the same pause, told to two requests");
        let later = now + Duration::from_secs(12);
        assert!(!host.pause_as_asked(later, Duration::from_secs(9)));
        assert!(host.pause_as_asked(later, Duration::from_secs(8)));
        host.breaker().acknowledged();
        assert!(host.pause_as_asked(later + Duration::from_secs(8), Duration::from_secs(20)));
    }

    #[test]
    fn who_wants_to_be_left_alone_is_not_asked_until_patience_reaches_that_far() {
        let (host, now) = (HostState::new(PATIENCE), Instant::now());
        let asked = Duration::from_secs(3600);
        host.leave_alone(now, asked, Cause::Internal("busy".to_owned()));
        assert!(host.absent(now + asked / 2).is_some());
        assert_eq!(host.pause_left(now + asked / 2), None);
        let later = now + asked - PATIENCE;
        assert!(host.absent(later).is_none());
        assert_eq!(host.pause_left(later), Some(PATIENCE));
        assert!(host.absent(now + asked).is_none());
    }

    #[test]
    fn what_was_given_up_is_tried_again_after_a_rest() {
        let (host, now, rest) = (HostState::new(PATIENCE), Instant::now(), Duration::from_secs(30));
        assert!(host.given_up(now, rest).is_none());
        host.breaker().failed(&Cause::Unreachable(String::new()), PATIENCE);
        host.breaker().give_up(now);
        assert!(host.given_up(now + rest / 2, rest).is_some());
        assert!(host.breaker().is_open().is_err());
        assert!(host.given_up(now + rest, rest).is_none());
        // One lock at a time.
        assert_eq!(host.breaker().is_open().ok(), Some(false));
        assert_eq!(host.breaker().left(), PATIENCE);
    }

    #[tokio::test]
    async fn retries_have_a_budget() {
        let host = HostState::new(PATIENCE);
        let granted = std::iter::repeat_with(|| host.take_retry()).take(150).filter(|&x| x).count();
        assert_eq!(granted, 100);
        host.pay_in();
        host.pay_in();
        assert!(host.take_retry());
        assert!(!host.take_retry());
    }

    #[tokio::test]
    async fn one_looks_for_the_end_of_an_outage_and_another_takes_over_when_it_is_cancelled() {
        let host = Arc::new(HostState::new(PATIENCE));
        let refused = Cause::Unreachable(String::new());
        host.breaker().failed(&refused, Duration::ZERO);
        let (looks, back) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
        let wait = || {
            let (host, looks, back) = (Arc::clone(&host), Arc::clone(&looks), Arc::clone(&back));
            tokio::spawn(async move {
                let look = || async {
                    looks.fetch_add(1, Ordering::Relaxed);
                    back.acquire().await.unwrap().forget();
                    host.breaker().is_back(Duration::ZERO);
                    Ok(())
                };
                host.ready(look).await
            })
        };
        let first = wait();
        eventually("the first one looks", || looks.load(Ordering::Relaxed) == 1).await;
        let others: Vec<_> = (0..40).map(|_| wait()).collect();
        // There is one thread, so all of them run until they wait.
        tokio::task::yield_now().await;
        first.abort();
        eventually("another one looks", || looks.load(Ordering::Relaxed) == 2).await;
        back.add_permits(1);
        for other in others {
            other.await.unwrap().unwrap();
        }
        assert_eq!(looks.load(Ordering::Relaxed), 2);
    }
}
