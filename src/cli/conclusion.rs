//! The end of a run: its summary, what was left out, its report and its metrics.

use super::metrics::Exposition;
use super::notify::Notifier;
use super::output::Output;
use super::whole_file::WholeFile;
use super::{Done, left_out, summary};
use crate::bundle::Accept;
use crate::clock::Instant;
use crate::exit::Exit;
use crate::report::rss::PeakMemory;
use crate::report::{Document, Failure};

/// A run that has begun, and where it is to be told of.
pub(super) struct Begun {
    started: Instant,
    memory: PeakMemory,
    report: Option<WholeFile>,
    pub(super) exposition: Option<Exposition>,
    notifier: Option<Notifier>,
    /// Flags about names that matched nothing.
    pub(super) unmatched: Vec<String>,
}

impl Begun {
    /// To be made before anything is done, so that a wrong path costs nothing.
    pub(super) fn now(
        report: Option<WholeFile>,
        exposition: Option<Exposition>,
        notifier: Option<Notifier>,
    ) -> Self {
        Self {
            started: Instant::now(),
            memory: PeakMemory::watch(),
            report,
            exposition,
            notifier,
            unmatched: Vec::new(),
        }
    }

    /// Says what the run came to, and writes it down.
    pub(super) fn end(self, mut document: Document, done: Done, accept: Accept, output: &Output) -> Done {
        document.elapsed_seconds = self.started.elapsed().as_secs_f64();
        document.peak_rss_bytes = self.memory.bytes();
        let exit = match &done {
            Ok(exit) => *exit,
            Err(failure) => {
                document.error = Some(failure.clone());
                failure.exit
            }
        };
        document.exit_code = exit.code();
        // Where the run never came to a plan, its error has said all.
        if done.is_ok() || document.mirrors.iter().any(|mirror| mirror.images > 0) {
            output.summary(&summary::table(&document));
            output.summary(&summary::stage(&document));
            output.failures(&document.mirrors, true);
        }
        for flag in &self.unmatched {
            output.warn(flag);
        }
        output.summary(&summary::deferred(&document));
        // The error has said all of a bundle that is the only one.
        if done.is_ok() || document.left_out.len() > 1 {
            output.summary(&left_out::text(&document.left_out, accept));
            output.left_out(&document.left_out, accept);
        }
        if let Some(notifier) = self.notifier {
            notifier.tell(&document, output);
        }
        let report = self.report.map_or(Ok(()), |report| report.write_json(&document));
        let metrics = self.exposition.map_or(Ok(()), |exposition| exposition.end(&document));
        match report.and(metrics) {
            // What the run itself has to say comes first.
            Err(unwritten) if exit == Exit::Complete => Err(unwritten),
            Err(unwritten) => {
                output.warn(&unwritten.message);
                done
            }
            Ok(()) => done,
        }
    }
}

/// A file that a flag names for the report.
pub(super) fn report_file(path: Option<&std::path::PathBuf>) -> Result<Option<WholeFile>, Failure> {
    path.cloned().map(|path| WholeFile::check("--report", path)).transpose()
}
