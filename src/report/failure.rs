//! Why a command, a mirror or an image failed.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize, Serializer};

use super::Class;
use crate::error::{BundleError, is_full, system_words};
use crate::exit::Exit;

/// A reason, for people and for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "FailureText")]
pub(crate) struct Failure {
    /// The stable class.
    pub class: Class,
    /// What happened.
    pub message: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The exit code that this alone would give. Where a document does not have it, that of its class.
    #[serde(rename = "exit_code", serialize_with = "as_number")]
    pub exit: Exit,
    /// What is wrong whatever was asked for; images that fail alike share it.
    #[serde(skip)]
    pub cause: Option<String>,
}

/// A failure as documents have it.
#[derive(Deserialize)]
struct FailureText {
    class: Class,
    message: String,
    #[serde(default)]
    hint: Option<String>,
    #[serde(default)]
    exit_code: Option<u8>,
}

impl From<FailureText> for Failure {
    fn from(FailureText { class, message, hint, exit_code }: FailureText) -> Self {
        let exit = exit_code.and_then(Exit::of_code).unwrap_or(class.exit());
        Self { hint, exit, ..Self::new(class, message) }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference to the field")]
fn as_number<S: Serializer>(exit: &Exit, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_u8(exit.code())
}

impl Failure {
    /// A failure of this class, with its exit code.
    pub(crate) fn new(class: Class, message: impl Into<String>) -> Self {
        Self { class, message: message.into(), hint: None, exit: class.exit(), cause: None }
    }

    /// The command line or a file that it names is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Class::Usage, message)
    }

    /// The operating system refused. `what` was to be done.
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        let class = if is_full(error) { Class::NoSpace } else { Class::Io };
        Self::new(class, format!("{what}: {}", system_words(error)))
    }

    /// A file or folder that somebody named cannot be read: what is named is wrong, or not for this user.
    pub(crate) fn unreadable(what: impl fmt::Display, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::NotFound => "correct the path, or put there what it names",
            io::ErrorKind::PermissionDenied => {
                "let this user read it and its folder, or run this as another user"
            }
            io::ErrorKind::IsADirectory => "name a file, and not a folder",
            _ => "name another one, or mend this one",
        };
        Self::usage(format!("{what}: {}", system_words(error))).hint(hint)
    }

    /// The run was interrupted.
    pub(crate) fn interrupted() -> Self {
        Self::new(Class::Interrupted, "the run was interrupted")
            .hint("run the same command again: what is there stays")
    }

    /// `--no-overwrite` keeps a tag that stands for another image.
    pub(crate) fn tag_exists(place: &str, now: &str) -> Self {
        Self::new(Class::TagExists, format!("{place} stands for {now}, and --no-overwrite keeps it"))
            .hint("leave the image out with --exclude, or push without --no-overwrite")
            .cause("--no-overwrite keeps tags that stand for another image")
    }

    /// A bug in layercast.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(Class::Internal, message)
    }

    /// What to do next.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What is wrong whatever was asked for.
    #[must_use]
    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Another exit code than that of its class.
    #[must_use]
    pub(crate) fn exit(self, exit: Exit) -> Self {
        Self { exit, ..self }
    }
}

impl From<&BundleError> for Failure {
    fn from(error: &BundleError) -> Self {
        Self { hint: error.hint_text(), ..Self::new(error.fault().into(), error.to_string()) }
    }
}

impl From<BundleError> for Failure {
    fn from(error: BundleError) -> Self {
        Self::from(&error)
    }
}
