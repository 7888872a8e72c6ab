//! Retries of one thing, a request or the upload of a blob. The policy's decisions are carried out here and nowhere else:
//! attempts are counted, pauses are slept, and requests wait for their host.

use std::time::Duration;

use tokio::sync::OwnedMutexGuard;

use super::{Backoff, Decision, FailedAttempt, Operation, Replay, RetryPolicy, Wait};
use crate::clock::Instant;
use crate::registry::Observer;
use crate::registry::cause::Cause;
use crate::registry::error::RegistryError;
use crate::registry::flight::PauseGuard;
use crate::registry::host::HostState;

/// What a request is, as far as its retries depend on it.
#[derive(Debug, Clone, Copy)]
pub(in crate::registry) struct Retryability {
    pub(in crate::registry) operation: Operation,
    pub(in crate::registry) replay: Replay,
    /// Whether a server error says something of the host, and not of this request alone.
    pub(in crate::registry) shows_health: bool,
}

/// Held by the one request that goes out while an operation is half open, until its result is known.
pub(in crate::registry) struct HalfOpenPermit {
    since: Instant,
    _held: OwnedMutexGuard<()>,
}

impl HalfOpenPermit {
    /// How long the others have waited for this request.
    pub(in crate::registry) fn waited(&self) -> Duration {
        self.since.elapsed()
    }
}

/// The attempts so far, and the back-off between those to come.
pub(in crate::registry) struct RetryDriver<'a> {
    policy: &'a RetryPolicy,
    observer: &'a dyn Observer,
    what: String,
    attempts: u32,
    backoff: Backoff,
}

impl<'a> RetryDriver<'a> {
    /// `what` names it for people.
    pub(in crate::registry) fn new(
        policy: &'a RetryPolicy,
        observer: &'a dyn Observer,
        what: String,
    ) -> Self {
        Self { policy, observer, what, attempts: 0, backoff: policy.backoff() }
    }

    /// Waits until the host may be asked: until its pause is over, and until the `probe` of its circuit breaker has found it.
    /// Of all requests that wait one probes. Should it be cancelled, the next one does.
    ///
    /// # Errors
    /// The host was given up: why.
    pub(in crate::registry) async fn until_reachable<F>(
        &self,
        host: &HostState,
        probe: impl Fn() -> F,
    ) -> Result<(), Cause>
    where
        F: Future<Output = Result<(), Cause>>,
    {
        if self.sends_once() {
            return Ok(());
        }
        loop {
            host.refusal_beyond_patience(Instant::now()).map_or(Ok(()), Err)?;
            if let Some(left) = host.pause_left(Instant::now()) {
                sleep(left, None).await;
            } else if host.breaker().is_open()? {
                let _probing = host.probe_permit().await;
                if host.breaker().is_open()? {
                    probe().await?;
                }
            } else {
                return Ok(());
            }
        }
    }

    /// Waits until the host may be sent this request. While its operation is half open, the request is sent alone, for as long as
    /// the permit lives.
    ///
    /// # Errors
    /// The host was given up: why.
    pub(in crate::registry) async fn admit<F>(
        &self,
        host: &HostState,
        request: Retryability,
        probe: impl Fn() -> F,
    ) -> Result<Option<HalfOpenPermit>, Cause>
    where
        F: Future<Output = Result<(), Cause>>,
    {
        let Retryability { operation, shows_health, .. } = request;
        self.until_reachable(host, &probe).await?;
        if self.sends_once() || !host.health(operation).is_half_open(shows_health)? {
            return Ok(None);
        }
        let held = host.half_open_permit(operation).await;
        let is_rate_limited = host.health(operation).is_rate_limited()?;
        if is_rate_limited {
            // The request that had the permit before may have met the limit again.
            self.until_reachable(host, &probe).await?;
        }
        let since = Instant::now();
        let errors = if shows_health { host.health(operation).next_probe(self.policy, since)? } else { None };
        match errors {
            Some(next) => {
                let cause = "the registry fails whatever is asked";
                self.announce_and_sleep(next.after, &next.why, cause).await;
            }
            None if !is_rate_limited => return Ok(None),
            None => {}
        }
        Ok(Some(HalfOpenPermit { since, _held: held }))
    }

    /// Counts a failed attempt of a request, which was `sent` then. Waits until the next attempt, or gives the error back.
    pub(in crate::registry) async fn retry(
        &mut self,
        host: &HostState,
        request: Retryability,
        sent: Instant,
        error: RegistryError,
    ) -> Result<(), RegistryError> {
        self.attempts += 1;
        let backoff = self.backoff.next();
        let error = self.pause_host(host, request.operation, sent, error)?;
        let decision = self.policy.decide(&FailedAttempt {
            cause: error.cause(),
            replay: request.replay,
            attempts: self.attempts,
            is_host_failing: request.shows_health && host.health(request.operation).is_failing(),
        });
        tracing::trace!(what = self.what, attempts = self.attempts, ?decision, "an attempt failed");
        let (wait, outcome) = match decision {
            Decision::GiveUp(_) => return Err(error),
            Decision::Again(wait) if wait != Wait::Nothing && !host.take_retry() => return Err(error),
            Decision::Again(wait) => (wait, Ok(())),
            Decision::AskFirst(wait) => (wait, Err(error.clone())),
        };
        match wait {
            Wait::Nothing => {}
            Wait::Backoff | Wait::RetryAfter => self.wait(host, backoff, &error).await,
            // The pause is the host's own back-off, and requests go out one at a time after it.
            Wait::RateLimit => self.wait(host, Duration::ZERO, &error).await,
        }
        outcome
    }

    /// Waits for the back-off after an error that no attempt of one request mends.
    pub(in crate::registry) async fn back_off(&mut self, host: &HostState, why: &str, cause: &str) {
        let delay = self.backoff.next();
        self.wait_for(host, delay, why, cause).await;
    }

    /// The same, and no longer than `most`.
    pub(in crate::registry) async fn back_off_at_most(
        &mut self,
        host: &HostState,
        most: Duration,
        why: &str,
        cause: &str,
    ) {
        let delay = self.backoff.next().min(most);
        self.wait_for(host, delay, why, cause).await;
    }

    /// Whether everything is sent once. Such a policy does not wait for hosts either.
    fn sends_once(&self) -> bool {
        self.policy.attempts <= 1
    }

    /// Begins the pause of the host after a 429 or a 503.
    fn pause_host(
        &self,
        host: &HostState,
        operation: Operation,
        sent: Instant,
        error: RegistryError,
    ) -> Result<RegistryError, RegistryError> {
        let now = Instant::now();
        let refusal = match error.cause() {
            Cause::Answer(refusal) if refusal.says_not_now() && !self.sends_once() => refusal,
            _ => return Ok(error),
        };
        match refusal.retry_after {
            None => match host.health(operation).refused(sent, now, refusal, self.policy) {
                Ok(pause) => pause.into_iter().for_each(|pause| host.pause(now, pause)),
                Err(waited) => return Err(error.out_of_patience(waited)),
            },
            Some(asked) if host.pause_as_asked(now, asked) => {}
            Some(asked) => {
                let error = error.too_long(asked);
                host.refuse_until(now + asked, error.cause().clone());
                return Err(error);
            }
        }
        Ok(error)
    }

    async fn wait(&self, host: &HostState, delay: Duration, error: &RegistryError) {
        self.wait_for(host, delay, &error.why(), &error.cause().in_short()).await;
    }

    /// Waits for `delay`, and at least until the pause of the host is over.
    async fn wait_for(&self, host: &HostState, delay: Duration, why: &str, cause: &str) {
        let delay = match host.pause_left(Instant::now()) {
            // Requests that wait for the same pause are spread behind its end.
            Some(left) => delay.max(left + delay / 4),
            None => delay,
        };
        self.announce_and_sleep(delay, why, cause).await;
    }

    async fn announce_and_sleep(&self, delay: Duration, why: &str, cause: &str) {
        self.observer.retry(&self.what, why, cause, delay);
        sleep(delay, Some(self.observer)).await;
    }
}

/// The one sleep of all retries. An observer hears that a request waits for its next attempt.
async fn sleep(delay: Duration, observer: Option<&dyn Observer>) {
    let _pause = observer.map(PauseGuard::begin);
    tokio::time::sleep(delay).await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::sync::Semaphore;

    use super::*;
    use crate::testing::eventually;

    const PATIENCE: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn one_request_probes_a_host_that_is_down_and_another_takes_over_when_it_is_cancelled() {
        let host = Arc::new(HostState::new(PATIENCE));
        host.breaker().failed(&Cause::Unreachable(String::new()), Duration::ZERO);
        let (probes, up) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
        let wait = || {
            let (host, probes, up) = (Arc::clone(&host), Arc::clone(&probes), Arc::clone(&up));
            tokio::spawn(async move {
                let probe = || async {
                    probes.fetch_add(1, Ordering::Relaxed);
                    up.acquire().await.unwrap().forget();
                    host.breaker().probed(Duration::ZERO);
                    Ok(())
                };
                let policy = RetryPolicy::default();
                RetryDriver::new(&policy, &(), String::new()).until_reachable(&host, probe).await
            })
        };
        let first = wait();
        eventually("the first one probes", || probes.load(Ordering::Relaxed) == 1).await;
        let others: Vec<_> = (0..40).map(|_| wait()).collect();
        // There is one thread, so all of them run until they wait.
        tokio::task::yield_now().await;
        first.abort();
        eventually("another one probes", || probes.load(Ordering::Relaxed) == 2).await;
        up.add_permits(1);
        for other in others {
            other.await.unwrap().unwrap();
        }
        assert_eq!(probes.load(Ordering::Relaxed), 2);
    }
}
