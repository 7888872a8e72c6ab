//! Which bundles leave the stage when room is short. Pure.

use std::collections::{HashMap, HashSet};

use crate::oci::Digest;

/// A bundle of the stage, as far as leaving it is concerned.
#[derive(Debug)]
pub(super) struct StagedBundle {
    /// A run reads or fills it now.
    pub(super) is_held: bool,
    /// A sites file names it.
    pub(super) is_owned: bool,
    pub(super) used_at: i64,
    /// The blobs that its images need.
    pub(super) blobs: HashSet<Digest>,
    /// The size of its other files.
    pub(super) own_bytes: u64,
}

/// The bundles that go so that `wanted` bytes become free: those that no sites file names first, then the one that was used
/// longest ago. What a run holds never goes, nor does a blob that another bundle needs. None where all of that would not do:
/// nothing is thrown away in vain.
pub(super) fn choose(
    bundles: &[StagedBundle],
    sizes: &HashMap<Digest, u64>,
    wanted: u64,
) -> Option<Vec<usize>> {
    let mut needed: HashMap<Digest, usize> = HashMap::new();
    for digest in bundles.iter().flat_map(|bundle| &bundle.blobs) {
        *needed.entry(*digest).or_default() += 1;
    }
    let mut order: Vec<usize> = (0..bundles.len()).filter(|at| !bundles[*at].is_held).collect();
    order.sort_by_key(|at| (bundles[*at].is_owned, bundles[*at].used_at, *at));
    let (mut freed, mut gone) = (0, Vec::new());
    for at in order {
        if freed >= wanted {
            break;
        }
        freed += bundles[at].own_bytes;
        for digest in &bundles[at].blobs {
            let count = needed.entry(*digest).or_default();
            *count = count.saturating_sub(1);
            if *count == 0 {
                freed += sizes.get(digest).copied().unwrap_or(0);
            }
        }
        gone.push(at);
    }
    (freed >= wanted).then_some(gone)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn blob(number: u8) -> Digest {
        Digest::of(&[number])
    }

    fn bundle(is_held: bool, is_owned: bool, used_at: i64, blobs: &[u8]) -> StagedBundle {
        let blobs = blobs.iter().map(|number| blob(*number)).collect();
        StagedBundle { is_held, is_owned, used_at, blobs, own_bytes: 0 }
    }

    fn sizes() -> HashMap<Digest, u64> {
        (0..20).map(|number| (blob(number), 10)).collect()
    }

    #[test]
    fn what_no_sites_file_names_goes_first_and_then_what_was_used_longest_ago() {
        let bundles = [
            bundle(false, true, 1, &[0]),
            bundle(false, false, 9, &[1]),
            bundle(false, true, 2, &[2]),
            bundle(true, false, 0, &[3]),
        ];
        let chosen = |wanted| choose(&bundles, &sizes(), wanted);
        assert_eq!(chosen(1), Some(vec![1]));
        assert_eq!(chosen(11), Some(vec![1, 0]));
        assert_eq!(chosen(30), Some(vec![1, 0, 2]));
        assert_eq!(chosen(31), None, "what a run holds stays, and nothing goes in vain");
    }

    #[test]
    fn what_two_bundles_share_goes_with_the_second() {
        let bundles = [bundle(false, false, 1, &[0, 1]), bundle(false, false, 2, &[1])];
        assert_eq!(choose(&bundles, &sizes(), 10), Some(vec![0]));
        assert_eq!(choose(&bundles, &sizes(), 11), Some(vec![0, 1]));
    }

    proptest! {
        #[test]
        fn what_is_freed_is_needed_by_nobody_who_stays(
            bundles in prop::collection::vec((any::<bool>(), any::<bool>(), 0_i64..9, prop::collection::vec(0_u8..20, 0..6)), 0..8),
            wanted in 0_u64..200,
        ) {
            let bundles: Vec<StagedBundle> = bundles.iter().map(|(held, owned, at, blobs)| bundle(*held, *owned, *at, blobs)).collect();
            if let Some(gone) = choose(&bundles, &sizes(), wanted) {
                prop_assert!(gone.iter().all(|at| !bundles[*at].is_held));
                let stay: HashSet<Digest> = bundles.iter().enumerate().filter(|(at, _)| !gone.contains(at))
                    .flat_map(|(_, bundle)| bundle.blobs.iter().copied()).collect();
                let freed: HashSet<Digest> = gone.iter().flat_map(|at| bundles[*at].blobs.iter().copied())
                    .filter(|digest| !stay.contains(digest)).collect();
                prop_assert!(freed.len() as u64 * 10 >= wanted);
            }
        }
    }
}
