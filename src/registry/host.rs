//! What all requests to one registry share: the pause it asked for, whether it can be reached, how many retries are left.

use crate::sync::{Mutex, MutexGuard};
use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Retries there are to begin with, and at most.
const BUDGET: (f64, f64) = (100.0, 200.0);
/// Retries that each new request adds: an overloaded registry sees at most half as many requests again.
const BUDGET_PER_REQUEST: f64 = 0.5;
/// Mounts that failed one after the other before they are no longer tried.
const HOPELESS_MOUNTS: u32 = 5;

/// The state of one host.
#[derive(Debug)]
pub(super) struct Host {
    paused_until: Mutex<Option<Instant>>,
    outage: Mutex<Option<Outage>>,
    budget: Mutex<f64>,
    warned: Mutex<HashSet<String>>,
    patches: AtomicBool,
    failed_mounts: AtomicU32,
    first_answer_after: OnceLock<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Outage {
    since: Instant,
    last: Instant,
}

impl Host {
    pub(super) fn new() -> Self {
        Self {
            paused_until: Mutex::default(),
            outage: Mutex::default(),
            budget: Mutex::new(BUDGET.0),
            warned: Mutex::default(),
            patches: AtomicBool::new(false),
            failed_mounts: AtomicU32::new(0),
            first_answer_after: OnceLock::new(),
        }
    }

    /// Waits as long as the host asked everybody to, and pays in for one request.
    pub(super) async fn admit(&self) {
        {
            let mut budget = locked(&self.budget);
            *budget = (*budget + BUDGET_PER_REQUEST).min(BUDGET.1);
        }
        self.wait_out_pause().await;
    }

    /// Waits as long as the host asked everybody to.
    pub(super) async fn wait_out_pause(&self) {
        loop {
            match self.pause_left(Instant::now()) {
                Some(left) => tokio::time::sleep(left).await,
                None => return,
            }
        }
    }

    fn pause_left(&self, now: Instant) -> Option<Duration> {
        let until = (*locked(&self.paused_until))?;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Nobody talks to this host for `delay` from `now` on.
    pub(super) fn pause(&self, now: Instant, delay: Duration) {
        let until = now + delay;
        let mut paused = locked(&self.paused_until);
        *paused = Some(paused.map_or(until, |earlier| earlier.max(until)));
    }

    /// Takes one retry from the budget, if there is one.
    pub(super) fn take_retry(&self) -> bool {
        let mut budget = locked(&self.budget);
        let enough = *budget >= 1.0;
        if enough {
            *budget -= 1.0;
        }
        enough
    }

    /// The host answered something, so long after it was asked.
    pub(super) fn reached(&self, after: Duration) {
        self.first_answer_after.get_or_init(|| after);
        *locked(&self.outage) = None;
    }

    /// How long the first answer took, whatever it was, from the opening of its connection; no time if there was none.
    pub(super) fn first_answer_after(&self) -> Duration {
        self.first_answer_after.get().copied().unwrap_or_default()
    }

    /// The host took no connection. Whether there is patience left with it: the clock starts with the first failure,
    /// whoever met it, so that a dead host holds up a run once and not once per request.
    pub(super) fn unreachable(&self, now: Instant, patience: Duration) -> bool {
        let mut outage = locked(&self.outage);
        let since = match *outage {
            // An outage that nobody saw the end of is a new one after some time.
            Some(known) if now - known.last <= patience.max(Duration::from_secs(5)) * 2 => known.since,
            _ => now,
        };
        *outage = Some(Outage { since, last: now });
        now - since < patience
    }

    /// Whether a text was not yet shown. Bounded, as the texts are the server's.
    pub(super) fn is_news(&self, text: &str) -> bool {
        let mut warned = locked(&self.warned);
        warned.len() < 64 && warned.insert(text.to_owned())
    }

    /// Whether the bytes of blobs must come in a PATCH here.
    pub(super) fn wants_patch(&self) -> bool {
        self.patches.load(Ordering::Relaxed)
    }

    /// Remembers which way blobs got in after the other had failed.
    pub(super) fn learn_patch(&self, patch: bool) {
        self.patches.store(patch, Ordering::Relaxed);
    }

    /// Whether mounting ever works here.
    pub(super) fn can_mount(&self) -> bool {
        self.failed_mounts.load(Ordering::Relaxed) < HOPELESS_MOUNTS
    }

    /// Remembers how a mount ended.
    pub(super) fn learn_mount(&self, understood: bool) {
        if understood {
            self.failed_mounts.store(0, Ordering::Relaxed);
        } else {
            self.failed_mounts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The value is whole even if another thread died while it held it.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_counts() {
        let (host, now) = (Host::new(), Instant::now());
        host.pause(now, Duration::from_secs(9));
        host.pause(now, Duration::from_secs(3));
        assert_eq!(host.pause_left(now + Duration::from_secs(2)), Some(Duration::from_secs(7)));
        assert_eq!(host.pause_left(now + Duration::from_secs(9)), None);
    }

    #[test]
    fn patience_is_used_up_once_for_all_and_comes_back() {
        let (host, start) = (Host::new(), Instant::now());
        let is_waited_for =
            |seconds| host.unreachable(start + Duration::from_secs(seconds), Duration::from_secs(20));
        assert!(is_waited_for(0));
        assert!(is_waited_for(19));
        assert!(!is_waited_for(21));
        assert!(!is_waited_for(22));
        host.reached(Duration::ZERO);
        assert!(is_waited_for(23));
        assert!(!is_waited_for(44));
        assert!(is_waited_for(300));
    }

    #[tokio::test]
    async fn retries_have_a_budget() {
        let host = Host::new();
        let granted = std::iter::repeat_with(|| host.take_retry()).take(150).filter(|&x| x).count();
        assert_eq!(granted, 100);
        host.admit().await;
        host.admit().await;
        assert!(host.take_retry());
        assert!(!host.take_retry());
    }
}
