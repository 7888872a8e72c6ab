//! Where an upload goes on: what we know of a session, held against what the registry says of it. Pure.
//!
//! The registry's word alone is not enough: some count one byte too many, some name the end of the first chunk for ever, and
//! `0-0` may be one byte or none. So our own count of acknowledged bytes leads, and the answer may only choose a byte of what
//! was on its way since.

use std::ops::RangeInclusive;

/// What a session has, as a `Range` header of an upload says it: `0-<last>`, with or without a unit. None where it says
/// something else, or nothing: that the session is empty would be one guess of many.
pub(in crate::registry) fn reported_bytes(range: Option<&str>) -> Option<u64> {
    let text = range?.trim();
    let text = text.strip_prefix("bytes").map_or(text, |text| text.trim_start_matches(['=', ' ']));
    match text.strip_prefix("0-")? {
        // An empty session has no last byte: it is written in both ways.
        "" | "-1" | "0" => Some(0),
        last if last.bytes().all(|c| c.is_ascii_digit()) => last.parse::<u64>().ok()?.checked_add(1),
        _ => None,
    }
}

/// The byte at which an upload goes on whose registry has acknowledged the first of `window` and was sent up to its last. None
/// where it must begin anew. `refused` is the byte at which it has just refused to go on.
pub(in crate::registry) fn resume_at(
    window: &RangeInclusive<u64>,
    reported: u64,
    refused: Option<u64>,
) -> Option<u64> {
    let (acknowledged, sent) = (*window.start(), *window.end());
    // Quay counts one byte too many.
    if reported == acknowledged + 1 && refused != Some(acknowledged) {
        return Some(acknowledged);
    }
    if reported == sent + 1 {
        return Some(sent);
    }
    window.contains(&reported).then_some(reported)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ranges_are_read_as_registries_write_them() {
        for (text, bytes) in [
            (None, None),
            (Some(""), None),
            (Some("bytes="), None),
            (Some("0-0"), Some(0)),
            (Some("0--1"), Some(0)),
            (Some("bytes=0--1"), Some(0)),
            (Some("0-99"), Some(100)),
            (Some(" bytes=0-99 "), Some(100)),
            (Some("bytes 0-99"), Some(100)),
            (Some("10-99"), None),
            (Some("0-x"), None),
            (Some("0-18446744073709551615"), None),
            (Some("lots"), None),
            (Some("bytes"), None),
        ] {
            assert_eq!(reported_bytes(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn the_registry_may_only_choose_among_what_was_on_its_way() {
        let window = 100..=200;
        for (reported, expected) in [
            (100, Some(100)),
            (150, Some(150)),
            (200, Some(200)),
            (101, Some(100)),
            (201, Some(200)),
            (99, None),
            (202, None),
            (0, None),
            (u64::MAX, None),
        ] {
            assert_eq!(resume_at(&window, reported, None), expected, "{reported}");
        }
        assert_eq!(resume_at(&window, 101, Some(100)), Some(101), "where it is one byte after all");
        assert_eq!(resume_at(&(0..=0), 0, None), Some(0));
    }

    proptest! {
        #[test]
        fn any_text_is_read_and_nothing_outside_the_window_is_chosen(text in ".{0,24}|(bytes=)?0-[0-9]{0,20}", from in 0..1000_u64, more in 0..1000_u64) {
            if let Some(reported) = reported_bytes(Some(&text)) {
                let window = from..=from + more;
                prop_assert!(resume_at(&window, reported, None).is_none_or(|at| window.contains(&at)));
            }
        }
    }
}
