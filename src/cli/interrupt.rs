//! Ctrl-C, SIGTERM and SIGHUP: the first lets requests end and the report be written, the next one ends at once.

use std::path::Path;
use std::sync::Arc;

use rustix::process::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::output::Output;
use crate::exit::Exit;
use crate::locks::Mutex;
use crate::report::Failure;
use crate::{program, small_file};

/// What a first signal shows.
const STOPPING: &str = "stopping: requests that are on their way get up to 10 s to finish, and the report is written; a second signal ends at once";

/// Listens for signals for as long as the process lives.
#[derive(Debug, Clone)]
pub(super) struct Interrupt {
    /// Cancelled by the first signal.
    pub(super) token: CancellationToken,
    /// What the next signal ends. Where there is nothing to end well, it ends the process.
    next: Arc<Mutex<Option<Interruption>>>,
}

/// What a signal cancels.
#[derive(Debug)]
struct Interruption {
    token: CancellationToken,
    /// Whether a first signal shows a line.
    is_told: bool,
}

/// The signals that end a run.
struct Signals {
    interrupts: Signal,
    terminations: Signal,
    /// Not where it is ignored, as `nohup` wants it.
    hangups: Option<Signal>,
}

impl Interrupt {
    /// Begins to listen, on a thread of its own: no work of ours can keep it from hearing. From here on a write beyond the
    /// limit on the size of files fails, and does not end the process.
    pub(super) fn listen(output: &Output) -> Result<Self, Failure> {
        let failed = |error: std::io::Error| Failure::io("listening for signals", &error);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let signals = {
            let _context = runtime.enter();
            // Its handler stays.
            drop(signal(SignalKind::from_raw(Number::XFSZ.as_raw())).map_err(failed)?);
            Signals::listen().map_err(failed)?
        };
        let this = Self { token: CancellationToken::new(), next: Arc::default() };
        let waiting = this.clone().wait(signals, output.clone());
        let thread = std::thread::Builder::new().name("signals".to_owned());
        thread.spawn(move || runtime.block_on(waiting)).map_err(failed)?;
        Ok(this)
    }

    /// From now on there are requests to end and a report to write.
    pub(super) fn sending(&self) {
        *self.next.lock() = Some(Interruption { token: self.token.clone(), is_told: true });
    }

    /// The same for what is stopped so as a rule.
    pub(super) fn serving(&self) {
        *self.next.lock() = Some(Interruption { token: self.token.clone(), is_told: false });
    }

    /// The run is over, and only its reports and the notification are left: cancelled by the next signal.
    pub(super) fn telling(&self) -> CancellationToken {
        let token = CancellationToken::new();
        *self.next.lock() = Some(Interruption { token: token.clone(), is_told: false });
        token
    }

    async fn wait(self, mut signals: Signals, output: Output) {
        loop {
            signals.next().await;
            // Before anything is sent there is nothing to save; a second signal asks for no more saving.
            let Some(ending) = self.next.lock().take() else {
                program::stop_all();
                output.failed(&Failure::interrupted());
                #[allow(clippy::exit)] // spool files are unlinked already; this is what was asked for
                std::process::exit(Exit::Interrupted.code().into());
            };
            ending.token.cancel();
            program::stop_all();
            if ending.is_told && !output.quiet && !output.is_json() {
                Output::say(STOPPING);
            }
        }
    }
}

impl Signals {
    /// Needs a runtime.
    fn listen() -> std::io::Result<Self> {
        let status = small_file::read_kernel_text(Path::new("/proc/self/status")).unwrap_or_default();
        let hears_hangups = !is_ignored(&status, Number::HUP);
        Ok(Self {
            interrupts: signal(SignalKind::interrupt())?,
            terminations: signal(SignalKind::terminate())?,
            hangups: hears_hangups.then(|| signal(SignalKind::hangup())).transpose()?,
        })
    }

    async fn next(&mut self) {
        let hangup = async {
            match &mut self.hangups {
                Some(hangups) => hangups.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! { _ = self.interrupts.recv() => {}, _ = self.terminations.recv() => {}, _ = hangup => {} }
    }
}

/// Whether a process with this status (proc(5)) ignores a signal.
fn is_ignored(status: &str, signal: Number) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask >> (signal.as_raw() - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whether_a_signal_is_ignored_is_read_from_the_mask() {
        let status = |mask: &str| format!("Name:\tlayercast\nSigBlk:\tffffffffffffffff\nSigIgn:\t{mask}\n");
        for (mask, expected) in [("0000000000000001", true), ("0000000000001006", false), ("", false)] {
            assert_eq!(is_ignored(&status(mask), Number::HUP), expected, "{mask}");
        }
        assert!(is_ignored(&status("0000000000001006"), Number::INT));
    }
}
