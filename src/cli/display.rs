//! How far a run has come, on standard error: as lines that are drawn again, as lines of a log, or as JSON.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use clap::ValueEnum;
use crossbeam::channel::{self, RecvTimeoutError, Sender};

use super::screen;
use crate::report::document::LogEvent;
use crate::report::json::JsonLines;
use crate::report::progress::{Palette, Progress, Telling};
use crate::report::{Listener, Listeners};

/// How often the lines of a terminal are drawn.
const FRAME: Duration = Duration::from_millis(200);
/// How often a log gets a line about the progress.
const STATUS: Duration = Duration::from_secs(5);

/// The form of the progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ProgressForm {
    /// Bars on a terminal, lines elsewhere; JSON with --log-format json
    Auto,
    /// A few lines that are drawn again and again
    Bar,
    /// What changed, and a line every few seconds
    Plain,
    /// One JSON object for each event, and one every few seconds
    Json,
    /// Nothing but notes
    None,
}

/// Shows the progress of a run while it lives.
#[derive(Debug)]
pub(super) struct Display {
    listeners: Listeners,
    /// Ends with the sender.
    ticking: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Display {
    /// Shows nothing.
    pub(super) fn silent() -> Self {
        Self { listeners: Listeners::default(), ticking: None }
    }

    /// A display in a form that is not `Auto`.
    pub(super) fn new(form: ProgressForm, palette: Palette) -> Self {
        let (telling, every) = match form {
            ProgressForm::Bar => (Telling::BesideDisplay, FRAME),
            ProgressForm::Plain | ProgressForm::Json | ProgressForm::Auto => (Telling::Everything, STATUS),
            ProgressForm::None => {
                let notes = Progress::new(Telling::NotesAlone, Box::new(screen::say));
                return Self { listeners: Listeners::new(vec![Arc::new(notes)]), ticking: None };
            }
        };
        let is_json = form == ProgressForm::Json;
        let said: Box<dyn Fn(&str) + Send + Sync> =
            if is_json { Box::new(|_| {}) } else { Box::new(screen::say) };
        let progress = Arc::new(Progress::new(telling, said));
        let mut listeners: Vec<Arc<dyn Listener>> = vec![Arc::clone(&progress) as Arc<_>];
        if is_json {
            listeners.push(Arc::new(JsonLines::new(Box::new(screen::say))));
        }
        let (stop, stopped) = channel::bounded::<()>(0);
        let tick = move || match form {
            ProgressForm::Bar => {
                let (columns, rows) = screen::size();
                screen::draw(progress.lines(columns, rows, palette));
            }
            ProgressForm::Json => {
                if let Some(entry) = progress.entry() {
                    screen::say_event(LogEvent::Progress(entry));
                }
            }
            _ => {
                if let Some(line) = progress.status() {
                    screen::say(&line);
                }
            }
        };
        let ticks = move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                tick();
            }
        };
        // Without a thread there is no display, and the run goes on.
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(ticks);
        Self { listeners: Listeners::new(listeners), ticking: thread.ok().map(|thread| (stop, thread)) }
    }

    /// The listeners of the run.
    pub(super) fn listeners(&self) -> Listeners {
        self.listeners.clone()
    }
}

impl Drop for Display {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.ticking.take() {
            drop(stop);
            let _ = thread.join();
            screen::draw(Vec::new());
        }
    }
}
