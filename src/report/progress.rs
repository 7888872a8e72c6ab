//! How far a run has come, as people see it: a few lines that are drawn again and again, or a line every few seconds.
//!
//! In: events, and the time. Out: lines of text for a width and a height. Nothing is drawn here: `cli` asks for the lines when it
//! wants them.

mod mirror;
mod model;
mod names;
mod news;
mod rate;
mod status;
mod step;
mod style;
#[cfg(test)]
mod tests;
mod view;
mod words;

use std::fmt;

use crate::clock::Instant;
use crate::locks::Mutex;

use self::model::RunModel;
use self::news::News;
pub(crate) use self::style::Palette;
#[cfg(test)]
use self::style::cut;
pub(crate) use self::style::width as columns_of;
use super::document::ProgressEntry;
use super::event::{Event, Listener};

/// Where lines go. The program decides; this module prints nothing itself.
pub(crate) type Sink = Box<dyn Fn(&str) + Send + Sync>;

/// Which lines are written beside the progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Telling {
    /// What a display of all mirrors does not show.
    BesideDisplay,
    /// What changed, for a log.
    Everything,
    /// What people should know, and nothing of how far the run has come.
    NotesAlone,
}

/// Listens to a run, writes what is new, and knows its progress.
pub(crate) struct Progress {
    sink: Sink,
    news: Mutex<News>,
    model: Mutex<RunModel>,
}

impl Progress {
    /// What is new goes to `sink`.
    pub(crate) fn new(telling: Telling, sink: Sink) -> Self {
        Self { sink, news: Mutex::new(News::new(telling)), model: Mutex::new(RunModel::new(Instant::now())) }
    }

    /// The run in `columns` columns and at most `rows` lines; none before there is something to show.
    pub(crate) fn lines(&self, columns: usize, rows: usize, palette: Palette) -> Vec<String> {
        view::lines(&self.model.lock(), columns, rows, palette, Instant::now())
    }

    /// The run in one line; none where there is nothing to say.
    pub(crate) fn status(&self) -> Option<String> {
        status::line(&self.model.lock(), Instant::now())
    }

    /// The same for programs.
    pub(crate) fn entry(&self) -> Option<ProgressEntry> {
        status::entry(&self.model.lock(), Instant::now())
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Progress")
    }
}

impl Listener for Progress {
    fn hear(&self, event: &Event) {
        self.model.lock().hear(event, Instant::now());
        let line = self.news.lock().line(event);
        if let Some(line) = line {
            (self.sink)(&line);
        }
    }
}
