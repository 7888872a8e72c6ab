//! Images of registries come into a folder, from which a bundle is written: with all platforms or one, and with what refers to them.
//!
//! Digests stay what they are: manifests are kept byte for byte, and each blob is hashed on its way to the disk. A blob that
//! several images have is fetched once. What is in the folder already is not fetched again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::folder::{LayoutFolder, NotReceived};
use super::layout::IndexEntry;
use crate::archive::ImageName;
use crate::archive::names::{CONTAINERD_NAME, HOSTLESS_NAME, REF_NAME};
use crate::locks::Mutex;
use crate::oci::manifest::{Kind, MAX_MANIFEST_BYTES};
use crate::oci::{Descriptor, Digest, Manifest, Platform, Reference, Repository, Tag, media_type};
use crate::registry::Registry;
use crate::report::event::WorkStep;
use crate::report::{Class, Event, Failure, Listeners};

/// Images under way at once.
const IMAGES_AT_ONCE: usize = 8;
/// How often a blob is begun.
const MAX_TRIES: u32 = 5;
/// Manifests below each other.
const MAX_DEPTH: usize = 8;
/// Tags under which cosign keeps what it says of an image.
const COSIGN_SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];

/// An image to be pulled.
#[derive(Debug, Clone)]
pub(crate) struct WantedImage {
    /// Its name in the bundle, with a host or without.
    pub(crate) name: ImageName,
    /// Where it is asked for.
    pub(crate) registry: Registry,
    /// Its repository there.
    pub(crate) repository: Repository,
}

/// What is taken of images.
#[derive(Debug, Clone)]
pub(crate) struct PullChoice {
    /// Of an index the image of this platform alone, under the name of the index; everything where none is given.
    pub(crate) platform: Option<Platform>,
    /// What refers to an image comes with it.
    pub(crate) referrers: bool,
    /// Blobs on their way at once.
    pub(crate) at_once: usize,
}

/// What came.
#[derive(Debug, Default)]
pub(crate) struct Pulled {
    /// Images that are whole in the folder.
    pub(crate) images: usize,
    /// What refers to them.
    pub(crate) referrers: usize,
    pub(crate) blobs_fetched: u64,
    pub(crate) bytes_fetched: u64,
    /// Images that are not whole, and why.
    pub(crate) failed: Vec<(String, Failure)>,
}

/// Brings images into a folder, and lists there what is whole. `listeners` hear how far it has come.
///
/// # Errors
/// The folder cannot be written, or `cancel` was cancelled. What came stays for the next time.
pub(crate) async fn pull(
    images: Vec<WantedImage>,
    folder: &LayoutFolder,
    choice: PullChoice,
    cancel: &CancellationToken,
    listeners: &Listeners,
) -> Result<Pulled, Failure> {
    let progress = FetchProgress {
        listeners,
        images: images.len(),
        whole: AtomicUsize::new(0),
        bytes: AtomicU64::new(0),
    };
    progress.tell();
    let puller = ImagePuller {
        progress,
        folder,
        permits: Semaphore::new(choice.at_once),
        choice,
        cancel,
        claims: Mutex::default(),
        blobs_fetched: AtomicU64::new(0),
        bytes_fetched: AtomicU64::new(0),
    };
    let pulls = images.into_iter().map(|image| {
        let puller = &puller;
        async move {
            let pulled = Box::pin(puller.image(&image)).await;
            (image.name.to_string(), pulled)
        }
    });
    let mut pulls = stream::iter(pulls).buffered(IMAGES_AT_ONCE);
    let (mut pulled, mut entries, mut seen) = (Pulled::default(), Vec::new(), HashSet::new());
    while let Some((name, image)) = pulls.next().await {
        match image {
            Ok((own, referrers)) => {
                pulled.images += 1;
                puller.progress.whole.store(pulled.images, Relaxed);
                puller.progress.tell();
                entries.push(own);
                let new = referrers.into_iter().filter(|it| seen.insert((it.digest, it.annotations.clone())));
                let before = entries.len();
                entries.extend(new);
                pulled.referrers += entries.len() - before;
            }
            Err(failure) => pulled.failed.push((name, failure)),
        }
    }
    if cancel.is_cancelled() {
        return Err(Failure::interrupted());
    }
    folder.list(&entries)?;
    if pulled.failed.is_empty() {
        folder.keep(&puller.claims.lock().keys().copied().collect())?;
    }
    pulled.blobs_fetched = puller.blobs_fetched.load(Relaxed);
    pulled.bytes_fetched = puller.bytes_fetched.load(Relaxed);
    Ok(pulled)
}

/// Tells how far fetching has come.
struct FetchProgress<'a> {
    listeners: &'a Listeners,
    images: usize,
    whole: AtomicUsize,
    /// Of blobs that are there or on their way.
    bytes: AtomicU64,
}

impl FetchProgress<'_> {
    fn received(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Relaxed);
        self.tell();
    }

    fn tell(&self) {
        let step = WorkStep::Fetch { whole: self.whole.load(Relaxed), images: self.images };
        self.listeners.emit(&Event::Advanced { step, bytes: self.bytes.load(Relaxed), of: None });
    }
}

struct ImagePuller<'a> {
    progress: FetchProgress<'a>,
    folder: &'a LayoutFolder,
    choice: PullChoice,
    cancel: &'a CancellationToken,
    permits: Semaphore,
    /// What is needed, and who fetches it; others that need it wait.
    claims: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    blobs_fetched: AtomicU64,
    bytes_fetched: AtomicU64,
}

impl ImagePuller<'_> {
    /// An image, and what refers to it, as entries of `index.json`.
    async fn image(&self, image: &WantedImage) -> Result<(IndexEntry, Vec<IndexEntry>), Failure> {
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
        if let Some(bytes) = digest.and_then(|digest| self.folder.document(&digest))
            && let Ok(manifest) = Manifest::parse(bytes, "")
        {
            return Ok(Some(manifest));
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
            try_join_all(blobs.map(|blob| self.blob(registry, repository, blob))).await?;
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
        let blobs = family.iter().flat_map(Manifest::blobs).filter(|blob| !blob.is_foreign());
        // What is under way is finished, whatever became of another one: it need not be fetched again.
        let fetched = join_all(blobs.map(|blob| self.blob(registry, repository, blob))).await;
        fetched.into_iter().collect::<Result<(), _>>()?;
        for manifest in family.iter().rev() {
            self.claims.lock().entry(manifest.digest).or_default();
            self.folder.put(&manifest.digest, &manifest.bytes)?;
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

    async fn blob(
        &self,
        registry: &Registry,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<(), Failure> {
        let claim = Arc::clone(self.claims.lock().entry(blob.digest).or_default());
        let _claim = claim.lock().await;
        if self.folder.has(&blob.digest, blob.size) {
            return Ok(());
        }
        let permit = self.permits.acquire().await;
        let fetched = self.unless_cancelled(self.fetch(registry, repository, blob)).await?;
        drop(permit);
        self.blobs_fetched.fetch_add(1, Relaxed);
        self.bytes_fetched.fetch_add(blob.size, Relaxed);
        fetched
    }

    /// Fetches a blob, and begins again where the connection breaks.
    async fn fetch(
        &self,
        registry: &Registry,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<(), Failure> {
        let Descriptor { digest, size, .. } = blob;
        for tried in 1.. {
            let mut received = 0;
            let bytes = registry.get_blob(repository, digest, *size).await?.inspect_ok(|chunk| {
                received += chunk.len() as u64;
                self.progress.received(chunk.len() as u64);
            });
            let failure = match self.folder.receive(digest, *size, bytes).await {
                Ok(()) => break,
                Err(NotReceived::Here(failure)) => return Err(failure),
                Err(NotReceived::Stream(error)) if !error.is_retryable() => return Err(error.into()),
                Err(NotReceived::Stream(error)) => error.into(),
                Err(NotReceived::Cut(received)) => {
                    let what = format!("{repository}@{digest} ended after {received} of its {size} bytes");
                    Failure::new(Class::BrokenConnection, what)
                }
            };
            // What came is fetched once more.
            self.progress.bytes.fetch_sub(received, Relaxed);
            if tried == MAX_TRIES {
                return Err(failure);
            }
            tokio::time::sleep(Duration::from_millis(250 << tried)).await;
        }
        Ok(())
    }

    async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            done = work => Ok(done),
            () = self.cancel.cancelled() => Err(Failure::interrupted()),
        }
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
