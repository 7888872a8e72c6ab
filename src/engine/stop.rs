//! The end of the work on one mirror before all is done.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::clock::Instant;
use crate::report::Failure;

/// How long requests in flight may take to end after the run was interrupted.
const GRACE: Duration = Duration::from_secs(10);

/// Ends the work on one mirror, also when the whole run ends. A later reason replaces an earlier one, and never gives requests in
/// flight more time.
#[derive(Debug, Clone)]
pub(super) struct StopSignal(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    run: CancellationToken,
    token: CancellationToken,
    reason: watch::Sender<Option<StopReason>>,
}

/// Why one mirror is stopped, and until when requests in flight may end.
#[derive(Debug)]
struct StopReason {
    why: Failure,
    at_latest: Instant,
}

impl StopSignal {
    pub(super) fn new(run: &CancellationToken) -> Self {
        let (reason, _) = watch::channel(None);
        Self(Arc::new(Inner { run: run.clone(), token: run.child_token(), reason }))
    }

    /// No new request begins on the mirror; those in flight may take this long.
    pub(super) fn stop(&self, why: Failure, grace: Duration) {
        let ends = Instant::now() + grace;
        self.0.reason.send_modify(|reason| {
            let at_latest = reason.as_ref().map_or(ends, |earlier| earlier.at_latest.min(ends));
            *reason = Some(StopReason { why, at_latest });
        });
        self.0.token.cancel();
    }

    pub(super) fn token(&self) -> &CancellationToken {
        &self.0.token
    }

    /// Why this mirror alone was stopped; none where all of the run is.
    pub(super) fn reason(&self) -> Option<Failure> {
        if self.0.run.is_cancelled() {
            return None;
        }
        self.0.reason.borrow().as_ref().map(|reason| reason.why.clone())
    }

    /// Why no new request begins.
    pub(super) fn why(&self) -> Failure {
        self.reason().unwrap_or_else(Failure::interrupted)
    }

    /// Waits until the work is stopped, and as long as what was on its way then may take: when the run ends, until nothing
    /// is, which is when `idle` ends.
    pub(super) async fn overdue(&self, idle: impl Future<Output = ()>) {
        tokio::select! {
            () = self.too_late() => {}
            () = async {
                self.0.run.cancelled().await;
                drop(tokio::time::timeout(GRACE, idle).await);
            } => {}
        }
    }

    /// Waits for the end of what this mirror alone was given, which may still come nearer.
    async fn too_late(&self) {
        let mut reason = self.0.reason.subscribe();
        loop {
            let at_latest = reason.borrow_and_update().as_ref().map(|reason| reason.at_latest);
            let end = async {
                match at_latest {
                    Some(at_latest) => tokio::time::sleep_until(at_latest).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = end => return,
                Ok(()) = reason.changed() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Class;

    const HOUR: Duration = Duration::from_secs(3600);

    async fn seconds_until_overdue(stop: &StopSignal, then: impl Future<Output = ()>) -> u64 {
        let began = Instant::now();
        tokio::join!(stop.overdue(std::future::pending()), then);
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_later_reason_shortens_what_an_earlier_one_gave_and_never_lengthens_it() {
        let why = |class| Failure::new(class, "x");
        for (first, second, seconds) in [(HOUR, 10, 70), (HOUR / 60, 3600, 60)] {
            let stop = StopSignal::new(&CancellationToken::new());
            stop.stop(why(Class::Deferred), first);
            let later = async {
                tokio::time::sleep(Duration::from_millis(59_999)).await;
                stop.stop(why(Class::Deadline), Duration::from_secs(second));
            };
            let took = seconds_until_overdue(&stop, later).await;
            assert!(took.abs_diff(seconds) <= 1, "{took}");
            assert_eq!(stop.why().class, Class::Deadline);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_is_interrupted_does_not_wait_for_what_a_closed_window_allows() {
        let run = CancellationToken::new();
        let stop = StopSignal::new(&run);
        stop.stop(Failure::new(Class::Deferred, "x"), HOUR);
        let interrupt = async { run.cancel() };
        assert!(seconds_until_overdue(&stop, interrupt).await <= GRACE.as_secs() + 1);
        assert_eq!((stop.reason(), stop.why()), (None, Failure::interrupted()));
    }
}
