//! A listening socket with the registry behind it, and its orderly end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::error::ServeError;
use super::gate::Gate;
use super::routes::router;
use super::stats::Stats;
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
    store: Arc<Store>,
    shutdown: CancellationToken,
    cut: CancellationToken,
}

impl Server {
    /// Binds to `address`; port 0 takes a free one. From here on connections are taken in and wait for [`Server::run`],
    /// which ends when `shutdown` is cancelled.
    ///
    /// # Errors
    /// [`ServeError::NotLoopback`] for an address others can reach, unless `options` allow it.
    pub async fn bind(
        address: SocketAddr,
        store: Arc<Store>,
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
        Ok(Self { gate: Gate::new(listener, cut.clone()), address, store, shutdown, cut })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// What was asked for.
    pub fn stats(&self) -> &Stats {
        self.store.stats()
    }

    /// Serves until told to end. Requests in flight then have a few seconds; what is being written is written to its end,
    /// and half an upload stays where a client can go on with it.
    pub async fn run(self) -> Result<(), ServeError> {
        let Self { gate, address, store, shutdown, cut } = self;
        let serving = axum::serve(gate, router(Arc::clone(&store)))
            .with_graceful_shutdown(shutdown.clone().cancelled_owned());
        let timing = async {
            shutdown.cancelled().await;
            tokio::time::sleep(GRACE).await;
            cut.cancel();
            std::future::pending::<()>().await;
        };
        let result = tokio::select! {
            result = serving.into_future() => result,
            () = tidy(&store) => Ok(()),
            () = timing => Ok(()),
        };
        store.tasks.close();
        store.tasks.wait().await;
        result.map_err(ServeError::io(format!("serving on {address}")))
    }
}

/// Drops dead sessions now and then, for as long as it is polled.
async fn tidy(store: &Arc<Store>) {
    loop {
        tokio::time::sleep(TIDY_EVERY).await;
        if blocking(store, Store::expire_sessions).await.is_err() {
            tracing::warn!("cannot look for dead upload sessions");
        }
    }
}
