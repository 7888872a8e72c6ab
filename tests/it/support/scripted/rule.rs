//! Which requests meet something else than a right answer, and what.

use std::sync::Arc;

use super::{Answer, Request};

/// What becomes of a request.
#[derive(Clone)]
pub(crate) enum Action {
    /// The connection is reset before the body is read; nothing is done.
    ResetBefore,
    /// It is done, and the connection ends without an answer.
    LoseAnswer,
    /// It is not done; this is the answer.
    Answer(Answer),
    /// It is not done; the answer depends on the request.
    Make(Arc<dyn Fn(&Request) -> Answer + Send + Sync>),
    /// It is done, and this is the answer all the same.
    DoneBut(Answer),
    /// It is done after this was.
    Meanwhile(Arc<dyn Fn(&Request) + Send + Sync>),
    /// It is done, but its body is not read before this has been done.
    ReadAfter(Arc<dyn Fn(&Request) + Send + Sync>),
    /// Nothing is done until the client is gone; the test can wait for the moment.
    Hold,
    /// The right answer ends after so many bytes of its body, and the connection with it.
    CutAfter(usize),
    /// No more than so many bytes of the body of the right answer come until the client is gone; the test can wait for the moment.
    HoldAfter(usize),
}

impl Action {
    pub(crate) fn make(make: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::Make(Arc::new(make))
    }

    pub(crate) fn meanwhile(work: impl Fn(&Request) + Send + Sync + 'static) -> Self {
        Self::Meanwhile(Arc::new(work))
    }

    pub(crate) fn read_after(work: impl Fn(&Request) + Send + Sync + 'static) -> Self {
        Self::ReadAfter(Arc::new(work))
    }
}

/// Picks requests.
pub(crate) struct Rule {
    method: Option<&'static str>,
    part: String,
    nth: Option<usize>,
    times: usize,
    holds: Arc<dyn Fn(&Request) -> bool + Send + Sync>,
    action: Action,
    seen: usize,
}

impl Rule {
    /// Every request.
    pub(crate) fn any(action: Action) -> Self {
        let holds = Arc::new(|_: &Request| true);
        Self { method: None, part: String::new(), nth: None, times: usize::MAX, holds, action, seen: 0 }
    }

    /// Requests with this method whose path and query contain `part`.
    pub(crate) fn on(method: &'static str, part: impl Into<String>, action: Action) -> Self {
        Self { method: Some(method), part: part.into(), ..Self::any(action) }
    }

    /// Only the nth of them, counted from 1.
    pub(crate) fn nth(self, nth: usize) -> Self {
        Self { nth: Some(nth), ..self }
    }

    /// Only the first ones.
    pub(crate) fn times(self, times: usize) -> Self {
        Self { times, ..self }
    }

    /// Only those of which this is true.
    pub(crate) fn when(self, holds: impl Fn(&Request) -> bool + Send + Sync + 'static) -> Self {
        Self { holds: Arc::new(holds), ..self }
    }

    pub(super) fn meets(&mut self, request: &Request) -> Option<Action> {
        let fits = self.method.is_none_or(|method| method == request.method)
            && request.target().contains(&self.part)
            && (self.holds)(request);
        if !fits {
            return None;
        }
        self.seen += 1;
        let hits = self.nth.map_or(self.seen <= self.times, |nth| nth == self.seen);
        hits.then(|| self.action.clone())
    }
}
