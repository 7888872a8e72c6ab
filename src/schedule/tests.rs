//! Windows by the clock of a wall, also where that clock is changed.

use proptest::prelude::*;

use super::*;

fn window(days: &str, hours: &str, zone: &str) -> Window {
    Window {
        days: days.parse().unwrap(),
        hours: hours.parse().unwrap(),
        zone: zone.parse().unwrap(),
        outside: Outside::Wait,
    }
}

/// A moment as `2026-03-29T03:00:00+02:00`.
fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[track_caller]
fn is(window: &Window, now: &str, expected: Opening) {
    assert_eq!(window.at(at(now)), expected, "{window} at {now}");
}

#[test]
fn a_window_over_midnight_belongs_to_the_day_on_which_it_opens() {
    // 2026-11-27 is a Friday.
    let window = window("mon-fri", "22:00-05:00", "Europe/Berlin");
    is(&window, "2026-11-27T21:59:59+01:00", Opening::Closed(at("2026-11-27T22:00:00+01:00")));
    is(&window, "2026-11-27T22:00:00+01:00", Opening::Open(at("2026-11-28T05:00:00+01:00")));
    is(&window, "2026-11-28T04:59:59+01:00", Opening::Open(at("2026-11-28T05:00:00+01:00")));
    // Neither Saturday nor Sunday open one; Monday is the next day that does.
    is(&window, "2026-11-28T05:00:00+01:00", Opening::Closed(at("2026-11-30T22:00:00+01:00")));
    is(&window, "2026-11-30T03:00:00+01:00", Opening::Closed(at("2026-11-30T22:00:00+01:00")));
}

#[test]
fn whole_days_that_follow_each_other_are_one_window() {
    let weekend = window("sat-sun", "00:00-24:00", "UTC");
    is(&weekend, "2026-11-28T12:00:00Z", Opening::Open(at("2026-11-30T00:00:00Z")));
    let always = window("daily", "00:00-24:00", "UTC");
    let Opening::Open(until) = always.at(at("2026-11-28T12:00:00Z")) else { panic!() };
    assert!(until > at("2026-12-10T00:00:00Z"), "{until}");
}

#[test]
fn an_hour_that_clocks_skip_is_over_when_they_have_skipped_it() {
    // In Berlin 02:00 becomes 03:00 on 2026-03-29, a Sunday.
    let change = at("2026-03-29T03:00:00+02:00");
    let opens = window("daily", "02:30-05:00", "Europe/Berlin");
    is(&opens, "2026-03-29T01:59:59+01:00", Opening::Closed(change));
    is(&opens, "2026-03-29T03:00:00+02:00", Opening::Open(at("2026-03-29T05:00:00+02:00")));
    let closes = window("daily", "22:00-02:30", "Europe/Berlin");
    is(&closes, "2026-03-29T01:59:59+01:00", Opening::Open(change));
    is(&closes, "2026-03-29T03:00:00+02:00", Opening::Closed(at("2026-03-29T22:00:00+02:00")));
    // One that lies in what is skipped does not open that night.
    let inside = window("daily", "02:10-02:50", "Europe/Berlin");
    is(&inside, "2026-03-29T01:59:59+01:00", Opening::Closed(at("2026-03-30T02:10:00+02:00")));
}

#[test]
fn of_an_hour_that_comes_twice_the_first_counts() {
    // In Berlin 03:00 becomes 02:00 on 2026-10-25, a Sunday.
    let opens = window("sun", "02:30-05:00", "Europe/Berlin");
    is(&opens, "2026-10-25T02:29:59+02:00", Opening::Closed(at("2026-10-25T02:30:00+02:00")));
    is(&opens, "2026-10-25T02:15:00+01:00", Opening::Open(at("2026-10-25T05:00:00+01:00")));
    let closes = window("sat", "22:00-02:30", "Europe/Berlin");
    is(&closes, "2026-10-25T02:29:59+02:00", Opening::Open(at("2026-10-25T02:30:00+02:00")));
    is(&closes, "2026-10-25T02:15:00+01:00", Opening::Closed(at("2026-10-31T22:00:00+01:00")));
}

#[test]
fn days_are_lists_and_ranges_over_the_end_of_the_week() {
    for (text, expected) in [
        ("mon-fri", "mon,tue,wed,thu,fri"),
        ("sat-mon", "mon,sat,sun"),
        ("Wednesday, sun", "wed,sun"),
        ("fri-thu", "daily"),
        ("daily", "daily"),
        ("tue", "tue"),
    ] {
        assert_eq!(text.parse::<Days>().unwrap().to_string(), expected, "{text}");
    }
    for text in ["", "mo", "mon-", "mon fri", "mon--fri", "weekend"] {
        assert!(text.parse::<Days>().is_err(), "{text}");
    }
}

#[test]
fn hours_are_times_of_a_day() {
    for text in ["22:00-05:00", "00:00-24:00", "09:30-17:05", "23:00-24:00"] {
        assert_eq!(text.parse::<Hours>().unwrap().to_string(), text);
    }
    assert_eq!("9:00 - 17:00".parse::<Hours>().unwrap().to_string(), "09:00-17:00");
    for text in [
        "",
        "22-05",
        "22:00",
        "25:00-05:00",
        "22:60-05:00",
        "22:0-5:0",
        "+2:00-05:00",
        "05:00-05:00",
        "24:00-05:00",
    ] {
        assert!(text.parse::<Hours>().is_err(), "{text}");
    }
}

#[test]
fn zones_are_those_of_the_database() {
    assert_eq!("Europe/Berlin".parse::<Zone>().unwrap().to_string(), "Europe/Berlin");
    assert_eq!("UTC".parse::<Zone>().unwrap().to_string(), "UTC");
    assert!("Europe/Belrin".parse::<Zone>().is_err());
    assert!(Zone::names().len() > 400);
}

const ZONES: [&str; 8] = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "America/Sao_Paulo",
    "Australia/Lord_Howe", // half an hour
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Pacific/Apia",
];

/// Whether a clock of the wall shows a time of the window, on a day on which clocks are not changed.
fn is_shown(window: &Window, now: Timestamp) -> bool {
    let shown = window.zone.0.to_datetime(now);
    let minute = Minute(shown.hour().unsigned_abs().into()).0 * 60 + u16::from(shown.minute().unsigned_abs());
    let Hours { opens: Minute(opens), closes: Minute(closes) } = window.hours;
    let (today, yesterday) = (shown.date().weekday(), shown.date().yesterday().unwrap().weekday());
    if closes > opens {
        window.days.hold(today) && (opens..closes).contains(&minute)
    } else {
        (window.days.hold(today) && minute >= opens) || (window.days.hold(yesterday) && minute < closes)
    }
}

/// Whether clocks of the zone are changed within three days of a moment.
fn is_near_a_change(window: &Window, now: Timestamp) -> bool {
    let (days, next) = (Span::new().hours(72), window.zone.0.following(now - Span::new().hours(72)).next());
    next.is_some_and(|change| change.timestamp() < now + days)
}

proptest! {
    #[test]
    fn a_window_is_open_while_clocks_show_its_hours(
        days in proptest::collection::vec(any::<bool>(), 7),
        (opens, closes) in (0_u16..1440, 1_u16..=1440),
        zone in 0_usize..ZONES.len(),
        second in 1_700_000_000_i64..2_100_000_000,
    ) {
        prop_assume!(opens != closes && days.contains(&true));
        let days = Days(days.try_into().unwrap());
        let hours = Hours { opens: Minute(opens), closes: Minute(closes) };
        let window = Window { days, hours, zone: ZONES[zone].parse().unwrap(), outside: Outside::Stop };
        let now = Timestamp::from_second(second).unwrap();
        let opening = window.at(now);
        let (Opening::Open(until) | Opening::Closed(until)) = opening;
        prop_assert!(until > now);
        if !is_near_a_change(&window, now) {
            prop_assert_eq!(matches!(opening, Opening::Open(_)), is_shown(&window, now), "{} at {}", window, now);
        }
        // What was said holds until then, and then the opposite is true.
        let before = Timestamp::from_second(second + (until.as_second() - second) / 2).unwrap();
        prop_assert_eq!(window.at(before), opening, "{} at {}", window, now);
        let then = window.at(until);
        if until < now + Span::new().hours(24 * 8) {
            prop_assert_ne!(matches!(then, Opening::Open(_)), matches!(opening, Opening::Open(_)), "{} at {}", window, now);
        }
    }
}

#[test]
fn what_begins_at_the_end_of_a_day_is_told_how_to_write_it() {
    let wrong = |text: &str| text.parse::<Hours>().unwrap_err();
    assert!(wrong("24:00-05:00").contains("write 00:00-05:00"));
    assert!(wrong("05:00-05:00").contains("begins where it ends"));
}
