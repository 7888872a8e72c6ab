//! Sets of ranges and of blocks: those that a spool file holds, and those that it no longer needs. Pure.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of offsets, kept as ranges that never touch.
#[derive(Debug, Default)]
pub(super) struct RangeSet(BTreeMap<u64, u64>);

impl RangeSet {
    /// Adds a range, and gives the whole range that it is now part of.
    pub(super) fn insert(&mut self, range: Range<u64>) -> Range<u64> {
        if range.is_empty() {
            return range;
        }
        let Range { mut start, mut end } = range;
        // Those that begin inside it or right behind it, and the one before that reaches it.
        while let Some((&first, &last)) = self.0.range(..=end).next_back().filter(|(_, last)| **last >= start)
        {
            start = start.min(first);
            end = end.max(last);
            self.0.remove(&first);
        }
        self.0.insert(start, end);
        start..end
    }

    /// Whether any offset of the range is in the set.
    pub(super) fn overlaps(&self, range: &Range<u64>) -> bool {
        self.0.range(..range.end).next_back().is_some_and(|(_, end)| *end > range.start)
    }

    /// Whether all of the range is in the set.
    pub(super) fn covers(&self, range: &Range<u64>) -> bool {
        self.0.range(..=range.start).next_back().is_some_and(|(_, end)| *end >= range.end)
    }
}

/// How many cover each offset.
#[derive(Debug, Default)]
pub(super) struct Coverage(BTreeMap<u64, u32>);

impl Coverage {
    /// One more covers the range.
    pub(super) fn add(&mut self, range: &Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.split(range);
        self.0.range_mut(range.clone()).for_each(|(_, count)| *count += 1);
        self.join(range);
    }

    /// One fewer covers the range. Gives the parts of it that nobody covers now.
    pub(super) fn remove(&mut self, range: &Range<u64>) -> Vec<Range<u64>> {
        if range.is_empty() {
            return Vec::new();
        }
        self.split(range);
        self.0.range_mut(range.clone()).for_each(|(_, count)| *count = count.saturating_sub(1));
        let bare = self.bare(range);
        self.join(range);
        bare
    }

    /// The parts of the range that nobody covers.
    pub(super) fn bare(&self, range: &Range<u64>) -> Vec<Range<u64>> {
        let mut bare = Vec::new();
        let (mut start, mut count) = (range.start, self.count(range.start));
        for (&at, &next) in self.0.range(range.clone()).chain([(&range.end, &0)]) {
            if count == 0 && start < at {
                bare.push(start..at);
            }
            (start, count) = (at, next);
        }
        bare
    }

    fn count(&self, at: u64) -> u32 {
        self.0.range(..=at).next_back().map_or(0, |(_, count)| *count)
    }

    /// Makes the ends of the range places where a count may change.
    fn split(&mut self, range: &Range<u64>) {
        for at in [range.start, range.end] {
            let count = self.count(at);
            self.0.entry(at).or_insert(count);
        }
    }

    /// Forgets places in and around the range where no count changes.
    fn join(&mut self, range: &Range<u64>) {
        let mut before = self.0.range(..range.start).next_back().map_or(0, |(_, count)| *count);
        let places: Vec<(u64, u32)> =
            self.0.range(range.start..=range.end).map(|(at, count)| (*at, *count)).collect();
        for (at, count) in places {
            if count == before {
                self.0.remove(&at);
            }
            before = count;
        }
    }
}

/// A set of small numbers, one bit each.
#[derive(Debug, Default)]
pub(super) struct BitSet(Vec<u64>);

impl BitSet {
    pub(super) fn insert(&mut self, index: usize) {
        if self.0.len() <= index / 64 {
            self.0.resize(index / 64 + 1, 0);
        }
        self.0[index / 64] |= 1 << (index % 64);
    }

    /// Removes it, and tells whether it was there.
    pub(super) fn remove(&mut self, index: usize) -> bool {
        let Some(word) = self.0.get_mut(index / 64) else { return false };
        let was = *word & 1 << (index % 64) != 0;
        *word &= !(1 << (index % 64));
        was
    }

    pub(super) fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_range_set_is_a_set_of_offsets(ranges in prop::collection::vec((0_u64..60, 0_u64..12), 0..20), asked in (0_u64..60, 1_u64..9)) {
            let mut set = RangeSet::default();
            let mut model = [false; 80];
            for (start, len) in ranges {
                let whole = set.insert(start..start + len);
                for offset in start..start + len {
                    model[usize::try_from(offset).unwrap()] = true;
                }
                prop_assert!(whole.clone().all(|offset| model[usize::try_from(offset).unwrap()]));
                prop_assert!(whole.start <= start && whole.end >= start + len);
            }
            let asked = asked.0..asked.0 + asked.1;
            let mut inside = asked.clone().map(|offset| model[usize::try_from(offset).unwrap()]);
            prop_assert_eq!(set.covers(&asked), inside.clone().all(|is| is));
            prop_assert_eq!(set.overlaps(&asked), inside.any(|is| is));
        }
    }

    proptest! {
        #[test]
        fn coverage_counts_each_offset(steps in prop::collection::vec((0_u64..40, 0_u64..12, any::<bool>()), 0..30), asked in (0_u64..40, 0_u64..20)) {
            let (mut coverage, mut model, mut held) = (Coverage::default(), [0_u32; 60], Vec::new());
            let bare = |model: &[u32], range: Range<u64>| -> Vec<u64> {
                range.filter(|offset| model[usize::try_from(*offset).unwrap()] == 0).collect()
            };
            let flat = |ranges: Vec<Range<u64>>| ranges.into_iter().flatten().collect::<Vec<u64>>();
            for (start, len, adds) in steps {
                if adds {
                    let range = start..start + len;
                    coverage.add(&range);
                    range.clone().for_each(|offset| model[usize::try_from(offset).unwrap()] += 1);
                    held.push(range);
                } else if let Some(range) = held.pop() {
                    range.clone().for_each(|offset| model[usize::try_from(offset).unwrap()] -= 1);
                    prop_assert_eq!(flat(coverage.remove(&range)), bare(&model, range));
                }
            }
            let asked = asked.0..asked.0 + asked.1;
            prop_assert_eq!(flat(coverage.bare(&asked)), bare(&model, asked));
            for range in held {
                coverage.remove(&range);
            }
            prop_assert!(coverage.0.is_empty(), "{:?}", coverage);
        }
    }

    #[test]
    fn bits_are_set_and_removed_once() {
        let mut set = BitSet::default();
        set.insert(0);
        set.insert(700);
        assert_eq!(set.count(), 2);
        assert!(set.remove(700) && !set.remove(700) && !set.remove(9000));
        assert_eq!(set.count(), 1);
    }
}
