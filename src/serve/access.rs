//! The access log: one record for each request.

use std::fmt;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use axum::http::{Method, StatusCode, Uri};
use http_body::{Body, Frame, SizeHint};

use super::connection_limit::ConnectionPermit;
use super::pace::Pace;
use crate::clock::Instant;

/// One request. It is complete when its answer has been sent, or has failed.
#[derive(Debug, Clone)]
pub(crate) struct AccessRecord {
    /// The client's address.
    pub(crate) peer: SocketAddr,
    /// The method as it was sent.
    pub(crate) method: String,
    /// The path. The name of an upload session is left out, because it allows to write to it.
    pub(crate) path: String,
    /// The answer's status.
    pub(crate) status: u16,
    /// Bytes of the request's body.
    pub(crate) received_bytes: u64,
    /// Bytes of the answer's body.
    pub(crate) sent_bytes: u64,
    /// From the end of the request's head to the end of the answer.
    pub(crate) elapsed: Duration,
}

/// Where each [`AccessRecord`] goes.
#[derive(Clone)]
pub(crate) struct AccessLog(Arc<dyn Fn(&AccessRecord) + Send + Sync>);

impl AccessLog {
    /// Calls `write` for each request, on the threads that serve.
    pub(crate) fn new(write: impl Fn(&AccessRecord) + Send + Sync + 'static) -> Self {
        Self(Arc::new(write))
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessLog(…)")
    }
}

/// A request that is being answered, until this is dropped.
#[derive(Debug)]
pub(super) struct Exchange {
    permit: Arc<ConnectionPermit>,
    log: Option<AccessLog>,
    began: Instant,
    access: AccessRecord,
    received: Arc<AtomicU64>,
}

impl Exchange {
    pub(super) fn begin(
        permit: &Arc<ConnectionPermit>,
        log: Option<&AccessLog>,
        peer: SocketAddr,
        method: &Method,
        uri: &Uri,
    ) -> Self {
        permit.begin_request();
        let access = AccessRecord {
            peer,
            method: method.to_string(),
            path: shown(uri.path()),
            // Nothing is sent with it: it marks a client that closed the connection before its answer.
            status: 499,
            received_bytes: 0,
            sent_bytes: 0,
            elapsed: Duration::ZERO,
        };
        Self {
            permit: Arc::clone(permit),
            log: log.cloned(),
            began: Instant::now(),
            access,
            received: Arc::default(),
        }
    }

    /// Counts the body of the request.
    pub(super) fn received(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.received)
    }

    /// The pace of the connection's peer.
    pub(super) fn pace(&self) -> Arc<Pace> {
        self.permit.pace()
    }

    pub(super) fn answered(&mut self, status: StatusCode) {
        self.access.status = status.as_u16();
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.permit.end_request();
        self.access.received_bytes = self.received.load(Ordering::Relaxed);
        self.access.elapsed = self.began.elapsed();
        if let Some(log) = &self.log {
            (log.0)(&self.access);
        }
    }
}

fn shown(path: &str) -> String {
    match path.split_once("/blobs/uploads/") {
        Some((repository, session)) if !session.is_empty() => format!("{repository}/blobs/uploads/…"),
        _ => path.to_owned(),
    }
}

/// The body of an answer. The exchange ends when it is dropped.
#[derive(Debug)]
pub(super) struct LoggedBody<B> {
    body: B,
    exchange: Exchange,
}

impl<B> LoggedBody<B> {
    pub(super) const fn new(body: B, exchange: Exchange) -> Self {
        Self { body, exchange }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for LoggedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &frame {
            self.exchange.access.sent_bytes += frame.data_ref().map_or(0, Bytes::len) as u64;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upload_is_not_named() {
        assert_eq!(shown("/v2/a/blobs/uploads/0123"), "/v2/a/blobs/uploads/…");
        assert_eq!(shown("/v2/a/blobs/uploads/"), "/v2/a/blobs/uploads/");
        assert_eq!(shown("/v2/a/manifests/x"), "/v2/a/manifests/x");
    }
}
