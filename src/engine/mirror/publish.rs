//! Making an image visible, in the one order that is safe
//! ([distribution-spec, pushing manifests](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-manifests)):
//! blobs are there → children by digest → parents by digest → and only then tags.
//!
//! An image with a tag is put by its tags alone, when they move: that stores its manifest as well and saves a request
//! for each image. Indexes need their children by digest, `--atomic-tags` needs every manifest taken before the first
//! tag moves, and clients find a referrer by its digest; those are put by digest first. Either way the registry checks that
//! the content which the manifest names is there, and returns the digest of what it stored.

mod confirm;
mod manifest;
mod referrers;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures_util::future::join_all;

pub(super) use self::manifest::tag;
use super::knowledge::{forget, note};
use super::transfer::{Prefetch, Transfer, Trust};
use crate::archive::Catalog;
use crate::engine::image::Lease;
use crate::engine::prepared::{Ready, ReadyBlob};
use crate::oci::{Digest, Manifest, Repository};
use crate::registry::RegistryError;
use crate::report::Failure;
use crate::report::outcome::Phase;

/// Puts manifests on one mirror.
#[derive(Debug, Clone, Copy)]
pub(super) struct Publisher<'a> {
    transfer: &'a Transfer,
}

impl<'a> Publisher<'a> {
    pub(super) fn new(transfer: &'a Transfer) -> Self {
        Self { transfer }
    }

    /// Puts the images that this one refers to by their digests, where only their tags would have been put, and those later:
    /// a registry may refuse what refers to a manifest that it does not have. One that cannot be put fails by itself.
    pub(super) async fn subjects(
        self,
        repository: &Repository,
        ready: &Ready,
        catalog: &Catalog,
    ) -> Result<(), Failure> {
        let own: HashSet<Digest> = ready.manifests.iter().map(|manifest| manifest.digest).collect();
        let subjects = ready.manifests.iter().filter_map(|manifest| manifest.subject.as_ref());
        for subject in subjects.filter(|subject| !own.contains(&subject.digest)) {
            if let Some(subject) = catalog.manifests.get(&subject.digest) {
                let _ = self.put(repository, subject).await?;
            }
        }
        Ok(())
    }

    /// Puts manifests by digest, the root too unless `by_tag`; mends what the mirror says it lacks.
    pub(super) async fn publish(
        self,
        lease: &Lease,
        repository: &Repository,
        ready: &Ready,
        by_tag: bool,
    ) -> Result<(), (Phase, Failure)> {
        let mut failed = self.put_all(repository, ready, by_tag).await?;
        let unknown: Vec<Vec<Digest>> =
            failed.iter().filter_map(RegistryError::manifest_blob_unknown).collect();
        if !unknown.is_empty() {
            self.resend(lease, repository, ready, &unknown)
                .await
                .map_err(|failure| (Phase::Upload, failure))?;
            failed = self.put_all(repository, ready, by_tag).await?;
        }
        match failed.first() {
            Some(error) => Err((Phase::Publish, self.transfer.link.judge(error))),
            None => Ok(()),
        }
    }

    /// The mirror lied, or lost something since: what it names (or all of the image) is sent without asking.
    pub(super) async fn resend(
        self,
        lease: &Lease,
        repository: &Repository,
        ready: &Ready,
        unknown: &[Vec<Digest>],
    ) -> Result<(), Failure> {
        let knowledge = &self.transfer.knowledge;
        let named: Vec<Digest> = unknown.iter().flatten().copied().collect();
        let all = unknown.iter().any(Vec::is_empty);
        knowledge.lock().evidence.doubt_manifests();
        let (resend, others): (Vec<ReadyBlob>, Vec<ReadyBlob>) =
            ready.blobs.iter().cloned().partition(|blob| all || named.contains(&blob.digest));
        // Not every registry names all that it lacks.
        let is_inferred =
            |blob: &ReadyBlob| knowledge.lock().evidence.is_only_inferred(repository, blob.digest);
        let ask: Vec<ReadyBlob> = others.into_iter().filter(is_inferred).collect();
        for blob in resend.iter().chain(&ask) {
            self.transfer.forget(lease, repository, &blob.digest).await;
        }
        for manifest in &ready.manifests {
            let location = knowledge.lock().manifests.location(&manifest.digest);
            forget(location, repository).await;
        }
        self.transfer.blobs(lease, repository, &resend, Trust::Nothing, &mut Prefetch::default()).await?;
        self.transfer.blobs(lease, repository, &ask, Trust::Mirror, &mut Prefetch::default()).await
    }

    /// Puts manifests, level by level. Returns the failures of the first level that failed.
    async fn put_all(
        self,
        repository: &Repository,
        ready: &Ready,
        by_tag: bool,
    ) -> Result<Vec<RegistryError>, (Phase, Failure)> {
        let root = ready.root().filter(|_| by_tag).map(|root| root.digest);
        for level in levels(&ready.manifests) {
            let wanted = level.iter().filter(|manifest| Some(manifest.digest) != root);
            let puts = join_all(wanted.map(|manifest| self.put(repository, manifest))).await;
            let puts = puts
                .into_iter()
                .collect::<Result<Vec<_>, _>>()
                .map_err(|failure| (Phase::Publish, failure))?;
            let failed: Vec<RegistryError> = puts.into_iter().filter_map(Result::err).collect();
            if !failed.is_empty() {
                return Ok(failed);
            }
        }
        Ok(Vec::new())
    }

    /// One manifest into one repository, once: a registry that writes its links in place (distribution 2.8) refuses an
    /// index while one of its children is put again.
    async fn put(
        self,
        repository: &Repository,
        manifest: &Manifest,
    ) -> Result<Result<(), RegistryError>, Failure> {
        let Transfer { link, knowledge, .. } = self.transfer;
        // The permit comes first: whoever holds a location has one, and gets on.
        let permit = link.question().await?;
        let location = knowledge.lock().manifests.location(&manifest.digest);
        let mut repositories = location.lock().await;
        if repositories.contains(repository) {
            permit.unused();
            return Ok(Ok(()));
        }
        let put = manifest::put(&link.registry, knowledge, repository, manifest).await;
        if put.is_ok() {
            note(&mut repositories, repository);
        }
        Ok(put)
    }
}

/// Images first, then indexes of images, then indexes of those; a subject before what refers to it. Within a level nothing
/// depends on another.
pub(super) fn levels(manifests: &[Arc<Manifest>]) -> Vec<Vec<&Arc<Manifest>>> {
    let positions: HashMap<Digest, usize> =
        manifests.iter().enumerate().map(|(at, manifest)| (manifest.digest, at)).collect();
    let needed_by = |at: usize| {
        let needed = manifests[at].children().iter().chain(&manifests[at].subject);
        needed.filter_map(|it| positions.get(&it.digest).copied()).filter(move |it| *it != at)
    };
    let mut depths: Vec<Option<usize>> = vec![None; manifests.len()];
    let mut seen = vec![false; manifests.len()];
    for start in 0..manifests.len() {
        // (manifest, whether what it needs is done)
        let mut stack = vec![(start, false)];
        while let Some((at, done)) = stack.pop() {
            if done {
                let deepest = needed_by(at).filter_map(|it| depths[it]).max();
                depths[at] = Some(deepest.map_or(0, |deepest| deepest + 1));
            } else if !std::mem::replace(&mut seen[at], true) {
                stack.push((at, true));
                stack.extend(needed_by(at).map(|it| (it, false)));
            }
        }
    }
    let mut levels: Vec<Vec<&Arc<Manifest>>> = Vec::new();
    for (manifest, depth) in manifests.iter().zip(depths) {
        let depth = depth.unwrap_or_default();
        if levels.len() <= depth {
            levels.resize_with(depth + 1, Vec::new);
        }
        levels[depth].push(manifest);
    }
    levels
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::oci::media_type;

    fn manifest(json: String) -> Arc<Manifest> {
        Arc::new(Manifest::parse(Bytes::from(json), media_type::OCI_MANIFEST).unwrap())
    }

    fn index(children: &[&Arc<Manifest>]) -> Arc<Manifest> {
        let list: Vec<_> = children
            .iter()
            .map(|m| {
                format!(
                    r#"{{"mediaType":"{}","digest":"{}","size":{}}}"#,
                    m.media_type,
                    m.digest,
                    m.bytes.len()
                )
            })
            .collect();
        let media_type = media_type::OCI_INDEX;
        manifest(format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{}]}}"#,
            list.join(",")
        ))
    }

    #[test]
    fn a_subject_comes_in_an_earlier_level_than_what_refers_to_it() {
        let config = format!(r#"{{"digest":"{}","size":0}}"#, Digest::of(b""));
        let image = manifest(format!(r#"{{"schemaVersion":2,"config":{config}}}"#));
        let about = |subject: &Arc<Manifest>| {
            let subject = format!(r#"{{"digest":"{}","size":{}}}"#, subject.digest, subject.bytes.len());
            manifest(format!(r#"{{"schemaVersion":2,"config":{config},"subject":{subject}}}"#))
        };
        let attestation = about(&image);
        let signature = about(&attestation);
        let root = index(&[&signature, &attestation, &image]);
        let all = [&signature, &attestation, &image, &root].map(Arc::clone);
        let levels: Vec<Vec<_>> =
            levels(&all).into_iter().map(|level| level.into_iter().map(|m| m.digest).collect()).collect();
        assert_eq!(levels, [&image, &attestation, &signature, &root].map(|it| vec![it.digest]));
    }

    #[test]
    fn children_come_in_an_earlier_level_than_their_parents() {
        let digest = crate::oci::Digest::of(b"");
        let leaf = manifest(format!(r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":0}}}}"#));
        let inner = index(&[&leaf]);
        let root = index(&[&leaf, &inner]);
        let all = [Arc::clone(&leaf), Arc::clone(&inner), Arc::clone(&root)];
        let levels: Vec<Vec<_>> =
            levels(&all).into_iter().map(|level| level.into_iter().map(|m| m.digest).collect()).collect();
        assert_eq!(levels, [vec![leaf.digest], vec![inner.digest], vec![root.digest]]);
    }
}
