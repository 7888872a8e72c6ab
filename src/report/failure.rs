//! Why a command, a mirror or an image did not come to its end.

use serde::Serialize;

use crate::error::BundleError;
use crate::exit::Exit;

/// A reason, for people and for programs.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Failure {
    /// The stable class (`credentials`, `unreachable`, `digest-mismatch`, …).
    pub class: &'static str,
    /// What happened.
    pub message: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The exit code that this alone would give.
    #[serde(skip)]
    pub exit: Exit,
}

impl Failure {
    /// A failure of this machine or of its user, whose class follows from the exit code.
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        let class = match exit {
            Exit::Usage => "usage",
            Exit::Credentials => "auth",
            _ => "internal",
        };
        Self { class, message: message.into(), hint: None, exit }
    }

    /// The command line or a file that it names is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// What to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The run was told to stop.
    pub(crate) fn interrupted() -> Self {
        let message = "the run was interrupted".to_owned();
        Self {
            class: "interrupted",
            message,
            hint: Some("run the same command again: it goes on from here".into()),
            exit: Exit::Interrupted,
        }
    }

    /// A bug of ours.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Exit::Internal, message)
    }
}

impl From<&BundleError> for Failure {
    fn from(error: &BundleError) -> Self {
        let fault = error.fault();
        Self { class: fault.class(), message: error.to_string(), hint: error.hint_text(), exit: fault.exit() }
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        Self::from(&error)
    }
}
