//! Whether a failed request is sent again, and what it waits for before that. Nothing else decides or waits.
//!
//! Four facts, each in one place:
//!
//! * **The request**: whether it may be sent twice ([`Replay`]), and how often ([`RetryPolicy::decide`]). Each request has its
//!   own attempts and its own [`backoff`].
//! * **When the host may be asked next**: the pause of `Retry-After` (`host`), the [`rate_limit`], the retry [`budget`]. All
//!   requests to the host share them.
//! * **Whether the host works**: a circuit [`breaker`] for hosts that are away, whose half-open probe is `GET /v2/`, and one
//!   for [`server_errors`], whose half-open probe is the next request of the same operation. All requests share them.
//! * **How long anybody waits for a host**: its [`patience`].
//!
//! [`driver`] asks the policy and does what it says. All else here is pure.
//!
//! | failure of one attempt | decision |
//! |---|---|
//! | no connection: resolver, refused, unreachable, timeouts of it | again, once the circuit breaker is closed |
//! | broken or stalled, and the request may be sent twice | again after the back-off; the first time at once |
//! | broken or stalled after bytes of a blob | the caller asks first whether the blob is there |
//! | 408 425 499 500 502 504 520–524 | again after the back-off |
//! | 429 503 | again after the pause of the host |
//! | 401 | the caller gets one fresh token, then it is final (accounts get locked) |
//! | everything else: 403, 404, 405, 409, 412, 413, 507, TLS, the bundle | final |

mod backoff;
mod breaker;
mod budget;
pub(super) mod driver;
mod operation;
mod patience;
mod rate_limit;
mod server_errors;

use std::time::Duration;

pub(super) use backoff::Backoff;
pub(super) use breaker::{CircuitBreaker, MAX_PROBE_DELAY};
pub(super) use budget::RetryBudget;
pub(super) use operation::{Operation, OperationHealth};

use crate::registry::cause::{Cause, ProxyFault};

/// How often a document that arrives too slowly is requested.
const SLOW_DOCUMENT_ATTEMPTS: u32 = 2;
/// How often a request is sent that is answered in another protocol: damage on the way looks like that too.
const GARBLED_ATTEMPTS: u32 = 3;

/// How patient to be with a registry.
#[derive(Debug, Clone)]
pub struct RetryPolicy {
    /// How often one request is sent at most. With one attempt no request waits for the host either.
    pub attempts: u32,
    /// The first back-off; it doubles each time, with jitter.
    pub min_delay: Duration,
    /// The longest back-off.
    pub max_delay: Duration,
    /// How long layercast waits for a host that is away or asks for a pause. The time starts again whenever the host stores something.
    pub connect_patience: Duration,
    /// How often the upload of one blob starts anew after its connection broke.
    pub restarts: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            attempts: 8,
            min_delay: Duration::from_millis(500),
            max_delay: Duration::from_secs(60),
            connect_patience: Duration::from_secs(20),
            restarts: 3,
        }
    }
}

/// What may be done with a request whose outcome is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replay {
    /// Sending it twice does no harm.
    Safe,
    /// It carries a blob, or commits one: the caller must find out what became of it.
    Never,
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// The request is sent again.
    Again(Wait),
    /// The caller finds out what became of the request. What it asks for that waits as well.
    AskFirst(Wait),
    /// The caller gets the error.
    GiveUp(GiveUpReason),
}

/// What comes before the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// Nothing, as far as this request knows: a breaker that is open holds it back until a probe finds that the host works.
    Nothing,
    /// The back-off of the request.
    Backoff,
    /// The pause that the host asked for, and a random part of the back-off.
    RetryAfter,
    /// The pause that the rate limit of the host has set.
    RateLimit,
}

/// Why a request is not sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GiveUpReason {
    /// The same request would fail in the same way.
    Final,
    /// Credentials are missing or stale.
    Unauthorized,
    /// It has been sent often enough.
    OutOfAttempts,
}

/// What is known after a failed attempt.
#[derive(Debug, Clone, Copy)]
pub(super) struct FailedAttempt<'a> {
    pub(super) cause: &'a Cause,
    pub(super) replay: Replay,
    /// How many attempts there were, with this one.
    pub(super) attempts: u32,
    /// Whether the host answers every request of this operation with a server error.
    pub(super) is_host_failing: bool,
}

impl RetryPolicy {
    /// What follows a failed attempt.
    pub(super) fn decide(&self, failed: &FailedAttempt<'_>) -> Decision {
        let decision = by_cause(failed.cause, failed.replay);
        let is_backoff = decision == Decision::Again(Wait::Backoff);
        match failed.cause {
            // The failure is the host's and not the request's, so it costs no attempt. The breaker has patience of its own.
            Cause::Answer(_) if is_backoff && failed.is_host_failing && self.attempts > 1 => {
                Decision::Again(Wait::Nothing)
            }
            cause
                if !matches!(decision, Decision::GiveUp(_))
                    && failed.attempts >= self.attempts_for(cause) =>
            {
                Decision::GiveUp(GiveUpReason::OutOfAttempts)
            }
            // The server had closed an idle connection, in most cases.
            Cause::Broken(_) if is_backoff && failed.attempts == 1 => Decision::Again(Wait::Nothing),
            _ => decision,
        }
    }

    /// How often a request that fails in this way is sent. A 500 is as often a bug as a passing fault; a document that
    /// arrives slowly has taken long enough.
    pub(super) fn attempts_for(&self, cause: &Cause) -> u32 {
        match cause {
            Cause::Answer(refusal) if refusal.status == 500 => self.attempts.div_ceil(2),
            Cause::TooSlow { .. } => self.attempts.min(SLOW_DOCUMENT_ATTEMPTS),
            Cause::NotHttp(_) => self.attempts.min(GARBLED_ATTEMPTS),
            _ => self.attempts,
        }
    }

    /// The back-off of one request, or of one host. No delay is longer than the patience.
    pub(super) fn backoff(&self) -> Backoff {
        Backoff::new(self.min_delay, self.max_delay.min(self.connect_patience))
    }
}

/// The table above, for the first of many attempts.
fn by_cause(cause: &Cause, replay: Replay) -> Decision {
    let unless_ambiguous = |wait| match replay {
        Replay::Safe => Decision::Again(wait),
        Replay::Never => Decision::AskFirst(Wait::Nothing),
    };
    match cause {
        Cause::Unreachable(_) | Cause::NoSuchName(_) | Cause::Proxy { fault: ProxyFault::Away, .. } => {
            Decision::Again(Wait::Nothing)
        }
        Cause::Broken(_) | Cause::NotHttp(_) | Cause::Stalled(_) | Cause::TooSlow { .. } => {
            unless_ambiguous(Wait::Backoff)
        }
        Cause::Answer(refusal) if refusal.status == 401 => Decision::GiveUp(GiveUpReason::Unauthorized),
        Cause::Answer(refusal) if refusal.says_not_now() => match (replay, refusal.retry_after) {
            (Replay::Never, _) => Decision::AskFirst(Wait::RetryAfter),
            (Replay::Safe, Some(_)) => Decision::Again(Wait::RetryAfter),
            (Replay::Safe, None) => Decision::Again(Wait::RateLimit),
        },
        Cause::Answer(refusal) if refusal.is_transient() => unless_ambiguous(Wait::Backoff),
        _ => Decision::GiveUp(GiveUpReason::Final),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{BundleError, Fault};
    use crate::registry::cause::TlsFault;
    use crate::registry::error_response::ErrorResponse;

    const POLICY: RetryPolicy = RetryPolicy {
        attempts: 8,
        min_delay: Duration::from_millis(500),
        max_delay: Duration::from_secs(60),
        connect_patience: Duration::from_secs(20),
        restarts: 3,
    };
    const AT_ONCE: Decision = Decision::Again(Wait::Nothing);
    const BACKOFF: Decision = Decision::Again(Wait::Backoff);
    const ASK: Decision = Decision::AskFirst(Wait::Nothing);
    const FINAL: Decision = Decision::GiveUp(GiveUpReason::Final);
    const SPENT: Decision = Decision::GiveUp(GiveUpReason::OutOfAttempts);

    fn answered(status: u16, retry_after: Option<u64>) -> Cause {
        let retry_after = retry_after.map(Duration::from_secs);
        Cause::Answer(ErrorResponse::new(status, retry_after, b"", str::to_owned))
    }

    fn broken() -> Cause {
        Cause::Broken(String::new())
    }

    /// After this many attempts.
    fn after(attempts: u32, cause: &Cause, replay: Replay) -> Decision {
        POLICY.decide(&FailedAttempt { cause, replay, attempts, is_host_failing: false })
    }

    #[test]
    fn the_table() {
        let unauthorized = Decision::GiveUp(GiveUpReason::Unauthorized);
        let retry_after = Decision::Again(Wait::RetryAfter);
        let ask_later = Decision::AskFirst(Wait::RetryAfter);
        for (cause, safe, never) in [
            (Cause::Unreachable(String::new()), AT_ONCE, AT_ONCE),
            (Cause::NoSuchName(String::new()), AT_ONCE, AT_ONCE),
            (broken(), BACKOFF, ASK),
            (Cause::Stalled(Duration::ZERO), BACKOFF, ASK),
            (Cause::Tls { fault: TlsFault::Certificate, why: String::new() }, FINAL, FINAL),
            (Cause::Source(BundleError::new(Fault::DigestMismatch, "x")), FINAL, FINAL),
            (Cause::Protocol(String::new()), FINAL, FINAL),
            (answered(401, None), unauthorized, unauthorized),
            (answered(429, Some(3)), retry_after, ask_later),
            (answered(503, Some(3)), retry_after, ask_later),
            (answered(429, None), Decision::Again(Wait::RateLimit), ask_later),
            (answered(500, None), BACKOFF, ASK),
            (answered(524, None), BACKOFF, ASK),
        ] {
            assert_eq!(after(2, &cause, Replay::Safe), safe, "{cause:?}");
            assert_eq!(after(2, &cause, Replay::Never), never, "{cause:?}");
        }
        for status in [400, 402, 403, 404, 405, 409, 412, 413, 414, 416, 501, 507] {
            assert_eq!(after(2, &answered(status, None), Replay::Safe), FINAL, "{status}");
        }
    }

    #[test]
    fn a_connection_that_breaks_once_is_no_reason_to_wait() {
        assert_eq!(after(1, &broken(), Replay::Safe), AT_ONCE);
        assert_eq!(after(1, &broken(), Replay::Never), ASK);
        assert_eq!(after(1, &answered(502, None), Replay::Safe), BACKOFF);
    }

    #[test]
    fn attempts_are_limited_by_how_a_request_fails() {
        let slow = Cause::TooSlow { bytes: 1, after: Duration::ZERO };
        for (cause, most) in [
            (broken(), 8),
            (answered(502, None), 8),
            (answered(429, None), 8),
            (Cause::Unreachable(String::new()), 8),
            (answered(500, None), 4),
            (Cause::NotHttp(String::new()), 3),
            (slow, 2),
        ] {
            assert_ne!(after(most - 1, &cause, Replay::Safe), SPENT, "{cause:?}");
            assert_eq!(after(most, &cause, Replay::Safe), SPENT, "{cause:?}");
        }
        assert_eq!(after(99, &answered(403, None), Replay::Safe), FINAL, "the first reason counts");
    }

    #[test]
    fn what_the_host_fails_for_everybody_costs_no_attempt() {
        let failing = |policy: &RetryPolicy, cause: &Cause, replay| {
            policy.decide(&FailedAttempt { cause, replay, attempts: 99, is_host_failing: true })
        };
        assert_eq!(failing(&POLICY, &answered(500, None), Replay::Safe), AT_ONCE);
        assert_eq!(failing(&POLICY, &answered(500, None), Replay::Never), SPENT);
        assert_eq!(failing(&POLICY, &broken(), Replay::Safe), SPENT, "no answer");
        assert_eq!(failing(&POLICY, &answered(404, None), Replay::Safe), FINAL);
        let once = RetryPolicy { attempts: 1, ..POLICY };
        assert_eq!(failing(&once, &answered(500, None), Replay::Safe), SPENT);
    }
}
