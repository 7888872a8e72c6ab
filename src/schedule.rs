//! Windows of time: when a site may be talked to.
//!
//! A window opens at an hour of some days of the week and closes at another hour, by the clocks of one time zone. It is open
//! from the moment when a clock there first shows the hour of opening until the moment when it first shows the hour of closing,
//! or has skipped it: where clocks are put forward over one of these hours, that is the moment of the change; where they are
//! put back, the first of the two. Pure: whoever asks says what time it is.

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp};

/// Days ahead in which a window that opens every week opens once at least, also where a time zone skips a day.
const HORIZON_DAYS: i64 = 15;

/// When something may be done.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Window {
    /// The days on which it opens.
    pub days: Days,
    /// From when to when.
    pub hours: Hours,
    /// Whose clocks count.
    pub zone: Zone,
    /// What is to be done while it is closed.
    pub outside: Outside,
}

/// What becomes of a site while its window is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename_all = "lowercase"))]
pub(crate) enum Outside {
    /// The run waits until the window opens.
    #[default]
    Wait,
    /// The site is left for the next run.
    Stop,
}

impl FromStr for Outside {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "wait" => Ok(Self::Wait),
            "stop" => Ok(Self::Stop),
            _ => Err(format!("{text:?} is neither wait nor stop")),
        }
    }
}

impl fmt::Display for Outside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wait => "wait",
            Self::Stop => "stop",
        })
    }
}

/// Whether a window is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opening {
    /// Until then.
    Open(Timestamp),
    /// Until then.
    Closed(Timestamp),
}

impl Window {
    /// Whether it is open now, and until when. One that never closes is open until a day beyond the horizon; one that never
    /// opens within it is closed until then.
    pub(crate) fn at(&self, now: Timestamp) -> Opening {
        let today = self.zone.0.to_datetime(now).date();
        let mut open_until: Option<Timestamp> = None;
        let mut horizon = now;
        // One that opened yesterday may close today.
        for day in -2..=HORIZON_DAYS {
            let Ok(date) = today.checked_add(Span::new().days(day)) else { break };
            let (opens, closes) = self.on(date);
            horizon = horizon.max(closes);
            if !self.days.hold(date.weekday()) || opens >= closes {
                continue;
            }
            match open_until {
                // What opens when another closes goes on with it.
                Some(until) if opens <= until => open_until = Some(until.max(closes)),
                Some(until) => return Opening::Open(until),
                None if now < opens => return Opening::Closed(opens),
                None if now < closes => open_until = Some(closes),
                None => {}
            }
        }
        open_until.map_or(Opening::Closed(horizon), Opening::Open)
    }

    /// When the window of a date opens and closes.
    fn on(&self, date: Date) -> (Timestamp, Timestamp) {
        let Hours { opens, closes } = self.hours;
        let next = if closes > opens { date } else { date.tomorrow().unwrap_or(date) };
        (self.zone.first(date, opens), self.zone.first(next, closes))
    }
}

/// Days of the week, from Monday.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Days([bool; 7]);

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

impl Days {
    pub(crate) const ALL: Self = Self([true; 7]);

    fn hold(self, day: Weekday) -> bool {
        self.0[usize::try_from(day.to_monday_zero_offset()).unwrap_or(0)]
    }
}

/// The number of a day from its name, whole or its first three letters.
fn day(name: &str) -> Result<usize, String> {
    const WHOLE: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];
    let lower = name.to_ascii_lowercase();
    let found = (0..7).find(|&at| DAYS[at] == lower || WHOLE[at] == lower);
    found.ok_or_else(|| format!("{name:?} is no day: days are {}", DAYS.join(", ")))
}

/// `mon`, `mon-fri`, `sat-mon`, `mon,wed,fri-sun`, `daily`.
impl FromStr for Days {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().eq_ignore_ascii_case("daily") {
            return Ok(Self::ALL);
        }
        let mut days = [false; 7];
        for part in text.split(',').map(str::trim) {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (day(first.trim())?, day(last.trim())?),
                None => (day(part)?, day(part)?),
            };
            // A range may go over the end of the week.
            let length = (last + 7 - first) % 7;
            (0..=length).for_each(|step| days[(first + step) % 7] = true);
        }
        Ok(Self(days))
    }
}

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::ALL {
            return f.write_str("daily");
        }
        let named = (0..7).filter(|&at| self.0[at]).map(|at| DAYS[at]);
        f.write_str(&named.collect::<Vec<_>>().join(","))
    }
}

/// From one time of day to another; to the next day where the second is not after the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hours {
    opens: Minute,
    closes: Minute,
}

/// Minutes since midnight, up to 24:00.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Minute(u16);

const MIDNIGHT: Minute = Minute(24 * 60);

impl FromStr for Minute {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no time of day: write it as 05:00");
        let (hours, minutes) = text.split_once(':').ok_or_else(wrong)?;
        let number = |digits: &str, length: std::ops::RangeInclusive<usize>| {
            let all = length.contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u16>().ok().filter(|_| all).ok_or_else(wrong)
        };
        let minute = Self(number(hours, 1..=2)? * 60 + number(minutes, 2..=2)?);
        if minute > MIDNIGHT || number(minutes, 2..=2)? > 59 { Err(wrong()) } else { Ok(minute) }
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

/// `22:00-05:00`, `00:00-24:00`.
impl FromStr for Hours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (opens, closes) =
            text.split_once('-').ok_or_else(|| format!("{text:?} is no span of time: write 22:00-05:00"))?;
        let (opens, closes): (Minute, Minute) = (opens.trim().parse()?, closes.trim().parse()?);
        if opens == MIDNIGHT {
            return Err(format!("{text:?} begins at the end of a day: write 00:00-{closes}"));
        }
        if opens == closes {
            return Err(format!("{text:?} begins where it ends: the whole day is 00:00-24:00"));
        }
        Ok(Self { opens, closes })
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.opens, self.closes)
    }
}

/// A time zone of the database that is built in, by its name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Zone(TimeZone);

impl Zone {
    /// The names of all zones.
    pub(crate) fn names() -> Vec<String> {
        TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect()
    }

    /// The first moment at which clocks show this time of this date, or have skipped it.
    fn first(&self, date: Date, Minute(minute): Minute) -> Timestamp {
        let (date, minute) =
            if minute >= MIDNIGHT.0 { (date.tomorrow().unwrap_or(date), 0) } else { (date, minute) };
        let time = i8::try_from(minute / 60).and_then(|hour| Ok((hour, i8::try_from(minute % 60)?)));
        let time = time.ok().and_then(|(hour, minute)| Time::new(hour, minute, 0, 0).ok());
        let shown = DateTime::from_parts(date, time.unwrap_or_default());
        let ambiguous = self.0.to_ambiguous_timestamp(shown);
        let skipped = matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. });
        let Ok(moment) = ambiguous.compatible() else { return Timestamp::MAX };
        if !skipped {
            return moment;
        }
        // As far behind the change as the time lies in what was skipped.
        let behind = moment.checked_add(Span::new().nanoseconds(1)).unwrap_or(moment);
        self.0.preceding(behind).next().map_or(moment, |change| change.timestamp())
    }
}

impl FromStr for Zone {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let unknown = |_| format!("{text:?} is no time zone of the database");
        TimeZoneDatabase::bundled().get(text).map(Self).map_err(unknown)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.iana_name().unwrap_or("UTC"))
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.days, self.hours, self.zone)
    }
}
