//! Whether a request waits for the bundle or for the registry. The observer hears of each change.

use std::sync::Arc;

use super::Observer;
use crate::locks::Mutex;

/// What a request on its way waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlightPhase {
    /// Bytes of its body that are not there yet.
    Bytes,
    /// The limit on bytes a second.
    Limit,
    /// That the network takes bytes of its body.
    Network,
    /// The answer.
    Answer,
    /// The next attempt: the last one failed.
    NextTry,
}

/// A request on its way, from the moment it is sent until it is answered or given up.
pub(super) struct Flight {
    observer: Arc<dyn Observer>,
    /// None once it has ended: its body may outlive it.
    phase: Mutex<Option<FlightPhase>>,
}

/// Ends a flight, whatever became of the request.
pub(super) struct FlightGuard(Arc<Flight>);

impl Flight {
    /// A request is sent.
    pub(super) fn begin(observer: &Arc<dyn Observer>) -> FlightGuard {
        let phase = FlightPhase::Answer;
        observer.flight(None, Some(phase));
        FlightGuard(Arc::new(Self { observer: Arc::clone(observer), phase: Mutex::new(Some(phase)) }))
    }

    /// From now on the request waits for something else.
    pub(super) fn turn_to(&self, next: FlightPhase) {
        let mut phase = self.phase.lock();
        if let Some(before) = phase.filter(|before| *before != next) {
            *phase = Some(next);
            self.observer.flight(Some(before), Some(next));
        }
    }
}

impl FlightGuard {
    pub(super) fn flight(&self) -> Arc<Flight> {
        Arc::clone(&self.0)
    }
}

/// A failed request waits for its next attempt as long as this lives.
pub(super) struct PauseGuard<'o>(&'o dyn Observer);

impl<'o> PauseGuard<'o> {
    pub(super) fn begin(observer: &'o dyn Observer) -> Self {
        observer.flight(None, Some(FlightPhase::NextTry));
        Self(observer)
    }
}

impl Drop for PauseGuard<'_> {
    fn drop(&mut self) {
        self.0.flight(Some(FlightPhase::NextTry), None);
    }
}

impl Drop for FlightGuard {
    fn drop(&mut self) {
        if let Some(before) = self.0.phase.lock().take() {
            self.0.observer.flight(Some(before), None);
        }
    }
}
