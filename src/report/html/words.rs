//! States and figures as a page says them.

use std::time::Duration;

use crate::report::outcome::OutcomeState;
use crate::report::{Class, Outcome};
use crate::units::{ByteCount, human_duration};

/// A figure and what it is.
#[derive(Debug)]
pub(super) struct FactView {
    pub(super) label: &'static str,
    pub(super) value: String,
}

/// How something ended: in a word, with a mark, so that its colour says nothing alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StateView {
    /// The class of its colours: `good`, `bad` or `wait`.
    pub(super) meaning: &'static str,
    pub(super) mark: &'static str,
    pub(super) word: String,
}

impl StateView {
    pub(super) fn good(word: impl Into<String>) -> Self {
        Self { meaning: "good", mark: "✓", word: word.into() }
    }

    pub(super) fn bad(word: impl Into<String>) -> Self {
        Self { meaning: "bad", mark: "✗", word: word.into() }
    }

    pub(super) fn wait(word: impl Into<String>) -> Self {
        Self { meaning: "wait", mark: "…", word: word.into() }
    }

    /// How a mirror ended.
    pub(super) fn of(outcome: &Outcome) -> Self {
        let class = outcome.error.as_ref().map(|failure| failure.class);
        match (outcome.state, class) {
            (OutcomeState::Deferred, _) | (_, Some(Class::Deferred)) => Self::wait("deferred"),
            _ if outcome.interrupted().is_some() => Self::wait("interrupted"),
            (OutcomeState::NotBegun, _) => Self::bad("not begun"),
            (_, Some(class)) => Self::bad(class.to_string()),
            // A document of an early version has no states.
            _ if outcome.is_complete() => Self::good("complete"),
            _ => Self::bad("incomplete"),
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "figures are written where they are made")]
pub(super) fn fact(label: &'static str, value: impl ToString) -> FactView {
    FactView { label, value: value.to_string() }
}

/// A span of time.
pub(super) fn seconds(seconds: f64) -> String {
    human_duration(Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default())
}

/// Bytes a second; a dash where nothing was sent.
pub(super) fn rate(bytes: u64, seconds: f64) -> String {
    if bytes == 0 || seconds <= 0.0 {
        return "–".to_owned();
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of bytes")]
    let rate = (bytes as f64 / seconds) as u64;
    format!("{}/s", ByteCount(rate))
}

/// Bits a second, as links are measured.
pub(super) fn bits(bytes_per_second: f64) -> String {
    format!("{:.1} Mbit/s", bytes_per_second * 8e-6)
}

/// What is not shown of a list, if anything.
pub(super) fn left_out(all: usize, shown: usize, what: &str) -> Option<String> {
    let more = all.checked_sub(shown).filter(|more| *more > 0)?;
    let is = if more == 1 { "is" } else { "are" };
    Some(format!("{} {is} not on this page; the JSON report has all.", crate::units::count(more, what)))
}

/// A moment as people read it: `2026-11-27 14:05:33 UTC`.
pub(super) fn moment(written: &str) -> String {
    formatted(written, "%Y-%m-%d %H:%M:%S UTC")
}

/// The same in a table whose head names the time zone: `2026-11-27 14:05`.
pub(super) fn minute(written: &str) -> String {
    formatted(written, "%Y-%m-%d %H:%M")
}

fn formatted(written: &str, form: &str) -> String {
    match written.parse::<jiff::Timestamp>() {
        Ok(moment) => moment.strftime(form).to_string(),
        Err(_) => written.to_owned(),
    }
}
