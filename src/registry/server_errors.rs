//! Server errors that last: whether a host fails every request, or only one. Pure.
//!
//! A 500 to one request is that request's business: a blob that the storage does not take, a manifest over which a database
//! stumbles. The same one to five requests in a row, and no other answer in between, is the host's. Then one request at a
//! time goes out and the others wait for its result, for as long as patience allows. Questions and writes are counted apart:
//! what has lost its disk may answer from memory for hours.

use std::collections::HashSet;
use std::time::Duration;

use reqwest::Method;

use crate::clock::Instant;
use crate::registry::cause::Cause;
use crate::registry::error_response::ErrorResponse;

/// Requests in a row that fail alike before it is the host's failure.
const REQUESTS: usize = 5;
/// All waiting of a run, as a multiple of the patience.
const ALL_OUTAGES: u32 = 10;

/// What kind of requests fail alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manner {
    Question,
    Write,
}

impl Manner {
    /// The kind of a request, by its method.
    pub(super) fn of(method: &Method) -> Self {
        match *method {
            Method::GET | Method::HEAD => Self::Question,
            _ => Self::Write,
        }
    }
}

#[derive(Debug)]
enum Health {
    Well,
    /// Some requests in a row, by their numbers.
    Ailing {
        refusal: ErrorResponse,
        requests: HashSet<u64>,
    },
    Failing {
        refusal: ErrorResponse,
        probes: u32,
    },
    GivenUp {
        cause: Cause,
        since: Instant,
    },
}

/// Whether a host fails whatever is asked of it.
#[derive(Debug)]
pub(super) struct LastingFailure {
    patience: Duration,
    health: Health,
    waited: Duration,
    waited_in_all: Duration,
}

impl LastingFailure {
    pub(super) const fn new(patience: Duration) -> Self {
        Self { patience, health: Health::Well, waited: Duration::ZERO, waited_in_all: Duration::ZERO }
    }

    /// Whether requests have to wait; the cause if they would wait in vain.
    pub(super) fn is_on(&self) -> Result<bool, Cause> {
        match &self.health {
            Health::Well | Health::Ailing { .. } => Ok(false),
            Health::Failing { .. } => Ok(true),
            Health::GivenUp { cause, .. } => Err(cause.clone()),
        }
    }

    /// Since when it is given up, if it is.
    pub(super) fn given_up(&self) -> Option<Instant> {
        match &self.health {
            Health::GivenUp { since, .. } => Some(*since),
            _ => None,
        }
    }

    /// Takes in that a request was answered with something else.
    pub(super) fn answered(&mut self) {
        if !matches!(self.health, Health::GivenUp { .. }) {
            self.health = Health::Well;
            self.waited = Duration::ZERO;
        }
    }

    /// Takes in a failed try of the request with this number, which took so long that it counts as waiting. What is no answer
    /// says nothing here.
    pub(super) fn failed(&mut self, request: u64, cause: &Cause, waited: Duration) {
        let Cause::Answer(refusal) = cause else { return };
        if !refusal.is_of_server() {
            return self.answered();
        }
        self.waited += waited;
        self.waited_in_all += waited;
        match &mut self.health {
            Health::Ailing { refusal: known, requests } if known.is_alike(refusal) => {
                requests.insert(request);
                if requests.len() >= REQUESTS {
                    self.health = Health::Failing { refusal: refusal.clone(), probes: 0 };
                }
            }
            Health::Well | Health::Ailing { .. } => {
                self.health = Health::Ailing { refusal: refusal.clone(), requests: HashSet::from([request]) };
            }
            Health::Failing { .. } | Health::GivenUp { .. } => {}
        }
    }

    /// The turn of one request: how long it waits before it goes out, and why; nothing if it need not wait.
    ///
    /// # Errors
    /// There is no patience left.
    pub(super) fn turn(
        &mut self,
        least: Duration,
        most: Duration,
        now: Instant,
    ) -> Result<Option<(Duration, String)>, Cause> {
        let left = self.patience.saturating_sub(self.waited);
        let left = left.min((self.patience * ALL_OUTAGES).saturating_sub(self.waited_in_all));
        match &mut self.health {
            Health::Well | Health::Ailing { .. } => Ok(None),
            Health::GivenUp { cause, .. } => Err(cause.clone()),
            Health::Failing { refusal, probes } if !left.is_zero() => {
                let pause = least.saturating_mul(2_u32.saturating_pow(*probes)).min(most).min(left);
                *probes += 1;
                Ok(Some((pause, format!("{refusal}, to whatever is asked"))))
            }
            Health::Failing { refusal, .. } => {
                let cause = Cause::Failing { refusal: refusal.clone(), waited: self.waited };
                self.health = Health::GivenUp { cause: cause.clone(), since: now };
                Err(cause)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const LEAST: Duration = Duration::from_millis(500);
    const MOST: Duration = Duration::from_secs(2);

    fn answer(status: u16, body: &str) -> Cause {
        Cause::Answer(ErrorResponse::new(status, None, body.as_bytes(), str::to_owned))
    }

    fn failing() -> LastingFailure {
        let mut host = LastingFailure::new(PATIENCE);
        (0..5).for_each(|request| host.failed(request, &answer(500, ""), Duration::ZERO));
        host
    }

    #[test]
    fn it_takes_five_requests_in_a_row_that_fail_alike() {
        assert_eq!(failing().is_on().ok(), Some(true));
        let mut one = LastingFailure::new(PATIENCE);
        (0..50).for_each(|_| one.failed(7, &answer(500, ""), Duration::ZERO));
        assert_eq!(one.is_on().ok(), Some(false), "one request, however often it is tried");
        let mut some = LastingFailure::new(PATIENCE);
        for request in 0..50 {
            some.failed(request, &answer(500, ""), Duration::ZERO);
            if request % 4 == 3 {
                some.answered();
            }
        }
        assert_eq!(some.is_on().ok(), Some(false), "others succeed in between");
        let mut others = LastingFailure::new(PATIENCE);
        for request in 0..50 {
            let code = if request % 2 == 0 { "A" } else { "B" };
            others.failed(
                request,
                &answer(500, &format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#)),
                Duration::ZERO,
            );
        }
        assert_eq!(others.is_on().ok(), Some(false), "not alike");
        for cause in [answer(404, ""), answer(503, ""), Cause::Broken(String::new())] {
            let mut other = LastingFailure::new(PATIENCE);
            (0..50).for_each(|request| other.failed(request, &cause, Duration::ZERO));
            assert_eq!(other.is_on().ok(), Some(false), "{cause:?}");
        }
    }

    #[test]
    fn one_asks_at_growing_intervals_until_patience_ends() {
        let mut host = failing();
        let mut pauses = Vec::new();
        let cause = loop {
            match host.turn(LEAST, MOST, Instant::now()) {
                Ok(turn) => pauses.push(turn.unwrap().0),
                Err(cause) => break cause,
            }
            host.failed(99, &answer(500, ""), *pauses.last().unwrap());
        };
        assert_eq!(pauses[..4], [500, 1000, 2000, 2000].map(Duration::from_millis));
        assert_eq!(pauses.iter().sum::<Duration>(), PATIENCE);
        assert!(matches!(&cause, Cause::Failing { waited, .. } if *waited == PATIENCE), "{cause:?}");
        host.answered();
        assert!(host.is_on().is_err(), "what was given up stays given up");
    }

    #[test]
    fn any_other_answer_ends_it() {
        let mut host = failing();
        host.turn(LEAST, MOST, Instant::now()).unwrap();
        host.failed(99, &answer(404, ""), Duration::from_secs(1));
        assert_eq!(host.is_on().ok(), Some(false));
        assert_eq!(host.turn(LEAST, MOST, Instant::now()).unwrap(), None);
    }
}
