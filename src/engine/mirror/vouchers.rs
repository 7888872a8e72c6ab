//! Blobs for which a mirror answers by a manifest that it has.
//!
//! In: the blobs of an image that a mirror lacks. Out: those that it has, with one question for many of them. A new release has
//! most blobs of the one before. The state remembers which blobs each manifest names that a run has put. A registry that still
//! has such a manifest has its blobs: it takes a manifest only with its blobs, and collects no blob that a manifest names. So
//! the answer is always one of this run. Blobs that no manifest names are asked for one by one, because registries collect
//! those. Once a mirror lacks a blob of a manifest that it has, its manifests prove nothing any more.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::OnceCell;

use super::probe::{self, Replaced, TagMove};
use super::transfer::Transfer;
use crate::engine::prepared::{Ready, ReadyBlob};
use crate::locks::Mutex;
use crate::oci::{Digest, Repository};
use crate::state::{RememberedManifest, State};

/// The fewest blobs that are worth a question.
const WORTH_BLOBS: usize = 2;
/// The most questions for one image.
const MOST_QUESTIONS: usize = 3;

type Remembered = Arc<OnceCell<Vec<RememberedManifest>>>;

/// Asks one mirror for manifests that were put there.
#[derive(Debug)]
pub(super) struct Vouchers {
    transfer: Arc<Transfer>,
    state: Arc<State>,
    /// Nothing is asked of a mirror that is new, or of which each blob is to be asked.
    asks: bool,
    remembered: Mutex<HashMap<Repository, Remembered>>,
    gone: Mutex<HashSet<(Repository, Digest)>>,
}

impl Vouchers {
    pub(super) fn new(transfer: Arc<Transfer>, state: Arc<State>, asks: bool) -> Self {
        Self { transfer, state, asks, remembered: Mutex::default(), gone: Mutex::default() }
    }

    /// Finds out which of these blobs are there by manifests of earlier runs. Tags that are to move say what they stand for
    /// now. Where a question fails nothing is known, and whoever asks next hears why.
    pub(super) async fn ask(&self, repository: &Repository, blobs: &[ReadyBlob], tags: &[TagMove]) {
        if !self.asks {
            return;
        }
        let knowledge = &self.transfer.knowledge;
        // One that somebody else is asking for, or sending, is left to them.
        let is_unknown = |digest: &Digest| {
            knowledge.blobs.location(digest).try_lock().is_ok_and(|known| !known.contains(repository))
        };
        let mut unknown: HashSet<Digest> =
            blobs.iter().map(|blob| blob.digest).filter(|digest| is_unknown(digest)).collect();
        let mut remembered = if unknown.is_empty() { Vec::new() } else { self.remembered(repository).await };
        let stands: HashSet<Digest> = tags
            .iter()
            .filter_map(|moved| match moved.replaces {
                Replaced::Manifest(digest) => digest,
                Replaced::Nothing => None,
            })
            .collect();
        for _ in 0..MOST_QUESTIONS {
            if !knowledge.trusts_manifests() {
                return;
            }
            let Some((at, shared)) = best(&remembered, &unknown) else { return };
            let manifest = remembered.swap_remove(at);
            let is_told = stands.contains(&manifest.digest);
            if shared.len() < WORTH_BLOBS && !is_told {
                return;
            }
            if !is_told && !self.is_there(repository, manifest.digest).await {
                continue;
            }
            for digest in &shared {
                unknown.remove(digest);
                knowledge.vouch(repository, *digest);
                self.transfer.link.registry.note_source(*digest, repository, false);
            }
            let sized = blobs.iter().filter(|blob| shared.contains(&blob.digest));
            let sized = sized.map(|blob| (blob.digest, blob.size));
            let (count, bytes) = knowledge.blobs.note_sized(repository, sized);
            self.transfer.counts.skipped(count, bytes);
        }
    }

    async fn remembered(&self, repository: &Repository) -> Vec<RememberedManifest> {
        let cell = Arc::clone(self.remembered.lock().entry(repository.clone()).or_default());
        let ask = || self.state.manifests_in(self.registry(), repository);
        let all = cell.get_or_init(ask).await;
        let gone = self.gone.lock();
        all.iter().filter(|it| !gone.contains(&(repository.clone(), it.digest))).cloned().collect()
    }

    async fn is_there(&self, repository: &Repository, digest: Digest) -> bool {
        let Transfer { link, knowledge, .. } = self.transfer.as_ref();
        let location = knowledge.manifests.location(&digest);
        let Ok(_permit) = link.question().await else { return false };
        let mut known_in = location.lock().await;
        if known_in.contains(repository) {
            return true;
        }
        match probe::digest(&link.registry, repository, &digest).await {
            Ok(true) => {
                super::knowledge::note(&mut known_in, repository);
                true
            }
            Ok(false) => {
                self.gone.lock().insert((repository.clone(), digest));
                self.state.forget_manifest(self.registry(), repository, digest);
                false
            }
            Err(error) => {
                tracing::debug!(%error, "could not find out whether a manifest is there");
                false
            }
        }
    }

    /// The manifests of an image are put, or will be with its tags. One that is not there in the end answers for nothing.
    pub(super) fn remember(&self, repository: &Repository, ready: &Ready) {
        let put = ready.manifests.iter().map(|manifest| {
            let blobs = manifest.blobs().map(|blob| blob.digest).collect();
            RememberedManifest { digest: manifest.digest, blobs }
        });
        let put: Vec<_> = put.filter(|manifest| manifest.blobs.len() >= WORTH_BLOBS).collect();
        if !put.is_empty() {
            self.state.remember_manifests(self.registry(), repository, put);
        }
    }

    /// The mirror is done: remembered manifests that proved wrong are forgotten.
    pub(super) fn settle(&self) {
        if !self.transfer.knowledge.trusts_manifests() {
            self.state.forget_manifests(self.registry());
        }
    }

    fn registry(&self) -> String {
        self.transfer.link.registry.record_name()
    }
}

/// The manifest that names most of these blobs, and which.
fn best(remembered: &[RememberedManifest], unknown: &HashSet<Digest>) -> Option<(usize, HashSet<Digest>)> {
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

    #[test]
    fn the_manifest_that_names_most_is_asked_for_and_of_two_the_newer() {
        let blob = |name: &str| Digest::of(name.as_bytes());
        let manifest = |name: &str, blobs: &[&str]| RememberedManifest {
            digest: blob(name),
            blobs: blobs.iter().map(|name| blob(name)).collect(),
        };
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
}
