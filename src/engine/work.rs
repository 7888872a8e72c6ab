//! The images of a run, as they become known: some while the bundle is still being read, all when it has been.
//!
//! In: images with the places that they will have, and in the end the plan. Out: for each mirror of the plan the same
//! list, which grows until the plan is agreed on. What is on the list may be brought to a mirror at once; only what the
//! plan holds is made public there.

use crate::sync::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

use futures_util::{Stream, stream};
use tokio::sync::watch;

use super::backlog::Unread;
use super::image::WorkImage;
use super::prepare::Preparer;
use crate::archive::{Catalog, ContentKey};
use crate::bundle::Bundle;
use crate::oci::{Repository, Tag};
use crate::plan::{Plan, PlannedImage};
use crate::report::Failure;

/// The list that all mirrors of one plan work through.
#[derive(Debug)]
pub(super) struct Work {
    state: Mutex<State>,
    grown: watch::Sender<()>,
    mirrors: usize,
}

#[derive(Debug, Default)]
struct State {
    images: Vec<Arc<WorkImage>>,
    agreed: Option<Result<Agreed, Failure>>,
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
    /// What they are read from.
    pub(super) bundle: Arc<Bundle>,
}

impl Work {
    pub(super) fn new(mirrors: usize) -> Self {
        Self { state: Mutex::default(), grown: watch::Sender::new(()), mirrors }
    }

    /// An image that will be in the plan, as far as is known.
    pub(super) fn add(&self, planned: PlannedImage, catalog: &Arc<Catalog>, unread: Option<Unread>) {
        let image = WorkImage::new(planned, Arc::clone(catalog), self.mirrors, unread);
        self.state.lock().images.push(Arc::new(image));
        self.grown.send_replace(());
    }

    /// The plan of the whole bundle. What it holds and was not found early is added to the list, which is whole then.
    /// `unreadable` is whether something that may hold images could not be read.
    pub(super) fn agree(&self, plan: &Plan, bundle: &Arc<Bundle>, unreadable: bool, preparer: &Preparer) {
        let catalog = &bundle.catalog;
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
        let (images, demanding) = (Arc::new(images), Arc::new(demanding));
        let agreed = Agreed { images, left_out, demanding, bundle: Arc::clone(bundle) };
        self.close(Ok(agreed));
    }

    /// There is no plan for these mirrors. Nothing may be made public on them.
    pub(super) fn refuse(&self, failure: Failure) {
        self.close(Err(failure));
    }

    fn close(&self, agreed: Result<Agreed, Failure>) {
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

    /// What the bundle came to for these mirrors, once it is known.
    pub(super) fn agreed(&self) -> Option<Result<Agreed, Failure>> {
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
