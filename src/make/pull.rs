//! Images of registries become a bundle: with all platforms or one, and with what refers to them.
//!
//! Digests stay what they are: manifests are kept byte for byte, and each blob is hashed on its way to the disk. A blob that
//! several images have is fetched once. What is in the folder or the stage already is not fetched again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{join_all, try_join_all};
use futures_util::{StreamExt as _, stream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::folder::{BlobFault, MAX_DOCUMENT_BYTES};
use super::layout::{self, IndexEntry};
use super::store::{IncomingBlob, PullStore};
use crate::archive::ImageName;
use crate::archive::names::{CONTAINERD_NAME, HOSTLESS_NAME, REF_NAME};
use crate::bundle::PulledBundle;
use crate::locks::Mutex;
use crate::oci::manifest::{Kind, MAX_MANIFEST_BYTES};
use crate::oci::{Descriptor, Digest, Manifest, Platform, Reference, Repository, Tag, media_type};
use crate::registry::{BlobStream, Registry};
use crate::report::event::WorkStep;
use crate::report::{Class, Event, Failure, Listeners};

/// Images under way at once.
const IMAGES_AT_ONCE: usize = 8;
/// How often in a row a blob breaks off with hardly any progress before it is given up.
const MAX_TRIES: u32 = 5;
/// What counts as progress.
const PROGRESS_BYTES: u64 = 1 << 20;
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
    /// How much of the images comes.
    pub(crate) depth: PullDepth,
    /// Blobs on their way at once.
    pub(crate) at_once: usize,
}

/// How much of images comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullDepth {
    /// What says which images and blobs there are: manifests and configurations.
    Documents,
    /// All blobs.
    Everything,
}

/// Where a blob can be fetched.
#[derive(Debug, Clone)]
pub(crate) struct RemoteBlob {
    registry: Registry,
    repository: Repository,
    descriptor: Descriptor,
}

/// What came.
#[derive(Debug, Default)]
pub(crate) struct Pulled {
    /// Entries of `index.json`: what is whole.
    entries: Vec<IndexEntry>,
    documents: BTreeMap<Digest, Bytes>,
    /// Where blobs are.
    places: BTreeMap<Digest, RemoteBlob>,
    /// Images that are whole.
    pub(crate) images: usize,
    /// What refers to them.
    pub(crate) referrers: usize,
    pub(crate) blobs_fetched: u64,
    pub(crate) bytes_fetched: u64,
    /// Images that are not whole, and why.
    pub(crate) failed: Vec<(String, Failure)>,
}

impl Pulled {
    /// The bundle, under this name.
    pub(crate) fn bundle(&self, name: String, store: &PullStore) -> PulledBundle {
        PulledBundle {
            name,
            index: layout::index(&self.entries, None).into(),
            documents: self.documents.clone(),
            blobs: self.places.iter().map(|(digest, place)| (*digest, place.descriptor.size)).collect(),
            folder: store.folder().to_owned(),
        }
    }

    /// Fetches these blobs of images of which only documents came.
    ///
    /// # Errors
    /// As [`pull`], or one of them does not come.
    pub(crate) async fn fetch(
        &mut self,
        blobs: impl IntoIterator<Item = Digest>,
        store: &PullStore,
        choice: PullChoice,
        cancel: &CancellationToken,
        listeners: &Listeners,
    ) -> Result<(), Failure> {
        let choice = PullChoice { depth: PullDepth::Everything, ..choice };
        let puller = ImagePuller::new(store, choice, cancel, listeners, self.images);
        let places = blobs.into_iter().filter_map(|digest| self.places.get(&digest));
        let fetching =
            places.map(|it| puller.blob(&it.registry, &it.repository, &it.descriptor, BlobRole::Other));
        // What is under way is finished, whatever became of another one: it need not be fetched again.
        let fetched = join_all(fetching).await;
        fetched.into_iter().collect::<Result<(), _>>()?;
        self.blobs_fetched += puller.blobs_fetched.load(Relaxed);
        self.bytes_fetched += puller.progress.bytes.load(Relaxed);
        Ok(())
    }
}

/// Brings images into a store, as much of them as is wanted. `listeners` hear how far it has come.
///
/// # Errors
/// The store cannot be written, or `cancel` was cancelled. What came stays for the next time.
pub(crate) async fn pull(
    images: Vec<WantedImage>,
    store: &PullStore,
    choice: PullChoice,
    cancel: &CancellationToken,
    listeners: &Listeners,
) -> Result<Pulled, Failure> {
    let puller = ImagePuller::new(store, choice, cancel, listeners, images.len());
    puller.progress.tell();
    let pulls = images.into_iter().map(|image| {
        let puller = &puller;
        async move {
            let pulled = Box::pin(puller.image(&image)).await;
            (image.name.to_string(), pulled)
        }
    });
    let mut pulls = stream::iter(pulls).buffered(IMAGES_AT_ONCE);
    let (mut pulled, mut seen) = (Pulled::default(), HashSet::new());
    while let Some((name, image)) = pulls.next().await {
        match image {
            Ok((own, referrers)) => {
                pulled.images += 1;
                puller.progress.whole.store(pulled.images, Relaxed);
                puller.progress.tell();
                pulled.entries.push(own);
                let new = referrers.into_iter().filter(|it| seen.insert((it.digest, it.annotations.clone())));
                let before = pulled.entries.len();
                pulled.entries.extend(new);
                pulled.referrers += pulled.entries.len() - before;
            }
            Err(failure) => pulled.failed.push((name, failure)),
        }
    }
    drop(pulls);
    if cancel.is_cancelled() {
        return Err(Failure::interrupted());
    }
    let ImagePuller { progress, documents, places, blobs_fetched, .. } = puller;
    pulled.blobs_fetched = blobs_fetched.into_inner();
    pulled.bytes_fetched = progress.bytes.into_inner();
    pulled.documents = documents.into_inner();
    pulled.places = places.into_inner();
    Ok(pulled)
}

/// Tells how far fetching has come.
struct FetchProgress<'a> {
    listeners: &'a Listeners,
    images: usize,
    whole: AtomicUsize,
    /// That came.
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
    store: &'a PullStore,
    choice: PullChoice,
    cancel: &'a CancellationToken,
    permits: Semaphore,
    /// Who fetches a blob; others that need it wait.
    claims: Mutex<HashMap<Digest, Arc<tokio::sync::Mutex<()>>>>,
    documents: Mutex<BTreeMap<Digest, Bytes>>,
    places: Mutex<BTreeMap<Digest, RemoteBlob>>,
    blobs_fetched: AtomicU64,
}

/// What a blob is of its image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BlobRole {
    Configuration,
    Other,
}

impl<'a> ImagePuller<'a> {
    fn new(
        store: &'a PullStore,
        choice: PullChoice,
        cancel: &'a CancellationToken,
        listeners: &'a Listeners,
        images: usize,
    ) -> Self {
        Self {
            progress: FetchProgress {
                listeners,
                images,
                whole: AtomicUsize::new(0),
                bytes: AtomicU64::new(0),
            },
            store,
            permits: Semaphore::new(choice.at_once),
            choice,
            cancel,
            claims: Mutex::default(),
            documents: Mutex::default(),
            places: Mutex::default(),
            blobs_fetched: AtomicU64::new(0),
        }
    }
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
    async fn document(&self, digest: &Digest) -> Option<Bytes> {
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

    async fn blob(
        &self,
        registry: &Registry,
        repository: &Repository,
        blob: &Descriptor,
        role: BlobRole,
    ) -> Result<(), Failure> {
        let claim = Arc::clone(self.claims.lock().entry(blob.digest).or_default());
        let _claim = claim.lock().await;
        let place = || RemoteBlob {
            registry: registry.clone(),
            repository: repository.clone(),
            descriptor: blob.clone(),
        };
        self.places.lock().entry(blob.digest).or_insert_with(place);
        let is_document = role == BlobRole::Configuration && blob.size <= MAX_DOCUMENT_BYTES;
        match self.choice.depth {
            PullDepth::Documents if is_document && self.document(&blob.digest).await.is_none() => {}
            PullDepth::Everything if !self.store.has(&blob.digest, blob.size) => {}
            _ => return Ok(()),
        }
        let _permit = self.permits.acquire().await;
        if self.choice.depth == PullDepth::Documents {
            let bytes = self.unless_cancelled(self.small(registry, repository, blob)).await??;
            self.documents.lock().insert(blob.digest, bytes);
        } else {
            self.unless_cancelled(self.fetch(registry, repository, blob)).await??;
        }
        self.blobs_fetched.fetch_add(1, Relaxed);
        Ok(())
    }

    /// A blob that is no larger than a document, into memory.
    async fn small(
        &self,
        registry: &Registry,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<Bytes, Failure> {
        let mut stream = registry.get_blob(repository, &blob.digest, blob.size).await?;
        let mut bytes = BytesMut::new();
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk?);
        }
        self.progress.received(bytes.len() as u64);
        if blob.digest.matches(&bytes) {
            return Ok(bytes.freeze());
        }
        let what = format!("what the registry gives for {repository}@{} is something else", blob.digest);
        Err(Failure::new(Class::Integrity, what))
    }

    /// Fetches a blob. Where the connection breaks it goes on from what came.
    async fn fetch(
        &self,
        registry: &Registry,
        repository: &Repository,
        blob: &Descriptor,
    ) -> Result<(), Failure> {
        let Descriptor { digest, size, .. } = blob;
        let Some(mut incoming) = self.store.begin(digest, *size, false).await? else { return Ok(()) };
        let (mut is_of_before, mut tries) = (incoming.received() > 0, 0);
        loop {
            let from = incoming.received();
            if from < *size {
                let (begins, bytes) = registry.get_blob_from(repository, digest, *size, from).await?;
                if let Some(failure) = self.receive(bytes, from - begins, blob, &mut incoming).await? {
                    tries = if incoming.received() - from >= PROGRESS_BYTES { 1 } else { tries + 1 };
                    if tries == MAX_TRIES {
                        return Err(failure);
                    }
                    tokio::time::sleep(Duration::from_millis(250 << tries)).await;
                    continue;
                }
            }
            match incoming.end().await {
                Ok(()) => return Ok(()),
                Err(BlobFault::Here(failure)) => return Err(failure),
                // What an earlier run left may be damaged.
                Err(BlobFault::Cut | BlobFault::Wrong) if is_of_before => {
                    let Some(anew) = self.store.begin(digest, *size, true).await? else { return Ok(()) };
                    (incoming, is_of_before) = (anew, false);
                }
                Err(BlobFault::Cut | BlobFault::Wrong) => {
                    let what = format!("what the registry gives for {repository}@{digest} is something else");
                    return Err(Failure::new(Class::Integrity, what));
                }
            }
        }
    }

    /// Takes the bytes of an answer, but for the first `known`, which came before. Gives what ended it too early.
    ///
    /// # Errors
    /// Another try does not help.
    async fn receive(
        &self,
        mut bytes: BlobStream,
        mut known: u64,
        blob: &Descriptor,
        incoming: &mut IncomingBlob,
    ) -> Result<Option<Failure>, Failure> {
        while let Some(chunk) = bytes.next().await {
            let mut chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) if error.is_retryable() => return Ok(Some(error.into())),
                Err(error) => return Err(error.into()),
            };
            self.progress.received(chunk.len() as u64);
            let passed = usize::try_from(known).unwrap_or(usize::MAX).min(chunk.len());
            known -= passed as u64;
            if !incoming.append(chunk.split_off(passed)).await {
                return Ok(None);
            }
        }
        let (received, Descriptor { digest, size, .. }) = (incoming.received(), blob);
        let cut = || {
            let what = format!("{digest} ended after {received} of its {size} bytes");
            Failure::new(Class::BrokenConnection, what)
        };
        Ok((received < *size).then(cut))
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
