//! `serve`: the embedded registry.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::Done;
use super::interrupt::Interrupt;
use super::output::Output;
use crate::exit::Exit;
use crate::report::{Class, Failure};
use crate::serve::{Discard, Options, ServeError, Server, Store};

/// Run a small OCI registry that keeps its files in a folder
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of its files; made if it does not exist
    #[arg(long, value_name = "DIR", required_unless_present = "discard")]
    root: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5000", value_parser = listen_address)]
    listen: SocketAddr,
    /// Serve everyone who can reach an address that is not of this machine alone
    #[arg(long)]
    anonymous: bool,
    /// Throw away everything that is pushed, unchecked: for measurements of clients only
    #[arg(long, conflicts_with = "root")]
    discard: bool,
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an address and a port are wanted, as 127.0.0.1:5000 or 0.0.0.0:5000".to_owned())
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        let class = match &error {
            ServeError::NotLoopback(_) => Class::Usage,
            ServeError::Locked(_) => Class::Locked,
            ServeError::Io { .. } => Class::Io,
        };
        Self::new(class, error.to_string())
    }
}

pub(super) fn run(args: &Args, output: &Output) -> Done {
    let runtime = super::runtime()?;
    let interrupt = Interrupt::listen()?;
    interrupt.sending();
    let options = Options { anonymous: args.anonymous };
    let shutdown = interrupt.token.clone();
    runtime.block_on(async {
        let (server, what) = if let Some(root) = &args.root {
            let store = Arc::new(Store::open(root)?);
            (Server::bind(args.listen, store, options, shutdown).await?, root.display().to_string())
        } else {
            output.warn("whatever is pushed here is thrown away, unchecked: this is for measurements only");
            let sink = Arc::new(Discard::default());
            (Server::bind_discard(args.listen, sink, options, shutdown).await?, "nothing".to_owned())
        };
        Output::result(&format!("serving {what} on http://{}", server.local_addr()));
        server.run().await?;
        Ok(Exit::Complete)
    })
}
