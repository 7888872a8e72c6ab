//! Serves metrics over HTTP/1.1: one page, to few clients at a time, and to none for long.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::Metrics;

/// Connections at the same time; a Prometheus or two have one each.
const MAX_CONNECTIONS: usize = 16;
/// A request's head is there within this time, and so is the next one of a connection.
const HEAD_LIMIT: Duration = Duration::from_secs(90);
/// A connection is closed after this time, whatever it is doing.
const CONNECTION_LIMIT: Duration = Duration::from_secs(600);
/// What is read of a request at most.
const READ_BYTES: usize = 16 << 10;
/// After a connection could not be taken in: descriptors may be short.
const PAUSE: Duration = Duration::from_millis(200);
const TEXT_FORMAT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// A socket that listens, and gives out metrics once it is served.
#[derive(Debug)]
pub(crate) struct MetricsEndpoint(StdListener);

impl MetricsEndpoint {
    /// From here on connections wait.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let listener = StdListener::bind(address)?;
        listener.set_nonblocking(true)?;
        Ok(Self(listener))
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers for as long as it is polled, on a runtime.
    pub(crate) async fn serve(self, metrics: Arc<Metrics>) -> io::Result<()> {
        let listener = TcpListener::from_std(self.0)?;
        let free = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let permit = Arc::clone(&free).acquire_owned().await.map_err(io::Error::other)?;
            match listener.accept().await {
                Ok((stream, _)) => {
                    let metrics = Arc::clone(&metrics);
                    tokio::spawn(async move {
                        let _permit = permit;
                        let _ = tokio::time::timeout(CONNECTION_LIMIT, converse(stream, metrics)).await;
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection for metrics could not be taken in");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

async fn converse(stream: TcpStream, metrics: Arc<Metrics>) {
    let answers = hyper::service::service_fn(move |request: Request<Incoming>| {
        let metrics = Arc::clone(&metrics);
        async move { Ok::<_, Infallible>(answer(&request, metrics).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(READ_BYTES)
        .serve_connection(TokioIo::new(stream), answers);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection for metrics ended early");
    }
}

async fn answer(request: &Request<Incoming>, metrics: Arc<Metrics>) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "metrics are at /metrics\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "metrics can be read only\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    // Thousands of sites take a while, and requests to registries do not wait for it.
    match tokio::task::spawn_blocking(move || metrics.render()).await {
        Ok(text) => {
            let mut response = Response::new(Full::new(Bytes::from(text)));
            response.headers_mut().insert(CONTENT_TYPE, TEXT_FORMAT);
            response
        }
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, "metrics could not be rendered\n"),
    }
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response
}
