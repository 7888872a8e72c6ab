//! Errors of a registry: an operator can act on the message, and a program can decide by the kind.
//!
//! The server's own words are kept, shortened and escaped; URLs are shown without anything that may be a secret
//! (upload locations and storage URLs carry signatures in their queries).

mod advice;
mod status_advice;
mod text;

use std::time::Duration;

use url::Url;

use crate::error::{BundleError, printable};
use crate::oci::Digest;
pub(super) use crate::registry::cause::{Cause, ProxyFault, TlsFault};
use crate::registry::error_response::{ApiError, ErrorResponse};
pub(crate) use crate::registry::failure_kind::FailureKind;
use crate::registry::redact::{SecretWords, redacted};
use status_advice::RequestPurpose;

/// How much of an error's body is read, in bytes.
pub(super) const MAX_ERROR_BYTES: u64 = 64 << 10;

/// A request to a registry failed, and is not sent again.
#[derive(Clone, thiserror::Error)]
pub struct RegistryError(Box<Inner>);

#[derive(Clone)]
struct Inner {
    call: Option<Call>,
    /// The account, where that matters.
    account: Option<Requester>,
    /// The failure before this request.
    before: Option<String>,
    /// The proxy on the way.
    through: Option<String>,
    cause: Cause,
}

/// The account of a request, and its proof.
#[derive(Clone)]
enum Requester {
    Account(String),
    /// A token that its server had just given.
    FreshToken(String),
}

#[derive(Clone)]
struct Call {
    method: String,
    url: String, // already redacted
    is_http: bool,
    what: RequestPurpose,
}

/// A step on the way to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectStep {
    /// Its name becomes an address.
    Name,
    /// It takes connections, or a proxy makes them.
    Connection,
    /// Both sides agree on TLS.
    Tls,
    /// Certificates prove the identity of the host, and of this client.
    Certificate,
    /// The login succeeds.
    Login,
    /// A registry answers.
    Answer,
}

impl From<Cause> for RegistryError {
    fn from(cause: Cause) -> Self {
        Self(Box::new(Inner { call: None, account: None, before: None, through: None, cause }))
    }
}

impl From<BundleError> for RegistryError {
    fn from(error: BundleError) -> Self {
        Cause::Source(error).into()
    }
}

impl RegistryError {
    pub(super) fn new(method: &str, url: &Url, cause: Cause) -> Self {
        let call = Call {
            method: method.to_owned(),
            url: redacted(url),
            is_http: url.scheme() == "http",
            what: RequestPurpose::of(method, url),
        };
        Self(Box::new(Inner { call: Some(call), account: None, before: None, through: None, cause }))
    }

    /// The same without the secrets of the run: a server may quote one in an address that it leads to, and in all it says.
    pub(super) fn blanked(self, secrets: &SecretWords) -> Self {
        let Inner { call, account, before, through, cause } = *self.0;
        let call = call.map(|call| Call { url: secrets.blank(&call.url), ..call });
        Self(Box::new(Inner { call, account, before, through, cause: cause.blanked(secrets) }))
    }

    /// The same, for a request that was to find out the outcome of one that had `failed`.
    pub(super) fn after(mut self, failed: &Self) -> Self {
        self.0.before = Some(failed.to_string());
        self
    }

    /// The same, with the proxy that was on the way.
    pub(super) fn through(mut self, proxy: String) -> Self {
        let is_named = matches!(self.0.cause, Cause::Proxy { .. } | Cause::Source(_) | Cause::Internal(_));
        self.0.through = Some(proxy).filter(|_| !is_named);
        self
    }

    /// The URL that was asked, as it is shown.
    pub(super) fn url(&self) -> Option<&str> {
        self.0.call.as_ref().map(|call| call.url.as_str())
    }

    /// The same, with the account: `user pusher (from --username)`.
    pub(super) fn of_account(mut self, who: String) -> Self {
        self.0.account = Some(Requester::Account(who));
        self
    }

    /// The same, with the account of a fresh token.
    pub(super) fn of_fresh_token(mut self, who: String) -> Self {
        self.0.account = Some(Requester::FreshToken(who));
        self
    }

    /// The same, of a token server.
    pub(super) fn of_token_server(mut self) -> Self {
        self.0.call.iter_mut().for_each(|call| call.what = RequestPurpose::Token);
        self
    }

    /// The same, with what is wrong with the challenge in it.
    pub(super) fn of_challenge(mut self, why: String) -> Self {
        if let Cause::Answer(refusal) = &self.0.cause {
            self.0.cause = Cause::Challenge { refusal: refusal.clone(), why };
        }
        self
    }

    /// Whether it is about the identity, so that another login may succeed.
    pub(super) fn is_about_login(&self) -> bool {
        match &self.0.cause {
            Cause::LoginRefused { .. } => true,
            cause => cause.refusal().is_some_and(|answer| matches!(answer.status, 401 | 403)),
        }
    }

    /// Whether nothing else need be asked of the registry: there was no answer, or one of a token server that is not about who
    /// asks, or "not now" for as long as there is patience.
    pub(super) fn is_of_whole_registry(&self) -> bool {
        let is_given_up =
            matches!(self.0.cause, Cause::Busy { .. } | Cause::OutOfPatience { .. } | Cause::Failing { .. });
        let is_unanswered = self.answer().is_none() || self.asked() == RequestPurpose::Token;
        is_given_up || (is_unanswered && !self.is_about_login())
    }

    /// Whether the registry has the manifest that it was asked for, and a policy keeps it from being read: Harbor gives
    /// vulnerable and unsigned images to nobody.
    pub(crate) fn is_withheld(&self) -> bool {
        let asked = self.0.call.as_ref().is_some_and(|call| matches!(call.method.as_str(), "GET" | "HEAD"));
        asked && self.status() == Some(412)
    }

    pub(super) fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// The answer of the registry, where there was one.
    pub(super) fn answer(&self) -> Option<&ErrorResponse> {
        self.0.cause.refusal()
    }

    /// The cause in words, without the request.
    pub(super) fn why(&self) -> String {
        Self::from(self.0.cause.clone()).to_string()
    }

    /// The same, and final: the host asks to be left alone for longer than there is patience.
    pub(super) fn too_long(mut self, asked: Duration) -> Self {
        if let Cause::Answer(refusal) = &self.0.cause {
            self.0.cause = Cause::Busy { refusal: refusal.clone(), asked };
        }
        self
    }

    /// The same, and final: the host has said "not now" for as long as there is patience.
    pub(super) fn out_of_patience(mut self, waited: Duration) -> Self {
        if let Cause::Answer(refusal) = &self.0.cause {
            self.0.cause = Cause::OutOfPatience { refusal: refusal.clone(), waited };
        }
        self
    }

    /// The tag that has to list referrers of an image shows something else.
    pub(crate) fn not_referrers(tag: impl Into<String>, why: impl Into<String>) -> Self {
        Cause::NotReferrers { tag: tag.into(), why: why.into() }.into()
    }

    /// Content came back that is not what was asked for.
    pub(crate) fn integrity(detail: impl Into<String>) -> Self {
        Cause::Integrity(detail.into()).into()
    }

    /// A bug of this program.
    pub(crate) fn internal(detail: impl Into<String>) -> Self {
        Cause::Internal(detail.into()).into()
    }

    /// The class, for programs.
    pub(crate) fn kind(&self) -> FailureKind {
        self.0.cause.kind()
    }

    /// The status of the answer, if there was one.
    pub(crate) fn status(&self) -> Option<u16> {
        self.answer().map(|answer| answer.status)
    }

    /// Whether the answer names this code of the specification.
    pub(super) fn has_code(&self, code: &str) -> bool {
        self.answer().is_some_and(|answer| answer.errors.iter().any(|error| error.code == code))
    }

    /// Whether the answer asks for fewer requests, or for a pause.
    pub(crate) fn wants_fewer_requests(&self) -> bool {
        matches!(self.status(), Some(429 | 503))
    }

    /// The pause that the answer asks for.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        self.answer()?.retry_after
    }

    /// The answer without what was asked for, and without the server's free text: `403 forbidden DENIED`.
    pub(crate) fn answer_in_short(&self) -> Option<String> {
        let answer = self.answer()?;
        let status = reqwest::StatusCode::from_u16(answer.status).ok();
        let reason = status.and_then(|status| status.canonical_reason()).unwrap_or_default().to_lowercase();
        let codes = answer.errors.iter().take(3).map(|error| printable(&error.code));
        let words = [answer.status.to_string(), reason].into_iter().chain(codes);
        Some(words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
    }

    /// What it shares with the errors of other requests that fail alike: the answer in few words, or what is wrong with the
    /// connection.
    pub(crate) fn shared_cause(&self) -> Option<String> {
        self.answer_in_short().or_else(|| match self.kind() {
            FailureKind::Unreachable | FailureKind::Tls => Some(self.why()),
            FailureKind::Broken | FailureKind::Stalled => Some(self.cause().in_short()),
            _ => None,
        })
    }

    /// The error of the bundle, if that is what ended the request.
    pub(crate) fn source_error(&self) -> Option<&BundleError> {
        match &self.0.cause {
            Cause::Source(error) => Some(error),
            _ => None,
        }
    }

    /// At which step the way to the registry ended.
    pub(crate) fn step(&self) -> ConnectStep {
        match (self.cause(), self.kind()) {
            (Cause::NoSuchName(_), _) => ConnectStep::Name,
            (Cause::Tls { fault: TlsFault::NotTls | TlsFault::Other, .. } | Cause::SpeaksTls, _) => {
                ConnectStep::Tls
            }
            (Cause::Tls { .. }, _) => ConnectStep::Certificate,
            (_, FailureKind::Unreachable) => ConnectStep::Connection,
            (_, FailureKind::Auth | FailureKind::Denied) => ConnectStep::Login,
            _ => ConnectStep::Answer,
        }
    }

    /// Whether the same request may succeed later without anybody changing anything.
    pub(crate) fn is_retryable(&self) -> bool {
        self.0.cause.may_pass()
    }

    /// The blobs a manifest needs and the registry says it lacks, even if it said before that it has them. Empty when it
    /// does not say which.
    pub(crate) fn manifest_blob_unknown(&self) -> Option<Vec<Digest>> {
        let answer = self.answer()?;
        let unknown = |error: &&ApiError| {
            matches!(error.code.as_str(), "MANIFEST_BLOB_UNKNOWN" | "BLOB_UNKNOWN") && self.is_manifest_put()
        };
        let mut hits = answer.errors.iter().filter(unknown).peekable();
        hits.peek()?;
        Some(hits.flat_map(|error| error.digests.iter().copied()).collect())
    }

    fn is_manifest_put(&self) -> bool {
        self.asked() == RequestPurpose::ManifestPut
    }

    fn asked(&self) -> RequestPurpose {
        self.0.call.as_ref().map_or(RequestPurpose::Other, |call| call.what)
    }
}

/// An error with an answer, for tests.
#[cfg(test)]
pub(crate) fn refused(method: &str, url: &str, status: u16, body: &str) -> RegistryError {
    let answer = ErrorResponse::new(status, None, body.as_bytes(), str::to_owned);
    RegistryError::new(method, &Url::parse(url).unwrap(), Cause::Answer(answer))
}

#[cfg(test)]
mod tests {
    use super::refused as answered;
    use super::*;

    #[test]
    fn the_servers_words_are_kept_and_escaped() {
        let body = r#"{"errors":[{"code":"DENIED","message":"quota \u001b[2J","detail":null}]}"#;
        let error =
            answered("POST", "https://r.example/v2/a/blobs/uploads/?mount=sha256:0&sig=abc", 403, body);
        assert_eq!(
            error.to_string(),
            "POST https://r.example/v2/a/blobs/uploads/?mount=sha256:0&…: 403 forbidden: DENIED quota \\u{1b}[2J"
        );
        assert_eq!((error.kind(), error.status()), (FailureKind::Denied, Some(403)));
        assert!(error.hint().unwrap().contains("quota"), "its words count");
    }

    #[test]
    fn a_redirect_names_where_it_leads() {
        let url = Url::parse("http://r.example/v2/a/blobs/uploads/").unwrap();
        let answer = ErrorResponse::new(301, None, b"<html>301</html>", str::to_owned);
        let answer = answer.leading_to("https://r.example/v2/");
        let error = RegistryError::new("POST", &url, Cause::Answer(answer));
        assert!(
            error.to_string().contains("301 moved permanently: it leads to https://r.example/v2/"),
            "{error}"
        );
        assert!(error.hint().is_some());
    }

    #[test]
    fn any_body_makes_an_error() {
        for body in ["", "<html>\u{7}nope", "{\"errors\":3}", "{\"errors\":[1,{}]}", "[", "\u{0}"] {
            let text = answered("GET", "https://r.example/v2/", 502, body).to_string();
            assert!(text.starts_with("GET https://r.example/v2/: 502 bad gateway"), "{text}");
            assert!(!text.contains(char::is_control));
        }
    }

    #[test]
    fn requests_that_fail_alike_have_one_cause_whatever_they_asked_for() {
        let shared = |repository: &str, cause: Cause| {
            let url = Url::parse(&format!("https://r.example/v2/{repository}/manifests/1")).unwrap();
            RegistryError::new("HEAD", &url, cause).shared_cause()
        };
        let refused = || Cause::Unreachable("Connection refused".to_owned());
        assert_eq!(shared("a", refused()), shared("b", refused()));
        assert!(shared("a", refused()).unwrap().contains("Connection refused"));
        let broken = |why: &str| Cause::Broken(why.to_owned());
        assert_eq!(shared("a", broken("after 5 bytes")), shared("b", broken("after 7 bytes")));
    }

    #[test]
    fn missing_blobs_are_found_wherever_a_registry_names_them() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let url = "https://r.example/v2/a/manifests/1";
        for detail in [
            format!(r#"{{"digest":"{a}"}}"#),
            format!(r#""blob {a} unknown""#),
            format!(r#"[{{"Digest":"{a}"}},"{a}"]"#),
        ] {
            let body = format!(
                r#"{{"errors":[{{"code":"MANIFEST_BLOB_UNKNOWN","message":"m","detail":{detail}}}]}}"#
            );
            assert_eq!(answered("PUT", url, 404, &body).manifest_blob_unknown(), Some(vec![a]), "{detail}");
        }
        let body = format!(r#"{{"errors":[{{"code":"BLOB_UNKNOWN","message":"unknown {a}, {b}"}}]}}"#);
        assert_eq!(answered("PUT", url, 400, &body).manifest_blob_unknown(), Some(vec![a, b]));
        assert_eq!(answered("GET", url, 400, &body).manifest_blob_unknown(), None);
        assert_eq!(answered("PUT", url, 400, "{}").manifest_blob_unknown(), None);
    }
}
