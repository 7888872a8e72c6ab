//! What an API server means by an answer that is not a success: the `Status` object
//! ([API conventions](https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#response-status-kind)).
//! Pure.

use serde_json::Value;

use crate::error::printable;

/// A field that somebody else has set, and wants to keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The other field manager, as the server names it.
    pub manager: String,
    /// The field, as `.spec.nodeConfig.registryMirrors`.
    pub field: String,
}

/// Why a server did not do it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// 404. Of what, the question says.
    Missing(String),
    /// 409 of an apply: other managers own fields.
    Owned(Vec<Owner>),
    /// 409 besides: it is not the object that was read any more.
    Changed(String),
    /// 401: who asks is not known.
    Unauthorized(String),
    /// 403: who asks may not.
    Forbidden(String),
    /// Anything else.
    Other(u16, String),
}

/// What an answer with `code` means.
pub(super) fn refusal(code: u16, body: &[u8]) -> Refusal {
    let status: Value = serde_json::from_slice(body).unwrap_or_default();
    // A proxy before the server answers with pages of its own.
    let message = match status["message"].as_str() {
        Some(text) => printable(text).chars().take(600).collect(),
        None => format!("HTTP {code}"),
    };
    match code {
        401 => Refusal::Unauthorized(message),
        403 => Refusal::Forbidden(message),
        404 => Refusal::Missing(message),
        409 => {
            let causes = status["details"]["causes"].as_array().map_or(&[][..], Vec::as_slice);
            let owners: Vec<Owner> = causes
                .iter()
                .filter(|cause| cause["reason"] == "FieldManagerConflict")
                .map(|cause| Owner {
                    manager: manager(cause["message"].as_str().unwrap_or_default()),
                    field: printable(cause["field"].as_str().unwrap_or("a field")),
                })
                .collect();
            if owners.is_empty() { Refusal::Changed(message) } else { Refusal::Owned(owners) }
        }
        _ => Refusal::Other(code, message),
    }
}

/// The name in `conflict with "kubectl-edit" using apps/v1`.
fn manager(message: &str) -> String {
    let quoted = message.split('"').nth(1).filter(|name| !name.is_empty());
    printable(quoted.unwrap_or(message))
}
