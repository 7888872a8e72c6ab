//! The door: how many may be inside, and who has to go when somebody else wants in.
//!
//! A connection that waits for a request, or has sent half of its head, does no harm as long as there is room. When there
//! is none, the one that has waited longest is closed: clients open another one when they need it, and whoever fills the
//! house with silent connections finds only those of his own kind thrown out.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::sync::Mutex;

/// A peer that lost its power is noticed after a minute of silence and three questions.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_PROBES: u32 = 3;

/// How long nobody is let in after the system refused to.
const PAUSE: Duration = Duration::from_millis(200);

/// A listener that counts those inside.
#[derive(Debug)]
pub(super) struct Gate {
    listener: TcpListener,
    places: Arc<Semaphore>,
    lobby: Arc<Lobby>,
}

/// A connection that was let in.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) place: Place,
}

impl Gate {
    pub(super) fn new(listener: TcpListener, connections: usize) -> Self {
        Self { listener, places: Arc::new(Semaphore::new(connections)), lobby: Arc::default() }
    }

    /// The next connection.
    pub(super) async fn accept(&self) -> Guest {
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    if !is_of_the_peer(&error) {
                        tracing::warn!(%error, "no connection can be taken");
                        self.lobby.close_oldest();
                        tokio::time::sleep(PAUSE).await;
                    }
                    continue;
                }
            };
            set_up(&stream);
            if self.places.available_permits() == 0 {
                self.lobby.close_oldest();
            }
            // The semaphore is never closed; without a permit the connection would merely not be counted.
            let permit = Arc::clone(&self.places).acquire_owned().await.ok();
            let place = Place {
                lobby: Arc::clone(&self.lobby),
                waiting: Mutex::default(),
                close: CancellationToken::new(),
                _permit: permit,
            };
            place.wait();
            return Guest { stream, peer, place };
        }
    }
}

fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

fn set_up(stream: &TcpStream) {
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

/// Connections that wait for a request, the oldest first.
#[derive(Debug, Default)]
struct Lobby(Mutex<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    tokens: BTreeMap<u64, CancellationToken>,
}

impl Lobby {
    fn close_oldest(&self) {
        if let Some((_, token)) = self.0.lock().tokens.pop_first() {
            token.cancel();
        }
    }
}

/// The place of one connection; free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    lobby: Arc<Lobby>,
    waiting: Mutex<Option<u64>>,
    /// Cancelled when the connection has to go.
    pub(super) close: CancellationToken,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// The connection waits for its next request.
    pub(super) fn wait(&self) {
        let mut waiting = self.waiting.lock();
        if waiting.is_none() {
            let mut lobby = self.lobby.0.lock();
            let number = lobby.next;
            lobby.next += 1;
            lobby.tokens.insert(number, self.close.clone());
            *waiting = Some(number);
        }
    }

    /// Whether no request is being answered.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.lock().is_some()
    }

    /// A request is there: from now on nobody takes the place away.
    pub(super) fn work(&self) {
        if let Some(number) = self.waiting.lock().take() {
            self.lobby.0.lock().tokens.remove(&number);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.work();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_waited_longest_makes_room_and_whoever_works_stays() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let gate = Gate::new(listener, 3);
        let mut clients = Vec::new();
        let mut guests = Vec::new();
        for _ in 0..3 {
            clients.push(TcpStream::connect(address).await.unwrap());
            guests.push(gate.accept().await);
        }
        guests[0].place.work();
        clients.push(TcpStream::connect(address).await.unwrap());
        let fourth = tokio::spawn(async move { (gate.accept().await, gate) });
        guests[1].place.close.cancelled().await;
        assert!(!guests[0].place.close.is_cancelled() && !guests[2].place.close.is_cancelled());
        drop(guests.remove(1));
        let (fourth, gate) = fourth.await.unwrap();
        // A request that has ended waits again, behind the others.
        guests[0].place.wait();
        gate.lobby.close_oldest();
        assert!(guests[1].place.close.is_cancelled() && !guests[0].place.close.is_cancelled());
        gate.lobby.close_oldest();
        assert!(fourth.place.close.is_cancelled() && !guests[0].place.close.is_cancelled());
    }
}
