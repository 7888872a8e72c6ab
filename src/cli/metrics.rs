//! Flags about metrics, and where they go.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::atomic_file::{Replaces, WholeFile};
use super::output::Output;
use crate::bundle::Opener;
use crate::config::listen_address;
use crate::report::metrics::{Metrics, MetricsEndpoint, with_other_sites};
use crate::report::{Document, Failure, Listeners};

/// What metrics of a run without a file are called.
const UNNAMED_RUN: &str = "layercast";
/// Of 10,000 sites with all that is told of each.
const MAX_TEXTFILE_BYTES: u64 = 64 << 20;
const TEXTFILE_FLAG: &str = "--metrics-textfile";
const TEXTFILE_KEY: &str = "metrics.textfile";

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
    /// What was given, else what the sites file says.
    pub(super) fn or(&self, textfile: Option<PathBuf>, listen: Option<SocketAddr>) -> MetricsOutputs {
        let of_flag = self.metrics_textfile.clone().map(|path| (TEXTFILE_FLAG, path));
        let listen_flag = self.metrics_listen.map(|address| ("--metrics-listen", address));
        MetricsOutputs {
            textfile: of_flag.or(textfile.map(|path| (TEXTFILE_KEY, path))),
            listen: listen_flag.or(listen.map(|address| ("metrics.listen", address))),
        }
    }

    /// What was given.
    pub(super) fn wanted(&self) -> MetricsOutputs {
        self.or(None, None)
    }
}

/// Where metrics go, and what names the place: a flag or a key of the sites file.
#[derive(Debug, Default)]
pub(super) struct MetricsOutputs {
    textfile: Option<(&'static str, PathBuf)>,
    listen: Option<(&'static str, SocketAddr)>,
}

impl MetricsOutputs {
    /// The same with another file, as `renamed` makes it of the one that is named.
    #[must_use]
    pub(super) fn writing(self, renamed: impl FnOnce(&Path) -> PathBuf) -> Self {
        Self { textfile: self.textfile.map(|(named_by, path)| (named_by, renamed(&path))), ..self }
    }

    /// Checks the file before the run. If a flag names it and it cannot be written, the command line is wrong. If the sites file
    /// names it, that costs a warning: filling sites matters more than metrics.
    pub(super) fn begin(self, output: &Output) -> Result<Option<Exposition>, Failure> {
        if self.textfile.is_none() && self.listen.is_none() {
            return Ok(None);
        }
        let stem = self.textfile.as_ref().and_then(|(_, path)| path.file_stem()).and_then(OsStr::to_str);
        let metrics = Arc::new(Metrics::new(stem.unwrap_or(UNNAMED_RUN)));
        let mut exposition = Exposition {
            metrics,
            textfile: None,
            listen: self.listen,
            others: HashSet::new(),
            troubles: Vec::new(),
        };
        if let Some((named_by, path)) = self.textfile {
            if path.extension() != Some(OsStr::new("prom")) {
                let path = path.display();
                output.warn(&format!(
                    "{named_by} {path}: node_exporter reads files that end in .prom, and no others"
                ));
            }
            match WholeFile::check(named_by, path, Replaces::Metrics) {
                Ok(file) => exposition.textfile = Some((named_by, file)),
                Err(failure) if named_by == TEXTFILE_FLAG => return Err(failure),
                Err(failure) => exposition.trouble(&failure, output),
            }
        }
        Ok(Some(exposition))
    }
}

/// The metrics of a run and where they go.
#[derive(Debug)]
pub(super) struct Exposition {
    metrics: Arc<Metrics>,
    textfile: Option<(&'static str, WholeFile)>,
    listen: Option<(&'static str, SocketAddr)>,
    /// Sites that the run is not about, and of which the file may tell.
    others: HashSet<String>,
    /// Why metrics are not written or served; the report has it too.
    pub(super) troubles: Vec<String>,
}

impl Exposition {
    /// Sets the sites that the run is to fill, with what the state remembers of them, so that a run that ends early has them.
    pub(super) fn expect(&self, opener: &Opener, mirrors: &[String]) {
        for (mirror, last) in opener.state.last_complete(mirrors) {
            self.metrics.expect(&mirror, last);
        }
        let opener = opener.clone();
        self.metrics.read_by(move || (opener.decoded(), opener.compressed()));
    }

    /// Counts events from here on. Metrics are served while `runtime` lives; an address that is taken costs a warning.
    pub(super) fn follow(
        &mut self,
        runtime: &tokio::runtime::Runtime,
        listeners: &mut Listeners,
        output: &Output,
    ) {
        listeners.add(Arc::clone(&self.metrics) as Arc<_>);
        let Some((named_by, address)) = self.listen else { return };
        let bound = MetricsEndpoint::bind(address).and_then(|endpoint| Ok((endpoint.address()?, endpoint)));
        match bound {
            Ok((address, endpoint)) => {
                output.note(&format!("metrics are at http://{address}/metrics while the run lasts"));
                let metrics = Arc::clone(&self.metrics);
                runtime.spawn(async move {
                    if let Err(error) = endpoint.serve(metrics).await {
                        tracing::warn!(%error, "metrics are no longer served");
                    }
                });
            }
            Err(error) => {
                let failure = Failure::io(format!("{named_by} {address}: metrics are not served"), &error);
                let hint = match error.kind() {
                    std::io::ErrorKind::AddrInUse => {
                        "another process has that port: give each run one of its own"
                    }
                    _ => "name an address of this machine, and a port that this user may open",
                };
                self.trouble(&failure.hint(hint), output);
            }
        }
    }

    /// What the file says of these sites stays: the run is not about them.
    pub(super) fn keep(&mut self, others: HashSet<String>) {
        self.others = others;
    }

    /// What goes into the file.
    fn text(&self, file: &WholeFile) -> String {
        let rendered = self.metrics.render();
        if self.others.is_empty() {
            return rendered;
        }
        let earlier = file.content(MAX_TEXTFILE_BYTES).unwrap_or_default();
        with_other_sites(&rendered, &earlier, |site| self.others.contains(site))
    }

    /// A warning that `--quiet` does not hide.
    fn trouble(&mut self, failure: &Failure, output: &Output) {
        let hint = failure.hint.as_ref().map(|hint| format!("; next: {hint}")).unwrap_or_default();
        let text = format!("{}{hint}", failure.message);
        output.alarm(&text);
        self.troubles.push(text);
    }

    /// Writes the metrics at the end of the run. A file that the sites file names and that cannot be written costs a warning.
    pub(super) fn end(&mut self, document: &Document, output: &Output) -> Result<(), Failure> {
        self.metrics.end(document);
        let Some((named_by, file)) = &self.textfile else { return Ok(()) };
        match file.write(self.text(file).as_bytes()) {
            Err(failure) if *named_by == TEXTFILE_KEY => {
                self.trouble(&failure, output);
                Ok(())
            }
            written => written,
        }
    }

    /// Writes them once more, because the exit code has changed: the report could not be written.
    pub(super) fn correct(&self, document: &Document) {
        self.metrics.end(document);
        if let Some((_, file)) = &self.textfile {
            // The first attempt has already shown the warning.
            let _ = file.write(self.text(file).as_bytes());
        }
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
