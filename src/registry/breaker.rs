//! The circuit breaker of one host: whether it can be talked to, and how much patience is left with it. Pure; who waits
//! and who looks is `host`'s.
//!
//! A host that takes no connections, or takes them and answers nothing, is *down* at once. One that hangs up, or whose
//! proxy says that it is away, is down once that has happened to five requests in a row: what happens to one alone is
//! that request's business. It is up again when one who looks says so; an answer over a connection that still stands
//! proves nothing. All waiting is booked, and so are the pauses that the host asks for: since the host last took
//! something, waiting may last as long as patience allows, and ten times as long in the whole run.

use std::time::Duration;

use crate::clock::Instant;
use crate::registry::cause::Cause;
use crate::registry::error::RegistryError;

/// Failures in a row after which a host that still takes connections counts as down.
const AILING_FAILURES: u32 = 5;
/// All waiting of a run, as a multiple of the patience.
const ALL_OUTAGES: u32 = 10;
/// How often a name is looked up that does not exist.
const NAME_LOOKUPS: u32 = 3;

/// What a failed try says of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// It is not there.
    Down,
    /// It may not be well.
    Ailing,
    /// It answered.
    Alive,
    /// It has no address.
    Nameless,
}

#[derive(Debug)]
enum Circuit {
    Closed,
    Open { sign: Sign, cause: Cause },
    GivenUp { cause: Cause, since: Instant },
}

/// Whether a host can be talked to.
#[derive(Debug)]
pub(super) struct Breaker {
    patience: Duration,
    state: Circuit,
    failures: u32,
    lookups: u32,
    /// Waited since the host last took something.
    waited: Duration,
    waited_in_all: Duration,
}

impl Breaker {
    pub(super) const fn new(patience: Duration) -> Self {
        Self {
            patience,
            state: Circuit::Closed,
            failures: 0,
            lookups: 0,
            waited: Duration::ZERO,
            waited_in_all: Duration::ZERO,
        }
    }

    /// Whether requests have to wait; the cause if they would wait in vain.
    pub(super) fn is_open(&self) -> Result<bool, Cause> {
        match &self.state {
            Circuit::Closed => Ok(false),
            Circuit::Open { .. } => Ok(true),
            Circuit::GivenUp { cause, .. } => Err(cause.clone()),
        }
    }

    /// Why the host was given up and when, if it was.
    pub(super) fn given_up(&self) -> Option<(Cause, Instant)> {
        match &self.state {
            Circuit::GivenUp { cause, since } => Some((cause.clone(), *since)),
            Circuit::Closed | Circuit::Open { .. } => None,
        }
    }

    /// Why requests have to wait, in few words.
    pub(super) fn why(&self) -> String {
        match &self.state {
            Circuit::Open { cause, .. } | Circuit::GivenUp { cause, .. } => {
                RegistryError::from(cause.clone()).to_string()
            }
            Circuit::Closed => String::new(),
        }
    }

    /// The same in the words that all requests share which fail alike.
    pub(super) fn in_short(&self) -> String {
        match &self.state {
            Circuit::Open { cause, .. } | Circuit::GivenUp { cause, .. } => cause.in_short(),
            Circuit::Closed => String::new(),
        }
    }

    /// Takes in a failed try, which took so long that it counts as waiting.
    pub(super) fn failed(&mut self, cause: &Cause, waited: Duration) {
        let sign = sign_of(cause);
        if sign == Sign::Alive {
            return self.answered();
        }
        self.book(waited);
        self.lookups = if sign == Sign::Nameless { self.lookups + 1 } else { 0 };
        self.failures += 1;
        let is_down = sign != Sign::Ailing || self.failures >= AILING_FAILURES;
        match &mut self.state {
            Circuit::Closed if is_down => self.state = Circuit::Open { sign, cause: cause.clone() },
            Circuit::Open { sign: known, cause: shown } => (*known, *shown) = (sign, cause.clone()),
            Circuit::Closed | Circuit::GivenUp { .. } => {}
        }
    }

    /// The host answered a request.
    pub(super) const fn answered(&mut self) {
        self.failures = 0;
        self.lookups = 0;
    }

    /// The host answered the one who looks, after so much waiting.
    pub(super) fn is_back(&mut self, waited: Duration) {
        self.answered();
        self.book(waited);
        if matches!(self.state, Circuit::Open { .. }) {
            self.state = Circuit::Closed;
        }
    }

    /// The host took something: patience with it starts anew.
    pub(super) const fn acknowledged(&mut self) {
        self.waited = Duration::ZERO;
    }

    /// Books waiting.
    pub(super) fn book(&mut self, wait: Duration) {
        self.waited += wait;
        self.waited_in_all += wait;
    }

    /// How long the host may still be waited for.
    pub(super) fn left(&self) -> Duration {
        let patience = match &self.state {
            Circuit::Open { sign: Sign::Nameless, .. } if self.lookups >= NAME_LOOKUPS => Duration::ZERO,
            Circuit::Closed | Circuit::Open { .. } => self.patience,
            Circuit::GivenUp { .. } => Duration::ZERO,
        };
        let now = patience.saturating_sub(self.waited);
        now.min((patience * ALL_OUTAGES).saturating_sub(self.waited_in_all))
    }

    /// Nobody waits any longer. Comes back with why.
    pub(super) fn give_up(&mut self, now: Instant) -> Cause {
        let waited = self.waited.as_secs();
        let cause = match std::mem::replace(&mut self.state, Circuit::Closed) {
            Circuit::Closed => Cause::Internal("a host that answers was given up".to_owned()),
            Circuit::Open { cause: Cause::Unreachable(why), .. } if waited > 0 => {
                Cause::Unreachable(format!("{why} (waited for {waited} s)"))
            }
            Circuit::Open { cause: Cause::Stalled(_), .. } => {
                let why = format!("connections are taken, and nothing is answered (waited for {waited} s)");
                Cause::Unreachable(why)
            }
            Circuit::Open { cause: Cause::Broken(why), .. } => {
                let why = format!("connections are taken and closed again: {why} (waited for {waited} s)");
                Cause::Unreachable(why)
            }
            Circuit::Open { cause: Cause::Answer(refusal), .. } => {
                Cause::OutOfPatience { refusal, waited: self.waited }
            }
            Circuit::GivenUp { cause, .. } | Circuit::Open { cause, .. } => cause,
        };
        self.state = Circuit::GivenUp { cause: cause.clone(), since: now };
        cause
    }
}

fn sign_of(cause: &Cause) -> Sign {
    match cause {
        Cause::Unreachable(_) | Cause::Stalled(_) => Sign::Down,
        Cause::NoSuchName(_) => Sign::Nameless,
        Cause::Broken(_) => Sign::Ailing,
        Cause::Answer(refusal) if refusal.is_of_gateway() => Sign::Ailing,
        _ => Sign::Alive,
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
        let mut breaker = Breaker::new(PATIENCE);
        breaker.failed(&refused(), Duration::ZERO);
        assert!(breaker.is_open().unwrap());
        breaker.failed(&refused(), seconds(13));
        breaker.is_back(seconds(1));
        assert!(!breaker.is_open().unwrap());
        breaker.failed(&refused(), Duration::ZERO);
        assert_eq!(breaker.left(), seconds(6), "an answer alone gives none back");
        breaker.acknowledged();
        assert_eq!(breaker.left(), seconds(20));
    }

    #[test]
    fn an_answer_over_a_connection_that_still_stands_ends_no_outage() {
        let mut breaker = Breaker::new(PATIENCE);
        breaker.failed(&refused(), Duration::ZERO);
        breaker.answered();
        breaker.acknowledged();
        assert!(breaker.is_open().unwrap());
    }

    #[test]
    fn all_outages_together_have_an_end() {
        let mut breaker = Breaker::new(PATIENCE);
        for _ in 0..10 {
            breaker.failed(&refused(), Duration::ZERO);
            breaker.is_back(seconds(19));
            breaker.acknowledged();
        }
        assert_eq!(breaker.left(), seconds(10));
    }

    #[test]
    fn what_was_given_up_stays_given_up_and_says_how_long_it_was_waited_for() {
        let mut breaker = Breaker::new(PATIENCE);
        breaker.failed(&refused(), Duration::ZERO);
        breaker.failed(&refused(), seconds(20));
        assert!(breaker.left().is_zero());
        let now = Instant::now();
        let cause = breaker.give_up(now);
        assert!(matches!(&cause, Cause::Unreachable(why) if why.contains("waited for 20 s")), "{cause:?}");
        breaker.is_back(Duration::ZERO);
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
            let mut breaker = Breaker::new(PATIENCE);
            let opened = (1..=9).find(|_| {
                breaker.failed(&cause, Duration::ZERO);
                breaker.is_open().unwrap()
            });
            assert_eq!(opened.unwrap_or(u32::MAX), opens_after, "{cause:?}");
        }
        let mut breaker = Breaker::new(PATIENCE);
        for _ in 0..9 {
            (0..4).for_each(|_| breaker.failed(&gateway(502), Duration::ZERO));
            breaker.answered();
        }
        assert!(!breaker.is_open().unwrap(), "answers in between");
    }

    #[test]
    fn a_proxy_without_its_registry_is_waited_for_as_long_as_one_that_is_away() {
        let away = Cause::Answer(ErrorResponse::new(502, None, b"", str::to_owned));
        let mut breaker = Breaker::new(seconds(3));
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
        let mut breaker = Breaker::new(PATIENCE);
        for n in 1..=3 {
            breaker.failed(&Cause::NoSuchName(String::new()), Duration::ZERO);
            assert_eq!(breaker.left().is_zero(), n == 3);
        }
    }
}
