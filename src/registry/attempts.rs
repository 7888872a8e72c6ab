//! The tries of one thing, a request or the upload of a blob: what `retry` decided is carried out here and nowhere else.

use std::time::Duration;

use crate::clock::Instant;
use crate::registry::Observer;
use crate::registry::cause::Cause;
use crate::registry::error::RegistryError;
use crate::registry::flight::PauseGuard;
use crate::registry::host::HostState;
use crate::registry::retry::{Delays, Replay, RetryDecision, RetryPolicy, classify};
use crate::registry::server_errors::Manner;

/// Tries so far, and the pauses between those to come.
pub(super) struct Attempts<'a> {
    policy: &'a RetryPolicy,
    observer: &'a dyn Observer,
    what: String,
    made: u32,
    delays: Delays,
}

impl<'a> Attempts<'a> {
    /// `what` is what a person reads of it.
    pub(super) fn new(policy: &'a RetryPolicy, observer: &'a dyn Observer, what: String) -> Self {
        Self { policy, observer, what, made: 0, delays: policy.delays() }
    }

    /// After a failed try of a request, which was sent then: waits until the next, or gives the error back because there is none.
    pub(super) async fn retry(
        &mut self,
        host: &HostState,
        replay: Replay,
        kind: Manner,
        manner: Option<Manner>,
        sent: Instant,
        error: RegistryError,
    ) -> Result<(), RegistryError> {
        self.made += 1;
        let delay = self.delay();
        let decision = classify(error.cause(), replay);
        // Who asks everything once only does not wait for anybody either.
        if self.policy.attempts > 1
            && let RetryDecision::Pause(asked) = decision
        {
            let now = Instant::now();
            match asked {
                None => {
                    let Some(refusal) = error.answer() else { return Err(error) };
                    let pause = host.overload(kind).refused(sent, now, refusal, self.policy);
                    match pause {
                        Ok(pause) => pause.into_iter().for_each(|pause| host.pause(now, pause)),
                        Err(waited) => return Err(error.out_of_patience(waited)),
                    }
                }
                Some(asked) if host.pause_as_asked(now, asked) => {}
                Some(asked) => {
                    let error = error.too_long(asked);
                    host.leave_alone(now, asked, error.cause().clone());
                    return Err(error);
                }
            }
        }
        if decision == RetryDecision::Again
            && self.policy.attempts > 1
            && error.answer().is_some()
            && manner.is_some_and(|manner| !matches!(host.lasting(manner).is_on(), Ok(false)))
        {
            // The host fails whatever is asked: who asks it next waits, and says so.
            return Ok(());
        }
        if self.made >= self.policy.tries(error.cause()) {
            return Err(error);
        }
        match decision {
            RetryDecision::Final | RetryDecision::Ambiguous | RetryDecision::Unauthorized => Err(error),
            // Everybody waits for the one that looks whether the host is back: not a retry of this request's own.
            RetryDecision::Reconnect => Ok(()),
            // Mostly a kept connection that the other side had closed: nothing to tell anybody.
            RetryDecision::Again if self.made == 1 && matches!(error.cause(), Cause::Broken(_)) => Ok(()),
            // The caller has something to ask first, and that waits too.
            RetryDecision::Pause(_) if replay == Replay::Never => {
                self.wait(host, delay, &error.why(), &error.cause().in_short()).await;
                Err(error)
            }
            RetryDecision::Again | RetryDecision::Pause(_) if !host.take_retry() => Err(error),
            // The pause is the host's, and one at a time goes out after it.
            RetryDecision::Pause(None) => {
                self.wait(host, Duration::ZERO, &error.why(), &error.cause().in_short()).await;
                Ok(())
            }
            RetryDecision::Again | RetryDecision::Pause(_) => {
                self.wait(host, delay, &error.why(), &error.cause().in_short()).await;
                Ok(())
            }
        }
    }

    /// The next pause of our own choice.
    pub(super) fn delay(&mut self) -> Duration {
        self.delays.next()
    }

    /// Waits, at least for as long as the host is to be left alone, and says so.
    pub(super) async fn wait(&self, host: &HostState, delay: Duration, why: &str, cause: &str) {
        let delay = match host.pause_left(Instant::now()) {
            // Not everybody at once when the pause is over.
            Some(left) => delay.max(left + delay / 4),
            None => delay,
        };
        self.observer.retry(&self.what, why, cause, delay);
        let _pause = PauseGuard::begin(self.observer);
        tokio::time::sleep(delay).await;
    }
}
