//! One connection: HTTP/1.1 and nothing else, request after request.
//!
//! In HTTP/2 one connection carries hundreds of requests, and a limit on connections limits nothing.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use axum::response::IntoResponse as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;

use super::access::{AccessLog, Exchange, LoggedBody};
use super::admission::{AdmissionPolicy, admit};
use super::connection_limit::ConnectionPermit;
use super::discard::Discard;
use super::limits::{READ_BYTES, ServerLimits};
use super::listener::Accepted;
use super::minimum_rate::{MinimumRateBody, MinimumRateStream};
use super::store::Store;
use super::{discard, routes};

/// The handler of requests.
#[derive(Debug, Clone)]
pub(super) enum Backend {
    Store(Arc<Store>),
    Discard(Arc<Discard>),
}

/// State that all connections of a server share.
#[derive(Debug)]
pub(super) struct ServerContext {
    pub(super) backend: Backend,
    pub(super) policy: AdmissionPolicy,
    pub(super) limits: ServerLimits,
    pub(super) log: Option<AccessLog>,
    /// Cancelled when no new requests are to be answered.
    pub(super) shutdown: CancellationToken,
    /// Cancelled when the requests in flight have to end.
    pub(super) cut: CancellationToken,
}

impl ServerContext {
    /// Serves a connection to its end.
    pub(super) async fn serve(self: Arc<Self>, accepted: Accepted) {
        let Accepted { stream, peer, permit } = accepted;
        let permit = Arc::new(permit);
        let answers = {
            let (context, permit) = (Arc::clone(&self), Arc::clone(&permit));
            hyper::service::service_fn(move |request: Request<Incoming>| {
                let exchange =
                    Exchange::begin(&permit, context.log.as_ref(), peer, request.method(), request.uri());
                let context = Arc::clone(&context);
                async move { Ok::<_, Infallible>(context.answer(request, exchange).await) }
            })
        };
        let flushed = {
            let permit = Arc::clone(&permit);
            move || permit.flushed()
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_buf_size(READ_BYTES)
            .serve_connection(
                TokioIo::new(MinimumRateStream::new(stream, self.limits, permit.pace(), flushed)),
                answers,
            );
        tokio::pin!(connection);
        let mut is_ending = false;
        loop {
            tokio::select! {
                ended = &mut connection => {
                    if let Err(error) = ended {
                        log_end(peer, &error);
                    }
                    return;
                }
                () = self.cut.cancelled() => return,
                () = ending(&self.shutdown, &permit), if !is_ending => {
                    if permit.is_idle() {
                        return;
                    }
                    is_ending = true;
                    connection.as_mut().graceful_shutdown();
                }
            }
        }
    }

    async fn answer(&self, request: Request<Incoming>, mut exchange: Exchange) -> Response<LoggedBody<Body>> {
        let (parts, body) = request.into_parts();
        let body = Body::new(MinimumRateBody::new(body, self.limits, exchange.pace(), exchange.received()));
        let mut response = if let Err(refusal) = admit(&parts, self.policy) {
            refusal.into_response()
        } else {
            let request = Request::from_parts(parts, body);
            match &self.backend {
                Backend::Store(store) => routes::answer(store, request).await,
                Backend::Discard(sink) => discard::answer(sink, request).await,
            }
        };
        let headers = response.headers_mut();
        // To Docker's clients a server without this header is no registry.
        headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
        // Stored content is untrusted. A browser must not render it as a page.
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        exchange.answered(response.status());
        response.map(|body| LoggedBody::new(body, exchange))
    }
}

/// Waits until the connection may take no further request.
async fn ending(shutdown: &CancellationToken, permit: &ConnectionPermit) {
    tokio::select! { () = shutdown.cancelled() => {}, () = permit.closing() => {} }
}

fn log_end(peer: SocketAddr, error: &hyper::Error) {
    tracing::debug!(%peer, %error, "a connection ended early");
}
