//! Images of registries become a bundle: with all platforms or one, and with what refers to them.
//!
//! Digests stay what they are: manifests are kept byte for byte, and each blob is hashed on its way to the disk. A blob that
//! several images have is fetched once. What is in the folder or the stage already is not fetched again.

mod blob;
mod image;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::layout::{self, IndexEntry};
use super::store::PullStore;
use crate::archive::names::REF_NAME;
use crate::archive::{ImageName, LeftOut};
use crate::bundle::PulledBundle;
use crate::locks::Mutex;
use crate::oci::{Descriptor, Digest, Platform, Repository};
use crate::registry::Registry;
use crate::report::event::WorkStep;
use crate::report::{Event, Failure, Listeners};

/// Images under way at once.
const IMAGES_AT_ONCE: usize = 8;

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
    /// What else did not come.
    pub(crate) left_out: Vec<LeftOut>,
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
            left_out: self.left_out.clone(),
        }
    }

    /// The names of what is whole.
    pub(crate) fn names(&self) -> HashSet<&str> {
        self.entries.iter().filter_map(|entry| Some(entry.annotations.get(REF_NAME)?.as_str())).collect()
    }

    /// Whether a manifest came.
    pub(crate) fn has_manifest(&self, digest: &Digest) -> bool {
        self.documents.contains_key(digest)
    }

    /// The same with what came later.
    #[must_use]
    pub(crate) fn with(mut self, later: Self) -> Self {
        self.entries.extend(later.entries);
        self.documents.extend(later.documents);
        self.places.extend(later.places);
        self.images += later.images;
        self.referrers += later.referrers;
        self.blobs_fetched += later.blobs_fetched;
        self.bytes_fetched += later.bytes_fetched;
        self.failed.extend(later.failed);
        self.left_out.extend(later.left_out);
        self
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

    async fn unless_cancelled<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        tokio::select! {
            done = work => Ok(done),
            () = self.cancel.cancelled() => Err(Failure::interrupted()),
        }
    }
}
