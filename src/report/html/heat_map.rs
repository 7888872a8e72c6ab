//! Throughput over streams and the size of requests, as a table whose cells are the darker the faster they are.

use std::collections::{BTreeMap, BTreeSet};

use super::words::bits;
use crate::report::document::TrialEntry;
use crate::units::ByteCount;

/// Shades of cells.
const SHADES: f64 = 5.0;

/// The settings that were tried in one direction.
#[derive(Debug)]
pub(super) struct HeatMap {
    pub(super) title: &'static str,
    /// Sizes of requests.
    pub(super) columns: Vec<String>,
    pub(super) rows: Vec<HeatRow>,
}

/// A number of streams.
#[derive(Debug)]
pub(super) struct HeatRow {
    pub(super) streams: String,
    /// None where the setting was not tried.
    pub(super) cells: Vec<Option<HeatCell>>,
}

/// A setting.
#[derive(Debug, Clone)]
pub(super) struct HeatCell {
    pub(super) rate: String,
    pub(super) shade: String,
}

impl HeatMap {
    /// None where nothing was tried. Of several methods the fastest counts.
    pub(super) fn of_trials(title: &'static str, trials: &[TrialEntry]) -> Option<Self> {
        let mut rates: BTreeMap<(u32, u64), f64> = BTreeMap::new();
        for trial in trials {
            let Some(rate) = median(&trial.bytes_per_second) else { continue };
            let known = rates.entry((trial.streams, trial.request_bytes)).or_insert(rate);
            *known = known.max(rate);
        }
        let most = rates.values().copied().fold(0.0, f64::max);
        if most <= 0.0 {
            return None;
        }
        let sizes: BTreeSet<u64> = rates.keys().map(|(_, size)| *size).collect();
        let streams: BTreeSet<u32> = rates.keys().map(|(streams, _)| *streams).collect();
        let cell = |rate: &f64| HeatCell {
            rate: bits(*rate),
            shade: format!("h{:.0}", (rate / most * SHADES).floor().clamp(0.0, SHADES - 1.0)),
        };
        let row = |streams: &u32| HeatRow {
            streams: streams.to_string(),
            cells: sizes.iter().map(|size| rates.get(&(*streams, *size)).map(cell)).collect(),
        };
        Some(Self {
            title,
            columns: sizes.iter().map(|size| ByteCount(*size).to_string()).collect(),
            rows: streams.iter().map(row).collect(),
        })
    }
}

fn median(samples: &[f64]) -> Option<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}
