//! A request with everything that belongs to it: credentials, redirects, and the hosts that answer. `retry` decides whether it
//! is sent again, and when.

mod probe;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Method, Response, Url};

use crate::clock::{self, Instant};
use crate::registry::auth::{Auth, Proven, Scopes};
use crate::registry::endpoint::Endpoint;
use crate::registry::error::{Cause, MAX_ERROR_BYTES, RegistryError};
use crate::registry::error_response::ErrorResponse;
use crate::registry::host::{Greeting, HostState, OtherHosts};
use crate::registry::retry::driver::{HalfOpenPermit, RetryDriver, Retryability};
use crate::registry::retry::{Operation, Replay, RetryPolicy};
use crate::registry::transport::{Payload, Probe, Transport};
use crate::registry::{Observer, headers, location};

const MAX_REDIRECTS: u32 = 5;
/// How many more tokens are tried when a fresh one is refused, and others were accepted.
const MORE_TOKENS: u32 = 2;

/// A request, and how to treat it.
pub(super) struct ApiRequest<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) headers: HeaderMap,
    /// Headers that may be secrets. They go to the origin of the request, and to no target of a redirect.
    pub(super) private_headers: HeaderMap,
    pub(super) payload: Payload<'a>,
    pub(super) replay: Replay,
    pub(super) want: Want,
    /// Statuses that are no error here, other than 2xx.
    pub(super) also: &'a [u16],
    /// Whether a GET or HEAD follows redirects.
    pub(super) follows: bool,
    /// Whether a server error says something of the host. False for what may fail for itself however often: a mount, a blob that
    /// the storage has lost, a courtesy.
    pub(super) shows_health: bool,
    /// Set where the request finds out whether a host is up. The time of a failed one counts as waiting for the host.
    pub(super) probe: Option<Probe>,
}

/// What to do with the body of a good answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Want {
    /// Discard it.
    Nothing,
    /// Read its beginning, up to this number of bytes.
    Beginning(u64),
    /// Read it whole, up to this number of bytes.
    Whole(u64),
    /// Stream it.
    Stream,
}

impl<'a> ApiRequest<'a> {
    pub(super) fn new(method: Method, url: Url) -> Self {
        let follows = matches!(method, Method::GET | Method::HEAD);
        let shows_health = method != Method::DELETE;
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
            shows_health,
            probe: None,
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
        let shows_health = self.shows_health && !matches!(want, Want::Stream);
        Self { want, shows_health, ..self }
    }

    /// Its failure says nothing of the host.
    pub(super) fn for_itself(self) -> Self {
        Self { shows_health: false, ..self }
    }

    fn retryability(&self) -> Retryability {
        let Self { replay, shows_health, .. } = *self;
        Retryability { operation: Operation::of(&self.method), replay, shows_health }
    }

    pub(super) fn also(self, also: &'a [u16]) -> Self {
        Self { also, ..self }
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
    /// The answer itself, if its body is streamed.
    pub(super) response: Option<Response>,
}

/// Talks to one registry, for one mirror.
pub(super) struct ApiClient {
    pub(super) endpoint: Endpoint,
    pub(super) transport: Transport,
    pub(super) policy: RetryPolicy,
    pub(super) observer: Arc<dyn Observer>,
    /// The registry's own host.
    pub(super) host: Arc<HostState>,
    /// The hosts of redirects and locations.
    pub(super) others: Arc<OtherHosts>,
}

impl ApiClient {
    /// A client that shares its state with no other.
    pub(super) fn alone(
        endpoint: Endpoint,
        transport: Transport,
        policy: RetryPolicy,
        observer: Arc<dyn Observer>,
    ) -> Self {
        let host = Arc::new(HostState::new(policy.connect_patience));
        let others = Arc::new(OtherHosts::new(policy.connect_patience));
        Self { endpoint, transport, policy, observer, host, others }
    }

    /// Sends a request with the credentials that `scopes` need. A 401 is met with one fresh token, and where the registry has
    /// taken tokens of this kind with [`MORE_TOKENS`] more: one of several replicas may be behind.
    pub(super) async fn call(
        &self,
        auth: &Auth,
        scopes: &Scopes,
        request: &ApiRequest<'_>,
    ) -> Result<Reply, RegistryError> {
        if !self.endpoint.is_origin_of(&request.url) {
            return self.exchange(request, None).await;
        }
        let used = auth.authorization(self, scopes).await?;
        let refused = match self.exchange(request, used.as_ref().map(Proven::header)).await {
            Err(error) if error.status() == Some(401) => error,
            Ok(reply) => {
                auth.accepted(used);
                return Ok(reply);
            }
            outcome => return outcome.map_err(|error| auth.blame(error)),
        };
        let mut fresh = auth.renewed(self, scopes, used, refused).await?;
        let mut more = MORE_TOKENS;
        loop {
            match self.exchange(request, Some(fresh.header())).await {
                Ok(reply) => {
                    auth.accepted(Some(fresh));
                    return Ok(reply);
                }
                Err(error) if more > 0 && auth.may_take_another(&fresh, &error) => {
                    more -= 1;
                    fresh = auth.renewed(self, scopes, Some(fresh), error).await?;
                }
                Err(error) => {
                    let error = auth.blame_for(&fresh, error);
                    fresh.failed(&error);
                    return Err(error);
                }
            }
        }
    }

    /// Sends a request, with its retries. The credentials go to the origin of the request and to no other host.
    pub(super) async fn exchange(
        &self,
        request: &ApiRequest<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Reply, RegistryError> {
        let what = format!("{} {}", request.method, self.transport.shown_url(&request.url));
        let mut driver = RetryDriver::new(&self.policy, self.observer.as_ref(), what);
        let host = self.host_of(&request.url);
        let number = host.begin_request();
        let retryability = request.retryability();
        let Retryability { operation, shows_health, .. } = retryability;
        loop {
            let probe = || self.probe_until_up(&host, &request.url);
            let admitted = driver.admit(&host, retryability, probe).await;
            let permit = admitted.map_err(|cause| self.failed(request, cause))?;
            let sent = Instant::now();
            let (cause, url) = match self.attempt(request, authorization).await {
                Ok(reply) => {
                    host.health(operation).succeeded(shows_health);
                    return Ok(reply);
                }
                Err(failed) => failed,
            };
            let failing = self.host_of(&url);
            let waited = if request.probe.is_some() { sent.elapsed() } else { Duration::ZERO };
            failing.breaker().failed(&cause, waited);
            let waited = permit.as_ref().map_or(Duration::ZERO, HalfOpenPermit::waited);
            host.health(operation).failed(number, shows_health, &cause, waited);
            drop(permit);
            let error = self.transport.blanked(RegistryError::new(request.method.as_str(), &url, cause));
            driver.retry(&failing, retryability, sent, error).await?;
            // After a redirect to another host, that is the one to wait for.
            self.until_reachable(&driver, &request.method, &url).await?;
        }
    }

    /// An error of a request that was answered.
    pub(super) fn failed(&self, request: &ApiRequest<'_>, cause: Cause) -> RegistryError {
        self.transport.blanked(RegistryError::new(request.method.as_str(), &request.url, cause))
    }

    /// The error of a host that was given up before anything was asked.
    pub(super) fn not_reached(&self, cause: Cause) -> Result<RegistryError, RegistryError> {
        let ping = ApiRequest::new(Method::GET, self.endpoint.url("")?);
        Ok(self.failed(&ping, cause))
    }

    /// Waits until the host that a URL leads to may be asked.
    pub(super) async fn until_reachable(
        &self,
        driver: &RetryDriver<'_>,
        method: &Method,
        url: &Url,
    ) -> Result<(), RegistryError> {
        let host = self.host_of(url);
        let reachable = driver.until_reachable(&host, || self.probe_until_up(&host, url)).await;
        reachable.map_err(|cause| self.transport.blanked(RegistryError::new(method.as_str(), url, cause)))
    }

    /// The state of the host of a URL.
    fn host_of(&self, url: &Url) -> Arc<HostState> {
        if self.endpoint.is_origin_of(url) {
            return Arc::clone(&self.host);
        }
        self.others.of(url)
    }

    /// One attempt. Its cause has none of the run's secrets.
    async fn attempt(
        &self,
        request: &ApiRequest<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Reply, (Cause, Url)> {
        let outcome = self.follow(request, authorization).await;
        outcome.map_err(|(cause, url)| (self.transport.blanked_cause(cause), url))
    }

    /// The request and its redirects.
    async fn follow(
        &self,
        request: &ApiRequest<'_>,
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
            let sent = self.transport.send(&request.method, &url, headers, &request.payload, request.probe);
            let answer = sent.await.map_err(|cause| (cause, url.clone()))?;
            let host = self.host_of(&url);
            host.answered(asked.elapsed());
            host.greeting(|| greeting(&answer));
            let status = answer.status().as_u16();
            if request.follows && matches!(status, 301 | 302 | 303 | 307 | 308) {
                let text = headers::text(answer.headers(), LOCATION).unwrap_or_default();
                url = location::redirect(&url, text, &self.endpoint).map_err(|why| {
                    let why = self.transport.shown(&url, why.as_bytes());
                    (Cause::Protocol(format!("a redirect that is not followed: {why}")), url.clone())
                })?;
                continue;
            }
            for text in headers::warnings(answer.headers()) {
                if host.is_news(&text) {
                    self.observer.warning(&format!(
                        "{} says: {}",
                        self.endpoint,
                        crate::error::printable(&self.transport.shown(&url, text.as_bytes()))
                    ));
                }
            }
            if !answer.status().is_success() && !request.also.contains(&status) {
                return Err((Cause::Answer(self.refusal(answer, &url).await), url));
            }
            host.breaker().answered();
            let (status_is_success, headers) = (answer.status().is_success(), answer.headers().clone());
            let (body, response) = match request.want {
                Want::Whole(max_bytes) if status_is_success => (
                    self.transport.read(answer, max_bytes).await.map_err(|cause| (cause, url.clone()))?,
                    None,
                ),
                Want::Beginning(max_bytes) if status_is_success => {
                    (self.transport.read_some(answer, max_bytes).await, None)
                }
                Want::Stream if status_is_success => (Bytes::new(), Some(answer)),
                // Read to its end, the connection can be used again.
                _ => (self.transport.read_some(answer, MAX_ERROR_BYTES).await, None),
            };
            return Ok(Reply { status, headers, url, body, response });
        }
        Err((Cause::Protocol(format!("more than {MAX_REDIRECTS} redirects")), url))
    }

    async fn refusal(&self, answer: Response, url: &Url) -> ErrorResponse {
        let status = answer.status().as_u16();
        let retry_after = headers::retry_after(answer.headers(), clock::timestamp());
        let values = answer.headers().get_all(WWW_AUTHENTICATE);
        // A realm may be written in any language.
        let challenges =
            values.iter().map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect();
        let target = headers::text(answer.headers(), LOCATION)
            .filter(|_| (300..400).contains(&status))
            .and_then(|text| url.join(text).ok())
            .map(|target| self.transport.shown_url(&target));
        let body = self.transport.read_some(answer, MAX_ERROR_BYTES).await;
        let shown = |words: &str| self.transport.shown(url, words.as_bytes());
        let refusal = ErrorResponse { challenges, ..ErrorResponse::new(status, retry_after, &body, shown) };
        match target {
            Some(target) => refusal.leading_to(&target),
            None => refusal,
        }
    }
}

fn greeting(answer: &Response) -> Greeting {
    let certificate =
        answer.extensions().get::<reqwest::tls::TlsInfo>().and_then(|info| info.peer_certificate());
    Greeting {
        date: headers::date(answer.headers()),
        at: clock::timestamp(),
        certificate: certificate.map(<[u8]>::to_vec),
        server: headers::server(answer.headers()),
    }
}

#[cfg(test)]
mod tests;
