//! The end of what comes before anything is sent: the first signal, or the deadline.

use futures_util::future::OptionFuture;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::clock::Instant;
use crate::report::{Class, Failure};

/// When a run that has not begun to send ends.
pub(super) struct TimeLimit<'a> {
    pub(super) runtime: &'a Runtime,
    pub(super) cancel: &'a CancellationToken,
    pub(super) ends: Option<Instant>,
}

impl TimeLimit<'_> {
    /// Waits for the signal or the deadline.
    pub(super) async fn is_over(&self) {
        tokio::select! {
            () = self.cancel.cancelled() => {}
            Some(()) = OptionFuture::from(self.ends.map(tokio::time::sleep_until)) => {}
        }
    }

    /// Ends the run where a signal came.
    pub(super) fn check_signal(&self) -> Result<(), Failure> {
        if self.cancel.is_cancelled() { Err(Failure::interrupted()) } else { Ok(()) }
    }

    /// Waits for work that ends early on a signal or at the deadline.
    ///
    /// # Errors
    /// A signal came, or the deadline passed, before `what`.
    pub(super) fn within<T>(&self, what: &str, work: impl Future<Output = T>) -> Result<T, Failure> {
        self.runtime.block_on(async {
            tokio::select! {
                done = work => Ok(done),
                () = self.is_over() => {
                    self.check_signal()?;
                    let message = format!("the run reached its deadline while {what}");
                    Err(Failure::new(Class::Deadline, message)
                        .hint("the next run goes on from what came; give it more time (`deadline`)"))
                }
            }
        })
    }

    /// Does work that may hang on a disk, or on a lock of another process, on a thread that is left to itself where that takes
    /// too long.
    ///
    /// # Errors
    /// A signal came, or the deadline passed, before `what`.
    pub(super) fn keep<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failure> {
        let (reply, answer) = oneshot::channel();
        // Not one of the runtime, which would wait for it at its end.
        let thread = std::thread::Builder::new().name("opening".to_owned());
        let begun = thread.spawn(move || drop(reply.send(work())));
        begun.map_err(|error| Failure::io("starting a thread", &error))?;
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                done = answer => done.map_err(|_| Failure::internal(format!("a thread ended while {what}"))),
                () = self.is_over() => {
                    self.check_signal()?;
                    let message = format!("the run reached its deadline while {what}");
                    Err(Failure::new(Class::Deadline, message)
                        .hint("look for a process that holds a lock there, or for a disk that hangs"))
                }
            }
        })
    }
}
