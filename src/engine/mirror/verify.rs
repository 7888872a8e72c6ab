//! Checks, before tags move, that the content behind them is really there.
//!
//! A registry may answer a HEAD from a cache or a database that has outlived the bytes, and one that checks nothing takes an
//! index whose children it has collected meanwhile. So the run asks for children, and reads one byte of some of the blobs that
//! it found and did not send; their number is bounded. It sends again what proves lost, and asks again. An image that was
//! found unchanged costs nothing here, unless everything is to be read back.

use std::collections::HashSet;

use futures_util::future::join_all;

use super::knowledge::{forget, note};
use super::probe;
use super::publish::Publisher;
use super::transfer::{Prefetch, Transfer, Trust};
use crate::engine::image::Lease;
use crate::engine::prepared::{Ready, ReadyBlob};
use crate::engine::{Verification, read_back};
use crate::oci::manifest::MAX_MANIFEST_BYTES;
use crate::oci::{Digest, Repository};
use crate::registry::{FailureKind, RegistryError, Sampled};
use crate::report::outcome::{Phase, Verified};
use crate::report::{Class, Failure};

/// Checks what is on one mirror.
#[derive(Debug, Clone, Copy)]
pub(super) struct Verifier<'a> {
    transfer: &'a Transfer,
    level: Verification,
}

/// A blob by its digest and size.
pub(super) type Sized = (Digest, u64);

/// What an image needs in one repository.
pub(super) struct Needs<'a> {
    pub(super) repository: &'a Repository,
    /// Its manifests; the root is the last.
    pub(super) manifests: &'a [Digest],
    pub(super) blobs: &'a [Sized],
}

/// What the mirror proved not to have.
#[derive(Debug, Default)]
struct Lost {
    manifests: Vec<Loss>,
    blobs: Vec<Loss>,
}

/// One thing that is not there.
#[derive(Debug)]
struct Loss {
    digest: Digest,
    /// What it gave instead, where it gave something.
    instead: Option<RegistryError>,
}

impl Lost {
    fn is_empty(&self) -> bool {
        self.manifests.is_empty() && self.blobs.is_empty()
    }

    fn first(self) -> Option<Loss> {
        self.manifests.into_iter().chain(self.blobs).next()
    }
}

impl Loss {
    fn of(digest: Digest) -> Self {
        Self { digest, instead: None }
    }

    /// It was sent again, and is still not there.
    fn into_failure(self, repository: &Repository) -> Failure {
        if let Some(error) = self.instead {
            return Failure::from(&error).cause("the registry keeps other bytes than it was sent");
        }
        let digest = self.digest;
        let message = format!("{repository}@{digest}: the registry acknowledged it and cannot give it back");
        Failure::new(Class::Integrity, message)
            .hint("look at the registry's log, storage and garbage collection, then push again")
            .cause("the registry cannot give back what it acknowledged")
    }
}

impl<'t> Verifier<'t> {
    pub(super) fn new(transfer: &'t Transfer, level: Verification) -> Self {
        Self { transfer, level }
    }

    /// Asks for a byte of blobs that were found, as far as that is due, and sends again what is lost.
    pub(super) async fn sample(
        self,
        lease: &Lease,
        repository: &Repository,
        blobs: &[ReadyBlob],
    ) -> Result<(), Failure> {
        if self.level == Verification::None {
            return Ok(());
        }
        let sized: Vec<Sized> = blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
        // Each turn sends what the one before has shown to be lost, and what was sent is not asked for again.
        loop {
            let lost = {
                // This waits for other images that have the same blobs, and reads nothing that is made for this one.
                let _suspended = lease.suspend();
                self.lost_blobs(repository, &sized).await?
            };
            if lost.is_empty() {
                return Ok(());
            }
            self.send_again(lease, repository, blobs, &lost).await?;
        }
    }

    /// What is lost of an image whose tags are to move. `is_new` is whether they are: all of an image that was found
    /// unchanged is there by the mirror's word.
    async fn lost(self, needs: &Needs<'_>, is_new: bool) -> Result<Lost, Failure> {
        let Needs { repository, manifests, blobs } = needs;
        match self.level {
            Verification::Pull => self.pull(needs).await,
            Verification::Sample if is_new => {
                let children = manifests.split_last().map_or(&[][..], |(_, children)| children);
                let manifests = self.lost_manifests(repository, children).await?;
                // An earlier sample of this image was taken before another one showed that the mirror's word counts little.
                let doubts = !self.transfer.knowledge.lock().expectations.sampling.trusts_heads();
                let blobs = if doubts { self.lost_blobs(repository, blobs).await? } else { Vec::new() };
                Ok(Lost { manifests, blobs })
            }
            Verification::Sample | Verification::None => Ok(Lost::default()),
        }
    }

    /// Whether all of an image is there. Gives how far that was checked, or nothing where something was lost.
    pub(super) async fn image(
        self,
        needs: &Needs<'_>,
        is_new: bool,
    ) -> Result<Result<Verified, Missing>, Failure> {
        let lost = self.lost(needs, is_new).await?;
        Ok(if lost.is_empty() { Ok(self.reached(needs, is_new)) } else { Err(Missing(lost)) })
    }

    fn reached(self, needs: &Needs<'_>, is_new: bool) -> Verified {
        // A policy of the registry allows no more.
        if self.transfer.link.registry.withholds_manifests() {
            return Verified::Head;
        }
        match self.level {
            Verification::Pull => Verified::Pull,
            Verification::Sample if is_new => {
                let knowledge = self.transfer.knowledge.lock();
                let mut blobs = needs.blobs.iter();
                let open = knowledge.expectations.sampling.is_open();
                let proven = open || blobs.all(|blob| knowledge.evidence.is_proven(needs.repository, blob.0));
                if proven { Verified::Sample } else { Verified::Head }
            }
            Verification::Sample | Verification::None => Verified::Head,
        }
    }

    /// Sends again what an image lacks, and looks again.
    pub(super) async fn mend(
        self,
        lease: &Lease,
        publisher: Publisher<'_>,
        needs: &Needs<'_>,
        ready: &Ready,
        missing: Missing,
    ) -> Result<Verified, (Phase, Failure)> {
        let verifying = |failure| (Phase::Verify, failure);
        let (knowledge, repository) = (&self.transfer.knowledge, needs.repository);
        let Missing(lost) = missing;
        self.send_again(lease, repository, &ready.blobs, &lost.blobs).await.map_err(verifying)?;
        if !lost.manifests.is_empty() {
            // Who has lost a manifest may have lost what it names.
            for blob in &ready.blobs {
                self.transfer.forget(lease, repository, &blob.digest).await;
            }
            let mut nothing = Prefetch::default();
            let sent =
                self.transfer.blobs(lease, repository, &ready.blobs, Trust::Mirror, &mut nothing).await;
            sent.map_err(|failure| (Phase::Upload, failure))?;
            for manifest in &ready.manifests {
                let location = knowledge.lock().manifests.location(&manifest.digest);
                forget(location, repository).await;
            }
        }
        publisher.publish(lease, repository, ready, false).await?;
        let lost = {
            let _suspended = lease.suspend();
            self.lost(needs, true).await.map_err(verifying)?
        };
        match lost.first() {
            Some(loss) => Err(verifying(loss.into_failure(repository))),
            None => Ok(self.reached(needs, true)),
        }
    }

    async fn lost_manifests(
        self,
        repository: &Repository,
        manifests: &[Digest],
    ) -> Result<Vec<Loss>, Failure> {
        let link = &self.transfer.link;
        let asked = manifests.iter().map(|digest| async move {
            let _permit = link.question().await?;
            let found = probe::digest(&link.registry, repository, digest).await;
            let found = found.map_err(|error| link.judge(&error))?;
            Ok((!found).then_some(Loss::of(*digest)))
        });
        lost_of(join_all(asked).await)
    }

    /// Asks for a byte of those blobs whose turn it is.
    async fn lost_blobs(self, repository: &Repository, blobs: &[Sized]) -> Result<Vec<Loss>, Failure> {
        let knowledge = &self.transfer.knowledge;
        let (found, picked) = {
            let mut knowledge = knowledge.lock();
            let is_unproven = |blob: &&Sized| !knowledge.evidence.is_proven(repository, blob.0);
            let mut found: Vec<Sized> = blobs.iter().filter(is_unproven).copied().collect();
            found.sort_unstable();
            found.dedup();
            let picked = knowledge.expectations.sampling.pick(found.len());
            (found, picked)
        };
        let asked = picked.into_iter().map(|place| {
            let (digest, size) = found[place];
            async move {
                // Who sends it, or asks for it for another image, is waited for: that may have proven it.
                let location = knowledge.lock().blobs.location(&digest);
                let _turn = location.lock().await;
                let is_proven = knowledge.lock().evidence.is_proven(repository, digest);
                let there = is_proven || self.has_bytes(repository, digest, size).await?;
                Ok((!there).then_some(Loss::of(digest)))
            }
        });
        let lost = lost_of(join_all(asked).await)?;
        if !lost.is_empty() {
            let mut knowledge = knowledge.lock();
            knowledge.expectations.sampling.was_wrong();
            knowledge.evidence.doubt_manifests();
        }
        Ok(lost)
    }

    /// Whether a byte of a blob can be had; taken for granted where nothing can be read from here.
    async fn has_bytes(self, repository: &Repository, digest: Digest, size: u64) -> Result<bool, Failure> {
        let Transfer { link, knowledge, listeners, .. } = self.transfer;
        let sampled = {
            let permit = link.question().await?;
            if !knowledge.lock().expectations.sampling.is_open() {
                permit.unused();
                return Ok(true);
            }
            link.registry.sample_blob(repository, &digest, size).await
        };
        match sampled {
            Sampled::There => {
                knowledge.lock().evidence.prove(repository, digest);
                Ok(true)
            }
            Sampled::Lost => Ok(false),
            Sampled::Unknown(error) => {
                if knowledge.lock().expectations.sampling.close() {
                    listeners.note(format!("blobs that were found are not read to check them: {error}"));
                }
                Ok(true)
            }
        }
    }

    /// Sends blobs that are lost, and asks whether they are there now.
    async fn send_again(
        self,
        lease: &Lease,
        repository: &Repository,
        blobs: &[ReadyBlob],
        lost: &[Loss],
    ) -> Result<(), Failure> {
        let lost: HashSet<Digest> = lost.iter().map(|loss| loss.digest).collect();
        let lost: Vec<ReadyBlob> = blobs.iter().filter(|blob| lost.contains(&blob.digest)).cloned().collect();
        for blob in &lost {
            self.transfer.forget(lease, repository, &blob.digest).await;
        }
        self.transfer.blobs(lease, repository, &lost, Trust::Nothing, &mut Prefetch::default()).await?;
        for blob in &lost {
            if !self.has_bytes(repository, blob.digest, blob.size).await? {
                return Err(Loss::of(blob.digest).into_failure(repository));
            }
        }
        Ok(())
    }

    /// Reads everything of an image back.
    async fn pull(self, needs: &Needs<'_>) -> Result<Lost, Failure> {
        let Needs { repository, manifests, blobs } = needs;
        let link = &self.transfer.link;
        let mut lost = Lost::default();
        for digest in *manifests {
            let _permit = link.question().await?;
            let got = link.registry.get_manifest(repository, &digest.to_string(), MAX_MANIFEST_BYTES).await;
            let there = match got {
                Err(error) if error.is_withheld() => Ok(true),
                got => got.map(|got| got.is_some()),
            };
            lost.manifests.extend(self.loss(*digest, there)?);
        }
        let reads = blobs.iter().map(|&(digest, size)| async move {
            let location = self.transfer.knowledge.lock().read_back.location(&digest);
            let mut read_in = location.lock_owned().await;
            if !read_in.is_empty() {
                if !read_in.contains(repository) {
                    if !self.has_bytes(repository, digest, size).await? {
                        return Ok(Some(Loss::of(digest)));
                    }
                    note(&mut read_in, repository);
                }
                return Ok(None);
            }
            let _permit = link.body().await?;
            let got = read_back::blob(&link.registry, repository, &digest, size).await;
            if let Some(loss) = self.loss(digest, got.map(|got| got == Some(size)))? {
                return Ok(Some(loss));
            }
            note(&mut read_in, repository);
            self.transfer.knowledge.lock().evidence.prove(repository, digest);
            Ok(None)
        });
        lost.blobs = lost_of(join_all(reads).await)?;
        Ok(lost)
    }

    /// What was read back is lost if it is not there, or is not what it should be.
    fn loss(self, digest: Digest, was_read: Result<bool, RegistryError>) -> Result<Option<Loss>, Failure> {
        match was_read {
            Ok(there) => Ok((!there).then_some(Loss::of(digest))),
            Err(error) if error.kind() == FailureKind::NotFound => Ok(Some(Loss::of(digest))),
            Err(error) if error.kind() == FailureKind::Integrity => {
                Ok(Some(Loss { digest, instead: Some(error) }))
            }
            Err(error) => Err(self.transfer.link.judge(&error)),
        }
    }
}

/// What the mirror proved not to have, to be sent again.
#[derive(Debug)]
pub(super) struct Missing(Lost);

fn lost_of(asked: Vec<Result<Option<Loss>, Failure>>) -> Result<Vec<Loss>, Failure> {
    asked.into_iter().filter_map(Result::transpose).collect()
}
