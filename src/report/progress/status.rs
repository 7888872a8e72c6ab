//! A run in one line, for logs. Pure.

use std::collections::BTreeMap;

use super::mirror::MirrorState;
use super::model::RunModel;
use super::view::{in_one_word, reading};
use super::words::{of_bytes, per_second, percent, short, time};
use crate::clock::Instant;
use crate::report::document::{ProgressEntry, StepEntry};
use crate::units::ByteCount;

/// Mirrors that are named because they wait.
const MAX_NAMED: usize = 2;

/// `412/1433 MiB sent (28 %), 12.0 MiB/s, ETA 85 s; 3 mirrors: 1 complete, 2 sending`
pub(super) fn line(model: &RunModel, now: Instant) -> Option<String> {
    let reading = reading(model);
    if model.is_abandoned || model.mirrors.is_empty() {
        return reading.or_else(|| model.step.as_ref().map(|step| step.line(now)));
    }
    let mut words: Vec<String> = reading.into_iter().collect();
    let is_read = model.reading.is_none();
    match model.expected().filter(|_| is_read) {
        Some(0) => words.extend(model.share(now).map(|share| format!("{} done", percent(share)))),
        Some(expected) => {
            let share = model.share(now).map(|share| format!(" ({})", percent(share))).unwrap_or_default();
            words.push(format!("{} sent{share}", of_bytes(model.shown(now).min(expected), expected)));
        }
        None => words.push(format!("{} sent", ByteCount(model.shown(now)))),
    }
    words.extend(model.per_second(now).map(per_second));
    let left = model.left(now).filter(|left| is_read && !left.is_zero());
    words.extend(left.map(|left| format!("ETA {}", time(left))));
    let states: Vec<MirrorState> = model.mirrors.iter().map(|mirror| mirror.state(now)).collect();
    let mut text = format!("{}; {}", words.join(", "), counted(&states));
    let waiting = model.mirrors.iter().zip(&states).filter_map(|(mirror, state)| match state {
        MirrorState::Waiting(left, cause) => {
            Some(format!("{} waits {} ({})", mirror.name, time(*left), short(cause)))
        }
        MirrorState::Retrying(cause) => Some(format!("{} is tried again ({})", mirror.name, short(cause))),
        _ => None,
    });
    waiting.take(MAX_NAMED).for_each(|waits| {
        text.push_str("; ");
        text.push_str(&waits);
    });
    Some(text)
}

/// `3 mirrors: 1 complete, 2 sending`
fn counted(states: &[MirrorState]) -> String {
    let mut counts: Vec<(&'static str, usize)> = Vec::new();
    for word in states.iter().map(in_one_word) {
        match counts.iter_mut().find(|(known, _)| *known == word) {
            Some((_, count)) => *count += 1,
            None => counts.push((word, 1)),
        }
    }
    let counts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    format!("{}: {}", crate::units::count(states.len(), "mirror"), counts.join(", "))
}

/// The same for programs.
pub(super) fn entry(model: &RunModel, now: Instant) -> Option<ProgressEntry> {
    if model.mirrors.is_empty() && model.reading.is_none() && model.step.is_none() {
        return None;
    }
    let mut mirrors: BTreeMap<String, usize> = BTreeMap::new();
    for mirror in &model.mirrors {
        *mirrors.entry(in_one_word(&mirror.state(now)).to_owned()).or_default() += 1;
    }
    let is_read = model.reading.is_none();
    let left = model.left(now).filter(|_| is_read);
    let step = model.step.as_ref().map(|step| StepEntry {
        name: step.step.name().to_owned(),
        bytes: step.bytes,
        bytes_expected: step.of,
        bytes_per_second: step.per_second(now).map(f64::round),
        eta_seconds: step.left(now).map(|left| left.as_secs_f64().round()),
    });
    Some(ProgressEntry {
        bundle_bytes_read: model.reading.as_ref().map(|reading| reading.bytes),
        bundle_bytes: model.reading.as_ref().and_then(|reading| reading.of),
        bytes_sent: model.shown(now),
        bytes_acknowledged: model.acknowledged(),
        bytes_expected: model.expected().filter(|_| is_read),
        bytes_per_second: model.per_second(now).map(f64::round),
        eta_seconds: left.map(|left| left.as_secs_f64().round()),
        mirrors,
        elapsed_seconds: now.duration_since(model.began).as_secs_f64(),
        step,
    })
}
