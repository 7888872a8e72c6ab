//! The listening socket.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};

use super::connection_limit::{ConnectionLimit, ConnectionPermit};
use super::limits::ServerLimits;

/// A peer that lost its power is noticed after a minute of silence and three probes.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_PROBES: u32 = 3;

/// How long nothing is accepted after the system has refused.
const PAUSE: Duration = Duration::from_millis(200);

/// A listener that accepts as many connections as may be served at once.
#[derive(Debug)]
pub(super) struct LimitedListener {
    socket: TcpListener,
    limit: ConnectionLimit,
}

/// A connection that was accepted, and its place.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) permit: ConnectionPermit,
}

impl LimitedListener {
    pub(super) fn new(socket: TcpListener, limits: &ServerLimits) -> Self {
        Self { socket, limit: ConnectionLimit::new(limits.connections, limits.yields_after) }
    }

    /// The next connection. Dropping this future before its end may drop a connection that waits for its place.
    pub(super) async fn accept(&self) -> Accepted {
        loop {
            match self.socket.accept().await {
                Ok((stream, peer)) => {
                    set_options(&stream);
                    return Accepted { stream, peer, permit: self.limit.acquire().await };
                }
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    self.limit.make_room();
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn set_options(stream: &TcpStream) {
    let set = || -> io::Result<()> {
        stream.set_nodelay(true)?;
        sockopt::set_socket_keepalive(stream, true)?;
        sockopt::set_tcp_keepidle(stream, KEEPALIVE_IDLE)?;
        sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
        sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
        Ok(())
    };
    if let Err(error) = set() {
        tracing::debug!(%error, "cannot set an option of a connection");
    }
}
