//! When a measurement ends: it was told to, its time is over, or a part of it has failed.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Instant;
use crate::registry::RegistryError;

/// Why a part of a measurement has no result.
#[derive(Debug, Clone)]
pub(super) enum Ended {
    /// Somebody told it to stop.
    Interrupted,
    /// Its time, or its bytes, are used up.
    UsedUp,
    /// A request with so many bytes was refused as too large.
    TooLarge(u64),
    /// The registry refuses what is asked, or cannot be reached.
    Refused(RegistryError),
}

impl From<RegistryError> for Ended {
    fn from(error: RegistryError) -> Self {
        Self::Refused(error)
    }
}

/// How long a measurement, or a part of it, may go on.
#[derive(Debug, Clone)]
pub(super) struct LinkDeadline {
    told: CancellationToken,
    part: CancellationToken,
    deadline: Instant,
}

impl LinkDeadline {
    pub(super) fn new(told: CancellationToken, time: Duration) -> Self {
        Self { told, part: CancellationToken::new(), deadline: Instant::now() + time }
    }

    /// The same for a part whose failure stops no other.
    pub(super) fn part(&self) -> Self {
        Self { part: self.part.child_token(), ..self.clone() }
    }

    /// Ends what waits in this part.
    pub(super) fn end_part(&self) {
        self.part.cancel();
    }

    /// What `work` comes to, unless the end comes first.
    pub(super) async fn or<T>(&self, work: impl Future<Output = T>) -> Result<T, Ended> {
        self.or_within(Duration::ZERO, work).await
    }

    /// What `work` comes to. Once the end has come, it has so long to be done.
    pub(super) async fn or_within<T>(
        &self,
        grace: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Ended> {
        self.check()?;
        let mut work = std::pin::pin!(work);
        let ended = tokio::select! {
            biased;
            done = &mut work => return Ok(done),
            () = self.told.cancelled() => Ended::Interrupted,
            () = self.part.cancelled() => Ended::UsedUp,
            () = tokio::time::sleep_until(self.deadline) => Ended::UsedUp,
        };
        if grace.is_zero() {
            return Err(ended);
        }
        tokio::time::timeout(grace, work).await.map_err(|_| ended)
    }

    /// Whether it may go on.
    pub(super) fn check(&self) -> Result<(), Ended> {
        if self.told.is_cancelled() {
            return Err(Ended::Interrupted);
        }
        let is_over = self.part.is_cancelled() || Instant::now() >= self.deadline;
        if is_over { Err(Ended::UsedUp) } else { Ok(()) }
    }
}
