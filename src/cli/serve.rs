//! `serve`: the embedded registry.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use super::Done;
use super::interrupt::Interrupt;
use super::output::Output;
use crate::clock;
use crate::error::printable;
use crate::exit::Exit;
use crate::report::document::{LogEvent, LogLine};
use crate::report::{Class, Failure};
use crate::serve::{
    AccessLog, AccessRecord, Discard, ServeError, Server, ServerOptions, Store, StoreOptions,
};
use crate::units::{ByteCount, human_duration};

/// Run a small OCI registry that keeps its files in a folder
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "switches of the user that have nothing to do with each other"
)]
pub(super) struct Args {
    /// Folder of its files; made if it does not exist. One with other files in it is refused
    #[arg(long, value_name = "DIR", required_unless_present = "discard")]
    root: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5000", value_parser = listen_address)]
    listen: SocketAddr,
    /// Serve everyone who can reach an address that is not of this machine alone
    #[arg(long)]
    anonymous: bool,
    /// Refuse everything that changes what is there; several such processes may serve one folder, also beside the one that
    /// writes to it
    #[arg(long, conflicts_with = "discard")]
    read_only: bool,
    /// Most bytes that blobs, manifests and uploads may take on the disk [default: all there are]
    #[arg(long, value_name = "BYTES", conflicts_with_all = ["discard", "read_only"])]
    max_disk: Option<ByteCount>,
    /// Write a line for each request to standard error: peer, request, status, bytes, duration
    #[arg(long)]
    access_log: bool,
    /// Throw away everything that is pushed, unchecked: for measurements of clients only
    #[arg(long, conflicts_with = "root")]
    discard: bool,
}

fn listen_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "an address and a port are wanted, as 127.0.0.1:5000 or 0.0.0.0:5000".to_owned())
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match &error {
            ServeError::NotLoopback(_) => Self::usage(error.to_string())
                .hint("--anonymous, if everyone there may push, pull and delete; else listen on 127.0.0.1 behind a proxy"),
            ServeError::Locked(_) => Self::new(Class::Locked, error.to_string())
                .hint("stop it, name another folder with --root, or read beside it with --read-only"),
            ServeError::Foreign(..) => Self::usage(error.to_string())
                .hint("name an empty folder with --root, or one that `layercast serve` made"),
            ServeError::NoStore(_) => Self::usage(error.to_string())
                .hint("`layercast serve` without --read-only makes one; or name another folder with --root"),
            ServeError::Newer(..) => {
                Self::usage(error.to_string()).hint("start that version, or name another folder with --root")
            }
            ServeError::Io { what, source } => {
                let failure = Self::io(what, source);
                match source.kind() {
                    ErrorKind::AddrInUse => failure.hint(
                        "another program listens there: stop it, or name another address with --listen",
                    ),
                    ErrorKind::AddrNotAvailable => failure
                        .hint("no network of this machine has this address: name another with --listen"),
                    ErrorKind::PermissionDenied if what.contains("listen") => {
                        failure.hint("ports below 1024 are for root: name another with --listen")
                    }
                    _ => failure,
                }
            }
        }
    }
}

pub(super) fn run(args: &Args, output: &Output, interrupt: &Interrupt) -> Done {
    let runtime = super::runtime()?;
    interrupt.serving();
    let is_json = output.is_json();
    let log = args.access_log.then(|| AccessLog::new(move |access| Output::say(&line(access, is_json))));
    let options = ServerOptions::new(args.anonymous, args.read_only, log);
    let shutdown = interrupt.token.clone();
    keep_others_from_writing();
    runtime.block_on(async {
        let (server, what) = if let Some(root) = &args.root {
            let max_disk = args.max_disk.map(|bytes| bytes.0);
            let store = Store::open_with(root, StoreOptions { read_only: args.read_only, max_disk })?;
            let server = Server::bind(args.listen, Arc::new(store), options, shutdown).await?;
            (server, root.display().to_string())
        } else {
            output.warn("whatever is pushed here is thrown away, unchecked: this is for measurements only");
            let sink = Arc::new(Discard::default());
            (Server::bind_discard(args.listen, sink, options, shutdown).await?, "nothing".to_owned())
        };
        // It serves, whether or not it can say so.
        if let Err(untold) = Output::result(&format!("serving {what} on http://{}", server.local_addr())) {
            output.warn(&untold.message);
        }
        server.run().await?;
        Ok(Exit::Complete)
    })
}

/// Files of the store are not for others to change, whatever mask this process was started with.
fn keep_others_from_writing() {
    use rustix::fs::Mode;
    use rustix::process::umask;
    let others = Mode::WGRP | Mode::WOTH;
    let given = umask(others);
    umask(given | others);
}

/// A line of the access log.
fn line(access: &AccessRecord, is_json: bool) -> String {
    let AccessRecord { peer, method, path, status, received_bytes, sent_bytes, elapsed } = access;
    if is_json {
        let event = LogEvent::Request {
            peer: peer.to_string(),
            method: method.clone(),
            path: path.clone(),
            status: *status,
            received_bytes: *received_bytes,
            sent_bytes: *sent_bytes,
            elapsed_seconds: elapsed.as_secs_f64(),
        };
        return LogLine::now(event).to_string();
    }
    let time = clock::timestamp();
    let (method, path, elapsed) = (printable(method), printable(path), human_duration(*elapsed));
    format!("{time:.3} {peer} {method} {path} {status} received={received_bytes} sent={sent_bytes} {elapsed}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_line_has_what_an_operator_looks_for() {
        let access = AccessRecord {
            peer: "10.0.0.7:40022".parse().unwrap(),
            method: "PUT".to_owned(),
            path: "/v2/a/manifests/1".to_owned(),
            status: 201,
            received_bytes: 512,
            sent_bytes: 0,
            elapsed: Duration::from_millis(7),
        };
        let text = line(&access, false);
        assert!(
            text.ends_with(" 10.0.0.7:40022 PUT /v2/a/manifests/1 201 received=512 sent=0 7 ms"),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&line(&access, true)).unwrap();
        assert_eq!((&json["peer"], &json["elapsed_seconds"]), (&"10.0.0.7:40022".into(), &0.007.into()));
    }
}
