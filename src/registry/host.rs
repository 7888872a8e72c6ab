//! What all requests to one host share: its pause, its circuit breakers, its retry budget, its quirks.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{OnceCell, OwnedMutexGuard};
use url::Url;

use crate::clock::Instant;
use crate::locks::{Mutex, MutexGuard};
use crate::registry::cause::Cause;
use crate::registry::quirks::Quirks;
use crate::registry::retry::{CircuitBreaker, Operation, OperationHealth, RetryBudget};

/// Other hosts (token servers, object stores) whose state is kept; those beyond share one.
const MAX_OTHER_HOSTS: usize = 64;

/// How the host serves one operation.
#[derive(Debug)]
struct OperationState {
    health: Mutex<OperationHealth>,
    /// Held by the one request that goes out while the operation is half open.
    half_open: Arc<tokio::sync::Mutex<()>>,
}

impl OperationState {
    fn new(patience: Duration) -> Self {
        Self { health: Mutex::new(OperationHealth::new(patience)), half_open: Arc::default() }
    }
}

/// A pause that the host asked for, and that is longer than there was patience.
#[derive(Debug)]
struct RefusedUntil {
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
    refused_until: Mutex<Option<RefusedUntil>>,
    breaker: Mutex<CircuitBreaker>,
    /// Held by the one request that probes whether the host is up.
    probe: tokio::sync::Mutex<()>,
    reads: OperationState,
    writes: OperationState,
    retry_budget: Mutex<RetryBudget>,
    warned: Mutex<HashSet<String>>,
    quirks: Mutex<Quirks>,
    /// The quirks that are kept for later runs.
    remembered: Mutex<Quirks>,
    recalled: OnceCell<()>,
    first_answer_after: OnceLock<Duration>,
    greeting: OnceLock<Greeting>,
}

/// Facts about a host from its first answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Greeting {
    /// The time by its clock.
    pub date: Option<Timestamp>,
    /// The time by our clock at that moment.
    pub at: Timestamp,
    /// Its certificate (DER), over TLS.
    pub certificate: Option<Vec<u8>>,
    /// Program and version, or nothing (`Server`).
    pub server: String,
}

impl HostState {
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            patience,
            requests: AtomicU64::new(0),
            paused_until: Mutex::default(),
            refused_until: Mutex::default(),
            breaker: Mutex::new(CircuitBreaker::new(patience)),
            probe: tokio::sync::Mutex::default(),
            reads: OperationState::new(patience),
            writes: OperationState::new(patience),
            retry_budget: Mutex::default(),
            warned: Mutex::default(),
            quirks: Mutex::default(),
            remembered: Mutex::default(),
            recalled: OnceCell::new(),
            first_answer_after: OnceLock::new(),
            greeting: OnceLock::new(),
        }
    }

    /// A request begins: its number. It pays into the retry budget.
    pub(super) fn begin_request(&self) -> u64 {
        self.retry_budget.lock().deposit();
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes one retry from the budget, if there is one.
    pub(super) fn take_retry(&self) -> bool {
        self.retry_budget.lock().withdraw()
    }

    /// Whether its circuit breaker has given it up.
    pub(super) fn is_given_up(&self) -> bool {
        self.breaker().given_up().is_some()
    }

    /// Why the host is given up, if that was less than `rest` ago. A host that was given up earlier is tried again, with new
    /// patience.
    pub(super) fn given_up(&self, now: Instant, rest: Duration) -> Option<Cause> {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= rest;
        for operation in [&self.reads, &self.writes] {
            operation.health.lock().try_again(self.patience, is_over);
        }
        let mut breaker = self.breaker();
        let (cause, since) = breaker.given_up()?;
        if is_over(since) {
            *breaker = CircuitBreaker::new(self.patience);
            return None;
        }
        Some(cause)
    }

    /// The circuit breaker. Never held over a wait.
    pub(super) fn breaker(&self) -> MutexGuard<'_, CircuitBreaker> {
        self.breaker.lock()
    }

    fn operation(&self, operation: Operation) -> &OperationState {
        match operation {
            Operation::Read => &self.reads,
            Operation::Write => &self.writes,
        }
    }

    /// How the host serves one operation. Never held over a wait.
    pub(super) fn health(&self, operation: Operation) -> MutexGuard<'_, OperationHealth> {
        self.operation(operation).health.lock()
    }

    /// The permit to probe the host while its circuit breaker is open.
    pub(super) async fn probe_permit(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.probe.lock().await
    }

    /// The permit of the one request that goes out while an operation is half open.
    pub(super) async fn half_open_permit(&self, operation: Operation) -> OwnedMutexGuard<()> {
        Arc::clone(&self.operation(operation).half_open).lock_owned().await
    }

    /// The quirks. Never held over a wait.
    pub(super) fn quirks(&self) -> MutexGuard<'_, Quirks> {
        self.quirks.lock()
    }

    /// Waits until the quirks of earlier runs are loaded. The first caller loads them, or the next one if it is cancelled.
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

    /// The rest of the host's pause.
    pub(super) fn pause_left(&self, now: Instant) -> Option<Duration> {
        let until = (*self.paused_until.lock())?;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Pauses all requests to this host for `delay` from `now` on.
    pub(super) fn pause(&self, now: Instant, delay: Duration) {
        let until = now + delay;
        let mut paused = self.paused_until.lock();
        *paused = Some(paused.map_or(until, |earlier| earlier.max(until)));
    }

    /// The same because the host asks for it, which uses up patience. False, and no pause, if there is not enough patience left.
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

    /// The host asked for a pause until then, which is longer than there is patience.
    pub(super) fn refuse_until(&self, until: Instant, cause: Cause) {
        *self.refused_until.lock() = Some(RefusedUntil { until, cause });
    }

    /// Why no request is sent, if the host asked for a pause that is longer than there is patience. When patience covers what is
    /// left of it, the host is paused for that long instead.
    pub(super) fn refusal_beyond_patience(&self, now: Instant) -> Option<Cause> {
        let mut refused = self.refused_until.lock();
        let RefusedUntil { until, cause } = refused.as_ref()?;
        let left = until.saturating_duration_since(now);
        if left.is_zero() || self.pause_as_asked(now, left) {
            *refused = None;
            return None;
        }
        Some(cause.clone())
    }

    /// The host answered a request after this time.
    pub(super) fn answered(&self, after: Duration) {
        self.first_answer_after.get_or_init(|| after);
    }

    /// The facts from the first answer.
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
    fn a_pause_beyond_patience_refuses_requests_until_patience_covers_the_rest() {
        let (host, now) = (HostState::new(PATIENCE), Instant::now());
        let asked = Duration::from_secs(3600);
        host.refuse_until(now + asked, Cause::Internal("busy".to_owned()));
        assert!(host.refusal_beyond_patience(now + asked / 2).is_some());
        assert_eq!(host.pause_left(now + asked / 2), None);
        let later = now + asked - PATIENCE;
        assert!(host.refusal_beyond_patience(later).is_none());
        assert_eq!(host.pause_left(later), Some(PATIENCE));
        assert!(host.refusal_beyond_patience(now + asked).is_none());
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
}
