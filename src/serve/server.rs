//! The server: it binds, serves, and shuts down in order.

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::AccessLog;
use super::admission::AdmissionPolicy;
use super::connection::{Backend, ServerContext};
use super::discard::Discard;
use super::error::ServeError;
use super::limits::ServerLimits;
use super::listener::LimitedListener;
use super::store::{Store, blocking};
use crate::loopback;

/// How long requests in flight may go on after the shutdown began.
const GRACE: Duration = Duration::from_secs(3);

/// How often garbage is removed.
const TIDY_EVERY: Duration = Duration::from_secs(600);

/// What the operator allows.
#[derive(Debug, Clone, Default)]
pub struct ServerOptions {
    /// Serve also on addresses that other machines can reach, although there is no login.
    pub(super) anonymous: bool,
    /// Refuse everything that changes what is there.
    pub(super) read_only: bool,
    /// Gets a record of every request.
    pub(super) access_log: Option<AccessLog>,
    pub(super) limits: ServerLimits,
}

impl ServerOptions {
    pub(crate) fn new(anonymous: bool, read_only: bool, access_log: Option<AccessLog>) -> Self {
        Self { anonymous, read_only, access_log, limits: ServerLimits::default() }
    }
}

/// A server that listens. [`Server::run`] serves.
#[derive(Debug)]
pub struct Server {
    listener: LimitedListener,
    address: SocketAddr,
    context: Arc<ServerContext>,
}

impl Server {
    /// Binds to `address`; port 0 takes a free one. From here on connections queue for [`Server::run`], which ends
    /// when `shutdown` is cancelled.
    ///
    /// # Errors
    /// [`ServeError::NotLoopback`] for an address others can reach, unless `options` allow it.
    pub(crate) async fn bind(
        address: SocketAddr,
        store: Arc<Store>,
        options: ServerOptions,
        shutdown: CancellationToken,
    ) -> Result<Self, ServeError> {
        Self::bind_backend(address, Backend::Store(store), options, shutdown).await
    }

    /// As [`Server::bind`], for a sink that throws away what it is sent.
    pub async fn bind_discard(
        address: SocketAddr,
        sink: Arc<Discard>,
        options: ServerOptions,
        shutdown: CancellationToken,
    ) -> Result<Self, ServeError> {
        Self::bind_backend(address, Backend::Discard(sink), options, shutdown).await
    }

    async fn bind_backend(
        address: SocketAddr,
        backend: Backend,
        options: ServerOptions,
        shutdown: CancellationToken,
    ) -> Result<Self, ServeError> {
        let is_loopback = loopback::is_loopback(address.ip());
        if !is_loopback && !options.anonymous {
            return Err(ServeError::NotLoopback(address));
        }
        let failed = || ServeError::io(format!("cannot listen on {address}"));
        let socket = TcpListener::bind(address).await.map_err(failed())?;
        let address = socket.local_addr().map_err(failed())?;
        let context = ServerContext {
            backend,
            policy: AdmissionPolicy {
                is_loopback,
                anonymous: options.anonymous,
                read_only: options.read_only,
            },
            limits: options.limits,
            log: options.access_log,
            shutdown,
            cut: CancellationToken::new(),
        };
        Ok(Self {
            listener: LimitedListener::new(socket, &options.limits),
            address,
            context: Arc::new(context),
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the shutdown. Requests in flight then have a few seconds. Writes are completed, and partial uploads stay,
    /// so that clients can resume them.
    pub async fn run(self) -> Result<(), ServeError> {
        let Self { listener, context, .. } = self;
        let store = match &context.backend {
            Backend::Store(store) => Some(Arc::clone(store)),
            Backend::Discard(_) => None,
        };
        let connections = TaskTracker::new();
        // This future is never dropped before the shutdown, because it may hold a connection that waits for its place.
        let accepting = async {
            loop {
                let accepted = listener.accept().await;
                connections.spawn(Arc::clone(&context).serve(accepted));
            }
        };
        tokio::select! {
            () = context.shutdown.cancelled() => {}
            () = accepting => {}
            () = tidy(store.as_ref()) => {}
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
            context.cut.cancel();
        }
        connections.wait().await;
        if let Some(store) = store {
            store.tasks.close();
            store.tasks.wait().await;
        }
        Ok(())
    }
}

/// Removes garbage at intervals, for as long as it is polled.
async fn tidy(store: Option<&Arc<Store>>) {
    let Some(store) = store.filter(|store| !store.is_read_only()) else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
        if blocking(store, Store::tidy).await.is_err() {
            tracing::warn!("cannot remove garbage; the error before this line says why");
        }
    }
}
