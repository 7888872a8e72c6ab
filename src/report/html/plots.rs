//! The few kinds of plots, as numbers that the templates draw. Each says in words what it shows.

use std::fmt::Write as _;

use super::words::{bits, seconds};
use crate::report::document::SoakSecond;
use crate::report::outcome::Waits;
use crate::report::timeline::{BytesPoint, MirrorStage, StageSpan, Timeline};
use crate::units::ByteCount;

/// The width and the height of a plot, in its own units.
const SIZE: f64 = 1000.0;
/// Columns of a distribution, and the samples that make one.
const BINS: usize = 24;
const MIN_SAMPLES: usize = 10;
/// The width of a column where there are few.
const WIDEST: f64 = 80.0;

/// Parts of a whole, side by side.
#[derive(Debug)]
pub(super) struct BarPlot {
    pub(super) title: &'static str,
    pub(super) in_words: String,
    pub(super) parts: Vec<BarPart>,
    pub(super) legend: Vec<BarPart>,
    /// The moment at the right end, where the bar is a time line.
    pub(super) axis: Option<String>,
}

/// A part of a bar.
#[derive(Debug, Clone)]
pub(super) struct BarPart {
    pub(super) label: &'static str,
    pub(super) value: String,
    pub(super) fill: &'static str,
    pub(super) x: String,
    pub(super) width: String,
}

/// Lines over time.
#[derive(Debug)]
pub(super) struct LinePlot {
    pub(super) title: &'static str,
    pub(super) in_words: String,
    pub(super) lines: Vec<PlotLine>,
    pub(super) top: String,
    pub(super) from: String,
    pub(super) to: String,
}

/// A line.
#[derive(Debug)]
pub(super) struct PlotLine {
    pub(super) label: String,
    pub(super) stroke: &'static str,
    pub(super) path: String,
}

/// Columns, one for each run.
#[derive(Debug)]
pub(super) struct ColumnPlot {
    pub(super) title: &'static str,
    pub(super) in_words: String,
    pub(super) columns: Vec<PlotColumn>,
    pub(super) top: String,
    pub(super) from: String,
    pub(super) to: String,
}

/// A column.
#[derive(Debug)]
pub(super) struct PlotColumn {
    pub(super) label: String,
    pub(super) fill: &'static str,
    pub(super) x: String,
    pub(super) y: String,
    pub(super) width: String,
    pub(super) height: String,
}

/// A share of a whole before it is drawn.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) label: &'static str,
    pub(super) value: String,
    pub(super) amount: f64,
    pub(super) fill: &'static str,
}

/// A coordinate.
fn at(value: f64) -> String {
    format!("{:.1}", value.clamp(0.0, SIZE))
}

impl BarPlot {
    /// Shares of a whole; none where the whole is nothing.
    pub(super) fn of_shares(title: &'static str, shares: Vec<Share>) -> Option<Self> {
        let whole: f64 = shares.iter().map(|share| share.amount).sum();
        if whole <= 0.0 {
            return None;
        }
        let mut x = 0.0;
        let mut parts = Vec::new();
        for share in shares.into_iter().filter(|share| share.amount > 0.0) {
            let width = share.amount / whole * SIZE;
            let Share { label, value, fill, .. } = share;
            parts.push(BarPart { label, value, fill, x: at(x), width: at(width) });
            x += width;
        }
        let words: Vec<String> = parts.iter().map(|part| format!("{} {}", part.label, part.value)).collect();
        Some(Self { title, in_words: words.join(", "), legend: parts.clone(), parts, axis: None })
    }

    /// What was done on a mirror from when to when, in a run that took so long.
    pub(super) fn of_stages(stages: &[StageSpan], run_seconds: f64) -> Option<Self> {
        let whole = stages.iter().map(|span| span.to_seconds).fold(run_seconds, f64::max);
        if stages.is_empty() || whole <= 0.0 {
            return None;
        }
        let part = |span: &StageSpan| {
            let (label, fill) = named(span.stage);
            let took = span.to_seconds - span.from_seconds;
            let (x, width) = (at(span.from_seconds / whole * SIZE), at(took / whole * SIZE));
            BarPart { label, value: seconds(took), fill, x, width }
        };
        let mut legend: Vec<(BarPart, f64)> = Vec::new();
        for span in stages {
            let took = span.to_seconds - span.from_seconds;
            let part = part(span);
            match legend.iter_mut().find(|(known, _)| known.label == part.label) {
                Some((_, all)) => *all += took,
                None => legend.push((part, took)),
            }
        }
        let legend: Vec<BarPart> =
            legend.into_iter().map(|(part, took)| BarPart { value: seconds(took), ..part }).collect();
        let words: Vec<String> = legend.iter().map(|part| format!("{} {}", part.label, part.value)).collect();
        Some(Self {
            title: "Time line",
            in_words: words.join(", "),
            parts: stages.iter().map(part).collect(),
            legend,
            axis: Some(seconds(whole)),
        })
    }

    /// Where the time of a mirror went.
    pub(super) fn of_waits(waits: &Waits) -> Option<Self> {
        let share = |label, amount: f64, fill| Share { label, value: seconds(amount), amount, fill };
        Self::of_shares(
            "Where the time went",
            vec![
                share("bytes on their way", waits.bytes_waited_seconds, "f1"),
                share("waiting for answers", waits.answers_waited_seconds, "f2"),
                share("held by the bandwidth limit", waits.limit_waited_seconds, "f4"),
                share("before another try", waits.retries_waited_seconds, "f5"),
                share("waiting for the bundle", waits.mirror_waited_seconds, "f3"),
            ],
        )
    }
}

fn named(stage: MirrorStage) -> (&'static str, &'static str) {
    match stage {
        MirrorStage::Connect => ("connecting", "f4"),
        MirrorStage::Probe | MirrorStage::Other => ("asking what is there", "f3"),
        MirrorStage::Send => ("sending", "f1"),
        MirrorStage::Tag => ("checking, and moving tags", "f2"),
    }
}

impl LinePlot {
    /// Bytes over time, against the limit; none where nothing was sent.
    pub(super) fn of_bytes(timeline: &Timeline) -> Option<Self> {
        let (first, last) = (timeline.bytes.first()?, timeline.bytes.last()?);
        let (begin, end) = (first.at_seconds, last.at_seconds);
        let most = last.sent.max(last.acknowledged);
        if most == 0 || end <= begin {
            return None;
        }
        let x = |seconds: f64| at((seconds - begin) / (end - begin) * SIZE);
        let y = |bytes: f64| at(SIZE - bytes / most as f64 * SIZE);
        let path = |bytes: fn(&BytesPoint) -> u64| {
            timeline.bytes.iter().fold(String::new(), |mut path, point| {
                let step = if path.is_empty() { 'M' } else { 'L' };
                let _ = write!(path, "{step}{} {}", x(point.at_seconds), y(bytes(point) as f64));
                path
            })
        };
        let (sent, acknowledged) = (ByteCount(last.sent), ByteCount(last.acknowledged));
        let mut lines = vec![
            PlotLine { label: format!("sent: {sent}"), stroke: "s1", path: path(|point| point.sent) },
            PlotLine {
                label: format!("confirmed: {acknowledged}"),
                stroke: "s2",
                path: path(|point| point.acknowledged),
            },
        ];
        if let Some(limit) = timeline.limit_bytes_per_second {
            let full = begin + most as f64 / limit.max(1) as f64;
            let (to, bytes) =
                if full < end { (full, most as f64) } else { (end, limit as f64 * (end - begin)) };
            lines.push(PlotLine {
                label: format!("the limit: {}/s", ByteCount(limit)),
                stroke: "s4",
                path: format!("M{} {}L{} {}", x(begin), y(0.0), x(to), y(bytes)),
            });
        }
        Some(Self {
            title: "Bytes over time",
            in_words: format!("{sent} sent and {acknowledged} confirmed in {}", seconds(end - begin)),
            lines,
            top: ByteCount(most).to_string(),
            from: seconds(begin),
            to: seconds(end),
        })
    }
}

impl LinePlot {
    /// Bytes a second over time, from second to second; none where that was not measured.
    pub(super) fn of_rate(soak: &[SoakSecond]) -> Option<Self> {
        let (first, last) = (soak.first()?, soak.last()?);
        let (begin, end) = (first.at_seconds, last.at_seconds);
        let rates = || soak.iter().map(|second| second.bytes_per_second);
        let (most, least) = (rates().fold(0.0, f64::max), rates().fold(f64::INFINITY, f64::min));
        if most <= 0.0 || end <= begin {
            return None;
        }
        let path = soak.iter().fold(String::new(), |mut path, second| {
            let step = if path.is_empty() { 'M' } else { 'L' };
            let (x, y) = ((second.at_seconds - begin) / (end - begin), 1.0 - second.bytes_per_second / most);
            let _ = write!(path, "{step}{} {}", at(x * SIZE), at(y * SIZE));
            path
        });
        let in_words = format!("from {} to {} over {}", bits(least), bits(most), seconds(end - begin));
        let lines = vec![PlotLine { label: in_words.clone(), stroke: "s1", path }];
        let (top, from, to) = (bits(most), seconds(begin), seconds(end));
        Some(Self { title: "Rate of uploads over time", in_words, lines, top, from, to })
    }
}

/// What a column stands for.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) label: String,
    pub(super) amount: f64,
    pub(super) is_good: bool,
}

impl ColumnPlot {
    /// How often which latency was met; none where there are too few to tell.
    pub(super) fn of_distribution(
        title: &'static str,
        samples: &[f64],
        shown: fn(f64) -> String,
    ) -> Option<Self> {
        let least = samples.iter().copied().fold(f64::INFINITY, f64::min);
        let most = samples.iter().copied().fold(0.0, f64::max);
        if samples.len() < MIN_SAMPLES || most <= least {
            return None;
        }
        let mut counts = [0_usize; BINS];
        for sample in samples {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a place in the list"
            )]
            let bin = ((sample - least) / (most - least) * BINS as f64) as usize;
            counts[bin.min(BINS - 1)] += 1;
        }
        let (highest, pitch) = (counts.iter().copied().max().unwrap_or(1), SIZE / BINS as f64);
        let bound = |bin: usize| least + (most - least) * bin as f64 / BINS as f64;
        let column = |(bin, count): (usize, &usize)| {
            let height = *count as f64 / highest as f64 * SIZE;
            PlotColumn {
                label: format!("{} to {}: {count}", shown(bound(bin)), shown(bound(bin + 1))),
                fill: "f1",
                x: at(bin as f64 * pitch + pitch * 0.05),
                y: at(SIZE - height),
                width: at(pitch * 0.9),
                height: at(height),
            }
        };
        let met = |count: &usize| *count > 0;
        Some(Self {
            title,
            in_words: format!("{} requests, from {} to {}", samples.len(), shown(least), shown(most)),
            columns: counts.iter().enumerate().filter(|(_, count)| met(count)).map(column).collect(),
            top: format!("{highest} of {}", samples.len()),
            from: shown(least),
            to: shown(most),
        })
    }

    /// Columns from the earliest to the latest; none where there are fewer than two.
    pub(super) fn new(
        title: &'static str,
        measured: Vec<Measured>,
        shown: fn(f64) -> String,
    ) -> Option<Self> {
        let most = measured.iter().map(|it| it.amount).fold(0.0, f64::max);
        if measured.len() < 2 || most <= 0.0 {
            return None;
        }
        let pitch = SIZE / measured.len() as f64;
        let width = (pitch * 0.8).min(WIDEST);
        let bad = measured.iter().filter(|it| !it.is_good).count();
        let in_words =
            format!("{} runs, at most {}, {bad} of them not complete", measured.len(), shown(most));
        let columns = measured.into_iter().enumerate().map(|(number, measured)| {
            // What took no time at all is seen all the same.
            let height = (measured.amount / most * SIZE).max(8.0);
            PlotColumn {
                label: measured.label,
                fill: if measured.is_good { "f1" } else { "bad-column" },
                x: at((number as f64 + 0.5) * pitch - width / 2.0),
                y: at(SIZE - height),
                width: at(width),
                height: at(height),
            }
        });
        let columns: Vec<PlotColumn> = columns.collect();
        Some(Self {
            title,
            in_words,
            columns,
            top: shown(most),
            from: "earliest".to_owned(),
            to: "latest".to_owned(),
        })
    }
}
