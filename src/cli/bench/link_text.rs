//! What `bench link` says: of each mirror the conclusion first, on one screen.

use std::fmt::Write as _;

use super::compare::name;
use crate::error::printable;
use crate::report::document::{LatencyFigures, LinkDocument, LinkTarget, ThroughputFigures, TransferMethod};
use crate::units::{ByteCount, human_duration};

/// Notes that are shown; JSON has all.
const MAX_NOTES: usize = 6;

pub(super) fn show(document: &LinkDocument) -> String {
    let mut out = String::new();
    for (number, target) in document.targets.iter().enumerate() {
        if number > 0 {
            out.push('\n');
        }
        let _ = write_target(target, &mut out);
    }
    out
}

fn write_target(target: &LinkTarget, out: &mut String) -> std::fmt::Result {
    writeln!(out, "{}", printable(&conclusion(target)))?;
    if let Some(failure) = &target.error {
        writeln!(out, "  error: {} [{}]", printable(&failure.message), failure.class)?;
        if let Some(hint) = &failure.hint {
            writeln!(out, "  next: {}", printable(hint))?;
        }
    }
    for line in &target.evidence {
        writeln!(out, "  because {}", printable(line))?;
    }
    if let Some(recommended) = &target.recommendation {
        writeln!(out, "  for the sites file:")?;
        for line in recommended.site.lines() {
            writeln!(out, "    {line}")?;
        }
        if !recommended.equivalent_threads.is_empty() {
            let others: Vec<String> =
                recommended.equivalent_threads.iter().map(ToString::to_string).collect();
            writeln!(out, "    # as good, as far as can be measured: {}", others.join(", "))?;
        }
    }
    for estimate in &target.estimates {
        let about = if estimate.bytes_are_exact { "" } else { "at most " };
        writeln!(
            out,
            "  {}: {about}{} are missing, which would take {} ({} to {})",
            printable(&estimate.bundles.join(", ")),
            ByteCount(estimate.bytes),
            seconds(estimate.seconds),
            seconds(estimate.seconds_low),
            seconds(estimate.seconds_high),
        )?;
    }
    out.push('\n');
    figures(target, out)?;
    for left in &target.left_behind {
        writeln!(
            out,
            "  left: {} ({}): {}",
            printable(&left.what),
            ByteCount(left.bytes),
            printable(&left.why)
        )?;
    }
    for note in target.notes.iter().take(MAX_NOTES) {
        writeln!(out, "  note: {}", printable(note))?;
    }
    if target.notes.len() > MAX_NOTES {
        writeln!(out, "  note: {} more; --json FILE has all", target.notes.len() - MAX_NOTES)?;
    }
    Ok(())
}

fn conclusion(target: &LinkTarget) -> String {
    match (&target.upload, target.limit) {
        (Some(upload), Some(limit)) => {
            let rate = megabits(upload.best_bytes_per_second);
            format!("{}: {rate} up, held back by {}", target.name, name(limit))
        }
        _ if target.error.is_some() => format!("{}: not measured", target.name),
        _ => format!("{}: not measured far enough for a conclusion", target.name),
    }
}

fn figures(target: &LinkTarget, out: &mut String) -> std::fmt::Result {
    let steps = [
        ("name", target.connect.name_seconds),
        ("TCP", target.connect.tcp_seconds),
        ("TLS", target.connect.tls_seconds),
        ("login", target.connect.token_seconds),
    ];
    let steps: Vec<String> = steps
        .into_iter()
        .filter_map(|(what, seconds)| Some(format!("{what} {}", milliseconds(seconds?))))
        .collect();
    let tls = target.tls.as_ref().map(|tls| {
        let alpn = tls.alpn.as_ref().map(|alpn| format!(", {}", printable(alpn))).unwrap_or_default();
        format!("; {} {}{alpn}", tls.version, tls.cipher)
    });
    if !steps.is_empty() {
        writeln!(out, "  connection   {}{}", steps.join(", "), tls.unwrap_or_default())?;
    }
    for (what, latency) in [
        ("round trip", &target.rtt_seconds),
        ("  anew", &target.cold_seconds),
        ("mount", &target.mount_seconds),
    ] {
        if let Some(latency) = latency {
            writeln!(out, "  {what:12} {}", percentiles(latency))?;
        }
    }
    if let Some(small) = &target.small_blobs_per_second {
        writeln!(out, "  small blobs  {:.0} a second ({:.0} to {:.0})", small.median, small.low, small.high)?;
    }
    for (what, throughput) in [("upload", &target.upload), ("download", &target.download)] {
        if let Some(throughput) = throughput {
            writeln!(out, "  {what:12} {}", in_words(throughput))?;
        }
    }
    if let Some(commit) = target.commit_seconds.iter().max_by_key(|commit| commit.bytes) {
        writeln!(out, "  commit       {} for {}", milliseconds(commit.seconds), ByteCount(commit.bytes))?;
    }
    if let Some(keeps) = &target.keeps {
        writeln!(out, "  resume       keeps {keeps} of a request that breaks off")?;
    }
    if !target.soak.is_empty() {
        let rates = target.soak.iter().map(|second| second.bytes_per_second);
        let (least, most) =
            rates.fold((f64::INFINITY, 0.0_f64), |(least, most), rate| (least.min(rate), most.max(rate)));
        writeln!(out, "  over {:2} s    {} to {}", target.soak.len(), megabits(least), megabits(most))?;
    }
    writeln!(
        out,
        "  cost         {} sent, {} read, {} requests",
        ByteCount(target.bytes_sent),
        ByteCount(target.bytes_received),
        target.requests
    )
}

fn in_words(figures: &ThroughputFigures) -> String {
    let method = match figures.method {
        TransferMethod::Put => "each one PUT",
        TransferMethod::Patch => "each one PATCH",
        TransferMethod::Chunks => "in chunks",
        TransferMethod::Get => "each one GET",
    };
    let one = figures
        .one_stream_bytes_per_second
        .filter(|_| figures.streams > 1)
        .map(|rate| format!("; one alone {}", megabits(rate)));
    format!(
        "{} ({} to {}) with {} at a time, {method} of {}{}",
        megabits(figures.rate.median),
        megabits(figures.rate.low),
        megabits(figures.rate.high),
        figures.streams,
        ByteCount(figures.request_bytes),
        one.unwrap_or_default(),
    )
}

fn percentiles(latency: &LatencyFigures) -> String {
    let [least, p50, p90, p99] = [latency.least, latency.p50, latency.p90, latency.p99].map(milliseconds);
    format!("{p50} (at best {least}); nine of ten within {p90}, 99 % within {p99}")
}

fn megabits(bytes_per_second: f64) -> String {
    format!("{:.1} Mbit/s", bytes_per_second * 8e-6)
}

fn milliseconds(seconds: f64) -> String {
    format!("{:.1} ms", seconds * 1e3)
}

fn seconds(seconds: f64) -> String {
    human_duration(std::time::Duration::from_secs_f64(seconds.clamp(0.0, 1e9)))
}
