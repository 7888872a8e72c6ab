//! Why a request failed, as the client saw it.

use std::time::Duration;

use crate::error::BundleError;
use crate::registry::answer::Answer;

/// Why.
#[derive(Debug, Clone)]
pub(super) enum Cause {
    BadTarget { text: String, why: String },
    BadFile { path: String, why: String },
    Credentials(String),
    Unreachable(String),
    Broken(String),
    Stalled(Duration),
    Tls { fault: TlsFault, why: String },
    Answer(Answer),
    Protocol(String),
    TooMuch { what: String, limit_bytes: u64 },
    Integrity(String),
    Source(BundleError),
    Internal(String),
}

/// What is wrong with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsFault {
    /// The certificate is signed by nobody we trust.
    UnknownIssuer,
    /// The certificate is wrong in another way: name, time, use.
    Certificate,
    /// The other side does not accept ours, or wants one.
    ClientCertificate,
    /// The other side answers in something that is not TLS.
    NotTls,
    /// Versions and ciphers do not meet.
    Other,
}
