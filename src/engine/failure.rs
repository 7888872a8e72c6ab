//! An error of a registry as a [`Failure`] of a run: the report knows no registries.

use crate::exit::Exit;
use crate::registry::{FailureKind, RegistryError};
use crate::report::{Class, Failure};

impl From<FailureKind> for Class {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Usage => Self::Usage,
            FailureKind::Auth => Self::Auth,
            FailureKind::Denied => Self::Denied,
            FailureKind::NotFound => Self::NotFound,
            FailureKind::Unreachable => Self::Unreachable,
            FailureKind::Broken => Self::BrokenConnection,
            FailureKind::Stalled => Self::Stalled,
            FailureKind::Tls => Self::Tls,
            FailureKind::TooLarge => Self::TooLarge,
            FailureKind::Registry => Self::Registry,
            FailureKind::Integrity => Self::Integrity,
            // The bundle's own error says more, where there is one.
            FailureKind::Source | FailureKind::Machine => Self::Io,
            FailureKind::Internal => Self::Internal,
        }
    }
}

impl From<&RegistryError> for Failure {
    fn from(error: &RegistryError) -> Self {
        if let Some(bundle) = error.source_error() {
            return Self::from(bundle);
        }
        let failure = Self::new(error.kind().into(), error.to_string());
        let cause = if is_full(error) { no_room(error) } else { error.shared_cause() };
        Self { hint: error.hint(), cause, ..failure }
    }
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self::from(&error)
    }
}

/// Why a mirror cannot be talked to at all. Whatever is wrong with its answer to `GET /v2/` (TLS, a login page, a proxy that answers for
/// it), no registry was reached there.
pub(crate) fn of_connection(error: &RegistryError) -> Failure {
    let failure = Failure::from(error);
    let exit = match (failure.exit, error.kind()) {
        (Exit::Incomplete, FailureKind::Denied) => Exit::Credentials,
        (Exit::Incomplete, _) => Exit::Unreachable,
        (exit, _) => exit,
    };
    Failure { exit, ..failure }
}

/// Whether the words of an answer mean that the registry has no room.
fn is_full(error: &RegistryError) -> bool {
    let Some(status) = error.status() else { return false };
    let said = error.to_string().to_lowercase();
    status == 507 || ["no space left", "quota", "insufficient storage"].iter().any(|it| said.contains(it))
}

fn no_room(error: &RegistryError) -> Option<String> {
    error.answer_in_short().map(|answer| format!("no room on the registry ({answer})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::refused;

    #[test]
    fn the_ping_tells_credentials_from_a_registry_that_is_not_there() {
        for (status, exit) in [
            (401, Exit::Credentials),
            (403, Exit::Credentials),
            (404, Exit::Unreachable),
            (502, Exit::Unreachable),
        ] {
            let error = refused("GET", "https://r.example/v2/", status, "");
            assert_eq!(of_connection(&error).exit, exit, "{status}");
        }
    }

    #[test]
    fn what_was_asked_for_is_no_part_of_the_cause() {
        let cause = |repository: &str, status, body: &str| {
            let url = format!("https://r.example/v2/{repository}/blobs/uploads/");
            Failure::from(refused("POST", &url, status, body)).cause.unwrap()
        };
        let denied = r#"{"errors":[{"code":"DENIED","message":"a quota of 3 GiB"}]}"#;
        assert_eq!(cause("a", 403, denied), "no room on the registry (403 forbidden DENIED)");
        assert_eq!(cause("a", 403, denied), cause("b", 403, denied));
        assert_eq!(cause("a", 500, "<html>"), "500 internal server error");
        assert_eq!(cause("a", 507, ""), "no room on the registry (507 insufficient storage)");
    }
}
