//! An image: its manifests, what is below them, and what refers to it.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};

use super::{BlobRole, ImagePuller, PullDepth, WantedImage};
use crate::archive::ImageName;
use crate::archive::names::{CONTAINERD_NAME, HOSTLESS_NAME, REF_NAME};
use crate::make::layout::IndexEntry;
use crate::oci::manifest::{Kind, MAX_MANIFEST_BYTES};
use crate::oci::{Descriptor, Digest, Manifest, Platform, Reference, Repository, Tag, media_type};
use crate::registry::Registry;
use crate::report::{Class, Failure};

/// Manifests below each other.
const MAX_DEPTH: usize = 8;
/// Tags under which cosign keeps what it says of an image.
const COSIGN_SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];

impl ImagePuller<'_> {
    /// An image, and what refers to it, as entries of `index.json`.
    pub(super) async fn image(&self, image: &WantedImage) -> Result<(IndexEntry, Vec<IndexEntry>), Failure> {
        let WantedImage { name, registry, repository } = image;
        let asked = asked(name);
        let found = self.manifest(registry, repository, &asked).await?;
        let root = found.ok_or_else(|| not_found(&format!("{repository}:{asked}"), registry))?;
        let root = match (&self.choice.platform, &root.kind) {
            (Some(platform), Kind::Index { children }) => {
                let child = of_platform(children, platform).ok_or_else(|| {
                    let offered: Vec<String> = children
                        .iter()
                        .filter_map(|child| Some(child.platform.as_ref()?.to_string()))
                        .collect();
                    let message =
                        format!("{name} has no image for {platform}, but for {}", offered.join(", "));
                    Failure::new(Class::NotFound, message).hint("choose another --platform, or leave it out")
                })?;
                self.child(registry, repository, child).await?
            }
            _ => root,
        };
        let family = self.family(registry, repository, &root).await?;
        let mut referrers = Vec::new();
        if self.choice.referrers {
            self.referrers(image, family, &mut referrers).await?;
        }
        Ok((entry(&root, annotations(name)), referrers))
    }

    /// A manifest by tag or digest, if it is there.
    async fn manifest(
        &self,
        registry: &Registry,
        repository: &Repository,
        reference: &str,
    ) -> Result<Option<Manifest>, Failure> {
        let digest = reference.parse::<Digest>().ok();
        if let Some(digest) = digest
            && let Some(bytes) = self.document(&digest).await
            && let Ok(manifest) = Manifest::parse(bytes, "")
        {
            return Ok(Some(Manifest { digest, ..manifest }));
        }
        let asking = async {
            let _permit = self.permits.acquire().await;
            registry.get_manifest(repository, reference, MAX_MANIFEST_BYTES).await
        };
        let Some(found) = self.unless_cancelled(asking).await?? else { return Ok(None) };
        let manifest = Manifest::parse(found.bytes, &found.media_type)?;
        let digest = digest.unwrap_or(manifest.digest);
        Ok(Some(Manifest { digest, ..manifest }))
    }

    /// A document that came already, in this run or before.
    pub(super) async fn document(&self, digest: &Digest) -> Option<Bytes> {
        let known = self.documents.lock().get(digest).cloned();
        if known.is_some() { known } else { self.store.document(digest).await }
    }

    async fn child(
        &self,
        registry: &Registry,
        repository: &Repository,
        child: &Descriptor,
    ) -> Result<Manifest, Failure> {
        let reference = child.digest.to_string();
        let found = self.manifest(registry, repository, &reference).await?;
        found.ok_or_else(|| not_found(&format!("{repository}@{reference}"), registry))
    }

    /// Everything below a manifest, and then the manifest. Gives the digests of the manifests.
    async fn family(
        &self,
        registry: &Registry,
        repository: &Repository,
        root: &Manifest,
    ) -> Result<Vec<Digest>, Failure> {
        let (mut level, mut family, mut seen) =
            (vec![root.clone()], Vec::new(), HashSet::from([root.digest]));
        for _ in 0..MAX_DEPTH {
            let below = level.iter().flat_map(|manifest| manifest.children().to_vec());
            let new: Vec<Descriptor> = below.filter(|child| seen.insert(child.digest)).collect();
            family.append(&mut level);
            let (manifests, blobs): (Vec<_>, Vec<_>) =
                new.into_iter().partition(|child| media_type::may_be_manifest(&child.media_type));
            let blobs = blobs.iter().filter(|blob| !blob.is_foreign());
            try_join_all(blobs.map(|blob| self.blob(registry, repository, blob, BlobRole::Other))).await?;
            level =
                try_join_all(manifests.iter().map(|child| self.child(registry, repository, child))).await?;
            if level.is_empty() {
                break;
            }
        }
        if !level.is_empty() {
            let what = format!("{repository}@{}: indexes lie more than {MAX_DEPTH} deep", root.digest);
            return Err(Failure::new(Class::LimitExceeded, what));
        }
        let with_role = |manifest: &Manifest| {
            let config = match &manifest.kind {
                Kind::Image { config, .. } => Some(config.digest),
                Kind::Index { .. } | Kind::Artifact { .. } => None,
            };
            let role = move |blob: &Descriptor| {
                if Some(blob.digest) == config { BlobRole::Configuration } else { BlobRole::Other }
            };
            manifest.blobs().map(move |blob| (blob.clone(), role(blob))).collect::<Vec<_>>()
        };
        let blobs: Vec<_> =
            family.iter().flat_map(with_role).filter(|(blob, _)| !blob.is_foreign()).collect();
        // What is under way is finished, whatever became of another one: it need not be fetched again.
        let fetching = blobs.iter().map(|(blob, role)| self.blob(registry, repository, blob, *role));
        let fetched = join_all(fetching).await;
        fetched.into_iter().collect::<Result<(), _>>()?;
        for manifest in family.iter().rev() {
            if self.choice.depth == PullDepth::Everything {
                self.store.put(&manifest.digest, &manifest.bytes).await?;
            }
            self.documents.lock().insert(manifest.digest, manifest.bytes.clone());
        }
        Ok(family.iter().map(|manifest| manifest.digest).collect())
    }

    /// What refers to manifests, and to that in turn; and what cosign keeps under tags.
    async fn referrers(
        &self,
        image: &WantedImage,
        family: Vec<Digest>,
        entries: &mut Vec<IndexEntry>,
    ) -> Result<(), Failure> {
        let WantedImage { name, registry, repository } = image;
        let mut seen: HashSet<Digest> = family.iter().copied().collect();
        let mut rest = family;
        while let Some(subject) = rest.pop() {
            let asking = async {
                let _permit = self.permits.acquire().await;
                registry.referrers(repository, &subject).await
            };
            let listed = self.unless_cancelled(asking).await??;
            for referrer in listed.iter().filter(|it| seen.insert(it.digest)) {
                let manifest = self.child(registry, repository, referrer).await?;
                rest.extend(self.family(registry, repository, &manifest).await?);
                entries.push(entry(&manifest, BTreeMap::new()));
            }
            for suffix in COSIGN_SUFFIXES {
                let tag = format!("{}-{}.{suffix}", subject.algorithm().name(), subject.hex());
                if let Some(manifest) = self.manifest(registry, repository, &tag).await? {
                    self.family(registry, repository, &manifest).await?;
                    entries.push(entry(&manifest, annotations(&beside(name, &tag)?)));
                }
            }
        }
        Ok(())
    }
}

/// The child of an index for a platform. Without a variant any will do, as container runtimes take the first that fits.
fn of_platform<'c>(children: &'c [Descriptor], wanted: &Platform) -> Option<&'c Descriptor> {
    let fits = |has: &Platform| {
        has.os == wanted.os
            && has.architecture == wanted.architecture
            && (wanted.variant.is_none() || wanted.variant == has.variant)
    };
    children.iter().find(|child| child.platform.as_ref().is_some_and(fits))
}

fn entry(manifest: &Manifest, annotations: BTreeMap<String, String>) -> IndexEntry {
    let (digest, size) = (manifest.digest, manifest.bytes.len() as u64);
    IndexEntry { media_type: manifest.media_type.clone(), digest, size, annotations }
}

/// The tag or digest by which an image is asked for.
fn asked(name: &ImageName) -> String {
    match name {
        ImageName::Full(Reference { digest: Some(digest), .. }) | ImageName::HostlessDigest(_, digest) => {
            digest.to_string()
        }
        ImageName::Full(Reference { tag: Some(tag), .. })
        | ImageName::Hostless(_, tag)
        | ImageName::TagOnly(tag) => tag.to_string(),
        ImageName::Full(_) | ImageName::Invalid { .. } => "latest".to_owned(),
    }
}

/// The name of another tag of the same repository.
fn beside(name: &ImageName, tag: &str) -> Result<ImageName, Failure> {
    let tag: Tag = tag.parse()?;
    Ok(match name {
        ImageName::Full(full) => ImageName::Full(Reference { tag: Some(tag), digest: None, ..full.clone() }),
        ImageName::Hostless(repository, _) | ImageName::HostlessDigest(repository, _) => {
            ImageName::Hostless(repository.clone(), tag)
        }
        ImageName::TagOnly(_) | ImageName::Invalid { .. } => ImageName::TagOnly(tag),
    })
}

/// How an entry of `index.json` says a name.
fn annotations(name: &ImageName) -> BTreeMap<String, String> {
    let own = if matches!(name, ImageName::Full(_)) { CONTAINERD_NAME } else { HOSTLESS_NAME };
    [own, REF_NAME].into_iter().map(|key| (key.to_owned(), name.to_string())).collect()
}

fn not_found(what: &str, registry: &Registry) -> Failure {
    let message = format!("{} has no {what}", registry.endpoint());
    Failure::new(Class::NotFound, message).hint("correct the name; a private image needs credentials")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_platform_is_chosen_as_runtimes_choose_it() {
        let platform = |text: &str| {
            let parts: Vec<&str> = text.split('/').collect();
            let variant = parts.get(2).map(|variant| (*variant).to_owned());
            Platform { os: parts[0].to_owned(), architecture: parts[1].to_owned(), variant }
        };
        let child = |text: &str| Descriptor {
            platform: Some(platform(text)),
            ..Descriptor::plain(Digest::of(text.as_bytes()), 1)
        };
        let children = ["linux/arm/v6", "linux/arm/v7", "linux/amd64", "windows/amd64"].map(child);
        let chosen = |text: &str| of_platform(&children, &platform(text)).map(|child| child.digest);
        let digest = |text: &str| Some(Digest::of(text.as_bytes()));
        assert_eq!(chosen("linux/arm"), digest("linux/arm/v6"));
        assert_eq!(chosen("linux/arm/v7"), digest("linux/arm/v7"));
        assert_eq!(chosen("windows/amd64"), digest("windows/amd64"));
        assert_eq!(chosen("linux/s390x"), None);
    }
}
