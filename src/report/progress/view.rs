//! A run as lines for a terminal of some width and height. Pure.

use std::fmt::Write as _;

use super::mirror::{EndState, MirrorModel, MirrorState};
use super::model::RunModel;
use super::names::shortened;
use super::style::{Palette, Tone, cut, pad, width};
use super::words::{of_bytes, per_second, percent, short, time};
use crate::clock::Instant;
use crate::report::Class;
use crate::units::ByteCount;

/// More lines than this are not read.
const MAX_LINES: usize = 20;
/// Columns of a share, and of bytes.
const SHARE_COLUMNS: usize = 5;
const BYTES_COLUMNS: usize = 13;

/// The lines of a run.
pub(super) fn lines(
    model: &RunModel,
    columns: usize,
    rows: usize,
    palette: Palette,
    now: Instant,
) -> Vec<String> {
    if model.is_abandoned {
        return Vec::new();
    }
    let mut lines: Vec<String> = reading(model).iter().map(|line| cut(line, columns)).collect();
    lines.extend(model.step.iter().map(|step| cut(&step.line(now), columns)));
    if !model.mirrors.is_empty() {
        lines.push(cut(&overall(model, now), columns));
        let room = rows.saturating_sub(lines.len() + 1).clamp(1, MAX_LINES);
        lines.extend(mirrors(model, columns, room, palette, now));
    }
    lines
}

/// How much of the bundle was read, until all of it has been.
pub(super) fn reading(model: &RunModel) -> Option<String> {
    let reading = model.reading.as_ref()?;
    Some(match reading.of {
        _ if reading.bytes == 0 => "reading the bundle".to_owned(),
        Some(of) => format!("bundle read {}", of_bytes(reading.bytes, of)),
        None => format!("bundle read {}", ByteCount(reading.bytes)),
    })
}

/// The whole run: bytes, share, rate and time.
fn overall(model: &RunModel, now: Instant) -> String {
    let mut words = Vec::new();
    if let Some(share) = model.share(now) {
        words.push(percent(share));
    }
    let (taken, acknowledged) = (model.shown(now), model.acknowledged());
    match model.expected().filter(|_| model.reading.is_none()) {
        Some(0) => {}
        Some(expected) => words.push(of_bytes(taken.min(expected), expected)),
        None => words.push(format!("{} sent", ByteCount(taken))),
    }
    if taken > 0 {
        words.push(format!("{} confirmed", ByteCount(acknowledged)));
    }
    words.extend(model.per_second(now).map(per_second));
    let left = model.left(now).filter(|left| model.reading.is_none() && !left.is_zero());
    words.extend(left.map(|left| format!("ETA {}", time(left))));
    format!("all  {}", words.join("  "))
}

/// A line for each mirror; the worst ones and a count of the others, where there are more than lines.
fn mirrors(model: &RunModel, columns: usize, room: usize, palette: Palette, now: Instant) -> Vec<String> {
    let states: Vec<(&MirrorModel, MirrorState)> =
        model.mirrors.iter().map(|mirror| (mirror, mirror.state(now))).collect();
    let shown = if states.len() <= room { states.len() } else { room.saturating_sub(1) };
    let mut order: Vec<usize> = (0..states.len()).collect();
    if shown < states.len() {
        order.sort_by_key(|at| urgency(&states[*at].1));
    }
    let (first, rest) = order.split_at(shown);
    let names: Vec<&str> = first.iter().map(|at| states[*at].0.name.as_str()).collect();
    let layout = Layout::of(columns, names.iter().map(|name| width(name)).max().unwrap_or(0));
    let names = shortened(&names, layout.name);
    let mut lines: Vec<String> = first
        .iter()
        .zip(&names)
        .map(|(at, name)| {
            let (mirror, state) = &states[*at];
            layout.line(name, mirror, state, palette, now)
        })
        .collect();
    if !rest.is_empty() {
        lines.push(cut(&others(rest.iter().map(|at| &states[*at].1)), columns));
    }
    lines
}

/// What is shown first where not all can be.
fn urgency(state: &MirrorState) -> u8 {
    match state {
        MirrorState::Ended(EndState::Failed(_) | EndState::Incomplete(_)) => 0,
        MirrorState::Waiting(..) | MirrorState::Retrying(_) => 1,
        MirrorState::Sending | MirrorState::Publishing => 2,
        MirrorState::Probing | MirrorState::Connecting => 3,
        MirrorState::Ended(EndState::Deferred | EndState::Interrupted) => 4,
        MirrorState::NotBegun => 5,
        MirrorState::Ended(EndState::Complete) => 6,
    }
}

/// `and 24 more: 20 complete, 4 sending`
pub(super) fn others<'s>(states: impl Iterator<Item = &'s MirrorState>) -> String {
    let mut counts: Vec<(u8, &'static str, usize)> = Vec::new();
    let mut all = 0;
    for state in states {
        all += 1;
        let (rank, word) = (urgency(state), in_one_word(state));
        match counts.iter_mut().find(|(_, known, _)| *known == word) {
            Some((.., count)) => *count += 1,
            None => counts.push((rank, word, 1)),
        }
    }
    counts.sort_unstable();
    let counts: Vec<String> = counts.iter().map(|(_, word, count)| format!("{count} {word}")).collect();
    format!("and {all} more: {}", counts.join(", "))
}

/// The state without its figures, as mirrors are counted by it.
pub(super) fn in_one_word(state: &MirrorState) -> &'static str {
    match state {
        MirrorState::NotBegun => "not begun",
        MirrorState::Connecting => "connecting",
        MirrorState::Probing => "probing",
        MirrorState::Sending => "sending",
        MirrorState::Publishing => "publishing",
        MirrorState::Waiting(..) => "waiting",
        MirrorState::Retrying(_) => "retrying",
        MirrorState::Ended(EndState::Complete) => "complete",
        MirrorState::Ended(EndState::Incomplete(_)) => "incomplete",
        MirrorState::Ended(EndState::Deferred) => "deferred",
        MirrorState::Ended(EndState::Interrupted) => "interrupted",
        MirrorState::Ended(EndState::Failed(Class::Unreachable)) => "unreachable",
        MirrorState::Ended(EndState::Failed(_)) => "failed",
    }
}

/// The columns of the parts of a mirror's line.
struct Layout {
    name: usize,
    bar: usize,
    state: usize,
}

impl Layout {
    fn of(columns: usize, longest_name: usize) -> Self {
        let bar = match columns {
            100.. => 20,
            70.. => 10,
            _ => 0,
        };
        let bar_columns = if bar > 0 { bar + 3 } else { 0 };
        let fixed = bar_columns + SHARE_COLUMNS + 1 + BYTES_COLUMNS + 1;
        let free = columns.saturating_sub(fixed);
        let name = longest_name.min(free * 2 / 5).max(4);
        Self { name, bar, state: free.saturating_sub(name + 1) }
    }

    fn line(
        &self,
        name: &str,
        mirror: &MirrorModel,
        state: &MirrorState,
        palette: Palette,
        now: Instant,
    ) -> String {
        let share = mirror.share(now);
        let bytes = match mirror.expected() {
            _ if mirror.is_over() => String::new(),
            Some(0) | None if mirror.taken == 0 => images(mirror),
            Some(expected) => of_bytes(mirror.shown(now).min(expected), expected),
            None => ByteCount(mirror.shown(now)).to_string(),
        };
        let share = share.filter(|_| mirror.is_complete() || !mirror.is_over()).map(percent);
        let (meaning, words) = in_words(mirror, state, now);
        let mut line = format!("{} ", pad(name, self.name));
        if self.bar > 0 {
            line.push_str(&palette.paint(meaning, &self.drawn(mirror, now)));
            line.push(' ');
        }
        let share = share.unwrap_or_default();
        let _ = write!(line, "{share:>SHARE_COLUMNS$} {bytes:>BYTES_COLUMNS$} ");
        line.push_str(&palette.paint(meaning, &cut(&words, self.state)));
        line
    }

    /// `[====--    ]`: confirmed, and on its way.
    fn drawn(&self, mirror: &MirrorModel, now: Instant) -> String {
        let columns = |bytes: u64| match mirror.expected() {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most the bar")]
            Some(expected @ 1..) => (bytes as f64 / expected as f64 * self.bar as f64) as usize,
            _ => 0,
        };
        let (confirmed, taken) = if mirror.is_complete() {
            (self.bar, self.bar)
        } else if mirror.is_over() {
            (0, 0)
        } else {
            // Full only when it is complete.
            let most = self.bar.saturating_sub(1);
            (columns(mirror.acknowledged).min(most), columns(mirror.shown(now)).min(most))
        };
        let on_its_way = taken.saturating_sub(confirmed);
        let rest = self.bar - confirmed - on_its_way;
        format!("[{}{}{}]", "=".repeat(confirmed), "-".repeat(on_its_way), " ".repeat(rest))
    }
}

fn images(mirror: &MirrorModel) -> String {
    match mirror.images {
        Some(images) if images > 0 => format!("{}/{images} img", mirror.whole),
        _ => String::new(),
    }
}

/// The state of a mirror, and what it means.
fn in_words(mirror: &MirrorModel, state: &MirrorState, now: Instant) -> (Tone, String) {
    let plain = |text: &str| (Tone::Plain, text.to_owned());
    match state {
        MirrorState::NotBegun => (Tone::Quiet, "its turn comes later".to_owned()),
        MirrorState::Connecting => (Tone::Quiet, "connecting".to_owned()),
        MirrorState::Probing => plain("probing"),
        MirrorState::Publishing => plain("publishing"),
        MirrorState::Sending => {
            let failed =
                if mirror.failed > 0 { format!(", {} failed", mirror.failed) } else { String::new() };
            match mirror.per_second(now) {
                Some(rate) => (Tone::Plain, format!("sending {}{failed}", per_second(rate))),
                None => (Tone::Plain, format!("sending{failed}")),
            }
        }
        MirrorState::Waiting(left, cause) => {
            (Tone::Wait, format!("waiting {}: {}", time(*left), short(cause)))
        }
        MirrorState::Retrying(cause) => (Tone::Wait, format!("retrying: {}", short(cause))),
        MirrorState::Ended(end) => ended(*end),
    }
}

fn ended(end: EndState) -> (Tone, String) {
    match end {
        EndState::Complete => (Tone::Good, "✓ complete".to_owned()),
        EndState::Incomplete(1) => (Tone::Bad, "✗ 1 image failed".to_owned()),
        EndState::Incomplete(failed) => (Tone::Bad, format!("✗ {failed} images failed")),
        EndState::Deferred => (Tone::Wait, "deferred".to_owned()),
        EndState::Interrupted => (Tone::Wait, "interrupted".to_owned()),
        EndState::Failed(class) => (Tone::Bad, format!("✗ {class}")),
    }
}
