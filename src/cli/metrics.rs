//! Flags about metrics, and where they go.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::output::Output;
use super::whole_file::WholeFile;
use crate::bundle::Opener;
use crate::config::listen_address;
use crate::report::metrics::{Endpoint, Metrics};
use crate::report::{Document, Failure, Listeners};

/// What metrics of a run without a file are called.
const UNNAMED_RUN: &str = "layercast";

/// Where metrics go.
#[derive(Debug, Clone, Default, Args)]
pub(super) struct MetricsArgs {
    /// Write metrics of the run here when it ends, for the textfile collector of node_exporter (NAME.prom)
    #[arg(long, value_name = "FILE")]
    metrics_textfile: Option<PathBuf>,
    /// Give out metrics under http://ADDRESS/metrics while the run lasts; a port alone is one of the loopback
    #[arg(long, value_name = "[IP:]PORT", value_parser = listen_address)]
    metrics_listen: Option<SocketAddr>,
}

impl MetricsArgs {
    /// What was given, else these.
    pub(super) fn or(&self, textfile: Option<PathBuf>, listen: Option<SocketAddr>) -> Self {
        Self {
            metrics_textfile: self.metrics_textfile.clone().or(textfile),
            metrics_listen: self.metrics_listen.or(listen),
        }
    }

    /// Takes the file and the address before the run, so that what is wrong with them costs nothing.
    pub(super) fn begin(&self, output: &Output) -> Result<Option<Exposition>, Failure> {
        if self.metrics_textfile.is_none() && self.metrics_listen.is_none() {
            return Ok(None);
        }
        let stem = self.metrics_textfile.as_deref().and_then(|path| path.file_stem()).and_then(OsStr::to_str);
        let metrics = Arc::new(Metrics::new(stem.unwrap_or(UNNAMED_RUN)));
        let textfile = self.metrics_textfile.clone().map(|path| {
            if path.extension() != Some(OsStr::new("prom")) {
                let path = path.display();
                output.warn(&format!(
                    "--metrics-textfile {path}: node_exporter reads files that end in .prom, and no others"
                ));
            }
            WholeFile::check("--metrics-textfile", path)
        });
        let textfile = textfile.transpose()?;
        let listen = |address| -> Result<Endpoint, Failure> {
            let failed = |error| Failure::io(format!("--metrics-listen {address}"), &error);
            let endpoint = Endpoint::bind(address).map_err(failed)?;
            let address = endpoint.address().map_err(failed)?;
            output.note(&format!("metrics are at http://{address}/metrics while the run lasts"));
            Ok(endpoint)
        };
        let endpoint = self.metrics_listen.map(listen).transpose()?;
        Ok(Some(Exposition { metrics, textfile, endpoint }))
    }
}

/// The metrics of a run and where they go.
#[derive(Debug)]
pub(super) struct Exposition {
    metrics: Arc<Metrics>,
    textfile: Option<WholeFile>,
    endpoint: Option<Endpoint>,
}

impl Exposition {
    /// Counts what happens at these mirrors from here on. Metrics are given out for as long as `runtime` lives.
    pub(super) fn follow(
        &mut self,
        runtime: &tokio::runtime::Runtime,
        opener: &Opener,
        mirrors: &[String],
        listeners: &mut Listeners,
    ) {
        for (mirror, last) in opener.state.last_complete(mirrors) {
            self.metrics.expect(&mirror, last);
        }
        let opener = opener.clone();
        self.metrics.read_by(move || (opener.decoded(), opener.compressed()));
        listeners.add(Arc::clone(&self.metrics) as Arc<_>);
        if let Some(endpoint) = self.endpoint.take() {
            let metrics = Arc::clone(&self.metrics);
            runtime.spawn(async move {
                if let Err(error) = endpoint.serve(metrics).await {
                    tracing::warn!(%error, "metrics are not given out any more");
                }
            });
        }
    }

    /// Writes what the run came to.
    pub(super) fn end(&self, document: &Document) -> Result<(), Failure> {
        self.metrics.end(document);
        let written = self.textfile.as_ref().map(|file| file.write(self.metrics.render().as_bytes()));
        written.unwrap_or(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_reach_must_be_written() {
        let read = |text| listen_address(text).map(|address| address.to_string());
        for (text, address) in [
            ("9790", "127.0.0.1:9790"),
            (":9790", "127.0.0.1:9790"),
            ("0.0.0.0:9790", "0.0.0.0:9790"),
            ("[::1]:0", "[::1]:0"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(address));
        }
        assert!(read("monitoring").is_err() && read("").is_err());
    }
}
