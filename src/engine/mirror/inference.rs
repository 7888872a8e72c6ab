//! Infers from a manifest that a mirror has that it has the manifest's blobs.
//!
//! In: the blobs of an image that a mirror lacks. Out: those that it has, with one question for many of them. A new release has
//! most blobs of the one before. The state remembers which blobs each manifest names that a run has put. A registry that still
//! has such a manifest has its blobs: it takes a manifest only with its blobs, and collects no blob that a manifest names. So
//! the answer is always one of this run. Blobs that no manifest names are asked for one by one, because registries collect
//! those. Once a mirror lacks a blob of a manifest that it has, its manifests prove nothing any more.

use std::collections::HashSet;

use super::knowledge::{best, note};
use super::probe::{self, Replaced, TagMove};
use super::transfer::Transfer;
use crate::engine::prepared::{Ready, ReadyBlob};
use crate::oci::{Digest, Repository};
use crate::state::{RememberedManifest, State};

/// The fewest blobs that are worth a question.
const WORTH_BLOBS: usize = 2;
/// The most questions for one image.
const MOST_QUESTIONS: usize = 3;

/// Asks one mirror for manifests that earlier runs have put there.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlobInference<'a> {
    transfer: &'a Transfer,
    state: &'a State,
}

impl<'a> BlobInference<'a> {
    pub(super) fn new(transfer: &'a Transfer, state: &'a State) -> Self {
        Self { transfer, state }
    }

    /// Finds out which of these blobs are there by manifests of earlier runs. Tags that are to move say what they stand for
    /// now. Where a question fails nothing is known, and whoever asks next hears why.
    pub(super) async fn infer(self, repository: &Repository, blobs: &[ReadyBlob], tags: &[TagMove]) {
        let mut unknown = {
            let mut knowledge = self.transfer.knowledge.lock();
            if !knowledge.earlier.are_asked_for() {
                return;
            }
            // One that somebody else is asking for, or sending, is left to them.
            let mut is_unknown = |digest: &Digest| {
                knowledge.blobs.location(digest).try_lock().is_ok_and(|known| !known.contains(repository))
            };
            let digests = blobs.iter().map(|blob| blob.digest);
            digests.filter(|digest| is_unknown(digest)).collect::<HashSet<Digest>>()
        };
        let mut remembered = if unknown.is_empty() { Vec::new() } else { self.remembered(repository).await };
        let stands: HashSet<Digest> = tags
            .iter()
            .filter_map(|moved| match moved.replaces {
                Replaced::Manifest(digest) => digest,
                Replaced::Nothing => None,
            })
            .collect();
        for _ in 0..MOST_QUESTIONS {
            if !self.transfer.knowledge.lock().evidence.trusts_manifests() {
                return;
            }
            let Some((at, shared)) = best(&remembered, &unknown) else { return };
            let manifest = remembered.swap_remove(at);
            let is_tagged = stands.contains(&manifest.digest);
            if shared.len() < WORTH_BLOBS && !is_tagged {
                return;
            }
            if !is_tagged && !self.is_there(repository, manifest.digest).await {
                continue;
            }
            let sized = blobs.iter().filter(|blob| shared.contains(&blob.digest));
            let sized = sized.map(|blob| (blob.digest, blob.size));
            let (count, bytes) = {
                let mut knowledge = self.transfer.knowledge.lock();
                for digest in &shared {
                    unknown.remove(digest);
                    knowledge.evidence.infer(repository, *digest);
                    self.transfer.link.registry.note_source(*digest, repository, false);
                }
                knowledge.blobs.note_sized(repository, sized)
            };
            self.transfer.counts.skipped(count, bytes);
        }
    }

    async fn remembered(self, repository: &Repository) -> Vec<RememberedManifest> {
        let remembered = self.transfer.knowledge.lock().earlier.of(repository);
        let ask = || self.state.manifests_in(self.registry(), repository);
        let all = remembered.get_or_init(ask).await;
        self.transfer.knowledge.lock().earlier.possible(repository, all)
    }

    async fn is_there(self, repository: &Repository, digest: Digest) -> bool {
        let Transfer { link, knowledge, .. } = self.transfer;
        let location = knowledge.lock().manifests.location(&digest);
        let Ok(_permit) = link.question().await else { return false };
        let mut known_in = location.lock().await;
        if known_in.contains(repository) {
            return true;
        }
        match probe::digest(&link.registry, repository, &digest).await {
            Ok(true) => {
                note(&mut known_in, repository);
                true
            }
            Ok(false) => {
                knowledge.lock().earlier.is_gone(repository, digest);
                self.state.forget_manifest(self.registry(), repository, digest);
                false
            }
            Err(error) => {
                tracing::debug!(%error, "could not find out whether a manifest is there");
                false
            }
        }
    }

    /// The manifests of an image are put, or will be with its tags. From one that is not there in the end nothing is inferred.
    pub(super) fn remember(self, repository: &Repository, ready: &Ready) {
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
    pub(super) fn settle(self) {
        if !self.transfer.knowledge.lock().evidence.trusts_manifests() {
            self.state.forget_manifests(self.registry());
        }
    }

    fn registry(self) -> String {
        self.transfer.link.registry.record_name()
    }
}
