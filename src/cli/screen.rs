//! Standard error: lines that stay, and below them lines that are drawn again and again.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::locks::Mutex;
use crate::report::document::{LogEvent, LogLine};
use crate::report::progress::{Palette, columns_of};

/// Standard error of this process.
static SCREEN: Mutex<Screen> = Mutex::new(Screen { drawn: Vec::new() });

/// What stands there now below the lines that stay.
struct Screen {
    drawn: Vec<String>,
}

/// Writes a line that stays. A closed standard error is no reason to stop.
pub(super) fn say(line: &str) {
    SCREEN.lock().put(&format!("{line}\n"), None);
}

/// A line of `--log-format json`, which stays.
pub(super) fn say_event(event: LogEvent) {
    say(&LogLine::now(event).to_string());
}

/// Replaces what was drawn last.
pub(super) fn draw(lines: Vec<String>) {
    let mut screen = SCREEN.lock();
    if screen.drawn != lines {
        screen.put("", Some(lines));
    }
}

/// Columns and rows of the terminal; the usual ones where it does not say.
pub(super) fn size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(std::io::stderr()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => (80, 24),
    }
}

/// Whether this process writes with colours, by what the user says, or by what the terminal can do.
pub(super) const fn palette(colours: bool) -> Palette {
    if colours { Palette::Colours } else { Palette::Plain }
}

impl Screen {
    /// Writes a text above what is drawn, and draws these lines, or those from before.
    fn put(&mut self, text: &str, lines: Option<Vec<String>>) {
        let mut out = String::new();
        if !self.drawn.is_empty() {
            // A terminal that became narrower has broken lines that were drawn for more columns.
            let (columns, _) = size();
            let rows: usize = self.drawn.iter().map(|line| columns_of(line).div_ceil(columns).max(1)).sum();
            let _ = write!(out, "\u{1b}[{rows}A\r\u{1b}[J");
        }
        out.push_str(text);
        if let Some(lines) = lines {
            self.drawn = lines;
        }
        for line in &self.drawn {
            out.push_str(line);
            out.push('\n');
        }
        let mut stderr = std::io::stderr().lock();
        let _ = stderr.write_all(out.as_bytes()).and_then(|()| stderr.flush());
    }
}

/// Where the log goes: whole lines, above what is drawn.
#[derive(Debug, Default)]
pub(super) struct LogWriter(Vec<u8>);

impl std::io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        if !self.0.is_empty() {
            say(String::from_utf8_lossy(&self.0).trim_end_matches('\n'));
            self.0.clear();
        }
        Ok(())
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        let _ = self.flush();
    }
}
