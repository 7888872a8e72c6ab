//! Figures in few columns. Pure.

use std::time::Duration;

use crate::units::{ByteCount, human_duration};

/// `429` says as much as `429 too many requests`.
pub(super) fn short(cause: &str) -> &str {
    match cause.split_once(' ') {
        Some((status, _)) if status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit()) => status,
        _ => cause,
    }
}

/// `29 %`, and never more than is done.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", (share * 100.0).floor())
}

pub(super) fn per_second(rate: f64) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of bytes")]
    let bytes = rate as u64;
    format!("{}/s", ByteCount(bytes))
}

/// `210/933 MiB`
pub(super) fn of_bytes(bytes: u64, of: u64) -> String {
    let (mut scale, mut unit) = (1.0, "B");
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if of as f64 / scale < 1024.0 {
            break;
        }
        (scale, unit) = (scale * 1024.0, next);
    }
    let decimals = usize::from(unit != "B" && of as f64 / scale < 100.0);
    format!("{:.decimals$}/{:.decimals$} {unit}", bytes as f64 / scale, of as f64 / scale)
}

/// Whole seconds: a tenth of a second would be noise here.
pub(super) fn time(left: Duration) -> String {
    match left.as_secs_f64().ceil() {
        seconds if seconds < 120.0 => format!("{seconds:.0} s"),
        _ => human_duration(left),
    }
}
