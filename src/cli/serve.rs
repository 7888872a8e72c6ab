//! `serve`: the embedded registry.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::interrupt::Interrupt;
use super::output::Output;
use super::{Done, Stop};
use crate::exit::Exit;
use crate::serve::{Options, ServeError, Server, Store};

/// Run a small OCI registry that keeps its files in a folder
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder of its files; made if it does not exist
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5000")]
    listen: SocketAddr,
    /// Serve everyone who can reach an address that is not of this machine alone
    #[arg(long)]
    anonymous: bool,
}

impl From<ServeError> for Stop {
    fn from(error: ServeError) -> Self {
        Self::new(error.exit(), error.to_string())
    }
}

pub(super) fn run(args: &Args) -> Done {
    let runtime = super::runtime()?;
    let interrupt = Interrupt::listen()?;
    interrupt.sending();
    let store = Arc::new(Store::open(&args.root)?);
    let options = Options { anonymous: args.anonymous };
    runtime.block_on(async {
        let server = Server::bind(args.listen, store, options, interrupt.token.clone()).await?;
        Output::result(&format!("serving {} on http://{}", args.root.display(), server.local_addr()));
        server.run().await?;
        Ok(Exit::Complete)
    })
}
