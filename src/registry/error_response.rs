//! An answer that is not a success, with the server's own words, shortened
//! ([distribution-spec, error codes][codes]). Any body will do; nothing in it is trusted.
//!
//! [codes]: https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#error-codes

use std::collections::HashSet;
use std::fmt;
use std::time::Duration;

use serde_json::Value;

use crate::error::printable;
use crate::oci::Digest;
use crate::registry::failure_kind::FailureKind;
use crate::registry::webpage;

/// How much of the server's words a person is shown, in characters.
const MAX_SHOWN_CHARS: usize = 500;
/// How many errors of a body are read.
const MAX_ERRORS: usize = 16;

/// An answer that is not a success.
#[derive(Debug, Clone)]
pub(super) struct ErrorResponse {
    pub(super) status: u16,
    pub(super) errors: Vec<ApiError>,
    /// The body, where it is not the errors of the specification.
    pub(super) text: String,
    pub(super) retry_after: Option<Duration>,
    /// What a 401 asks for.
    pub(super) challenges: Vec<String>,
}

/// One of the errors in a body.
#[derive(Debug, Clone)]
pub(super) struct ApiError {
    pub(super) code: String,
    pub(super) message: String,
    /// Digests named in the detail or the message.
    pub(super) digests: Vec<Digest>,
}

impl ErrorResponse {
    /// Reads what it can from a body; any body will do. What people see of it is what `shown` makes of its words, which may
    /// quote a secret behind the escapes of a document.
    pub(super) fn new(
        status: u16,
        retry_after: Option<Duration>,
        body: &[u8],
        shown: impl Fn(&str) -> String,
    ) -> Self {
        let whole = shown(&String::from_utf8_lossy(body));
        let read = |value: &Value| {
            let list = value.get("errors")?.as_array()?;
            Some(list.iter().take(MAX_ERRORS).map(|error| api_error(error, &shown)).collect())
        };
        let errors: Vec<ApiError> =
            serde_json::from_str(&whole).ok().as_ref().and_then(read).unwrap_or_default();
        let text = if errors.is_empty() { shown(&webpage::words(whole.as_bytes())) } else { String::new() };
        Self {
            status,
            errors,
            text: text.chars().take(MAX_SHOWN_CHARS).collect(),
            retry_after,
            challenges: Vec::new(),
        }
    }

    /// The same of a redirect, whose body says nothing that its target, as it may be shown, does not.
    pub(super) fn leading_to(self, target: &str) -> Self {
        Self { text: format!("it leads to {target}"), ..self }
    }

    /// The class of failure it is.
    pub(super) fn kind(&self) -> FailureKind {
        match self.status {
            _ if self.has_code("DENIED") => FailureKind::Denied,
            _ if self.has_code("DIGEST_INVALID") => FailureKind::Integrity,
            401 => FailureKind::Auth,
            403 => FailureKind::Denied,
            404 => FailureKind::NotFound,
            413 => FailureKind::TooLarge,
            _ => FailureKind::Registry,
        }
    }

    /// Whether it says "not now" rather than "no".
    pub(super) const fn is_transient(&self) -> bool {
        matches!(self.status, 408 | 425 | 429 | 499 | 500 | 502 | 503 | 504 | 520..=524)
    }

    /// Whether it asks for a pause of all requests.
    pub(super) const fn says_not_now(&self) -> bool {
        matches!(self.status, 429 | 503)
    }

    /// Whether it is the answer of a proxy that could not reach its registry, or did not wait for it.
    pub(super) const fn is_of_gateway(&self) -> bool {
        matches!(self.status, 499 | 502 | 503 | 504 | 520..=524)
    }

    /// Whether the registry itself failed, for this request or for all.
    pub(super) const fn is_of_server(&self) -> bool {
        self.status == 500
    }

    /// Whether status and codes are equal.
    pub(super) fn is_alike(&self, other: &Self) -> bool {
        let codes = |answer: &Self| answer.errors.iter().map(|error| error.code.clone()).collect::<Vec<_>>();
        self.status == other.status && codes(self) == codes(other)
    }

    /// All words of the server, in lower case.
    pub(super) fn words(&self) -> String {
        let errors = self.errors.iter().flat_map(|error| [error.code.as_str(), error.message.as_str()]);
        errors.chain([self.text.as_str()]).collect::<Vec<_>>().join(" ").to_lowercase()
    }

    /// Whether one of the errors has this code.
    pub(super) fn has_code(&self, code: &str) -> bool {
        self.errors.iter().any(|error| error.code == code)
    }
}

fn api_error(value: &Value, shown: impl Fn(&str) -> String) -> ApiError {
    let text = |key: &str| shown(value.get(key).and_then(Value::as_str).unwrap_or_default());
    let mut digests = Vec::new();
    collect_digests(value.get("detail").unwrap_or(&Value::Null), 4, &mut digests);
    collect_digests(value.get("message").unwrap_or(&Value::Null), 1, &mut digests);
    ApiError {
        code: text("code").chars().take(64).collect::<String>().to_ascii_uppercase(),
        message: text("message").chars().take(MAX_SHOWN_CHARS).collect(),
        digests,
    }
}

/// Every registry puts the digests of missing blobs somewhere else in `detail`.
fn collect_digests(value: &Value, depth: u8, found: &mut Vec<Digest>) {
    match value {
        Value::String(text) => {
            let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != ':');
            found.extend(words.filter_map(|word| word.parse::<Digest>().ok()));
        }
        Value::Array(list) if depth > 0 => list.iter().for_each(|v| collect_digests(v, depth - 1, found)),
        Value::Object(map) if depth > 0 => map.values().for_each(|v| collect_digests(v, depth - 1, found)),
        _ => {}
    }
    let mut seen = HashSet::new();
    found.retain(|digest| seen.insert(*digest));
}

impl fmt::Display for ErrorResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if let Some(reason) =
            reqwest::StatusCode::from_u16(self.status).ok().and_then(|s| s.canonical_reason())
        {
            write!(f, " {}", reason.to_lowercase())?;
        }
        for (i, error) in self.errors.iter().take(3).enumerate() {
            let between = if i == 0 { ": " } else { "; " };
            write!(f, "{between}{} {}", printable(&error.code), printable(&error.message))?;
        }
        if !self.text.is_empty() {
            write!(f, ": {}", printable(&self.text))?;
        }
        Ok(())
    }
}
