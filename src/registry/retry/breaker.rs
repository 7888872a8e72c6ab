//! The circuit breaker of one host: whether it can be reached, and how much patience is left with it. Pure; `driver` lets one
//! request probe the host, and the others wait.
//!
//! A host that takes no connections, or takes them and answers nothing, opens the breaker at once. One that hangs up, or whose
//! proxy says that it is away, opens it when that has happened to five requests in a row: a failure of one alone is
//! that request's business. A half-open probe over a new connection closes the breaker; an answer over a connection from
//! before the outage proves nothing. All waiting uses up patience, and so do the pauses that the host asks for, until the host
//! takes something.

use std::time::Duration;

use super::patience::HostPatience;
use crate::clock::Instant;
use crate::registry::cause::Cause;
use crate::registry::error::RegistryError;

/// A host that comes back is noticed this soon.
pub(in crate::registry) const MAX_PROBE_DELAY: Duration = Duration::from_secs(2);
/// Failures in a row after which a host that still takes connections counts as down.
const FAILURES_IN_A_ROW: u32 = 5;
/// How often a name is looked up that does not exist.
const NAME_LOOKUPS: u32 = 3;

/// What a failed attempt says of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HostSign {
    /// It takes no connections, or answers nothing.
    Down,
    /// It may be down.
    Suspect,
    /// It answered.
    Up,
    /// It has no address.
    NoAddress,
}

#[derive(Debug)]
enum CircuitState {
    Closed,
    Open { sign: HostSign, cause: Cause },
    GivenUp { cause: Cause, since: Instant },
}

/// Whether a host can be talked to.
#[derive(Debug)]
pub(in crate::registry) struct CircuitBreaker {
    patience: HostPatience,
    state: CircuitState,
    failures: u32,
    lookups: u32,
}

impl CircuitBreaker {
    pub(in crate::registry) const fn new(patience: Duration) -> Self {
        Self { patience: HostPatience::new(patience), state: CircuitState::Closed, failures: 0, lookups: 0 }
    }

    /// Whether requests have to wait; the cause if the host was given up.
    pub(in crate::registry) fn is_open(&self) -> Result<bool, Cause> {
        match &self.state {
            CircuitState::Closed => Ok(false),
            CircuitState::Open { .. } => Ok(true),
            CircuitState::GivenUp { cause, .. } => Err(cause.clone()),
        }
    }

    /// Why the host was given up and when, if it was.
    pub(in crate::registry) fn given_up(&self) -> Option<(Cause, Instant)> {
        match &self.state {
            CircuitState::GivenUp { cause, since } => Some((cause.clone(), *since)),
            CircuitState::Closed | CircuitState::Open { .. } => None,
        }
    }

    /// Why requests have to wait, in few words.
    pub(in crate::registry) fn why(&self) -> String {
        match &self.state {
            CircuitState::Open { cause, .. } | CircuitState::GivenUp { cause, .. } => {
                RegistryError::from(cause.clone()).to_string()
            }
            CircuitState::Closed => String::new(),
        }
    }

    /// The same in the words that all requests share which fail alike.
    pub(in crate::registry) fn in_short(&self) -> String {
        match &self.state {
            CircuitState::Open { cause, .. } | CircuitState::GivenUp { cause, .. } => cause.in_short(),
            CircuitState::Closed => String::new(),
        }
    }

    /// An attempt failed, after so much waiting for the host.
    pub(in crate::registry) fn failed(&mut self, cause: &Cause, waited: Duration) {
        let sign = sign_of(cause);
        if sign == HostSign::Up {
            return self.answered();
        }
        self.book(waited);
        self.lookups = if sign == HostSign::NoAddress { self.lookups + 1 } else { 0 };
        self.failures += 1;
        let is_down = sign != HostSign::Suspect || self.failures >= FAILURES_IN_A_ROW;
        match &mut self.state {
            CircuitState::Closed if is_down => self.state = CircuitState::Open { sign, cause: cause.clone() },
            CircuitState::Open { sign: known, cause: shown } => (*known, *shown) = (sign, cause.clone()),
            CircuitState::Closed | CircuitState::GivenUp { .. } => {}
        }
    }

    /// The host answered a request.
    pub(in crate::registry) const fn answered(&mut self) {
        self.failures = 0;
        self.lookups = 0;
    }

    /// The host answered a half-open probe, after so much waiting.
    pub(in crate::registry) fn probed(&mut self, waited: Duration) {
        self.answered();
        self.book(waited);
        if matches!(self.state, CircuitState::Open { .. }) {
            self.state = CircuitState::Closed;
        }
    }

    /// The host took something: patience with it starts anew.
    pub(in crate::registry) const fn acknowledged(&mut self) {
        self.patience.renew();
    }

    /// Books waiting.
    pub(in crate::registry) fn book(&mut self, wait: Duration) {
        self.patience.spend(wait);
    }

    /// How long the host may still be waited for.
    pub(in crate::registry) fn left(&self) -> Duration {
        match &self.state {
            CircuitState::Open { sign: HostSign::NoAddress, .. } if self.lookups >= NAME_LOOKUPS => {
                Duration::ZERO
            }
            CircuitState::GivenUp { .. } => Duration::ZERO,
            CircuitState::Closed | CircuitState::Open { .. } => self.patience.left(),
        }
    }

    /// Nobody waits for the host any longer. Comes back with the cause.
    pub(in crate::registry) fn give_up(&mut self, now: Instant) -> Cause {
        let waited = self.patience.waited().as_secs();
        let cause = match std::mem::replace(&mut self.state, CircuitState::Closed) {
            CircuitState::Closed => Cause::Internal("a host that answers was given up".to_owned()),
            CircuitState::Open { cause: Cause::Unreachable(why), .. } if waited > 0 => {
                Cause::Unreachable(format!("{why} (waited for {waited} s)"))
            }
            CircuitState::Open { cause: Cause::Stalled(_), .. } => {
                let why = format!("connections are taken, and nothing is answered (waited for {waited} s)");
                Cause::Unreachable(why)
            }
            CircuitState::Open { cause: Cause::Broken(why), .. } => {
                let why = format!("connections are taken and closed again: {why} (waited for {waited} s)");
                Cause::Unreachable(why)
            }
            CircuitState::Open { cause: Cause::Answer(refusal), .. } => {
                Cause::OutOfPatience { refusal, waited: self.patience.waited() }
            }
            CircuitState::GivenUp { cause, .. } | CircuitState::Open { cause, .. } => cause,
        };
        self.state = CircuitState::GivenUp { cause: cause.clone(), since: now };
        cause
    }
}

fn sign_of(cause: &Cause) -> HostSign {
    match cause {
        Cause::Unreachable(_) | Cause::Stalled(_) => HostSign::Down,
        Cause::NoSuchName(_) => HostSign::NoAddress,
        Cause::Broken(_) => HostSign::Suspect,
        Cause::Answer(refusal) if refusal.is_of_gateway() => HostSign::Suspect,
        _ => HostSign::Up,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::error_response::ErrorResponse;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn refused() -> Cause {
        Cause::Unreachable("connection refused".to_owned())
    }

    #[test]
    fn patience_comes_back_only_when_the_host_took_something() {
        let mut breaker = CircuitBreaker::new(PATIENCE);
        breaker.failed(&refused(), Duration::ZERO);
        assert!(breaker.is_open().unwrap());
        breaker.failed(&refused(), seconds(13));
        breaker.probed(seconds(1));
        assert!(!breaker.is_open().unwrap());
        breaker.failed(&refused(), Duration::ZERO);
        assert_eq!(breaker.left(), seconds(6), "an answer alone gives none back");
        breaker.acknowledged();
        assert_eq!(breaker.left(), seconds(20));
    }

    #[test]
    fn an_answer_over_a_connection_that_still_stands_ends_no_outage() {
        let mut breaker = CircuitBreaker::new(PATIENCE);
        breaker.failed(&refused(), Duration::ZERO);
        breaker.answered();
        breaker.acknowledged();
        assert!(breaker.is_open().unwrap());
    }

    #[test]
    fn all_outages_together_have_an_end() {
        let mut breaker = CircuitBreaker::new(PATIENCE);
        for _ in 0..10 {
            breaker.failed(&refused(), Duration::ZERO);
            breaker.probed(seconds(19));
            breaker.acknowledged();
        }
        assert_eq!(breaker.left(), seconds(10));
    }

    #[test]
    fn what_was_given_up_stays_given_up_and_says_how_long_it_was_waited_for() {
        let mut breaker = CircuitBreaker::new(PATIENCE);
        breaker.failed(&refused(), Duration::ZERO);
        breaker.failed(&refused(), seconds(20));
        assert!(breaker.left().is_zero());
        let now = Instant::now();
        let cause = breaker.give_up(now);
        assert!(matches!(&cause, Cause::Unreachable(why) if why.contains("waited for 20 s")), "{cause:?}");
        breaker.probed(Duration::ZERO);
        assert!(breaker.is_open().is_err());
        assert!(breaker.given_up().is_some_and(|(_, since)| since == now));
    }

    #[test]
    fn a_host_that_hangs_up_is_down_after_five_in_a_row() {
        let gateway = |status| Cause::Answer(ErrorResponse::new(status, None, b"", str::to_owned));
        for (cause, opens_after) in [
            (refused(), 1),
            (Cause::Stalled(PATIENCE), 1),
            (Cause::Broken(String::new()), 5),
            (gateway(502), 5),
            (gateway(500), u32::MAX),
            (gateway(404), u32::MAX),
        ] {
            let mut breaker = CircuitBreaker::new(PATIENCE);
            let opened = (1..=9).find(|_| {
                breaker.failed(&cause, Duration::ZERO);
                breaker.is_open().unwrap()
            });
            assert_eq!(opened.unwrap_or(u32::MAX), opens_after, "{cause:?}");
        }
        let mut breaker = CircuitBreaker::new(PATIENCE);
        for _ in 0..9 {
            (0..4).for_each(|_| breaker.failed(&gateway(502), Duration::ZERO));
            breaker.answered();
        }
        assert!(!breaker.is_open().unwrap(), "answers in between");
    }

    #[test]
    fn a_proxy_without_its_registry_is_waited_for_as_long_as_one_that_is_away() {
        let away = Cause::Answer(ErrorResponse::new(502, None, b"", str::to_owned));
        let mut breaker = CircuitBreaker::new(seconds(3));
        (0..5).for_each(|_| breaker.failed(&away, Duration::ZERO));
        assert_eq!(breaker.left(), seconds(3));
        breaker.failed(&away, seconds(3));
        assert!(breaker.left().is_zero());
        assert!(
            matches!(breaker.give_up(Instant::now()), Cause::OutOfPatience { waited, .. } if waited == seconds(3))
        );
    }

    #[test]
    fn a_name_that_does_not_exist_is_looked_up_three_times() {
        let mut breaker = CircuitBreaker::new(PATIENCE);
        for n in 1..=3 {
            breaker.failed(&Cause::NoSuchName(String::new()), Duration::ZERO);
            assert_eq!(breaker.left().is_zero(), n == 3);
        }
    }
}
