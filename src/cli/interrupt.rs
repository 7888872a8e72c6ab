//! Ctrl-C and SIGTERM: the first lets requests end and the report be written, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::output::Output;
use crate::exit::Exit;
use crate::report::Failure;

/// Listens for signals for as long as the process lives.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    /// Cancelled by the first signal.
    pub(super) token: CancellationToken,
    sending: Arc<AtomicBool>,
    /// Whether people are told that it is heard.
    tells: Arc<AtomicBool>,
}

impl Interrupt {
    /// Begins to listen, on a thread of its own: no work of ours can keep it from hearing.
    pub(super) fn listen() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::io("listening for signals", &error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (interrupts, terminations) = {
            let _context = runtime.enter();
            (
                signal(SignalKind::interrupt()).map_err(failed)?,
                signal(SignalKind::terminate()).map_err(failed)?,
            )
        };
        let this = Self { token: CancellationToken::new(), sending: Arc::default(), tells: Arc::default() };
        let waiting = this.clone().wait(interrupts, terminations);
        let thread = std::thread::Builder::new().name("signals".to_owned());
        thread.spawn(move || runtime.block_on(waiting)).map_err(failed)?;
        Ok(this)
    }

    /// From now on there is something to end well.
    pub(super) fn sending(&self, output: &Output) {
        self.tells.store(!output.quiet && !output.is_json(), Ordering::Relaxed);
        self.sending.store(true, Ordering::Relaxed);
    }

    /// The same for what is stopped so as a rule.
    pub(super) fn serving(&self) {
        self.sending.store(true, Ordering::Relaxed);
    }

    async fn wait(self, mut interrupts: Signal, mut terminations: Signal) {
        loop {
            tokio::select! { _ = interrupts.recv() => {}, _ = terminations.recv() => {} }
            // Before anything is sent there is nothing to save; a second signal asks for no more saving.
            if !self.sending.load(Ordering::Relaxed) || self.token.is_cancelled() {
                #[allow(clippy::exit)] // spool files are unlinked already; this is what was asked for
                std::process::exit(Exit::Interrupted.code().into());
            }
            self.token.cancel();
            if self.tells.load(Ordering::Relaxed) {
                Output::say(
                    "stopping: requests that are on their way are ended, and the report is written; a second signal ends at once",
                );
            }
        }
    }
}
