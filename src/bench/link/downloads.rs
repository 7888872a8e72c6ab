//! The search for the best number of downloads at a time, and whether they gain by one connection for all (HTTP/2).

use std::time::Duration;

use super::measure::Link;
use super::measure::download::{Readable, trial};
use super::search::{Halving, Tried};
use super::statistics::{figure, whole};
use super::stop::Ended;
use super::sweep::over_http2;
use crate::report::document::{HttpVersion, ThroughputFigures, TransferMethod, TrialEntry};

const STREAMS: [u64; 3] = [1, 4, 16];
const REPEATS: usize = 5;

/// Reads a blob several times at once.
pub(super) async fn downloads(
    link: &Link,
    blob: &Readable,
    time: Duration,
    most_bytes: u64,
    notes: &mut Vec<String>,
) -> Result<Option<ThroughputFigures>, Ended> {
    // Each stream reads the whole blob, so more streams may take more than a trial has.
    let fits = |streams: &u64| *streams == 1 || *streams * blob.bytes <= most_bytes;
    let mut search = Halving::new(STREAMS.into_iter().filter(fits).collect());
    let mut trials: Vec<TrialEntry> = Vec::new();
    let entry = |streams: u32, protocol: HttpVersion, rates: Vec<f64>| TrialEntry {
        streams,
        request_bytes: blob.bytes,
        method: TransferMethod::Get,
        protocol,
        bytes_per_second: rates,
    };
    let mut fastest = 0.0_f64;
    let repeats = |fastest: f64, streams: u32| {
        let bytes = (fastest * time.as_secs_f64() / 2.0).min(most_bytes as f64);
        let number = bytes / (blob.bytes as f64 * f64::from(streams));
        u32::try_from(whole(number)).unwrap_or(u32::MAX).clamp(1, 64)
    };
    while let Some(streams) = search.next() {
        let streams = u32::try_from(streams).unwrap_or(1);
        let rate = trial(link, blob, streams, repeats(fastest, streams), HttpVersion::Http1).await?;
        fastest = fastest.max(rate);
        trials.push(entry(streams, HttpVersion::Http1, vec![rate]));
        search.learn(Tried::Rate(rate));
    }
    let Some((streams, _)) = search.settled() else { return Ok(None) };
    let streams = u32::try_from(streams).unwrap_or(1);
    let (mut rates, mut shared) = (Vec::new(), Vec::new());
    for _ in 0..REPEATS {
        rates.push(trial(link, blob, streams, repeats(fastest, streams), HttpVersion::Http1).await?);
        if link.over_http2.is_some() {
            shared.push(trial(link, blob, streams, repeats(fastest, streams), HttpVersion::Http2).await?);
        }
    }
    let one = trials.iter().find(|it| it.streams == 1).and_then(|it| it.bytes_per_second.first().copied());
    trials.retain(|it| it.streams != streams);
    trials.push(entry(streams, HttpVersion::Http1, rates.clone()));
    if !shared.is_empty() {
        notes.extend(over_http2("downloads", &rates, &shared));
        trials.push(entry(streams, HttpVersion::Http2, shared));
    }
    Ok(figure(&rates).map(|rate| ThroughputFigures {
        best_bytes_per_second: rate.median,
        streams,
        request_bytes: blob.bytes,
        method: TransferMethod::Get,
        protocol: HttpVersion::Http1,
        one_stream_bytes_per_second: one,
        busy_cores: None,
        trials,
        rate,
    }))
}
