//! A minimum rate for bodies and answers: a client that is too slow holds a place, a session and a file for nothing.
//!
//! Only bytes count as progress, and only the time in which the server waits for the peer: a slow disk is not the client's
//! fault.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use axum::body::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Duration, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::limits::ServerLimits;
use super::pace::Pace;
use crate::clock::Instant;

/// The time that was spent waiting for a peer, and the bytes that moved in it.
#[derive(Debug)]
struct MinimumRate {
    limits: ServerLimits,
    alarm: Pin<Box<Sleep>>,
    waiting_since: Option<Instant>,
    waited: Duration,
    moved: u64,
    pace: Arc<Pace>,
    /// Ends when another connection needs the place.
    yielding: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl MinimumRate {
    fn new(limits: ServerLimits, pace: Arc<Pace>) -> Self {
        let alarm = Box::pin(tokio::time::sleep(limits.rate_window));
        let yielding = Box::pin(pace.yielding().cancelled_owned());
        Self { limits, alarm, waiting_since: None, waited: Duration::ZERO, moved: 0, pace, yielding }
    }

    /// Bytes moved.
    fn moved(&mut self, bytes: usize) {
        if let Some(since) = self.waiting_since.take() {
            self.waited += since.elapsed();
        }
        self.moved += bytes as u64;
        self.pace.moved(bytes as u64);
        if self.moved >= self.limits.rate_bytes {
            self.begin_anew();
        }
    }

    fn begin_anew(&mut self) {
        (self.waiting_since, self.waited, self.moved) = (None, Duration::ZERO, 0);
    }

    /// The server does not wait for the peer any more.
    fn rests(&mut self) {
        self.begin_anew();
        self.pace.rests();
    }

    /// The server waits for the peer. Whether that has taken too long, by itself or for others.
    fn is_too_slow(&mut self, cx: &mut Context<'_>) -> bool {
        self.pace.waits();
        if self.yielding.as_mut().poll(cx).is_ready() {
            return true;
        }
        if self.waiting_since.is_none() {
            let now = Instant::now();
            self.waiting_since = Some(now);
            self.alarm.as_mut().reset(now + self.limits.rate_window.saturating_sub(self.waited));
        }
        self.alarm.as_mut().poll(cx).is_ready()
    }
}

/// The body of a request. It counts its bytes, and fails when they come too slowly.
#[derive(Debug)]
pub(super) struct MinimumRateBody<B> {
    body: B,
    rate: MinimumRate,
    received: Arc<AtomicU64>,
}

impl<B> MinimumRateBody<B> {
    pub(super) fn new(body: B, limits: ServerLimits, pace: Arc<Pace>, received: Arc<AtomicU64>) -> Self {
        Self { body, rate: MinimumRate::new(limits, pace), received }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for MinimumRateBody<B>
where
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                if let Some(bytes) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
                    this.rate.moved(bytes.len());
                    this.received.fetch_add(bytes.len() as u64, Ordering::Relaxed);
                } else {
                    this.rate.rests();
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending if this.rate.is_too_slow(cx) => {
                Poll::Ready(Some(Err(io::Error::from(io::ErrorKind::TimedOut).into())))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A connection that fails when its peer reads too slowly.
#[derive(Debug)]
pub(super) struct MinimumRateStream<S, F> {
    stream: S,
    rate: MinimumRate,
    flushed: F,
}

impl<S, F: Fn()> MinimumRateStream<S, F> {
    /// Calls `flushed` whenever everything that was written has been taken by the system.
    pub(super) fn new(stream: S, limits: ServerLimits, pace: Arc<Pace>, flushed: F) -> Self {
        Self { stream, rate: MinimumRate::new(limits, pace), flushed }
    }

    fn written(
        &mut self,
        cx: &mut Context<'_>,
        progress: Poll<io::Result<usize>>,
        all: usize,
    ) -> Poll<io::Result<usize>> {
        match progress {
            Poll::Ready(Ok(bytes)) if bytes >= all => self.rate.rests(),
            Poll::Ready(Ok(bytes)) => self.rate.moved(bytes),
            Poll::Pending if self.rate.is_too_slow(cx) => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Poll::Ready(Err(_)) | Poll::Pending => {}
        }
        progress
    }
}

impl<S: AsyncRead + Unpin, F: Fn() + Unpin> AsyncRead for MinimumRateStream<S, F> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin, F: Fn() + Unpin> AsyncWrite for MinimumRateStream<S, F> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.written(cx, progress, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.written(cx, progress, slices.iter().map(|slice| slice.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        if let Poll::Ready(Ok(())) = flushed {
            (self.flushed)();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, StreamBody};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::mpsc;

    fn limits() -> ServerLimits {
        ServerLimits {
            connections: 1,
            head_timeout: Duration::from_secs(1),
            rate_window: Duration::from_secs(60),
            rate_bytes: 100,
            yields_after: Duration::from_secs(2),
        }
    }

    /// Sends a body in pieces of this length, one every so many seconds. Returns the bytes that arrived, and whether the body was complete.
    async fn received(pieces: usize, len: usize, seconds: u64) -> (u64, bool) {
        let (send, receive) = mpsc::channel(1);
        tokio::spawn(async move {
            for _ in 0..pieces {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                let _ = send.send(Ok::<_, io::Error>(Frame::data(Bytes::from(vec![0; len])))).await;
            }
        });
        let frames = futures_util::stream::unfold(receive, |mut receive| async move {
            receive.recv().await.map(|frame| (frame, receive))
        });
        let count = Arc::new(AtomicU64::new(0));
        let body = MinimumRateBody::new(
            StreamBody::new(Box::pin(frames)),
            limits(),
            Arc::default(),
            Arc::clone(&count),
        );
        let whole = body.collect().await.is_ok();
        (count.load(Ordering::Relaxed), whole)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_be_slow_and_not_slower_than_that() {
        assert_eq!(received(20, 10, 5).await, (200, true));
        assert_eq!(received(20, 100, 59).await, (2000, true));
        // Silence, and a byte now and then.
        assert_eq!(received(1, 100, 61).await, (0, false));
        assert_eq!(received(200, 1, 1).await, (59, false));
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_is_not_the_peers_does_not_count() {
        let (mut client, server) = tokio::io::duplex(10);
        let mut stream = MinimumRateStream::new(server, limits(), Arc::default(), || {});
        // The first ten bytes go at once; then nobody reads for a while, then somebody does.
        let reader = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(50)).await;
            let mut all = [0; 30];
            client.read_exact(&mut all).await.unwrap();
            client
        });
        stream.write_all(&[1; 30]).await.unwrap();
        let _client = reader.await.unwrap();
        // The answer is written, and it takes an hour until the next.
        tokio::time::sleep(Duration::from_secs(3600)).await;
        stream.write_all(&[1; 10]).await.unwrap();
        stream.flush().await.unwrap();
        let error = stream.write_all(&[1; 10]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
