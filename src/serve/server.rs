//! A listening socket with the registry behind it, and its orderly end.

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::AccessLog;
use super::admission::Standing;
use super::connection::{House, Service};
use super::discard::Discard;
use super::error::ServeError;
use super::limits::Limits;
use super::listener::Listener;
use super::store::{Store, blocking};

/// How long requests in flight may go on after the word to end.
const GRACE: Duration = Duration::from_secs(3);

/// How often the store looks for what nobody needs any more.
const TIDY_EVERY: Duration = Duration::from_secs(600);

/// What the operator allows.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Serve also on addresses that others can reach, although nobody is asked who they are.
    pub(super) anonymous: bool,
    /// Refuse everything that changes what is there.
    pub(super) read_only: bool,
    /// Hears of every request.
    pub(super) access_log: Option<AccessLog>,
    pub(super) limits: Limits,
}

impl Options {
    pub(crate) fn new(anonymous: bool, read_only: bool, access_log: Option<AccessLog>) -> Self {
        Self { anonymous, read_only, access_log, limits: Limits::default() }
    }
}

/// A registry that is bound, and runs when told to.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    address: SocketAddr,
    house: Arc<House>,
}

impl Server {
    /// Binds to `address`; port 0 takes a free one. From here on connections are taken in and wait for [`Server::run`],
    /// which ends when `shutdown` is cancelled.
    ///
    /// # Errors
    /// [`ServeError::NotLoopback`] for an address others can reach, unless `options` allow it.
    pub(crate) async fn bind(
        address: SocketAddr,
        store: Arc<Store>,
        options: Options,
        shutdown: CancellationToken,
    ) -> Result<Self, ServeError> {
        Self::bind_service(address, Service::Store(store), options, shutdown).await
    }

    /// As [`Server::bind`], for a sink that throws away what it is sent.
    pub async fn bind_discard(
        address: SocketAddr,
        sink: Arc<Discard>,
        options: Options,
        shutdown: CancellationToken,
    ) -> Result<Self, ServeError> {
        Self::bind_service(address, Service::Discard(sink), options, shutdown).await
    }

    async fn bind_service(
        address: SocketAddr,
        service: Service,
        options: Options,
        shutdown: CancellationToken,
    ) -> Result<Self, ServeError> {
        let is_loopback = address.ip().to_canonical().is_loopback();
        if !is_loopback && !options.anonymous {
            return Err(ServeError::NotLoopback(address));
        }
        let failed = || ServeError::io(format!("cannot listen on {address}"));
        let socket = TcpListener::bind(address).await.map_err(failed())?;
        let address = socket.local_addr().map_err(failed())?;
        let house = House {
            service,
            standing: Standing { is_loopback, read_only: options.read_only },
            limits: options.limits,
            log: options.access_log,
            shutdown,
            cut: CancellationToken::new(),
        };
        Ok(Self {
            listener: Listener::new(socket, options.limits.connections),
            address,
            house: Arc::new(house),
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until told to end. Requests in flight then have a few seconds; what is being written is written to its end,
    /// and half an upload stays where a client can go on with it.
    pub async fn run(self) -> Result<(), ServeError> {
        let Self { listener, house, .. } = self;
        let store = match &house.service {
            Service::Store(store) => Some(Arc::clone(store)),
            Service::Discard(_) => None,
        };
        let connections = TaskTracker::new();
        // One future to the end: dropped half-way, it would take an accepted connection along.
        let accepting = async {
            loop {
                let accepted = listener.accept().await;
                connections.spawn(Arc::clone(&house).serve(accepted));
            }
        };
        tokio::select! {
            () = house.shutdown.cancelled() => {}
            () = accepting => {}
            () = tidy(store.as_ref()) => {}
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
            house.cut.cancel();
        }
        connections.wait().await;
        if let Some(store) = store {
            store.tasks.close();
            store.tasks.wait().await;
        }
        Ok(())
    }
}

/// Removes what nobody needs now and then, for as long as it is polled.
async fn tidy(store: Option<&Arc<Store>>) {
    let Some(store) = store.filter(|store| !store.is_read_only()) else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
        if blocking(store, Store::tidy).await.is_err() {
            tracing::warn!("cannot remove what nobody needs any more; the line before says why");
        }
    }
}
