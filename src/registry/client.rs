//! A request with everything that belongs to it: credentials, redirects, pauses, retries. The rules of the tries are
//! `retry`'s; here they are carried out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Method, Response, Url};
use tokio::time::Instant;

use crate::registry::answer::Answer;
use crate::registry::auth::{Auth, Scopes};
use crate::registry::endpoint::Endpoint;
use crate::registry::error::{Cause, MAX_ERROR_BYTES, RegistryError};
use crate::registry::host::Host;
use crate::registry::redact::redacted;
use crate::registry::retry::{Replay, RetryDecision, RetryPolicy, classify};
use crate::registry::transport::{Payload, Transport};
use crate::registry::{Observer, headers, location};

const MAX_REDIRECTS: u32 = 5;
/// A host that comes back is noticed this soon.
const MAX_RECONNECT_DELAY: Duration = Duration::from_secs(2);

/// What a request asks for and how it may be treated.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// Headers that may be secrets: they go to the origin of the request and to no host it is led to.
    pub(super) private_headers: HeaderMap,
    pub(super) payload: Payload<'a>,
    pub(super) replay: Replay,
    pub(super) want: Want,
    /// Statuses that are an answer here, beside 2xx.
    pub(super) also: &'a [u16],
    /// Whether a GET or HEAD may be led elsewhere.
    pub(super) follows: bool,
}

/// What is to become of the body of a good answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Want {
    /// Nobody needs it.
    Nothing,
    /// Whole, up to so many bytes.
    Whole(u64),
    /// Piece by piece.
    Stream,
}

impl<'a> Request<'a> {
    pub(super) fn new(method: Method, url: Url) -> Self {
        let follows = matches!(method, Method::GET | Method::HEAD);
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            private_headers: HeaderMap::new(),
            payload: Payload::Empty,
            replay: Replay::Safe,
            want: Want::Nothing,
            also: &[],
            follows,
        }
    }

    pub(super) fn header(mut self, name: impl Into<reqwest::header::HeaderName>, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.insert(name.into(), value);
        }
        self
    }

    pub(super) fn payload(self, payload: Payload<'a>, replay: Replay) -> Self {
        Self { payload, replay, ..self }
    }

    pub(super) fn want(self, want: Want) -> Self {
        Self { want, ..self }
    }

    pub(super) fn also(self, also: &'a [u16]) -> Self {
        Self { also, ..self }
    }

    /// An error of this request.
    pub(super) fn failed(&self, cause: Cause) -> RegistryError {
        RegistryError::new(self.method.as_str(), &self.url, cause)
    }
}

/// A good answer.
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    /// Where it came from, after redirects.
    pub(super) url: Url,
    /// The body, if it was wanted whole.
    pub(super) body: Bytes,
    /// The answer itself, if its body was wanted piece by piece.
    pub(super) response: Option<Response>,
}

/// Talks to one registry.
pub(super) struct Client {
    pub(super) endpoint: Endpoint,
    pub(super) transport: Transport,
    pub(super) host: Host,
    pub(super) policy: RetryPolicy,
    pub(super) observer: Arc<dyn Observer>,
}

impl Client {
    /// Sends a request with the credentials that `scopes` need. A 401 is met with one fresh token, never with more.
    pub(super) async fn call(
        &self,
        auth: &Auth,
        scopes: &Scopes,
        request: &Request<'_>,
    ) -> Result<Reply, RegistryError> {
        if !self.endpoint.is_origin_of(&request.url) {
            return self.exchange(request, None).await;
        }
        let used = auth.authorization(self, scopes).await?;
        let refused = match self.exchange(request, used.as_ref()).await {
            Err(error) if error.status() == Some(401) => error,
            Ok(reply) => {
                auth.accepted(used.as_ref());
                return Ok(reply);
            }
            outcome => return outcome,
        };
        let fresh = auth.renewed(self, scopes, used.as_ref(), refused).await?;
        self.exchange(request, Some(&fresh)).await
    }

    /// Sends a request until it is answered for good. The credentials go to the origin of the request and nowhere else.
    pub(super) async fn exchange(
        &self,
        request: &Request<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Reply, RegistryError> {
        self.host.admit().await;
        let mut delays = self.policy.delays();
        let mut tries = 0;
        loop {
            tries += 1;
            let (cause, url) = match self.attempt(request, authorization).await {
                Ok(reply) => return Ok(reply),
                Err(failed) => failed,
            };
            let delay = delays.next().unwrap_or(self.policy.max_delay);
            let last = tries >= self.policy.tries(&cause);
            let error = |cause| Err(RegistryError::new(request.method.as_str(), &url, cause));
            let delay = match classify(&cause, request.replay) {
                RetryDecision::Final | RetryDecision::Ambiguous | RetryDecision::Unauthorized => {
                    return error(cause);
                }
                RetryDecision::Reconnect
                    if !self.host.unreachable(Instant::now(), self.policy.connect_patience) =>
                {
                    return error(cause);
                }
                RetryDecision::Reconnect => delay.min(MAX_RECONNECT_DELAY),
                // Who asks everything once only does not wait for anybody either.
                RetryDecision::Pause(_) if self.policy.attempts <= 1 => return error(cause),
                RetryDecision::Pause(asked) => {
                    self.host.pause(Instant::now(), asked.unwrap_or(delay));
                    if last || request.replay == Replay::Never {
                        return error(cause);
                    }
                    // Not everybody at once when the pause is over.
                    asked.map_or(delay, |asked| asked + delay / 4)
                }
                RetryDecision::Again if last => return error(cause),
                // Mostly a kept connection that the other side had closed.
                RetryDecision::Again if tries == 1 && matches!(cause, Cause::Broken(_)) => Duration::ZERO,
                RetryDecision::Again => delay,
            };
            if !self.host.take_retry() {
                return error(cause);
            }
            let what = format!("{} {}", request.method, redacted(&url));
            self.observer.retry(&what, &why(&cause), delay);
            tokio::time::sleep(delay).await;
            self.host.wait_out_pause().await;
        }
    }

    /// One try: the request and the redirects it is led through.
    async fn attempt(
        &self,
        request: &Request<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Reply, (Cause, Url)> {
        let mut url = request.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let mut headers = request.headers.clone();
            if url.origin() == request.url.origin() {
                headers.extend(request.private_headers.clone());
                if let Some(value) = authorization {
                    headers.insert(AUTHORIZATION, value.clone());
                }
            }
            let asked = Instant::now();
            let sent = self.transport.send(&request.method, &url, headers, &request.payload).await;
            let answer = sent.map_err(|cause| (cause, url.clone()))?;
            self.host.reached(asked.elapsed());
            let status = answer.status().as_u16();
            if request.follows && matches!(status, 301 | 302 | 303 | 307 | 308) {
                let text = headers::text(answer.headers(), LOCATION).unwrap_or_default();
                url = location::redirect(&url, text, &self.endpoint).map_err(|why| {
                    (Cause::Protocol(format!("a redirect that is not followed: {why}")), url.clone())
                })?;
                continue;
            }
            for text in headers::warnings(answer.headers()) {
                if self.host.is_news(&text) {
                    self.observer.warning(&format!(
                        "{} says: {}",
                        self.endpoint,
                        crate::error::printable(&text)
                    ));
                }
            }
            if !answer.status().is_success() && !request.also.contains(&status) {
                return Err((Cause::Answer(self.refusal(answer).await), url));
            }
            let (status_is_success, headers) = (answer.status().is_success(), answer.headers().clone());
            let (body, response) = match request.want {
                Want::Whole(max_bytes) if status_is_success => (
                    self.transport.read(answer, max_bytes).await.map_err(|cause| (cause, url.clone()))?,
                    None,
                ),
                Want::Stream if status_is_success => (Bytes::new(), Some(answer)),
                // Read to its end, the connection can be used again.
                _ => (self.transport.read_some(answer, MAX_ERROR_BYTES).await, None),
            };
            return Ok(Reply { status, headers, url, body, response });
        }
        Err((Cause::Protocol(format!("more than {MAX_REDIRECTS} redirects")), url))
    }

    async fn refusal(&self, answer: Response) -> Answer {
        let status = answer.status().as_u16();
        let retry_after = headers::retry_after(answer.headers(), Timestamp::now());
        let values = answer.headers().get_all(WWW_AUTHENTICATE);
        let challenges = values.iter().filter_map(|v| v.to_str().ok()).map(str::to_owned).collect();
        let body = self.transport.read_some(answer, MAX_ERROR_BYTES).await;
        Answer { challenges, ..Answer::new(status, retry_after, &body) }
    }
}

/// A cause in few words.
fn why(cause: &Cause) -> String {
    match cause {
        Cause::Answer(answer) => answer.to_string(),
        other => RegistryError::from(other.clone()).to_string(),
    }
}
