//! Commands of the operator that a run calls: a [`gate`] before tags move, [`notify`] at its end, and what makes repositories.
//!
//! Each is a line for the shell. It has a time limit, is stopped with all that it started when the run is, and has none of our
//! secrets in its environment.

pub(crate) mod gate;
pub(crate) mod notify;

use std::process::Command;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::program::{self, Finished, Keep, Terms};

/// What is kept of what a hook writes: enough for its last words.
const KEPT_BYTES: usize = 16 << 10;

/// A command of the operator's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hook {
    /// The line for the shell.
    pub command: String,
    /// How long it may take.
    pub limit: Duration,
    /// Variables of our environment that it does not get, because they hold secrets.
    pub without: Vec<String>,
}

impl Hook {
    /// This command, which may take so long.
    pub(crate) fn new(command: impl Into<String>, limit: Duration) -> Self {
        Self { command: command.into(), limit, without: Vec::new() }
    }

    /// Runs it with these variables for what it does.
    ///
    /// # Errors
    /// Why it was not done, with its last words.
    pub(crate) async fn call(
        &self,
        variables: Vec<(&'static str, String)>,
        cancel: &CancellationToken,
    ) -> Result<(), String> {
        let finished = self.run(variables, Vec::new(), cancel).await?;
        if finished.status.success() { Ok(()) } else { Err(finished.failure_with_output()) }
    }

    /// Runs it with these variables and this on its standard input, until its end or that of the run.
    ///
    /// # Errors
    /// Why there is no result.
    async fn run(
        &self,
        variables: Vec<(&'static str, String)>,
        input: Vec<u8>,
        cancel: &CancellationToken,
    ) -> Result<Finished, String> {
        let (stop, stopped) = crossbeam::channel::bounded(0);
        let terms = Terms::new(self.limit, Keep::Last(KEPT_BYTES)).until(stopped);
        let mut command = Command::new("sh");
        command.args(["-c", &self.command]);
        self.without.iter().for_each(|name| {
            command.env_remove(name);
        });
        command.envs(variables);
        let running = tokio::task::spawn_blocking(move || program::run(&mut command, &input, &terms));
        tokio::pin!(running);
        let done = tokio::select! {
            done = &mut running => done,
            () = cancel.cancelled() => {
                drop(stop);
                running.await
            }
        };
        done.unwrap_or_else(|error| Err(format!("a thread ended: {error}")))
    }
}
