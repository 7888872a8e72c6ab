//! A request with everything that belongs to it: credentials, redirects, and the hosts it meets. When it is tried again
//! is the business of `retry` and `attempts`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, WWW_AUTHENTICATE};
use reqwest::{Method, Response, Url};
use tokio::sync::OwnedMutexGuard;

use crate::clock::{self, Instant};
use crate::registry::attempts::Attempts;
use crate::registry::auth::{Auth, Proven, Scopes};
use crate::registry::endpoint::Endpoint;
use crate::registry::error::{Cause, MAX_ERROR_BYTES, RegistryError};
use crate::registry::error_response::ErrorResponse;
use crate::registry::flight::PauseGuard;
use crate::registry::host::{Greeting, HostState, OtherHosts};
use crate::registry::retry::{Replay, RetryPolicy};
use crate::registry::server_errors::Manner;
use crate::registry::transport::{Payload, Probe, Transport};
use crate::registry::{Observer, headers, location};

const MAX_REDIRECTS: u32 = 5;
/// How many more tokens are tried where one that was just given is refused, and others were taken.
const MORE_TOKENS: u32 = 2;
/// A host that comes back is noticed this soon.
const MAX_PROBE_DELAY: Duration = Duration::from_secs(2);
/// The last look at a host may take this long at least.
const MIN_PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// What a request asks for and how it may be treated.
pub(super) struct ApiRequest<'a> {
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
    /// Among which requests it counts where a host fails alike whatever is asked; none for what may fail for itself however
    /// often: a mount, a blob that the storage has lost, a courtesy.
    pub(super) manner: Option<Manner>,
    /// Whether it finds out if a host is there: the time of one that fails counts as waiting for the host.
    pub(super) probe: Option<Probe>,
}

/// What is to become of the body of a good answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Want {
    /// Nobody needs it.
    Nothing,
    /// Its beginning, up to this number of bytes.
    Beginning(u64),
    /// Whole, up to this number of bytes.
    Whole(u64),
    /// Piece by piece.
    Stream,
}

impl<'a> ApiRequest<'a> {
    pub(super) fn new(method: Method, url: Url) -> Self {
        let follows = matches!(method, Method::GET | Method::HEAD);
        let manner = Some(Manner::of(&method)).filter(|_| method != Method::DELETE);
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
            manner,
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
        let manner = self.manner.filter(|_| !matches!(want, Want::Stream));
        Self { want, manner, ..self }
    }

    /// Says nothing of the host where it fails.
    pub(super) fn for_itself(self) -> Self {
        Self { manner: None, ..self }
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
    /// The answer itself, if its body was wanted piece by piece.
    pub(super) response: Option<Response>,
}

/// The turn of a request, while the others wait for how it fares.
struct ProbeTurn {
    began: Instant,
    _held: OwnedMutexGuard<()>,
}

/// Talks to one registry, for one mirror.
pub(super) struct ApiClient {
    pub(super) endpoint: Endpoint,
    pub(super) transport: Transport,
    pub(super) policy: RetryPolicy,
    pub(super) observer: Arc<dyn Observer>,
    /// The registry's own host.
    pub(super) host: Arc<HostState>,
    /// Those that it leads to.
    pub(super) others: Arc<OtherHosts>,
}

impl ApiClient {
    /// One that shares what it learns with nobody.
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

    /// Sends a request until it is answered for good. The credentials go to the origin of the request and nowhere else.
    pub(super) async fn exchange(
        &self,
        request: &ApiRequest<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Reply, RegistryError> {
        let what = format!("{} {}", request.method, self.transport.shown_url(&request.url));
        let mut attempts = Attempts::new(&self.policy, self.observer.as_ref(), what);
        let host = self.host_of(&request.url);
        host.pay_in();
        let number = host.number();
        loop {
            self.ready(&request.method, &request.url).await?;
            let turn = self.turn(request, &host).await?;
            let began = Instant::now();
            let (cause, url) = match self.attempt(request, authorization).await {
                Ok(reply) => {
                    request.manner.inspect(|manner| host.lasting(*manner).answered());
                    host.overload(Manner::of(&request.method)).ended();
                    return Ok(reply);
                }
                Err(failed) => failed,
            };
            let failing = self.host_of(&url);
            let waited = if request.probe.is_some() { began.elapsed() } else { Duration::ZERO };
            failing.breaker().failed(&cause, waited);
            if let Some(manner) = request.manner {
                let waited = turn.as_ref().map_or(Duration::ZERO, |turn| turn.began.elapsed());
                host.lasting(manner).failed(number, &cause, waited);
            }
            if matches!(&cause, Cause::Answer(refusal) if !refusal.says_not_now()) {
                host.overload(Manner::of(&request.method)).ended();
            }
            drop(turn);
            let error = self.transport.blanked(RegistryError::new(request.method.as_str(), &url, cause));
            let kind = Manner::of(&request.method);
            attempts.retry(&failing, request.replay, kind, request.manner, began, error).await?;
            // Where it was led to another host, that is the one to wait for.
            self.ready(&request.method, &url).await?;
        }
    }

    /// An error of a request that was answered.
    pub(super) fn failed(&self, request: &ApiRequest<'_>, cause: Cause) -> RegistryError {
        self.transport.blanked(RegistryError::new(request.method.as_str(), &request.url, cause))
    }

    /// The error of a host that was given up before anything was asked.
    pub(super) fn not_reached(&self, cause: Cause) -> Result<RegistryError, RegistryError> {
        let door = ApiRequest::new(Method::GET, self.endpoint.url("")?);
        Ok(self.failed(&door, cause))
    }

    /// Waits until the host that a URL leads to may be talked to.
    pub(super) async fn ready(&self, method: &Method, url: &Url) -> Result<(), RegistryError> {
        // Who asks everything once only waits for nobody.
        if self.policy.attempts <= 1 {
            return Ok(());
        }
        let host = self.host_of(url);
        let ready = host.ready(|| self.look(&host, url)).await;
        ready.map_err(|cause| self.transport.blanked(RegistryError::new(method.as_str(), url, cause)))
    }

    /// Waits for a turn, where the host fails whatever is asked, or says "not now", and one request at a time goes out to it.
    async fn turn(
        &self,
        request: &ApiRequest<'_>,
        host: &HostState,
    ) -> Result<Option<ProbeTurn>, RegistryError> {
        // Who asks everything once only waits for nobody.
        if self.policy.attempts <= 1 {
            return Ok(None);
        }
        let kind = Manner::of(&request.method);
        let given_up = |cause| self.failed(request, cause);
        let is_failing = || request.manner.map_or(Ok(false), |manner| host.lasting(manner).is_on());
        let is_overloaded = || host.overload(kind).is_on();
        if !is_failing().map_err(given_up)? && !is_overloaded().map_err(given_up)? {
            return Ok(None);
        }
        let held = host.turn(kind).await;
        let was_overloaded = is_overloaded().map_err(given_up)?;
        if was_overloaded {
            // Whoever had the turn before may have been told to wait once more.
            self.ready(&request.method, &request.url).await?;
        }
        let began = Instant::now();
        let (least, most) = (self.policy.min_delay, MAX_PROBE_DELAY);
        let pause = request.manner.map_or(Ok(None), |manner| host.lasting(manner).turn(least, most, began));
        match pause.map_err(given_up)? {
            Some((pause, why)) => {
                let what = format!("{} {}", request.method, self.transport.shown_url(&request.url));
                self.observer.retry(&what, &why, "the registry fails whatever is asked", pause);
                let _pause = PauseGuard::begin(self.observer.as_ref());
                tokio::time::sleep(pause).await;
            }
            None if !was_overloaded => return Ok(None),
            None => {}
        }
        Ok(Some(ProbeTurn { began, _held: held }))
    }

    /// What is known of the host that a URL leads to.
    fn host_of(&self, url: &Url) -> Arc<HostState> {
        if self.endpoint.is_origin_of(url) {
            return Arc::clone(&self.host);
        }
        self.others.of(url)
    }

    /// Looks whether a host is back until it is, or until there is no patience left with it.
    async fn look(&self, host: &HostState, url: &Url) -> Result<(), Cause> {
        let own_door = self.endpoint.url("").ok().filter(|_| self.endpoint.is_origin_of(url));
        let at = own_door.unwrap_or_else(|| {
            let mut at = url.clone();
            at.set_path("/");
            at.set_query(None);
            at
        });
        let what = format!("GET {}", self.transport.shown_url(&at));
        let mut attempts = Attempts::new(&self.policy, self.observer.as_ref(), what);
        loop {
            let (left, why, cause) = {
                let mut breaker = host.breaker();
                let left = breaker.left();
                if left.is_zero() {
                    return Err(breaker.give_up(Instant::now()));
                }
                (left, breaker.why(), breaker.in_short())
            };
            let began = Instant::now();
            let delay = attempts.delay().min(MAX_PROBE_DELAY).min(left);
            attempts.wait(host, delay, &why, &cause).await;
            let deadline = left.saturating_sub(began.elapsed()).max(MIN_PROBE_TIMEOUT);
            let deadline = deadline.min(self.transport.commit_timeout(0));
            let door = ApiRequest::new(Method::GET, at.clone());
            let probe = Probe { deadline, afresh: true };
            let door = ApiRequest { probe: Some(probe), follows: false, ..door };
            let looked = self.attempt(&door, None).await;
            let mut breaker = host.breaker();
            match looked {
                Err((cause, _)) if cause.says_away() => breaker.failed(&cause, began.elapsed()),
                _ => {
                    breaker.is_back(began.elapsed());
                    return Ok(());
                }
            }
        }
    }

    /// One try, which says why it failed without the secrets of the run.
    async fn attempt(
        &self,
        request: &ApiRequest<'_>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Reply, (Cause, Url)> {
        let outcome = self.follow(request, authorization).await;
        outcome.map_err(|(cause, url)| (self.transport.blanked_cause(cause), url))
    }

    /// The request and the redirects it is led through.
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
