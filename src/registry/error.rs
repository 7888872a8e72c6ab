//! What can go wrong with a registry, said so that an operator can act on it and a program can decide by it.
//!
//! The server's own words are kept, shortened and escaped; URLs are shown without anything that may be a secret
//! (upload locations and storage URLs carry signatures in their queries).

use std::fmt;
use std::time::Duration;

use url::Url;

use crate::error::{BundleError, printable};
use crate::oci::Digest;
pub(super) use crate::registry::cause::{Cause, ProxyFault, TlsFault};
use crate::registry::error_response::{ApiError, ErrorResponse};
use crate::registry::hint::{self, RequestLine};
pub(crate) use crate::registry::kind::FailureKind;
use crate::registry::redact::{SecretWords, redacted};

/// How much of an error's body is read, in bytes.
pub(super) const MAX_ERROR_BYTES: u64 = 64 << 10;

/// A request to a registry failed, for good or after all tries that made sense.
#[derive(Clone, thiserror::Error)]
pub struct RegistryError(Box<Inner>);

#[derive(Clone)]
struct Inner {
    call: Option<Call>,
    /// Who asked, where that matters.
    account: Option<Requester>,
    /// What had failed before this was asked.
    before: Option<String>,
    /// The proxy on the way.
    through: Option<String>,
    cause: Cause,
}

/// Who asked, and by what that was to be proved.
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
    what: RequestLine,
}

/// A step on the way to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectStep {
    /// Its name becomes an address.
    Name,
    /// It takes connections, or a proxy makes them.
    Connection,
    /// Both sides find a way to encrypt.
    Tls,
    /// It proves who it is, and we do.
    Certificate,
    /// It lets us in.
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
            what: RequestLine::of(method, url),
        };
        Self(Box::new(Inner { call: Some(call), account: None, before: None, through: None, cause }))
    }

    /// The same without the secrets of the run: a server may quote one in an address that it leads to, and in all it says.
    pub(super) fn blanked(self, secrets: &SecretWords) -> Self {
        let Inner { call, account, before, through, cause } = *self.0;
        let call = call.map(|call| Call { url: secrets.blank(&call.url), ..call });
        Self(Box::new(Inner { call, account, before, through, cause: cause.blanked(secrets) }))
    }

    /// The same, met when it was to be found out what had become of a request that had `failed`.
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

    /// The same, said of somebody: `user pusher (from --username)`.
    pub(super) fn of_account(mut self, who: String) -> Self {
        self.0.account = Some(Requester::Account(who));
        self
    }

    /// The same, said of somebody's token that its server had just given.
    pub(super) fn of_fresh_token(mut self, who: String) -> Self {
        self.0.account = Some(Requester::FreshToken(who));
        self
    }

    /// The same, met at a token server.
    pub(super) fn of_token_server(mut self) -> Self {
        self.0.call.iter_mut().for_each(|call| call.what = RequestLine::Token);
        self
    }

    /// The same, with what is wrong with the challenge in it.
    pub(super) fn of_challenge(mut self, why: String) -> Self {
        if let Cause::Answer(refusal) = &self.0.cause {
            self.0.cause = Cause::Challenge { refusal: refusal.clone(), why };
        }
        self
    }

    /// Whether it is about who asks, so that somebody else may be let in.
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
        let is_unanswered = self.answer().is_none() || self.asked() == RequestLine::Token;
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

    /// Why, in few words: without what was asked.
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

    /// A bug of ours.
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

    /// The answer without what was asked for, and without the server's free text: `403 forbidden DENIED`.
    pub(crate) fn answer_in_short(&self) -> Option<String> {
        let answer = self.answer()?;
        let status = reqwest::StatusCode::from_u16(answer.status).ok();
        let reason = status.and_then(|status| status.canonical_reason()).unwrap_or_default().to_lowercase();
        let codes = answer.errors.iter().take(3).map(|error| printable(&error.code));
        let words = [answer.status.to_string(), reason].into_iter().chain(codes);
        Some(words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
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
        self.asked() == RequestLine::ManifestPut
    }

    fn asked(&self) -> RequestLine {
        self.0.call.as_ref().map_or(RequestLine::Other, |call| call.what)
    }

    /// What the operator can do about it.
    pub(crate) fn hint(&self) -> Option<String> {
        let fixed = match &self.0.cause {
            Cause::Tls { fault: TlsFault::UnknownIssuer, .. } => {
                "if that authority is your own, give its certificate with --cacert"
            }
            Cause::Tls { fault: TlsFault::Name, .. } => {
                "give the registry by a name that its certificate is for, or have one made with this name among its subject \
                 alternative names (SAN)"
            }
            Cause::Tls { fault: TlsFault::Dates, .. } => {
                "renew the certificate at the registry, unless the clock of this machine is wrong"
            }
            Cause::Tls { fault: TlsFault::NotTls, .. } => {
                "the port speaks plain HTTP: if that is meant, write http:// in front of the registry"
            }
            Cause::Tls { fault: TlsFault::Other, .. } => {
                "both sides must speak TLS 1.2 or later with a cipher that both have: is the registry, or the proxy before it, \
                 too old?"
            }
            Cause::Tls { fault: TlsFault::Certificate, why } if why.contains("BadSignature") => {
                "the key of its certificate may be too short (RSA needs 2048 bits) or of a kind that is no longer secure: have a \
                 new one made"
            }
            Cause::Tls { fault: TlsFault::ClientCertificateRefused, .. } => {
                "the registry does not take the client certificate that it was shown: it must be signed by an authority that \
                 the registry trusts, for clients, and not have run out"
            }
            Cause::Tls { fault: TlsFault::ClientCertificate, .. } => {
                "the registry wants a client certificate that it trusts: --client-cert and --client-key"
            }
            Cause::Credentials(_) => {
                "give credentials with --username and --password-stdin, or log in with docker or podman"
            }
            Cause::ForeignRealm { allow: None, .. } => {
                "have the registry name its token server rightly (Harbor: external_url or hostname; distribution: \
                 auth.token.realm)"
            }
            Cause::Challenge { .. } => {
                "the registry must offer Basic or Bearer: is a proxy with a login of its own before it, or is its address \
                 another one?"
            }
            Cause::UrlsRefused(_) => {
                "the image has layers that are to be had elsewhere (urls, as Windows base images), and the registry refuses \
                 such manifests: allow them there (distribution: validation.manifests.urls.allow)"
            }
            Cause::Protocol(_) if self.asked() == RequestLine::Token => {
                "something else answers at the address that the registry names as its token server (realm): a login page or \
                 a proxy?"
            }
            Cause::ForeignUpload { host, .. } => {
                return Some(format!(
                    "if {host} is the registry itself, have it call itself by the name that is asked (distribution: http.host; \
                     Harbor: external_url; a proxy: X-Forwarded-Host); if uploads are to go there: --upload-host {host}"
                ));
            }
            Cause::ForeignRealm { allow: Some(host), .. } => {
                return Some(format!("if that is the right token server, allow it with --auth-realm {host}"));
            }
            Cause::LoginRefused { .. } => {
                "is the password right and still valid, and may this account log in there? --username with \
                 --password-stdin or --password-file gives another one"
            }
            Cause::Proxy { fault: ProxyFault::Login, .. } => {
                "give the proxy's user and password in the variable: http://USER:PASSWORD@HOST:PORT"
            }
            Cause::Proxy { fault: ProxyFault::Refuses, .. } => {
                "have the proxy allow that host and port, or name the registry in NO_PROXY if it is reached without it"
            }
            Cause::Proxy { fault: ProxyFault::Silent, .. } => {
                "does the proxy reach that host? If the registry is reached without it, name it in NO_PROXY; --patience \
                 SECONDS waits longer"
            }
            Cause::Proxy { fault: ProxyFault::Away, .. } => {
                "is the proxy running, and its address right? What needs no proxy is named in NO_PROXY"
            }
            Cause::Unreachable(_) => {
                "is the registry running, and are host and port right? Without a port it is 443 (80 with http://)"
            }
            Cause::NoSuchName(_) => {
                "is the name spelt right, and does this machine ask the DNS server that knows it (getent hosts NAME)?"
            }
            Cause::NotHttp(_) => "another service may listen there: is the port right?",
            Cause::NotRegistry(_) => {
                "is the host or the port another one, or does a proxy or a login page answer in the registry's place?"
            }
            Cause::LeadsToHttps(to) => return Some(format!("write {to}, or no scheme at all")),
            Cause::NoDescriptors(_) => {
                "raise the limit on open files (ulimit -n), or use fewer connections: --threads, fewer mirrors at once"
            }
            Cause::SpeaksTls => "write https:// in front of the registry, or no scheme at all",
            Cause::Busy { .. } => "run again later, or allow the wait with --patience SECONDS",
            Cause::NotReferrers { tag, .. } => {
                return Some(format!(
                    "delete the tag {tag} there, or give what it shows another name, and push again; a registry that \
                     lists referrers itself (distribution-spec 1.1) needs no such tag"
                ));
            }
            Cause::Integrity(_) => {
                "what the registry keeps is damaged: delete that blob or its repository there, then push with --recheck --verify=pull"
            }
            Cause::Source(error) => return error.hint_text(),
            Cause::Answer(refusal)
            | Cause::Failing { refusal, .. }
            | Cause::OutOfPatience { refusal, .. } => {
                return self.hint_of_answer(refusal);
            }
            _ => return None,
        };
        Some(fixed.to_owned())
    }

    fn hint_of_answer(&self, answer: &ErrorResponse) -> Option<String> {
        let asked = self.asked();
        if let Some(hint) = hint::by_words(answer, asked) {
            return Some(hint.to_owned());
        }
        match (&self.0.account, answer.status) {
            (Some(Requester::FreshToken(who)), 401) => Some(format!(
                "the token server knows {who}, and the registry refused the token that it gave: does the registry trust this \
                 token server (service, issuer, key), and are the clocks of both right?"
            )),
            (Some(Requester::Account(who)), 401)
                if matches!(asked, RequestLine::FrontDoor | RequestLine::Token) =>
            {
                Some(format!("{who} was refused: is the password right, and may the account log in there?"))
            }
            (Some(Requester::Account(who)), 401) => Some(format!(
                "{who} may not do this in that repository, or its project is missing: ask for the right to push there"
            )),
            (Some(Requester::Account(who) | Requester::FreshToken(who)), 403)
                if matches!(asked, RequestLine::FrontDoor | RequestLine::Token) =>
            {
                Some(format!("{who} is known and not let in: ask who runs the registry"))
            }
            (Some(Requester::Account(who) | Requester::FreshToken(who)), 403)
                if asked != RequestLine::Session =>
            {
                Some(format!("{who} is not allowed to do this in that repository"))
            }
            _ => {
                let is_http = self.0.call.as_ref().is_some_and(|call| call.is_http);
                hint::by_status(answer, asked, is_http).map(str::to_owned)
            }
        }
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(call) = &self.0.call {
            write!(f, "{} {}: ", call.method, printable(&call.url))?;
        }
        match &self.0.cause {
            Cause::BadTarget { text, why } => {
                write!(f, "{text:?} does not name a registry: {}", printable(why))
            }
            Cause::BadFile { path, why } => write!(f, "{}: {}", printable(path), printable(why)),
            Cause::Credentials(why)
            | Cause::Integrity(why)
            | Cause::Protocol(why)
            | Cause::Internal(why)
            | Cause::Proxy { why, .. }
            | Cause::ForeignRealm { why, .. }
            | Cause::ForeignUpload { why, .. } => f.write_str(&printable(why)),
            Cause::NotRegistry(why) => write!(f, "this is no container registry: {}", printable(why)),
            Cause::LoginRefused { who, why } => {
                write!(f, "{} was refused: {}", printable(who), printable(why))
            }
            Cause::Challenge { refusal, why } => write!(f, "{refusal}; {}", printable(why)),
            Cause::OutOfPatience { refusal, waited } => {
                write!(f, "{refusal} (waited for {} s)", waited.as_secs())
            }
            Cause::Unreachable(why) => write!(f, "no connection: {}", printable(why)),
            Cause::NoSuchName(why) => write!(f, "the name does not exist: {}", printable(why)),
            Cause::NotHttp(why) => write!(f, "what answers there does not speak HTTP: {}", printable(why)),
            Cause::Broken(why) => write!(f, "the connection broke: {}", printable(why)),
            Cause::Stalled(after) => write!(f, "nothing moved for {} s", after.as_secs_f32()),
            Cause::TooSlow { bytes, after } => {
                write!(f, "only {bytes} bytes of a document came in {} s", after.as_secs_f32())
            }
            Cause::Tls { why, .. } => write!(f, "no secure connection: {}", printable(why)),
            Cause::TooMuch { what, limit_bytes } => {
                write!(f, "{} is longer than {limit_bytes} bytes", printable(what))
            }
            Cause::NotReferrers { tag, why } => {
                write!(
                    f,
                    "the tag {tag} has to list what refers to its image, and is not changed: {}",
                    printable(why)
                )
            }
            Cause::Source(error) => write!(f, "the bundle: {error}"),
            Cause::LeadsToHttps(to) => {
                write!(f, "it redirects to {}, and uploads do not follow", printable(to))
            }
            Cause::NoDescriptors(why) => {
                write!(f, "this machine opens no more connections: {}", printable(why))
            }
            Cause::SpeaksTls => f.write_str("the port speaks TLS, and http:// is written in front of it"),
            Cause::Answer(refusal) | Cause::UrlsRefused(refusal) => fmt::Display::fmt(refusal, f),
            Cause::Failing { refusal, waited } => {
                write!(f, "{refusal}, to whatever was asked (waited for {} s)", waited.as_secs())
            }
            Cause::Busy { refusal, asked } => {
                let seconds = asked.as_secs();
                write!(
                    f,
                    "{refusal}; it asks to be left alone for {seconds} s, longer than --patience allows"
                )
            }
        }?;
        self.0.through.iter().try_for_each(|proxy| write!(f, ", through {proxy}"))?;
        self.0.before.iter().try_for_each(|before| write!(f, "; before that {before}"))
    }
}

impl fmt::Debug for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:?}] {self}", self.kind())
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
