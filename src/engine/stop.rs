//! The end of the work on one mirror before all is done.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::report::Failure;

/// How long requests in flight may take to end after the run was told to stop.
const GRACE: Duration = Duration::from_secs(10);

/// Ends the work on one mirror, also when the run is told to stop.
#[derive(Debug, Clone)]
pub(super) struct StopSignal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    token: CancellationToken,
    reason: OnceLock<(Failure, Duration)>,
}

impl StopSignal {
    pub(super) fn new(run: &CancellationToken) -> Self {
        Self(Arc::new(Inner { token: run.child_token(), reason: OnceLock::new() }))
    }

    /// Nothing more begins on the mirror; what is on its way may take so long to arrive.
    pub(super) fn stop(&self, why: Failure, grace: Duration) {
        let _ = self.0.reason.set((why, grace));
        self.0.token.cancel();
    }

    pub(super) fn token(&self) -> &CancellationToken {
        &self.0.token
    }

    /// Why this mirror alone was stopped.
    pub(super) fn reason(&self) -> Option<&Failure> {
        self.0.reason.get().map(|(why, _)| why)
    }

    /// Why nothing more begins.
    pub(super) fn why(&self) -> Failure {
        self.reason().cloned().unwrap_or_else(Failure::interrupted)
    }

    /// Waits until it was told to stop, and as long as what was on its way then may take: when the run ends, until nothing
    /// is, which is when `idle` ends.
    pub(super) async fn overdue(&self, idle: impl Future<Output = ()>) {
        self.0.token.cancelled().await;
        match self.0.reason.get() {
            Some((_, grace)) => tokio::time::sleep(*grace).await,
            None => drop(tokio::time::timeout(GRACE, idle).await),
        }
    }
}
