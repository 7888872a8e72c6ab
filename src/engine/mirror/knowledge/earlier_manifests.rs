//! Manifests that earlier runs have put on a mirror, and which of them says most of the blobs that are still unknown. Pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::OnceCell;

use crate::oci::{Digest, Repository};
use crate::state::RememberedManifest;

/// The manifests that the state remembers for one repository, once they were read.
pub(crate) type Remembered = Arc<OnceCell<Vec<RememberedManifest>>>;

/// What earlier runs have put, by repository.
#[derive(Debug)]
pub(crate) struct EarlierManifests {
    are_asked_for: bool,
    remembered: HashMap<Repository, Remembered>,
    gone: HashSet<(Repository, Digest)>,
}

impl EarlierManifests {
    /// Nothing is asked of a mirror that is new, or of which each blob is to be asked.
    pub(crate) fn new(are_asked_for: bool) -> Self {
        Self { are_asked_for, remembered: HashMap::new(), gone: HashSet::new() }
    }

    /// Whether the mirror is asked for them.
    pub(crate) fn are_asked_for(&self) -> bool {
        self.are_asked_for
    }

    /// Those of a repository, to be read from the state by whoever needs them first.
    pub(crate) fn of(&mut self, repository: &Repository) -> Remembered {
        Arc::clone(self.remembered.entry(repository.clone()).or_default())
    }

    /// The mirror has a manifest no more.
    pub(crate) fn is_gone(&mut self, repository: &Repository, digest: Digest) {
        self.gone.insert((repository.clone(), digest));
    }

    /// Those of `all` that the mirror may still have.
    pub(crate) fn possible(
        &self,
        repository: &Repository,
        all: &[RememberedManifest],
    ) -> Vec<RememberedManifest> {
        let is_possible =
            |manifest: &&RememberedManifest| !self.gone.contains(&(repository.clone(), manifest.digest));
        all.iter().filter(is_possible).cloned().collect()
    }
}

/// The manifest that names most of these blobs, and which.
pub(crate) fn best(
    remembered: &[RememberedManifest],
    unknown: &HashSet<Digest>,
) -> Option<(usize, HashSet<Digest>)> {
    let shared = |it: &RememberedManifest| -> HashSet<Digest> {
        it.blobs.iter().filter(|digest| unknown.contains(digest)).copied().collect()
    };
    // Of two that name as many the first, which is newer.
    let candidates = remembered.iter().map(shared).enumerate().rev();
    candidates.max_by_key(|(_, shared)| shared.len()).filter(|(_, shared)| !shared.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(name: &str) -> Digest {
        Digest::of(name.as_bytes())
    }

    fn manifest(name: &str, blobs: &[&str]) -> RememberedManifest {
        RememberedManifest { digest: blob(name), blobs: blobs.iter().map(|name| blob(name)).collect() }
    }

    #[test]
    fn the_manifest_that_names_most_is_asked_for_and_of_two_the_newer() {
        let remembered = [
            manifest("new", &["a", "b"]),
            manifest("most", &["a", "b", "c", "x"]),
            manifest("old", &["a", "b"]),
        ];
        let unknown = |names: &[&str]| names.iter().map(|name| blob(name)).collect::<HashSet<_>>();
        let chosen =
            |names: &[&str]| best(&remembered, &unknown(names)).map(|(at, shared)| (at, shared.len()));
        assert_eq!(chosen(&["a", "b", "c", "d"]), Some((1, 3)));
        assert_eq!(chosen(&["a", "b"]), Some((0, 2)));
        assert_eq!(chosen(&["d"]), None);
    }

    #[test]
    fn a_manifest_that_is_gone_from_one_repository_may_be_in_another() {
        let [here, there] = ["here", "there"].map(|name| name.parse::<Repository>().unwrap());
        let all = [manifest("a", &["x"]), manifest("b", &["x"])];
        let mut earlier = EarlierManifests::new(true);
        earlier.is_gone(&here, blob("a"));
        assert_eq!(earlier.possible(&here, &all), [manifest("b", &["x"])]);
        assert_eq!(earlier.possible(&there, &all), all);
    }
}
