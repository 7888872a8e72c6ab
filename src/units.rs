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

/// Bytes a second, written as people write bandwidths: `20Mbit/s`, `2MB/s`, `1MiB/s`. A bit is written out and a byte is a
/// capital B, because `20M` and `20mb/s` mean eight times as much to one half of their readers as to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rate(pub u64);

impl Rate {
    const LEAST_BYTES: u64 = 1000;
    const MOST_BYTES: u64 = 1_000_000_000_000;

    /// How long this number of bytes takes.
    pub(crate) fn time_for(self, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.0.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// How many bytes pass in a time.
    pub(crate) fn bytes_in(self, time: Duration) -> u64 {
        u64::try_from(u128::from(self.0) * time.as_nanos() / 1_000_000_000).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0.saturating_mul(8);
        let (number, unit) = [(1_000_000_000, "Gbit/s"), (1_000_000, "Mbit/s"), (1000, "kbit/s")]
            .into_iter()
            .find(|(factor, _)| bits >= *factor && bits.is_multiple_of(*factor))
            .map_or((bits, "bit/s"), |(factor, unit)| (bits / factor, unit));
        write!(f, "{number}{unit}")
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (digits, unit) = text.split_at(end);
        // In bits.
        let factor: u128 = match unit.trim() {
            "bit/s" => 1,
            "kbit/s" | "Kbit/s" => 1000,
            "Mbit/s" => 1_000_000,
            "Gbit/s" => 1_000_000_000,
            "B/s" => 8,
            "kB/s" | "KB/s" => 8000,
            "MB/s" => 8_000_000,
            "GB/s" => 8_000_000_000,
            "KiB/s" => 8 << 10,
            "MiB/s" => 8 << 20,
            "GiB/s" => 8 << 30,
            _ => {
                let number = if digits.is_empty() { "20" } else { digits };
                return Err(format!(
                    "{text:?} does not say whether bits or bytes a second are meant: write {number}Mbit/s, {number}MB/s or \
                     {number}MiB/s"
                ));
            }
        };
        let thousandths =
            thousandths(digits).ok_or_else(|| format!("{text:?} does not begin with a number"))?;
        match u64::try_from(u128::from(thousandths) * factor / 8000).unwrap_or(u64::MAX) {
            ..Self::LEAST_BYTES => Err(format!("{text:?} is too little: 8kbit/s is the least")),
            bytes if bytes > Self::MOST_BYTES => Err(format!("{text:?} is more than any network has")),
            bytes => Ok(Self(bytes)),
        }
    }
}

/// A decimal number with up to three digits behind its point, in thousandths.
fn thousandths(digits: &str) -> Option<u64> {
    let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
    let part = format!("{part:0<3}");
    if part.len() > 3 || part.contains('.') {
        return None;
    }
    whole.parse::<u64>().ok()?.checked_mul(1000)?.checked_add(part.parse().ok()?)
}

/// A span of time with its units: `90s`, `20m`, `6h`, `1h30m`, `2d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = |()| format!("{text:?} is no span of time: write it as 90s, 20m, 6h or 1h30m");
    let days = text.trim().strip_suffix('d').and_then(|days| days.parse::<u64>().ok());
    if let Some(seconds) = days.and_then(|days| days.checked_mul(86_400)) {
        return Ok(Duration::from_secs(seconds));
    }
    text.parse::<jiff::SignedDuration>()
        .map_err(|_| ())
        .and_then(|span| span.try_into().map_err(|_| ()))
        .map_err(wrong)
}

/// The same for a time limit that was always given in seconds: `20` is `20s`.
pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    const DAY: Duration = Duration::from_secs(86_400);
    let span = match text.trim().parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => parse_duration(text)?,
    };
    if span > DAY { Err(format!("{text:?} is more than a day")) } else { Ok(span) }
}

/// A number of things, as `1 image` or `12 images`.
pub(crate) fn count<N: fmt::Display + PartialEq + From<u8> + Copy>(number: N, noun: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{plural}")
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
    fn a_bandwidth_is_shown_as_it_may_be_written() {
        for (text, bytes, shown) in [
            ("20Mbit/s", 2_500_000, "20Mbit/s"),
            ("500kbit/s", 62_500, "500kbit/s"),
            ("1 Gbit/s", 125_000_000, "1Gbit/s"),
            ("2MB/s", 2_000_000, "16Mbit/s"),
            ("1MiB/s", 1 << 20, "8388608bit/s"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!((rate.0, rate.to_string().as_str()), (bytes, shown), "{text}");
        }
    }

    #[test]
    fn a_bandwidth_says_whether_it_counts_bits_or_bytes() {
        for (text, bytes) in [
            ("20Mbit/s", 2_500_000),
            ("8 Mbit/s", 1_000_000),
            ("1.5Mbit/s", 187_500),
            ("64kbit/s", 8000),
            ("8000bit/s", 1000),
            ("1Gbit/s", 125_000_000),
            ("2MB/s", 2_000_000),
            ("1MiB/s", 1 << 20),
            ("512 KiB/s", 512 << 10),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate.bytes_in(Duration::from_secs(1)), bytes, "{text}");
            assert_eq!(rate.time_for(bytes * 3), Duration::from_secs(3), "{text}");
        }
        for text in [
            "20M",
            "20",
            "20Mb/s",
            "20mb/s",
            "20MB",
            "20Mbps",
            "",
            "Mbit/s",
            "-1MB/s",
            "1.2.3MB/s",
            "99999999999Gbit/s",
        ] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
        assert!("20M".parse::<Rate>().unwrap_err().contains("write 20Mbit/s, 20MB/s or 20MiB/s"));
        for text in ["0MB/s", "1bit/s", "0.001Mbit/s"] {
            assert!(text.parse::<Rate>().unwrap_err().contains("too little"), "{text}");
        }
    }

    #[test]
    fn spans_of_time_have_units() {
        for (text, seconds) in [("90s", 90), ("20m", 1200), ("6h", 21_600), ("1h30m", 5400), ("2d", 172_800)]
        {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "6", "-6h", "h", "6 fortnights"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn time_limits_may_be_bare_seconds() {
        for (text, seconds) in [("20", 20), ("20s", 20), ("10m", 600), ("0", 0), ("1d", 86_400)] {
            assert_eq!(parse_seconds(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "-1", "25h", "86401", "soon"] {
            assert!(parse_seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_thing_is_no_plural() {
        let shown = [count(0_usize, "image"), count(1_usize, "image"), count(2_u64, "blob")];
        assert_eq!(shown, ["0 images", "1 image", "2 blobs"]);
    }

    #[test]
    fn durations_are_shown() {
        let shown = [850, 12_300, 245_000, 7_380_000].map(|ms| human_duration(Duration::from_millis(ms)));
        assert_eq!(shown, ["850 ms", "12.3 s", "4 min 05 s", "2 h 03 min"]);
    }
}
