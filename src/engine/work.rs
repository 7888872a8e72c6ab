//! The images of a run, as they become known: some while the bundle is still being read, all when it has been.
//!
//! In: parts of the catalog with the places their images will have ([`Discoveries`]), and in the end the plan. Out: for
//! each mirror the same list, which grows until the plan is agreed on. What is on the list may be brought to a mirror at
//! once; only what the plan holds is made public there.
//!
//! Whoever reads the bundle is kept from running far ahead of those who compress and send: what was found and not yet
//! read is bounded, so that an archive is read again while its decoded parts are still in memory.

use crate::sync::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{Stream, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::backlog::{Backlog, Unread};
use super::image::WorkImage;
use super::layers::KnownLayers;
use super::prepare::Preparer;
use crate::archive::{Catalog, Content, ContentKey};
use crate::oci::{Repository, Tag};
use crate::plan::{self, Plan, PlannedImage, Rules};

/// The list that all mirrors work through.
#[derive(Debug)]
pub(super) struct Work {
    state: Mutex<State>,
    grown: watch::Sender<()>,
    mirrors: usize,
}

#[derive(Debug, Default)]
struct State {
    images: Vec<Arc<WorkImage>>,
    agreed: Option<Agreed>,
}

/// What the whole bundle came to.
#[derive(Debug, Clone)]
pub(super) struct Agreed {
    /// The places in the list of the images of the plan, in its order.
    pub(super) images: Arc<Vec<usize>>,
    /// Images of the bundle are not in the plan because they are damaged or could not be read.
    pub(super) left_out: bool,
    /// Images whose names carry digests, or that cannot be complete, by their places in the list, as the plan has them.
    pub(super) demanding: Arc<HashMap<usize, PlannedImage>>,
}

impl Work {
    pub(super) fn new(mirrors: usize) -> Self {
        Self { state: Mutex::default(), grown: watch::Sender::new(()), mirrors }
    }

    fn add(&self, planned: PlannedImage, catalog: &Arc<Catalog>, unread: Option<Unread>) {
        let image = WorkImage::new(planned, Arc::clone(catalog), self.mirrors, unread);
        self.state.lock().images.push(Arc::new(image));
        self.grown.send_replace(());
    }

    /// The plan of the whole bundle. What it holds and was not found early is added to the list, which is whole then.
    /// `unreadable` is whether something that may hold images could not be read.
    pub(super) fn agree(&self, plan: &Plan, catalog: &Arc<Catalog>, unreadable: bool, preparer: &Preparer) {
        let known: HashMap<_, usize> = {
            let state = self.state.lock();
            state.images.iter().enumerate().map(|(at, image)| (key(&image.planned), at)).collect()
        };
        let mut next = self.len();
        let mut images = Vec::with_capacity(plan.images.len());
        let mut demanding = HashMap::new();
        for planned in &plan.images {
            let at = known.get(&key(planned)).copied().unwrap_or_else(|| {
                preparer.expect(&planned.content);
                self.add(planned.clone(), catalog, None);
                next += 1;
                next - 1
            });
            images.push(at);
            if planned.shortfall.is_some() || !planned.digests.is_empty() {
                demanding.insert(at, planned.clone());
            }
        }
        let left_out = unreadable || !catalog.broken.is_empty() || !plan.left_out.is_empty();
        let agreed = Agreed { images: Arc::new(images), left_out, demanding: Arc::new(demanding) };
        self.state.lock().agreed = Some(agreed);
        self.grown.send_replace(());
    }

    fn len(&self) -> usize {
        self.state.lock().images.len()
    }

    /// An image of the list.
    pub(super) fn image(&self, at: usize) -> Option<Arc<WorkImage>> {
        self.state.lock().images.get(at).cloned()
    }

    /// What the bundle came to, once it is known.
    pub(super) fn agreed(&self) -> Option<Agreed> {
        self.state.lock().agreed.clone()
    }

    /// The images with their places in the list, from the first to the last that there will be.
    pub(super) fn follow(&self) -> impl Stream<Item = (usize, Arc<WorkImage>)> + '_ {
        stream::unfold((0, self.grown.subscribe()), move |(at, mut grown)| async move {
            loop {
                grown.borrow_and_update();
                let closed = self.agreed().is_some();
                if let Some(image) = self.image(at) {
                    return Some(((at, image), (at + 1, grown)));
                }
                if closed || grown.changed().await.is_err() {
                    return None;
                }
            }
        })
    }
}

/// The same image at the same place under the same tags.
fn key(planned: &PlannedImage) -> (Repository, Vec<Tag>, ContentKey) {
    let mut tags = planned.tags.clone();
    tags.sort_unstable();
    (planned.repository.clone(), tags, planned.content.key())
}

/// Takes in what is found while the bundle is being read.
#[derive(Debug, Clone)]
pub(crate) struct Discoveries {
    pub(super) work: Arc<Work>,
    pub(super) preparer: Arc<Preparer>,
    pub(super) backlog: Arc<Backlog>,
    pub(super) cancel: CancellationToken,
}

impl Discoveries {
    /// What is known from elsewhere of layers that will be found.
    pub(crate) fn know(&self, layers: KnownLayers) {
        self.preparer.layers.know(layers);
    }

    /// An archive of the bundle: its images go to the mirrors from now on. Waits while too much is found and unread.
    pub(crate) fn found(&self, part: &Catalog, rules: &Rules) {
        let images = plan::early(part, rules);
        if images.is_empty() {
            return;
        }
        let part = Arc::new(part.clone());
        for planned in images {
            let Some(unread) = self.backlog.enter(bytes(&planned.content, &part), &self.cancel) else {
                return;
            };
            self.preparer.expect(&planned.content);
            self.work.add(planned, &part, Some(unread));
        }
    }
}

/// What must be read for an image.
fn bytes(content: &Content, catalog: &Catalog) -> u64 {
    match content {
        Content::Unpacked(image) => image.layers.iter().map(|layer| layer.size).sum(),
        Content::Manifest(root) => plan::Closure::of(catalog, root).blobs.iter().map(|blob| blob.size).sum(),
    }
}
