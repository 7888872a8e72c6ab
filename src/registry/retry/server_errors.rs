//! Circuit breaker for server errors: whether a host fails every request, or only one. Pure.
//!
//! A 500 to one request is that request's business: a blob that the storage does not take, a manifest over which a database
//! stumbles. The same 500 to five requests in a row, with no other answer in between, is the host's failure, and opens the
//! breaker. Then one request at a time goes out and the others wait for its result, for as long as patience allows.

use std::collections::HashSet;
use std::time::Duration;

use super::breaker::MAX_PROBE_DELAY;
use super::patience::HostPatience;
use crate::clock::Instant;
use crate::registry::cause::Cause;
use crate::registry::error_response::ErrorResponse;

/// Requests in a row that fail alike before it is the host's failure.
const REQUESTS: usize = 5;

/// The next half-open probe: one request, after a pause.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::registry) struct ErrorProbe {
    pub(in crate::registry) after: Duration,
    /// What the host answers to every request, for people.
    pub(in crate::registry) why: String,
}

#[derive(Debug)]
enum ServerErrorState {
    Closed,
    /// Some requests in a row failed, by their numbers.
    Suspect {
        refusal: ErrorResponse,
        requests: HashSet<u64>,
    },
    Open {
        refusal: ErrorResponse,
        probes: u32,
    },
    GivenUp {
        cause: Cause,
        since: Instant,
    },
}

/// Whether a host answers every request with a server error.
#[derive(Debug)]
pub(super) struct ServerErrors {
    patience: HostPatience,
    state: ServerErrorState,
}

impl ServerErrors {
    pub(super) const fn new(patience: Duration) -> Self {
        Self { patience: HostPatience::new(patience), state: ServerErrorState::Closed }
    }

    /// Whether requests have to wait; the cause if the host was given up.
    pub(super) fn is_open(&self) -> Result<bool, Cause> {
        match &self.state {
            ServerErrorState::Closed | ServerErrorState::Suspect { .. } => Ok(false),
            ServerErrorState::Open { .. } => Ok(true),
            ServerErrorState::GivenUp { cause, .. } => Err(cause.clone()),
        }
    }

    /// When the host was given up, if it was.
    pub(super) fn given_up(&self) -> Option<Instant> {
        match &self.state {
            ServerErrorState::GivenUp { since, .. } => Some(*since),
            ServerErrorState::Closed | ServerErrorState::Suspect { .. } | ServerErrorState::Open { .. } => {
                None
            }
        }
    }

    /// A request was answered with something else.
    pub(super) fn answered(&mut self) {
        if !matches!(self.state, ServerErrorState::GivenUp { .. }) {
            self.state = ServerErrorState::Closed;
            self.patience.renew();
        }
    }

    /// An attempt of the request with this number failed, after so much waiting as a half-open probe. What is no answer says
    /// nothing here.
    pub(super) fn failed(&mut self, request: u64, cause: &Cause, waited: Duration) {
        let Cause::Answer(refusal) = cause else { return };
        if !refusal.is_of_server() {
            return self.answered();
        }
        self.patience.spend(waited);
        match &mut self.state {
            ServerErrorState::Suspect { refusal: known, requests } if known.is_alike(refusal) => {
                requests.insert(request);
                if requests.len() >= REQUESTS {
                    self.state = ServerErrorState::Open { refusal: refusal.clone(), probes: 0 };
                }
            }
            ServerErrorState::Closed | ServerErrorState::Suspect { .. } => {
                self.state = ServerErrorState::Suspect {
                    refusal: refusal.clone(),
                    requests: HashSet::from([request]),
                };
            }
            ServerErrorState::Open { .. } | ServerErrorState::GivenUp { .. } => {}
        }
    }

    /// The next half-open probe, while the breaker is open: after `first`, and after twice as long each time.
    ///
    /// # Errors
    /// There is no patience left.
    pub(super) fn next_probe(&mut self, first: Duration, now: Instant) -> Result<Option<ErrorProbe>, Cause> {
        let left = self.patience.left();
        match &mut self.state {
            ServerErrorState::Closed | ServerErrorState::Suspect { .. } => Ok(None),
            ServerErrorState::GivenUp { cause, .. } => Err(cause.clone()),
            ServerErrorState::Open { refusal, probes } if !left.is_zero() => {
                let after =
                    first.saturating_mul(2_u32.saturating_pow(*probes)).min(MAX_PROBE_DELAY).min(left);
                *probes += 1;
                Ok(Some(ErrorProbe { after, why: format!("{refusal}, to whatever is asked") }))
            }
            ServerErrorState::Open { refusal, .. } => {
                let cause = Cause::Failing { refusal: refusal.clone(), waited: self.patience.waited() };
                self.state = ServerErrorState::GivenUp { cause: cause.clone(), since: now };
                Err(cause)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);
    const FIRST: Duration = Duration::from_millis(500);

    fn answer(status: u16, body: &str) -> Cause {
        Cause::Answer(ErrorResponse::new(status, None, body.as_bytes(), str::to_owned))
    }

    fn failing() -> ServerErrors {
        let mut host = ServerErrors::new(PATIENCE);
        (0..5).for_each(|request| host.failed(request, &answer(500, ""), Duration::ZERO));
        host
    }

    #[test]
    fn it_takes_five_requests_in_a_row_that_fail_alike() {
        assert_eq!(failing().is_open().ok(), Some(true));
        let mut one = ServerErrors::new(PATIENCE);
        (0..50).for_each(|_| one.failed(7, &answer(500, ""), Duration::ZERO));
        assert_eq!(one.is_open().ok(), Some(false), "one request, however often it is tried");
        let mut some = ServerErrors::new(PATIENCE);
        for request in 0..50 {
            some.failed(request, &answer(500, ""), Duration::ZERO);
            if request % 4 == 3 {
                some.answered();
            }
        }
        assert_eq!(some.is_open().ok(), Some(false), "others succeed in between");
        let mut others = ServerErrors::new(PATIENCE);
        for request in 0..50 {
            let code = if request % 2 == 0 { "A" } else { "B" };
            others.failed(
                request,
                &answer(500, &format!(r#"{{"errors":[{{"code":"{code}"}}]}}"#)),
                Duration::ZERO,
            );
        }
        assert_eq!(others.is_open().ok(), Some(false), "not alike");
        for cause in [answer(404, ""), answer(503, ""), Cause::Broken(String::new())] {
            let mut other = ServerErrors::new(PATIENCE);
            (0..50).for_each(|request| other.failed(request, &cause, Duration::ZERO));
            assert_eq!(other.is_open().ok(), Some(false), "{cause:?}");
        }
    }

    #[test]
    fn one_asks_at_growing_intervals_until_patience_ends() {
        let mut host = failing();
        let mut pauses = Vec::new();
        let cause = loop {
            match host.next_probe(FIRST, Instant::now()) {
                Ok(probe) => pauses.push(probe.unwrap().after),
                Err(cause) => break cause,
            }
            host.failed(99, &answer(500, ""), *pauses.last().unwrap());
        };
        assert_eq!(pauses[..4], [500, 1000, 2000, 2000].map(Duration::from_millis));
        assert_eq!(pauses.iter().sum::<Duration>(), PATIENCE);
        assert!(matches!(&cause, Cause::Failing { waited, .. } if *waited == PATIENCE), "{cause:?}");
        host.answered();
        assert!(host.is_open().is_err(), "what was given up stays given up");
    }

    #[test]
    fn any_other_answer_ends_it() {
        let mut host = failing();
        host.next_probe(FIRST, Instant::now()).unwrap();
        host.failed(99, &answer(404, ""), Duration::from_secs(1));
        assert_eq!(host.is_open().ok(), Some(false));
        assert_eq!(host.next_probe(FIRST, Instant::now()).unwrap(), None);
    }
}
