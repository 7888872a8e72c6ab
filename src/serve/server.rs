//! A listening socket with the registry behind it, and its orderly end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::discard::Discard;
use super::error::ServeError;
use super::gate::Gate;
use super::routes::router;
use super::store::{Store, blocking};

/// How long requests in flight may go on after the word to end.
const GRACE: Duration = Duration::from_secs(3);

/// How often the store looks for sessions that nobody will finish.
const TIDY_EVERY: Duration = Duration::from_secs(3600);

/// What the operator allows.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Serve also on addresses that others can reach, although nobody is asked who they are.
    pub anonymous: bool,
}

/// A registry that is bound, and runs when told to.
#[derive(Debug)]
pub struct Server {
    gate: Gate,
    address: SocketAddr,
    service: Service,
    shutdown: CancellationToken,
    cut: CancellationToken,
}

/// What answers behind the door.
#[derive(Debug)]
enum Service {
    Store(Arc<Store>),
    Discard(Arc<Discard>),
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
        if !address.ip().to_canonical().is_loopback() && !options.anonymous {
            return Err(ServeError::NotLoopback(address));
        }
        let failed = || ServeError::io(format!("cannot listen on {address}"));
        let listener = TcpListener::bind(address).await.map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        let cut = CancellationToken::new();
        Ok(Self { gate: Gate::new(listener, cut.clone()), address, service, shutdown, cut })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until told to end. Requests in flight then have a few seconds; what is being written is written to its end,
    /// and half an upload stays where a client can go on with it.
    pub async fn run(self) -> Result<(), ServeError> {
        let Self { gate, address, service, shutdown, cut } = self;
        let (routes, store) = match service {
            Service::Store(store) => (router(Arc::clone(&store)), Some(store)),
            Service::Discard(sink) => (sink.router(), None),
        };
        let serving = axum::serve(gate, routes).with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let timing = async {
            shutdown.cancelled().await;
            tokio::time::sleep(GRACE).await;
            cut.cancel();
            std::future::pending::<()>().await;
        };
        let result = tokio::select! {
            result = serving.into_future() => result,
            () = tidy(store.as_ref()) => Ok(()),
            () = timing => Ok(()),
        };
        if let Some(store) = store {
            store.tasks.close();
            store.tasks.wait().await;
        }
        result.map_err(ServeError::io(format!("serving on {address}")))
    }
}

/// Drops dead sessions now and then, for as long as it is polled.
async fn tidy(store: Option<&Arc<Store>>) {
    let Some(store) = store else { return std::future::pending().await };
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
        if blocking(store, Store::expire_sessions).await.is_err() {
            tracing::warn!("cannot look for dead upload sessions");
        }
    }
}
