//! Finds what no kept bundle has. Pure.

use std::collections::{BTreeSet, HashSet};

use crate::oci::{Digest, Repository, Tag};
use crate::state::{PlacedBundle, PlacedTag};

/// What may go from a mirror, and what must not.
#[derive(Debug, Default)]
pub(crate) struct Choice {
    /// Tags that a run of ours put there and that no kept bundle has.
    pub(crate) unneeded: BTreeSet<PlacedTag>,
    /// What kept bundles have, by repository.
    pub(super) kept_digests: HashSet<(Repository, Digest)>,
    /// What the kept bundles are called, the latest first.
    pub(crate) kept: Vec<String>,
}

/// The last `keep` complete bundles stay, and all names that configured ones have. One of which tags were removed takes the place
/// of none that is whole.
///
/// # Errors
/// Why nothing may go.
pub(crate) fn choose(
    bundles: &[PlacedBundle],
    keep: usize,
    configured: &HashSet<(Repository, Tag)>,
) -> Result<Choice, String> {
    let Some(newest) = bundles.first() else {
        return Err("nothing is remembered of what was put there".to_owned());
    };
    if !newest.complete {
        return Err(format!("its newest bundle, {}, is not complete there", newest.path));
    }
    let kept: Vec<&PlacedBundle> =
        bundles.iter().filter(|bundle| bundle.complete && bundle.whole).take(keep.max(1)).collect();
    let is_kept = |bundle: &PlacedBundle| kept.iter().any(|kept| kept.key == bundle.key);
    let names: HashSet<_> = kept
        .iter()
        .flat_map(|bundle| &bundle.tags)
        .filter_map(|placed| Some((&placed.repository, placed.tag.as_ref()?)))
        .chain(configured.iter().map(|(repository, tag)| (repository, tag)))
        .collect();
    let is_unneeded = |placed: &&PlacedTag| {
        placed.own && placed.tag.as_ref().is_some_and(|tag| !names.contains(&(&placed.repository, tag)))
    };
    let gone = bundles.iter().filter(|bundle| !is_kept(bundle)).flat_map(|bundle| &bundle.tags);
    let unneeded = gone.filter(is_unneeded).cloned().collect();
    let kept_digests = kept.iter().flat_map(|bundle| &bundle.tags);
    let kept_digests = kept_digests.map(|placed| (placed.repository.clone(), placed.digest)).collect();
    Ok(Choice { unneeded, kept_digests, kept: kept.iter().map(|bundle| bundle.path.clone()).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(name: &str, own: bool) -> PlacedTag {
        let (repository, tag) = name.split_once(':').unwrap();
        let digest = Digest::of(name.as_bytes());
        PlacedTag { repository: repository.parse().unwrap(), tag: Some(tag.parse().unwrap()), digest, own }
    }

    fn bundle(path: &str, complete: bool, tags: &[(&str, bool)]) -> PlacedBundle {
        let tags = tags.iter().map(|(name, own)| tag(name, *own)).collect();
        PlacedBundle {
            key: Digest::of(path.as_bytes()),
            path: path.to_owned(),
            complete,
            whole: true,
            used_at: 0,
            tags,
        }
    }

    fn goes(bundles: &[PlacedBundle], keep: usize, configured: &[&str]) -> Vec<String> {
        let configured =
            configured.iter().map(|name| tag(name, true)).map(|it| (it.repository, it.tag.unwrap()));
        let choice = choose(bundles, keep, &configured.collect()).unwrap();
        choice.unneeded.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_what_is_ours_and_in_no_kept_bundle_goes() {
        let bundles = [
            bundle("4", true, &[("app:4", true), ("lib:1", false)]),
            bundle("3", true, &[("app:3", true), ("lib:1", true)]),
            bundle("2", false, &[("app:2", true)]),
            bundle("1", true, &[("app:1", true), ("lib:1", true), ("theirs:1", false), ("old:1", true)]),
        ];
        assert_eq!(goes(&bundles, 2, &[]), ["app:1", "app:2", "old:1"]);
        assert_eq!(goes(&bundles, 2, &["old:1"]), ["app:1", "app:2"]);
        assert_eq!(goes(&bundles, 3, &[]), ["app:2"]);
        assert_eq!(goes(&bundles, 0, &[]), ["app:1", "app:2", "app:3", "old:1"], "the newest always stays");
    }

    #[test]
    fn nothing_goes_while_the_newest_bundle_is_not_complete_or_nothing_is_known() {
        let bundles = [bundle("2", false, &[("app:2", true)]), bundle("1", true, &[("app:1", true)])];
        assert!(choose(&bundles, 1, &HashSet::new()).unwrap_err().contains("not complete"));
        assert!(choose(&[], 1, &HashSet::new()).is_err());
    }
}
