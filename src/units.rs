//! Figures for people, and figures that people write.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// A number of bytes: shown as `12.3 MiB`, written as `64MiB`, `64M` (1024-based) or `64MB` (1000-based).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct ByteCount(pub u64);

impl fmt::Display for ByteCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut value, mut unit) = (self.0 as f64, "B");
        for next in ["KiB", "MiB", "GiB", "TiB"] {
            if value < 1024.0 {
                break;
            }
            (value, unit) = (value / 1024.0, next);
        }
        if unit == "B" { write!(f, "{} B", self.0) } else { write!(f, "{value:.1} {unit}") }
    }
}

impl FromStr for ByteCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let factor: u64 = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kib" => 1 << 10,
            "m" | "mib" => 1 << 20,
            "g" | "gib" => 1 << 30,
            "t" | "tib" => 1 << 40,
            "kb" => 1000,
            "mb" => 1_000_000,
            "gb" => 1_000_000_000,
            _ => return Err(format!("{unit:?} is not a unit of bytes (B, KiB, MiB, GiB, MB, GB)")),
        };
        let number: u64 = number.parse().map_err(|_| format!("{text:?} does not begin with a number"))?;
        number.checked_mul(factor).map(Self).ok_or_else(|| format!("{text:?} is too large"))
    }
}

/// A duration as `850 ms`, `12.3 s`, `4 min 05 s` or `2 h 03 min`.
pub(crate) fn human_duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{} ms", duration.as_millis()),
        1..=119 => format!("{:.1} s", duration.as_secs_f64()),
        120..=7199 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_and_shown() {
        for (text, bytes) in
            [("64MiB", 64 << 20), ("64M", 64 << 20), ("1GB", 1_000_000_000), ("12", 12), ("3 k", 3072)]
        {
            assert_eq!(text.parse(), Ok(ByteCount(bytes)));
        }
        for text in ["", "MiB", "1XB", "-1", "99999999999T"] {
            assert!(text.parse::<ByteCount>().is_err(), "{text}");
        }
        assert_eq!(ByteCount(999).to_string(), "999 B");
        assert_eq!(ByteCount(12 << 20).to_string(), "12.0 MiB");
    }

    #[test]
    fn durations_are_shown() {
        let shown = [850, 12_300, 245_000, 7_380_000].map(|ms| human_duration(Duration::from_millis(ms)));
        assert_eq!(shown, ["850 ms", "12.3 s", "4 min 05 s", "2 h 03 min"]);
    }
}
