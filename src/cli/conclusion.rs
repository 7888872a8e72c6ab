//! The end of a run: its summary, what was left out, its report and its metrics.

use std::sync::Arc;
use std::time::Duration;

use super::interrupt::Interrupt;
use super::metrics::Exposition;
use super::notify::Notifier;
use super::output::Output;
use super::report_file::ReportFile;
use super::{Done, left_out, summary};
use crate::bundle::Accept;
use crate::clock::Instant;
use crate::engine::history;
use crate::exit::Exit;
use crate::report::document::RunEntry;
use crate::report::rss::PeakMemory;
use crate::report::{Class, Document, Failure, RunRecorder};
use crate::state::{MirrorEnd, MirrorResult, RecordedFailure, Retention, RunId, State};

/// Earlier runs that a page shows.
const PAST_RUNS: u32 = 20;

/// A run that has begun, and the places of its reports.
pub(super) struct RunReporter {
    started: Instant,
    memory: PeakMemory,
    recorder: Arc<RunRecorder>,
    reports: Vec<ReportFile>,
    pub(super) exposition: Option<Exposition>,
    notifier: Option<Notifier>,
    pub(super) interrupt: Interrupt,
    /// Flags about names that matched nothing.
    pub(super) unmatched: Vec<String>,
    /// Where the run is remembered, once that is known.
    pub(super) history: Option<RunHistory>,
    /// The notes of the state.
    notes: Vec<String>,
}

/// The history of runs, and the number that this run has in it.
pub(super) struct RunHistory {
    pub(super) state: Arc<State>,
    pub(super) retention: Retention,
    /// None for a run that ended before it began with its mirrors.
    pub(super) run: Option<RunId>,
}

impl RunHistory {
    /// Notes how the run ended, with all that came after the push: that no report could be written, sites that were left to
    /// other runs.
    fn end(self, document: &Document, exit: Exit, failure: Option<&Failure>, output: &Output) {
        let names = || {
            let deferred = document.deferred.iter().map(|site| site.name.clone());
            deferred.chain(document.mirrors.iter().map(|outcome| outcome.name.clone()))
        };
        let begin = || {
            self.state.begin_run(&document.sources.join(" "), &names().collect::<Vec<_>>(), self.retention)
        };
        if let Some(run) = self.run.or_else(begin) {
            let left = document.deferred.iter().map(|site| {
                let why =
                    RecordedFailure { class: Class::Deferred.to_string(), message: site.message.clone() };
                let end = Some(MirrorEnd::Deferred);
                (site.name.clone(), MirrorResult { end, why: Some(why), ..MirrorResult::default() })
            });
            let fed = document.mirrors.iter().map(|outcome| (outcome.name.clone(), history::result(outcome)));
            let passed_over = || {
                let all = document.passed_over();
                let (class, message) = (Class::PassedOver.to_string(), all.join("; "));
                (!all.is_empty()).then_some(RecordedFailure { class, message })
            };
            let why = failure.map(history::why).or_else(passed_over);
            self.state.end_run(run, exit, why, left.chain(fed).collect());
        }
        self.state.take_notes().iter().for_each(|note| output.alarm(note));
    }
}

/// What a run comes to of which something may not have been written. What the run itself has to say comes first.
fn settle(ended: Done, written: Result<(), Failure>, document: &mut Document, output: &Output) -> Done {
    let Err(unwritten) = written else { return ended };
    if !matches!(ended, Ok(Exit::Complete)) {
        output.failed(&unwritten);
        return ended;
    }
    document.exit_code = unwritten.exit.code();
    document.error = Some(unwritten.clone());
    Err(unwritten)
}

impl RunReporter {
    /// To be made before anything is done, so that a wrong path costs nothing.
    pub(super) fn now(
        reports: Vec<ReportFile>,
        exposition: Option<Exposition>,
        notifier: Option<Notifier>,
        interrupt: Interrupt,
    ) -> Self {
        let started = Instant::now();
        Self {
            started,
            recorder: Arc::new(RunRecorder::new(started)),
            memory: PeakMemory::watch(),
            reports,
            exposition,
            notifier,
            interrupt,
            unmatched: Vec::new(),
            history: None,
            notes: Vec::new(),
        }
    }

    /// The time since it began.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// The listener that records the course of the run for its report.
    pub(super) fn recorder(&self) -> Arc<RunRecorder> {
        Arc::clone(&self.recorder)
    }

    /// Remembers the run in this state, and shows why it cannot.
    pub(super) fn remember(&mut self, state: &Arc<State>, retention: Retention, output: &Output) {
        self.history = Some(RunHistory { state: Arc::clone(state), retention, run: None });
        self.take_notes(output);
    }

    /// What the state has to say, which nobody should miss: in this run or in the next one something is not remembered.
    fn take_notes(&mut self, output: &Output) {
        let notes = self.history.as_ref().map(|history| history.state.take_notes()).unwrap_or_default();
        for note in &notes {
            output.alarm(note);
        }
        self.notes.extend(notes);
    }

    /// The number under which the push has noted that it began.
    pub(super) fn began(&mut self, run: Option<RunId>) {
        if let Some(history) = &mut self.history {
            history.run = run.or(history.run);
        }
    }

    /// The runs before this one, the latest first, where a report tells of them.
    fn past_runs(&self) -> Vec<RunEntry> {
        let history = self.history.as_ref().filter(|_| self.reports.iter().any(ReportFile::tells_of_past));
        let runs = history.map(|history| history.state.runs(None, PAST_RUNS)).unwrap_or_default();
        // This one is among them, and has not ended.
        runs.into_iter().map(RunEntry::from).filter(|run| run.ended.is_some()).collect()
    }

    /// Shows the result of the run, and writes the reports.
    pub(super) fn end(mut self, mut document: Document, done: Done, accept: Accept, output: &Output) -> Done {
        self.take_notes(output);
        document.notes.append(&mut self.notes);
        document.elapsed_seconds = self.elapsed().as_secs_f64();
        document.peak_rss_bytes = self.memory.bytes();
        self.recorder.write(&mut document);
        let before = match &done {
            Ok(exit) => *exit,
            Err(failure) => {
                document.error = Some(failure.clone());
                failure.exit
            }
        };
        document.exit_code = before.code();
        // A run that never made a plan has only its error to show.
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
        // What metrics lack stands in the report.
        let metrics = self.exposition.as_mut().map_or(Ok(()), |exposition| exposition.end(&document, output));
        document.notes.extend(self.exposition.iter_mut().flat_map(|it| std::mem::take(&mut it.troubles)));
        let mut ended = settle(done, metrics, &mut document, output);
        let past = self.past_runs();
        for report in &self.reports {
            let written = report.write(&document, &past);
            ended = settle(ended, written, &mut document, output);
        }
        let exit = ended.as_ref().map_or_else(|failure| failure.exit, |exit| *exit);
        if exit != before {
            self.exposition.iter().for_each(|exposition| exposition.correct(&document));
        }
        if let Some(history) = self.history {
            history.end(&document, exit, ended.as_ref().err(), output);
        }
        // The notification may take long or be stopped, so it comes after the report, the metrics and the history.
        if let Some(notifier) = self.notifier {
            notifier.tell(&document, output, &self.interrupt.telling());
        }
        ended
    }
}
