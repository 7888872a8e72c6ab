//! Sends one request, watches for a stall, and returns the answer. It never decides anything.
//!
//! A request may take any time, as long as it makes progress: the network must take bytes of a body, and after the last byte the
//! answer must come within a time that grows with the body (registries hash before they answer).

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use reqwest::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use reqwest::{Method, Response, Url};
use tokio::sync::watch;

use crate::clock::Instant;
use crate::registry::bandwidth::BandwidthLimits;
use crate::registry::body::{BlobBody, BodyProgress, Metered, TransferredBytes};
use crate::registry::error::{Cause, ProxyFault, RegistryError};
use crate::registry::flight::Flight;
use crate::registry::redact::{hidden, redacted};
use crate::registry::tls::{Clients, cause_of};
use crate::registry::{ClientOptions, Observer, Timeouts};

/// A registry that hashes what it got does this many bytes a second or more.
const COMMIT_BYTES_PER_SECOND: u64 = 10_000_000;
/// What is read comes at this many bytes a second or more, after a time of grace.
const LEAST_BYTES_PER_SECOND: u64 = 4096;
/// The time of grace for a document: most come in one piece.
const DOCUMENT_GRACE: Duration = Duration::from_secs(30);
/// How long an answer is read that is only shown to a person.
const GLANCE: Duration = Duration::from_secs(10);

/// The next request of one piece of work follows sooner than this.
const BETWEEN_REQUESTS: Duration = Duration::from_millis(250);

/// What a request carries.
#[derive(Clone)]
pub(super) enum Payload<'a> {
    /// Nothing.
    Empty,
    /// A document.
    Bytes(Bytes),
    /// A blob, or a part of one.
    Blob(BlobPart<'a>),
}

/// Bytes of a blob. `taken` counts those that the network took; the first byte waits for `hold`.
#[derive(Clone)]
pub(super) struct BlobPart<'a> {
    pub(super) body: &'a dyn BlobBody,
    pub(super) range: Range<u64>,
    pub(super) taken: &'a Arc<TransferredBytes>,
    pub(super) hold: Duration,
}

/// A request that finds out whether a host is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    /// Within this time the answer must begin.
    pub(super) deadline: Duration,
    /// Over a connection of its own: that one from earlier still stands says nothing of new ones.
    pub(super) afresh: bool,
}

/// Bytes of a blob on their way in.
pub(crate) type BlobStream = BoxStream<'static, Result<Bytes, RegistryError>>;

/// Sends requests.
pub(super) struct Transport {
    clients: Arc<Clients>,
    timeouts: Timeouts,
    limits: BandwidthLimits,
    observer: Arc<dyn Observer>,
    /// How many requests have been sent, in whole or in part, and are not answered.
    on_their_way: watch::Sender<usize>,
}

/// A request on its way.
struct OnItsWay<'a>(&'a watch::Sender<usize>);

impl<'a> OnItsWay<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for OnItsWay<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl Transport {
    pub(super) fn new(clients: Arc<Clients>, options: &ClientOptions) -> Self {
        Self {
            clients,
            timeouts: options.timeouts.clone(),
            limits: BandwidthLimits::new(&options.bandwidth),
            observer: Arc::clone(&options.observer),
            on_their_way: watch::Sender::new(0),
        }
    }

    /// Waits until no request is on its way, and none follows at once, as the commit of an upload does.
    pub(super) async fn idle(&self) {
        let mut count = self.on_their_way.subscribe();
        while count.wait_for(|count| *count == 0).await.is_ok()
            && tokio::time::timeout(BETWEEN_REQUESTS, count.changed()).await.is_ok()
        {}
    }

    /// Until a connection stands.
    pub(super) fn connect_timeout(&self) -> Duration {
        self.timeouts.connect
    }

    /// How long a body waits for an early refusal, once one may have been lost.
    pub(super) fn early_refusal_timeout(&self) -> Duration {
        self.timeouts.early_refusal
    }

    /// How long a registry may take to answer once it has all of a blob.
    pub(super) fn commit_timeout(&self, bytes: u64) -> Duration {
        self.timeouts.response + Duration::from_secs(bytes / COMMIT_BYTES_PER_SECOND)
    }

    /// Sends one request and waits for the head of its answer, whatever its status; as a `probe`, if it is one.
    pub(super) async fn send(
        &self,
        method: &Method,
        url: &Url,
        mut headers: HeaderMap,
        payload: &Payload<'_>,
        probe: Option<Probe>,
    ) -> Result<Response, Cause> {
        // The first request is sent over HTTP/1.1: a server that wants another client certificate says so after the
        // handshake, and HTTP/2's implementation loses what it said.
        // A session is opened over the connection that its bytes will take, which stands then.
        let over_http1 = match payload {
            Payload::Blob(_) => true,
            Payload::Empty => *method == Method::POST || probe.is_some() || url.path().ends_with("/v2/"),
            Payload::Bytes(_) => false,
        };
        let client = match probe {
            Some(Probe { afresh: true, .. }) => &self.clients.probe,
            _ if over_http1 => &self.clients.data,
            _ => &self.clients.control,
        };
        let flight = Flight::begin(&self.observer);
        let mut progress = None;
        let mut wait = probe.map_or(self.timeouts.response, |probe| probe.deadline);
        let body = match payload {
            Payload::Empty => {
                if !matches!(*method, Method::GET | Method::HEAD) {
                    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
                }
                None
            }
            Payload::Bytes(bytes) => {
                self.limits.passage().pass(bytes.len()).await;
                Some(reqwest::Body::from(bytes.clone()))
            }
            Payload::Blob(part) if part.range.is_empty() => {
                headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
                None
            }
            Payload::Blob(BlobPart { body, range, taken, hold }) => {
                // The end of a blob is hashed with all that came before.
                wait = self.commit_timeout(range.end);
                let (metered, watched) = Metered::new(
                    *body,
                    range.clone(),
                    Arc::clone(taken),
                    *hold,
                    self.limits.passage(),
                    Arc::clone(&self.observer),
                    flight.flight(),
                );
                progress = Some(watched);
                Some(reqwest::Body::wrap(metered))
            }
        };
        let mut request = client.request(method.clone(), url.clone()).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        tracing::trace!(%method, url = self.shown_url(url), "request");
        let sent_at = Instant::now();
        let on_its_way = OnItsWay::new(&self.on_their_way);
        let sent = tokio::select! {
            sent = request.send() => self.clients.understand(sent, url),
            after = self.watch(progress.as_deref(), wait) => Err(match self.clients.proxy_of(url) {
                Some(proxy) if probe.is_some() => Cause::Proxy {
                    fault: ProxyFault::Silent,
                    why: format!("nothing came through {proxy} for {} s", after.as_secs()),
                },
                _ => Cause::Stalled(after),
            }),
        };
        drop((on_its_way, flight));
        let fault = progress.as_ref().and_then(|progress| progress.fault());
        let outcome = match (sent, fault) {
            (_, Some(fault)) => Err(Cause::Source(fault)),
            (Ok(answer), None)
                if answer.status().is_success() && !progress.is_none_or(|p| p.is_complete()) =>
            {
                Err(Cause::Broken("the registry answered before it had all bytes".to_owned()))
            }
            (sent, None) => sent,
        };
        let outcome = match outcome {
            Err(Cause::Proxy { fault: ProxyFault::Refuses, why }) if url.scheme() == "https" => {
                let why = self.clients.refusal_of_proxy(url).await.unwrap_or(why);
                Err(Cause::Proxy { fault: ProxyFault::Refuses, why })
            }
            outcome => outcome,
        };
        let status = outcome.as_ref().ok().map(|answer| answer.status().as_u16());
        tracing::debug!(%method, url = self.shown_url(url), status, cause = outcome.as_ref().err().map(|cause| tracing::field::debug(self.blanked_cause(cause.clone()))));
        self.observer.request(method.as_str(), status, sent_at.elapsed());
        outcome
    }

    /// A URL as it may be shown. One that a server gave may quote a secret in any part of it.
    pub(super) fn shown_url(&self, url: &Url) -> String {
        self.clients.secrets.blank(&redacted(url))
    }

    /// An error as it may be shown, with the proxy that was on the way.
    pub(super) fn blanked(&self, error: RegistryError) -> RegistryError {
        let url = error.url().and_then(|url| Url::parse(url).ok());
        let proxy = url.and_then(|url| self.clients.proxy_of(&url).map(ToString::to_string));
        let error = proxy.into_iter().fold(error, RegistryError::through);
        error.blanked(&self.clients.secrets)
    }

    pub(super) fn blanked_cause(&self, cause: Cause) -> Cause {
        cause.blanked(&self.clients.secrets)
    }

    /// The words of a server about a request to `url`, without the secrets of the run and those in the address.
    pub(super) fn shown(&self, url: &Url, words: &[u8]) -> String {
        let secrets = &self.clients.secrets;
        let _kept: Vec<_> = hidden(url).map(|part| secrets.remember_while(&part.into())).collect();
        secrets.blank(&String::from_utf8_lossy(words))
    }

    /// Returns when nothing has moved for too long, with how long that was.
    async fn watch(&self, progress: Option<&BodyProgress>, wait: Duration) -> Duration {
        let start = Instant::now();
        loop {
            let (from, limit) = match progress {
                None => (start, wait),
                Some(progress) if progress.is_complete() => (progress.moved(), wait),
                // Nobody is to blame on the network while the bundle has nothing to send.
                Some(progress) if progress.waits_for_source() => (Instant::now(), self.timeouts.stall),
                Some(progress) => (progress.moved(), self.timeouts.stall),
            };
            if from.elapsed() >= limit {
                return limit;
            }
            tokio::time::sleep_until(from + limit).await;
        }
    }

    /// Reads a document whole, if it is no longer than `max_bytes` and does not trickle.
    pub(super) async fn read(&self, mut answer: Response, max_bytes: u64) -> Result<Bytes, Cause> {
        let (mut whole, mut start) = (BytesMut::new(), Instant::now());
        let mut passage = self.limits.passage();
        loop {
            let end = start + DOCUMENT_GRACE.min(self.timeouts.stall) + seconds_for(whole.len() as u64);
            match tokio::time::timeout_at(end, answer.chunk()).await {
                Err(_) => return Err(Cause::TooSlow { bytes: whole.len() as u64, after: start.elapsed() }),
                Ok(Err(error)) => return Err(cause_of(&error)),
                Ok(Ok(None)) => return Ok(whole.freeze()),
                Ok(Ok(Some(chunk))) if (whole.len() + chunk.len()) as u64 > max_bytes => {
                    return Err(Cause::TooMuch { what: "the answer".to_owned(), limit_bytes: max_bytes });
                }
                Ok(Ok(Some(chunk))) => {
                    whole.extend_from_slice(&chunk);
                    start += passage.pass(chunk.len()).await;
                }
            }
        }
    }

    /// Reads the beginning of a body of any kind, as far as it can be read.
    pub(super) async fn read_some(&self, mut answer: Response, max_bytes: u64) -> Bytes {
        let mut some = BytesMut::new();
        let end = Instant::now() + GLANCE.min(self.timeouts.stall);
        while (some.len() as u64) < max_bytes {
            match tokio::time::timeout_at(end, answer.chunk()).await {
                Ok(Ok(Some(chunk))) => some.extend_from_slice(&chunk),
                _ => break,
            }
        }
        some.truncate(usize::try_from(max_bytes).unwrap_or(usize::MAX));
        some.freeze()
    }

    /// The body of an answer, piece by piece. It may neither stall nor trickle.
    pub(super) fn stream(&self, answer: Response) -> BlobStream {
        let (stall, url) = (self.timeouts.stall, answer.url().clone());
        let secrets = Arc::clone(&self.clients.secrets);
        let failed = move |cause| RegistryError::new("GET", &url, cause).blanked(&secrets);
        let begin = (answer, StallWindow::new(stall), self.limits.passage());
        let pieces = futures_util::stream::unfold(Some(begin), move |state| {
            let failed = failed.clone();
            async move {
                let (mut answer, mut window, mut passage) = state?;
                match tokio::time::timeout_at(window.end(), answer.chunk()).await {
                    Err(_) => Some((Err(failed(Cause::Stalled(stall))), None)),
                    Ok(Err(error)) => Some((Err(failed(cause_of(&error))), None)),
                    Ok(Ok(None)) => None,
                    Ok(Ok(Some(chunk))) => {
                        window.took(chunk.len() as u64);
                        window.start += passage.pass(chunk.len()).await;
                        Some((Ok(chunk), Some((answer, window, passage))))
                    }
                }
            }
        });
        pieces.boxed()
    }
}

/// How long this number of bytes may take.
fn seconds_for(bytes: u64) -> Duration {
    Duration::from_secs(bytes / LEAST_BYTES_PER_SECOND)
}

/// The present stretch of a body that is read piece by piece: it ends with the time that may pass without anything, or
/// anew with as many bytes as must come in that time.
struct StallWindow {
    stall: Duration,
    start: Instant,
    bytes: u64,
}

impl StallWindow {
    fn new(stall: Duration) -> Self {
        Self { stall, start: Instant::now(), bytes: 0 }
    }

    fn end(&self) -> Instant {
        self.start + self.stall
    }

    fn took(&mut self, bytes: u64) {
        self.bytes += bytes;
        if seconds_for(self.bytes) >= self.stall {
            *self = Self::new(self.stall);
        }
    }
}
