//! How a host serves one kind of requests. Pure.

use std::time::Duration;

use reqwest::Method;

use super::RetryPolicy;
use super::rate_limit::RateLimit;
use super::server_errors::{ErrorProbe, ServerErrors};
use crate::clock::Instant;
use crate::registry::cause::Cause;
use crate::registry::error_response::ErrorResponse;

/// Reads and writes fail separately: some registries limit uploads alone, and one that has lost its disk may answer reads
/// from memory for hours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::registry) enum Operation {
    Read,
    Write,
}

impl Operation {
    /// The kind of a request, by its method.
    pub(in crate::registry) fn of(method: &Method) -> Self {
        match *method {
            Method::GET | Method::HEAD => Self::Read,
            _ => Self::Write,
        }
    }
}

/// The rate limit of one operation, and the circuit breaker for its server errors. While one of them holds requests back, one
/// request at a time goes out (half open).
///
/// `shows_health` is false for a request whose server error says nothing of the host: no breaker holds it back, and it counts
/// for none.
#[derive(Debug)]
pub(in crate::registry) struct OperationHealth {
    rate_limit: RateLimit,
    server_errors: ServerErrors,
}

impl OperationHealth {
    pub(in crate::registry) const fn new(patience: Duration) -> Self {
        Self { rate_limit: RateLimit::None, server_errors: ServerErrors::new(patience) }
    }

    /// Whether one request at a time goes out; the cause if the host was given up.
    pub(in crate::registry) fn is_half_open(&self, shows_health: bool) -> Result<bool, Cause> {
        let is_failing = shows_health && self.server_errors.is_open()?;
        Ok(self.rate_limit.is_on()? || is_failing)
    }

    /// Whether the rate limit is the reason; the cause if the host was given up.
    pub(in crate::registry) fn is_rate_limited(&self) -> Result<bool, Cause> {
        self.rate_limit.is_on()
    }

    /// Whether every request gets a server error, as far as that is known.
    pub(in crate::registry) fn is_failing(&self) -> bool {
        !matches!(self.server_errors.is_open(), Ok(false))
    }

    /// The half-open probe of the server errors, if they are the reason.
    ///
    /// # Errors
    /// There is no patience left.
    pub(in crate::registry) fn next_probe(
        &mut self,
        policy: &RetryPolicy,
        now: Instant,
    ) -> Result<Option<ErrorProbe>, Cause> {
        self.server_errors.next_probe(policy.min_delay, now)
    }

    /// A request was answered as it should be.
    pub(in crate::registry) fn succeeded(&mut self, shows_health: bool) {
        if shows_health {
            self.server_errors.answered();
        }
        self.rate_limit = RateLimit::None;
    }

    /// An attempt of the request with this number failed, after so much waiting as a half-open probe.
    pub(in crate::registry) fn failed(
        &mut self,
        request: u64,
        shows_health: bool,
        cause: &Cause,
        waited: Duration,
    ) {
        if shows_health {
            self.server_errors.failed(request, cause, waited);
        }
        if matches!(cause, Cause::Answer(refusal) if !refusal.says_not_now()) {
            self.rate_limit = RateLimit::None;
        }
    }

    /// The host answered a request that was `sent` then with "not now", and not for how long. Comes back with the pause that
    /// begins `now`, if one does.
    ///
    /// # Errors
    /// There is no patience left: how long it was.
    pub(in crate::registry) fn refused(
        &mut self,
        sent: Instant,
        now: Instant,
        refusal: &ErrorResponse,
        policy: &RetryPolicy,
    ) -> Result<Option<Duration>, Duration> {
        self.rate_limit.refused(sent, now, refusal, policy)
    }

    /// What was given up long enough ago, in the eyes of `is_over`, is tried again with new patience.
    pub(in crate::registry) fn try_again(&mut self, patience: Duration, is_over: impl Fn(Instant) -> bool) {
        if self.server_errors.given_up().is_some_and(&is_over) {
            self.server_errors = ServerErrors::new(patience);
        }
        if self.rate_limit.given_up().is_some_and(&is_over) {
            self.rate_limit = RateLimit::None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn answered(status: u16) -> Cause {
        Cause::Answer(ErrorResponse::new(status, None, b"", str::to_owned))
    }

    fn limited() -> OperationHealth {
        let mut health = OperationHealth::new(PATIENCE);
        let (now, Cause::Answer(refusal)) = (Instant::now(), answered(429)) else { unreachable!() };
        assert!(health.refused(now, now, &refusal, &RetryPolicy::default()).unwrap().is_some());
        health
    }

    #[test]
    fn a_rate_limit_ends_with_any_other_answer_and_with_nothing_else() {
        let broken = Cause::Broken(String::new());
        for (cause, is_limited) in
            [(answered(404), false), (answered(500), false), (answered(503), true), (broken, true)]
        {
            let mut health = limited();
            health.failed(1, true, &cause, Duration::ZERO);
            assert_eq!(health.is_rate_limited().unwrap(), is_limited, "{cause:?}");
            assert_eq!(health.is_half_open(true).unwrap(), is_limited, "{cause:?}");
        }
        let mut health = limited();
        health.succeeded(false);
        assert!(!health.is_half_open(true).unwrap());
    }

    #[test]
    fn what_fails_for_itself_counts_for_no_breaker_and_is_held_back_by_none() {
        let mut health = OperationHealth::new(PATIENCE);
        (0..9).for_each(|request| health.failed(request, false, &answered(500), Duration::ZERO));
        assert!(!health.is_failing() && !health.is_half_open(true).unwrap());
        (0..9).for_each(|request| health.failed(request, true, &answered(500), Duration::ZERO));
        assert!(health.is_failing() && health.is_half_open(true).unwrap());
        assert!(!health.is_half_open(false).unwrap());
        health.succeeded(false);
        assert!(health.is_failing(), "its success says nothing either");
        health.succeeded(true);
        assert!(!health.is_failing());
    }
}
