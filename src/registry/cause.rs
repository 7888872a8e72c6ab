//! Why a request failed, as the client saw it, and what follows from the cause alone.

use std::time::Duration;

use crate::error::BundleError;
use crate::registry::error_response::ErrorResponse;
use crate::registry::failure_kind::FailureKind;
use crate::registry::redact::SecretWords;

/// Why.
#[derive(Debug, Clone)]
pub(super) enum Cause {
    BadTarget {
        text: String,
        why: String,
    },
    BadFile {
        path: String,
        why: String,
    },
    Credentials(String),
    /// The registry or its token server refused a login: whose, and its answer.
    LoginRefused {
        who: String,
        why: String,
    },
    /// The registry wants an authentication scheme that is not supported, or does not name one.
    Challenge {
        refusal: ErrorResponse,
        why: String,
    },
    /// A token server that is not trusted with a password, and the host to allow if it may be.
    ForeignRealm {
        why: String,
        allow: Option<String>,
    },
    /// The upload location is on another host, which would have to be allowed.
    ForeignUpload {
        why: String,
        host: String,
    },
    /// A proxy on the way, and not the registry.
    Proxy {
        fault: ProxyFault,
        why: String,
    },
    Unreachable(String),
    /// The resolver answered that the name does not exist, which is not an outage.
    NoSuchName(String),
    Broken(String),
    /// What came back is no HTTP.
    NotHttp(String),
    Stalled(Duration),
    /// A document that arrives too slowly: how many bytes of it arrived in that time.
    TooSlow {
        bytes: u64,
        after: Duration,
    },
    Tls {
        fault: TlsFault,
        why: String,
    },
    /// The port is addressed with http:// and speaks TLS.
    SpeaksTls,
    /// The address with http:// in front leads to this one with https://.
    LeadsToHttps(String),
    /// The limit on open files of this process is reached.
    NoDescriptors(String),
    Answer(ErrorResponse),
    /// The registry asks to be left alone for longer than there is patience.
    Busy {
        refusal: ErrorResponse,
        asked: Duration,
    },
    /// The registry has said "not now" for as long as there is patience.
    OutOfPatience {
        refusal: ErrorResponse,
        waited: Duration,
    },
    /// The registry takes no manifest whose layers have `urls`.
    UrlsRefused(ErrorResponse),
    /// The registry answered every request with the same server error for longer than there is patience.
    Failing {
        refusal: ErrorResponse,
        waited: Duration,
    },
    /// The commit of a blob was answered with a success that does not say that the blob is stored.
    NotStored {
        status: u16,
    },
    /// The host is no registry: it answers with a web page, a login page, another protocol.
    NotRegistry(String),
    Protocol(String),
    TooMuch {
        what: String,
        limit_bytes: u64,
    },
    Integrity(String),
    /// The tag that has to list referrers holds something else.
    NotReferrers {
        tag: String,
        why: String,
    },
    Source(BundleError),
    Internal(String),
}

/// What a proxy does instead of passing on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProxyFault {
    /// It wants a user and a password.
    Login,
    /// It answers, and does not connect to the registry.
    Refuses,
    /// It cannot be talked to.
    Away,
    /// Nothing comes back through it.
    Silent,
}

/// What is wrong with TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TlsFault {
    /// The certificate is signed by nobody we trust.
    UnknownIssuer,
    /// The certificate is for other names.
    Name,
    /// The certificate is not valid any more, or not yet.
    Dates,
    /// The certificate is wrong in another way.
    Certificate,
    /// The other side wants one of ours.
    ClientCertificate,
    /// The other side does not accept ours.
    ClientCertificateRefused,
    /// The other side answers in something that is not TLS.
    NotTls,
    /// Versions and ciphers do not meet.
    Other,
}

impl Cause {
    /// The class, for programs.
    pub(super) fn kind(&self) -> FailureKind {
        match self {
            Self::BadTarget { .. } | Self::BadFile { .. } => FailureKind::Usage,
            Self::Credentials(_)
            | Self::LoginRefused { .. }
            | Self::Challenge { .. }
            | Self::ForeignRealm { .. } => FailureKind::Auth,
            Self::Unreachable(_) | Self::NoSuchName(_) | Self::Proxy { .. } => FailureKind::Unreachable,
            Self::Broken(_) | Self::NotHttp(_) => FailureKind::Broken,
            Self::Stalled(_) | Self::TooSlow { .. } => FailureKind::Stalled,
            Self::Tls { .. } | Self::SpeaksTls | Self::LeadsToHttps(_) => FailureKind::Tls,
            Self::NoDescriptors(_) => FailureKind::Machine,
            Self::Answer(refusal)
            | Self::UrlsRefused(refusal)
            | Self::Busy { refusal, .. }
            | Self::OutOfPatience { refusal, .. }
            | Self::Failing { refusal, .. } => refusal.kind(),
            Self::NotStored { .. }
            | Self::NotRegistry(_)
            | Self::Protocol(_)
            | Self::ForeignUpload { .. }
            | Self::TooMuch { .. }
            | Self::NotReferrers { .. } => FailureKind::Registry,
            Self::Integrity(_) => FailureKind::Integrity,
            Self::Source(_) => FailureKind::Source,
            Self::Internal(_) => FailureKind::Internal,
        }
    }

    /// A short form of the cause, which is equal for all requests that fail alike.
    pub(super) fn in_short(&self) -> String {
        if let Some(refusal) = self.refusal() {
            let status = reqwest::StatusCode::from_u16(refusal.status).ok();
            let reason =
                status.and_then(|status| status.canonical_reason()).unwrap_or_default().to_lowercase();
            return format!("{} {reason}", refusal.status).trim_end().to_owned();
        }
        let words = match self.kind() {
            FailureKind::Unreachable => "no connection",
            FailureKind::Broken => "the connection broke",
            FailureKind::Stalled => "nothing moved",
            FailureKind::Auth => "the login",
            FailureKind::Tls => "TLS",
            _ => "another failure",
        };
        words.to_owned()
    }

    /// The same without the secrets of the run in anything that a server may have said.
    pub(super) fn blanked(mut self, secrets: &SecretWords) -> Self {
        match &mut self {
            Self::Credentials(text)
            | Self::LoginRefused { why: text, .. }
            | Self::Challenge { why: text, .. }
            | Self::Proxy { why: text, .. }
            | Self::Unreachable(text)
            | Self::NoSuchName(text)
            | Self::Broken(text)
            | Self::NotHttp(text)
            | Self::Tls { why: text, .. }
            | Self::NotRegistry(text)
            | Self::Protocol(text)
            | Self::NotReferrers { why: text, .. }
            | Self::Integrity(text)
            | Self::LeadsToHttps(text)
            | Self::NoDescriptors(text)
            | Self::Internal(text) => *text = secrets.blank(text),
            Self::ForeignUpload { why, host } => {
                *why = secrets.blank(why);
                *host = secrets.blank(host);
            }
            Self::ForeignRealm { why, allow } => {
                *why = secrets.blank(why);
                *allow = allow.as_deref().map(|host| secrets.blank(host));
            }
            // The words of an answer are blanked when it is read, and the others are our own.
            Self::Answer(_)
            | Self::UrlsRefused(_)
            | Self::Busy { .. }
            | Self::OutOfPatience { .. }
            | Self::Failing { .. }
            | Self::BadTarget { .. }
            | Self::BadFile { .. }
            | Self::NotStored { .. }
            | Self::Stalled(_)
            | Self::TooSlow { .. }
            | Self::SpeaksTls
            | Self::TooMuch { .. }
            | Self::Source(_) => {}
        }
        self
    }

    /// The answer of the registry, where there was one.
    pub(super) fn refusal(&self) -> Option<&ErrorResponse> {
        match self {
            Self::Answer(refusal)
            | Self::Busy { refusal, .. }
            | Self::Challenge { refusal, .. }
            | Self::OutOfPatience { refusal, .. }
            | Self::Failing { refusal, .. } => Some(refusal),
            _ => None,
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Proxy { fault, .. } => *fault != ProxyFault::Login,
            Self::Answer(refusal) | Self::OutOfPatience { refusal, .. } | Self::Failing { refusal, .. } => {
                refusal.is_transient()
            }
            _ => self.kind().is_network() && !matches!(self, Self::NoSuchName(_)),
        }
    }

    /// Whether the host may be down, rather than this request at fault.
    pub(super) fn says_away(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::NoSuchName(_) | Self::Broken(_) | Self::Stalled(_) => true,
            Self::Proxy { fault, .. } => *fault != ProxyFault::Login,
            Self::Answer(refusal) => refusal.is_of_gateway(),
            _ => false,
        }
    }
}
