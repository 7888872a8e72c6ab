//! A host that says "not now" (429, 503) and not for how long. Pure.
//!
//! Nobody talks to the host for a while that grows each time. After each of these pauses one request goes out, and the others
//! wait for its result: each request that meets the limit costs one answer, and each pause one more. This lasts as long as
//! there is patience.

use std::time::Duration;

use super::patience::HostPatience;
use super::{Backoff, RetryPolicy};
use crate::clock::Instant;
use crate::registry::cause::Cause;
use crate::registry::error_response::ErrorResponse;

/// Whether a host limits the rate of requests.
#[derive(Debug)]
pub(super) enum RateLimit {
    None,
    Limited {
        backoff: Backoff,
        /// When the last pause began.
        since: Instant,
        patience: HostPatience,
    },
    GivenUp {
        cause: Cause,
        since: Instant,
    },
}

impl RateLimit {
    /// Whether one request at a time goes out; the cause if the host was given up.
    pub(super) fn is_on(&self) -> Result<bool, Cause> {
        match self {
            Self::None => Ok(false),
            Self::Limited { .. } => Ok(true),
            Self::GivenUp { cause, .. } => Err(cause.clone()),
        }
    }

    /// When the host was given up, if it was.
    pub(super) fn given_up(&self) -> Option<Instant> {
        match self {
            Self::GivenUp { since, .. } => Some(*since),
            Self::None | Self::Limited { .. } => None,
        }
    }

    /// A request that was `sent` then was refused. Comes back with the pause that begins `now`. What was sent before the last
    /// pause met the same limit, and begins none.
    ///
    /// # Errors
    /// There is no patience left: how long it was.
    pub(super) fn refused(
        &mut self,
        sent: Instant,
        now: Instant,
        refusal: &ErrorResponse,
        policy: &RetryPolicy,
    ) -> Result<Option<Duration>, Duration> {
        if let Self::None = self {
            let patience = HostPatience::new(policy.connect_patience);
            *self = Self::Limited { backoff: policy.backoff(), since: sent, patience };
        }
        match self {
            Self::Limited { since, .. } if sent < *since => Ok(None),
            Self::Limited { patience, .. } if patience.left().is_zero() => {
                let waited = patience.waited();
                let cause = Cause::OutOfPatience { refusal: refusal.clone(), waited };
                *self = Self::GivenUp { cause, since: now };
                Err(waited)
            }
            Self::Limited { backoff, since, patience } => {
                let pause = backoff.next().min(patience.left());
                patience.spend(pause);
                *since = now;
                Ok(Some(pause))
            }
            Self::GivenUp { cause: Cause::OutOfPatience { waited, .. }, .. } => Err(*waited),
            Self::None | Self::GivenUp { .. } => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn refusal() -> ErrorResponse {
        ErrorResponse::new(429, None, b"", str::to_owned)
    }

    #[test]
    fn one_pause_follows_however_many_requests_meet_the_limit_and_the_next_may_be_longer() {
        let (mut host, policy, mut now) = (RateLimit::None, RetryPolicy::default(), Instant::now());
        for turn in 0..5 {
            let sent = now;
            let pauses = (1..=100).filter_map(|n| {
                host.refused(sent, now + Duration::from_millis(n), &refusal(), &policy).unwrap()
            });
            let pauses: Vec<Duration> = pauses.collect();
            let [pause] = pauses[..] else { panic!("{pauses:?}") };
            let span = policy.min_delay * 2_u32.pow(turn);
            assert!(pause <= span, "{turn}: {pause:?}");
            assert!(host.is_on().unwrap());
            now += span + Duration::from_secs(1);
        }
    }

    #[test]
    fn it_lasts_as_long_as_there_is_patience_and_is_given_up_for_all() {
        let (mut host, policy) = (RateLimit::None, RetryPolicy::default());
        let (mut now, mut waited) = (Instant::now(), Duration::ZERO);
        while let Ok(Some(pause)) = host.refused(now, now, &refusal(), &policy) {
            waited += pause;
            now += pause + Duration::from_millis(1);
        }
        assert_eq!(waited, PATIENCE);
        let cause = host.is_on().unwrap_err();
        assert!(matches!(&cause, Cause::OutOfPatience { waited, .. } if *waited == PATIENCE), "{cause:?}");
        assert_eq!(host.given_up(), Some(now));
    }
}
