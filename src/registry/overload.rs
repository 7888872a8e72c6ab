//! A host that says "not now" (429, 503) and not for how long. Pure.
//!
//! Nobody talks to it for a while that grows each time. After each of these pauses one request goes out, and the others wait
//! for how it fares: an overload costs each request that meets it one answer, and each pause one more. It lasts as long as
//! there is patience. Questions and writes are told apart: some registries limit uploads alone.

use std::time::Duration;

use crate::clock::Instant;
use crate::registry::cause::Cause;
use crate::registry::error_response::ErrorResponse;
use crate::registry::retry::{Delays, RetryPolicy};

/// Whether a host is overloaded.
#[derive(Debug, Default)]
pub(super) enum Overload {
    #[default]
    None,
    BackingOff {
        delays: Delays,
        /// When the last pause began.
        since: Instant,
        /// All of them together.
        waited: Duration,
    },
    GivenUp {
        cause: Cause,
        since: Instant,
    },
}

impl Overload {
    /// Whether one request at a time goes out; the cause if that would be in vain.
    pub(super) fn is_on(&self) -> Result<bool, Cause> {
        match self {
            Self::None => Ok(false),
            Self::BackingOff { .. } => Ok(true),
            Self::GivenUp { cause, .. } => Err(cause.clone()),
        }
    }

    /// Since when it is given up, if it is.
    pub(super) fn given_up(&self) -> Option<Instant> {
        match self {
            Self::GivenUp { since, .. } => Some(*since),
            _ => None,
        }
    }

    /// It answered something else.
    pub(super) fn ended(&mut self) {
        *self = Self::None;
    }

    /// Takes in the refusal of a request that was `sent` then. Comes back with the pause that begins `now`; none for what was
    /// sent before the last pause, which belongs to the same overload.
    ///
    /// # Errors
    /// Nothing else came for as long as there is patience: how long that was.
    pub(super) fn refused(
        &mut self,
        sent: Instant,
        now: Instant,
        refusal: &ErrorResponse,
        policy: &RetryPolicy,
    ) -> Result<Option<Duration>, Duration> {
        if let Self::None = self {
            *self = Self::BackingOff { delays: policy.delays(), since: sent, waited: Duration::ZERO };
        }
        match self {
            Self::BackingOff { since, .. } if sent < *since => Ok(None),
            Self::BackingOff { waited, .. } if *waited >= policy.connect_patience => {
                let waited = *waited;
                let cause = Cause::OutOfPatience { refusal: refusal.clone(), waited };
                *self = Self::GivenUp { cause, since: now };
                Err(waited)
            }
            Self::BackingOff { delays, since, waited } => {
                let pause = delays.next().min(policy.connect_patience.saturating_sub(*waited));
                *waited += pause;
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
    fn one_overload_is_one_pause_whoever_meets_it_and_the_next_may_be_longer() {
        let (mut host, policy, mut now) = (Overload::default(), RetryPolicy::default(), Instant::now());
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
        host.ended();
        assert!(!host.is_on().unwrap());
        let pause = host.refused(now, now, &refusal(), &policy).unwrap().unwrap();
        assert!(pause <= policy.min_delay, "{pause:?}");
    }

    #[test]
    fn it_lasts_as_long_as_there_is_patience_and_is_given_up_for_all() {
        let (mut host, policy) = (Overload::default(), RetryPolicy::default());
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
