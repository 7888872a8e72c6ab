//! Versions in names of files, ordered by their numbers: 1.8.0 comes before 1.10.0, and 1.10.0-rc.1 before 1.10.0.

use std::cmp::Ordering;

/// A version, as it stands in a name. Two that are equal may be written differently: `1.8`, `v1.8.0`.
#[derive(Debug, Clone)]
pub(super) struct VersionInName(Vec<VersionPiece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum VersionPiece {
    /// Its digits, without zeros before them.
    Number(String),
    Word(String),
}

/// What comes before the version that it is written behind, in this order.
const BEFORE_RELEASE: [&str; 9] = ["dev", "snapshot", "nightly", "alpha", "a", "beta", "b", "pre", "rc"];
/// Other words for the same.
const SAME: [(&str, &str); 3] = [("preview", "pre"), ("c", "rc"), ("cr", "rc")];

impl VersionInName {
    /// The version in a part of a name. What is neither a letter nor a digit only separates.
    pub(super) fn of(text: &str) -> Self {
        let mut pieces: Vec<VersionPiece> = Vec::new();
        let lower = text.to_ascii_lowercase();
        // What follows a plus is the build, which orders nothing.
        let text = lower.split('+').next().unwrap_or_default();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let same = |c: char| match (first.is_ascii_digit(), first.is_alphanumeric()) {
                (true, _) => c.is_ascii_digit(),
                (false, true) => c.is_alphanumeric() && !c.is_ascii_digit(),
                (false, false) => !c.is_alphanumeric(),
            };
            let end = rest.find(|c| !same(c)).unwrap_or(rest.len());
            let (piece, after) = rest.split_at(end);
            rest = after;
            if first.is_ascii_digit() {
                pieces.push(VersionPiece::Number(piece.trim_start_matches('0').to_owned()));
            } else if first.is_alphanumeric()
                && !(piece == "v" && after.starts_with(|c: char| c.is_ascii_digit()))
            {
                let word = SAME.iter().find(|(other, _)| *other == piece).map_or(piece, |(_, word)| word);
                pieces.push(VersionPiece::Word(word.to_owned()));
            }
        }
        Self(pieces)
    }
}

impl VersionPiece {
    /// Zero is what is not written: 1.8 is 1.8.0.
    fn is_zero(&self) -> bool {
        matches!(self, Self::Number(digits) if digits.is_empty())
    }

    /// The place among the words that come before a release.
    fn before_release(&self) -> Option<usize> {
        match self {
            Self::Word(word) => BEFORE_RELEASE.iter().position(|before| before == word),
            Self::Number(_) => None,
        }
    }

    fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.len().cmp(&b.len()).then_with(|| a.cmp(b)),
            (Self::Word(a), Self::Word(b)) => match (self.before_release(), other.before_release()) {
                (Some(a), Some(b)) => a.cmp(&b),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => a.cmp(b),
            },
            // 1.8.0 before 1.8.0-gke.1 before 1.8.1: a word adds to what stands before it, a number goes on.
            (Self::Number(_), Self::Word(_)) => Ordering::Greater,
            (Self::Word(_), Self::Number(_)) => Ordering::Less,
        }
    }

    /// Against the end of the other version.
    fn against_end(&self) -> Ordering {
        if self.before_release().is_some() { Ordering::Less } else { Ordering::Greater }
    }
}

impl Ord for VersionInName {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        loop {
            let order = match (a.peek(), b.peek()) {
                (None, None) => return Ordering::Equal,
                (Some(piece), None) if piece.is_zero() => {
                    a.next().map_or(Ordering::Equal, |_| Ordering::Equal)
                }
                (None, Some(piece)) if piece.is_zero() => {
                    b.next().map_or(Ordering::Equal, |_| Ordering::Equal)
                }
                (Some(piece), None) => return piece.against_end(),
                (None, Some(piece)) => return piece.against_end().reverse(),
                // 1.8-rc1 is 1.8.0-rc1.
                (Some(number), Some(VersionPiece::Word(_))) if number.is_zero() => {
                    a.next();
                    Ordering::Equal
                }
                (Some(VersionPiece::Word(_)), Some(number)) if number.is_zero() => {
                    b.next();
                    Ordering::Equal
                }
                (Some(one), Some(another)) => {
                    let order = one.order(another);
                    a.next();
                    b.next();
                    order
                }
            };
            if order != Ordering::Equal {
                return order;
            }
        }
    }
}

impl PartialOrd for VersionInName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for VersionInName {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for VersionInName {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn versions_are_ordered_by_their_numbers() {
        let ordered = [
            "1.8.0-dev",
            "1.8.0-alpha.1",
            "1.8.0-alpha.2",
            "1.8.0-beta1",
            "1.8.0-preview",
            "1.8.0-rc.1",
            "1.8.0-rc.2",
            "1.8.0-rc.10",
            "1.8.0",
            "1.8.0-gke.1",
            "1.8.0-gke.25",
            "1.8.1-rc.1",
            "1.8.1",
            "1.9",
            "1.10.0-rc1",
            "1.10.0",
            "1.29.300-gke.2",
            "2",
            "2.0.1",
            "20260101",
            "20260102",
            "99999999999999999999999",
        ];
        for (at, one) in ordered.iter().enumerate() {
            for (other_at, other) in ordered.iter().enumerate() {
                assert_eq!(
                    VersionInName::of(one).cmp(&VersionInName::of(other)),
                    at.cmp(&other_at),
                    "{one} and {other}"
                );
            }
        }
    }

    #[test]
    fn a_version_may_be_written_in_several_ways() {
        for (one, other) in [
            ("1.8", "1.8.0"),
            ("v1.8.0", "1.8.0"),
            ("1.08.0", "1.8.0"),
            ("1.8.0+build.7", "1.8.0"),
            ("1_8_0", "1.8.0"),
            ("1.8-rc1", "1.8.0-RC.1"),
            ("2026-11-05", "2026.11.5"),
        ] {
            assert_eq!(VersionInName::of(one), VersionInName::of(other), "{one} and {other}");
        }
    }

    fn version() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            prop_oneof![Just("0"), Just("1"), Just("10"), Just("rc"), Just("gke"), Just("alpha"), Just("x")],
            0..6,
        )
        .prop_map(|pieces| pieces.join("."))
    }

    proptest! {
        #[test]
        fn the_order_is_one(a in version(), b in version(), c in version()) {
            let (x, y, z) = (VersionInName::of(&a), VersionInName::of(&b), VersionInName::of(&c));
            prop_assert_eq!(x.cmp(&y), y.cmp(&x).reverse(), "{} {}", a, b);
            if x <= y && y <= z {
                prop_assert!(x <= z, "{} {} {}", a, b, c);
            }
        }
    }
}
