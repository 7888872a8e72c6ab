//! The door: how many may be inside, and how long they may stand still.
//!
//! There is no limit on how long a request takes, only on how long nothing moves: a big blob over a poor link is what
//! this registry is for, a connection that sends half a header and falls silent is not.

use std::future::Future as _;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Connections at once; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 1024;

/// How long a connection may move no byte in either direction.
const STALL: Duration = Duration::from_secs(300);

/// A listener whose connections are counted, watched, and cut when `cut` says so.
#[derive(Debug)]
pub(super) struct Gate {
    listener: TcpListener,
    places: Arc<Semaphore>,
    stall: Duration,
    cut: CancellationToken,
}

impl Gate {
    pub(super) fn new(listener: TcpListener, cut: CancellationToken) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(MAX_CONNECTIONS)), stall: STALL, cut }
    }
}

impl Listener for Gate {
    type Io = Watched<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        // The semaphore is never closed; without a place the connection would merely not be counted.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        (Watched::new(stream, place, self.stall, self.cut.clone()), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection under watch.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    _place: Option<OwnedSemaphorePermit>,
    stall: Duration,
    moved: Instant,
    alarm: Pin<Box<Sleep>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl<S> Watched<S> {
    fn new(stream: S, place: Option<OwnedSemaphorePermit>, stall: Duration, cut: CancellationToken) -> Self {
        Self {
            stream,
            _place: place,
            stall,
            moved: Instant::now(),
            alarm: Box::pin(tokio::time::sleep(stall)),
            cut: Box::pin(cut.cancelled_owned()),
        }
    }

    /// Notes movement, or looks at the clock when there was none.
    fn watch<T>(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.moved = Instant::now();
            return progress;
        }
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            // Set once per silence rather than once per packet.
            let end = self.moved + self.stall;
            if end <= Instant::now() {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            self.alarm.as_mut().reset(end);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_read(cx, buffer);
        self.watch(cx, progress)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, progress)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let progress = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.watch(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_flush(cx);
        self.watch(cx, progress)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let progress = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.watch(cx, progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn silence_ends_a_connection_and_slowness_does_not() {
        let (mut client, server) = tokio::io::duplex(64);
        let mut watched = Watched::new(server, None, Duration::from_millis(300), CancellationToken::new());
        let drip = tokio::spawn(async move {
            for _ in 0..8 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                client.write_all(b"x").await.unwrap();
            }
            client
        });
        let mut bytes = [0; 8];
        watched.read_exact(&mut bytes).await.unwrap();
        let _client = drip.await.unwrap();
        assert_eq!(watched.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn a_cut_ends_a_connection() {
        let (_client, server) = tokio::io::duplex(64);
        let cut = CancellationToken::new();
        let mut watched = Watched::new(server, None, STALL, cut.clone());
        cut.cancel();
        assert_eq!(watched.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
    }
}
