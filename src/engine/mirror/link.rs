//! The connection of a task to its mirror: permits for requests, the end of the run, and what a failure means for the other
//! images.

use std::sync::Arc;

use tokio::sync::SemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::limiter::{ByDelay, ByRate, ConcurrencyLimiter, Permit};
use crate::engine::stop::StopSignal;
use crate::registry::{FailureKind, Registry, RegistryError};
use crate::report::{Class, Failure};

/// The connection of a task to its mirror.
#[derive(Debug)]
pub(super) struct MirrorLink {
    pub(super) registry: Registry,
    pub(super) limiter: Arc<ConcurrencyLimiter>,
    stop: StopSignal,
    /// Ends when the mirror can no longer be reached, or the run ends: what is left need not try.
    lost: CancellationToken,
}

impl MirrorLink {
    /// A link that ends with `stop`.
    pub(super) fn new(registry: Registry, limiter: Arc<ConcurrencyLimiter>, stop: &StopSignal) -> Self {
        Self { registry, limiter, stop: stop.clone(), lost: stop.token().child_token() }
    }

    /// A permit for a question, held until the answer is there.
    pub(super) async fn question(&self) -> Result<Permit<'_, ByDelay>, Failure> {
        Self::permitted(self.unless_lost(self.limiter.question()).await?)
    }

    /// Memory for a blob that is sent as a question.
    pub(super) async fn small(&self, bytes: u64) -> Result<SemaphorePermit<'_>, Failure> {
        Self::permitted(self.unless_lost(self.limiter.small(bytes)).await?)
    }

    /// A permit for the body of a large blob.
    pub(super) async fn body(&self) -> Result<Permit<'_, ByRate>, Failure> {
        Self::permitted(self.unless_lost(self.limiter.body()).await?)
    }

    fn permitted<T>(permit: Option<T>) -> Result<T, Failure> {
        permit.ok_or_else(|| Failure::internal("the permits are gone"))
    }

    /// Waits for a future, but no longer than the mirror can be reached.
    pub(super) async fn unless_lost<T>(&self, wait: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            () = self.lost.cancelled() => Err(self.why_lost()),
            ready = wait => Ok(ready),
        }
    }

    /// Whether to go on.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.lost.is_cancelled() { Err(self.why_lost()) } else { Ok(()) }
    }

    fn why_lost(&self) -> Failure {
        if self.stop.token().is_cancelled() {
            return self.stop.why();
        }
        Failure::new(Class::Unreachable, "the mirror could no longer be reached")
    }

    /// What an error means for the rest of the mirror, and for the run.
    pub(super) fn judge(&self, error: &RegistryError) -> Failure {
        if error.kind() == FailureKind::Unreachable {
            self.lost.cancel();
        }
        Failure::from(error)
    }
}
