//! Ctrl-C and SIGTERM: the first lets requests end and the report be written, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Stop;
use crate::exit::Exit;

/// Listens for signals for as long as the runtime lives.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    /// Cancelled by the first signal.
    pub(super) token: CancellationToken,
    sending: Arc<AtomicBool>,
}

impl Interrupt {
    /// Begins to listen.
    pub(super) fn listen(runtime: &Runtime) -> Result<Self, Stop> {
        let _context = runtime.enter();
        let failed = |error| Stop::new(Exit::Internal, format!("listening for signals: {error}"));
        let interrupts = signal(SignalKind::interrupt()).map_err(failed)?;
        let terminations = signal(SignalKind::terminate()).map_err(failed)?;
        let this = Self { token: CancellationToken::new(), sending: Arc::default() };
        runtime.spawn(this.clone().wait(interrupts, terminations));
        Ok(this)
    }

    /// From now on there is something to end well.
    pub(super) fn sending(&self) {
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
        }
    }
}
