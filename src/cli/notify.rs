//! Runs the notification at the end of a run.

use tokio_util::sync::CancellationToken;

use super::output::Output;
use crate::hook::notify::Notify;
use crate::report::{Document, Failure};

/// The command or URL of a notification.
#[derive(Debug)]
pub(super) struct Notifier(Notify);

impl Notifier {
    /// A command or a URL, read before the run.
    pub(super) fn new(text: &str) -> Result<Self, Failure> {
        // Not the URL itself, which may be secret.
        text.parse().map(Self).map_err(|why| Failure::usage(format!("--notify: {why}")))
    }

    /// The same of a sites file, whose passwords may stand in these variables.
    pub(super) fn without(mut notify: Notify, secret_variables: Vec<String>) -> Self {
        if let Notify::Command(hook) = &mut notify {
            hook.without = secret_variables;
        }
        Self(notify)
    }

    /// Sends this report. `--quiet` does not hide that the notification failed; the result of the run stays what it was.
    pub(super) fn tell(&self, document: &Document, output: &Output, cancel: &CancellationToken) {
        let told = super::runtime().map_err(|failure| failure.message).and_then(|runtime| {
            let report = serde_json::to_vec(document).map_err(|error| error.to_string())?;
            runtime.block_on(self.0.tell(report, document.exit_code, cancel))
        });
        if let Err(why) = told {
            output.alarm(&format!("the notification failed: {}: {why}", self.0));
        }
    }
}
