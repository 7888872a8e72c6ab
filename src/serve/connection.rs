//! One connection: HTTP/1.1 and nothing else, request after request.
//!
//! In HTTP/2 one connection carries hundreds of requests, and a door that counts connections counts nothing.

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
use super::admission::{Standing, admit};
use super::connection_limit::Permit;
use super::discard::Discard;
use super::limits::{Limits, READ_BYTES};
use super::listener::Accepted;
use super::pace::{PacedBody, PacedStream};
use super::store::Store;
use super::{discard, routes};

/// What answers behind the door.
#[derive(Debug, Clone)]
pub(super) enum Service {
    Store(Arc<Store>),
    Discard(Arc<Discard>),
}

/// What all connections of a server share.
#[derive(Debug)]
pub(super) struct House {
    pub(super) service: Service,
    pub(super) standing: Standing,
    pub(super) limits: Limits,
    pub(super) log: Option<AccessLog>,
    /// No new requests.
    pub(super) shutdown: CancellationToken,
    /// No requests at all any more.
    pub(super) cut: CancellationToken,
}

impl House {
    /// Serves a connection to its end.
    pub(super) async fn serve(self: Arc<Self>, accepted: Accepted) {
        let Accepted { stream, peer, permit } = accepted;
        let permit = Arc::new(permit);
        let answers = {
            let (house, permit) = (Arc::clone(&self), Arc::clone(&permit));
            hyper::service::service_fn(move |request: Request<Incoming>| {
                let exchange =
                    Exchange::begin(&permit, house.log.as_ref(), peer, request.method(), request.uri());
                let house = Arc::clone(&house);
                async move { Ok::<_, Infallible>(house.answer(request, exchange).await) }
            })
        };
        let flushed = {
            let permit = Arc::clone(&permit);
            move || permit.flushed()
        };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head)
            .max_buf_size(READ_BYTES)
            .serve_connection(TokioIo::new(PacedStream::new(stream, self.limits, flushed)), answers);
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
        let body = Body::new(PacedBody::new(body, self.limits, exchange.received()));
        let mut response = if let Err(refusal) = admit(&parts, self.standing) {
            refusal.into_response()
        } else {
            let request = Request::from_parts(parts, body);
            match &self.service {
                Service::Store(store) => routes::answer(store, request).await,
                Service::Discard(sink) => discard::answer(sink, request).await,
            }
        };
        let headers = response.headers_mut();
        // Docker's clients look for it before they believe that this is a registry.
        headers.insert("docker-distribution-api-version", HeaderValue::from_static("registry/2.0"));
        // What lies here is anybody's. A browser is not to make a page of it.
        headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        exchange.answered(response.status());
        response.map(|body| LoggedBody::new(body, exchange))
    }
}

/// The connection is to take no further request.
async fn ending(shutdown: &CancellationToken, permit: &Permit) {
    tokio::select! { () = shutdown.cancelled() => {}, () = permit.closing() => {} }
}

fn log_end(peer: SocketAddr, error: &hyper::Error) {
    tracing::debug!(%peer, %error, "a connection ended early");
}
