//! The list of images of a run: some are known while the bundle is still being read, all when it has been.
//!
//! In: images with their future places, and in the end the plan. Out: the same list for each mirror of the plan, which grows
//! until the plan is made. Images of the list may be sent to a mirror at once; only images of the plan get tags there. A mirror
//! may join late; until then nothing is held for it.

use crate::locks::Mutex;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::sync::watch;

use super::backlog::{Assigned, Backlog, BacklogShare, Workload};
use super::image::{Lease, LeasedImage, WorkImage};
use super::prepare::Preparer;
use crate::archive::{Catalog, ContentKey};
use crate::bundle::Bundle;
use crate::oci::{Repository, Tag};
use crate::plan::{Plan, PlannedImage};
use crate::report::Failure;

/// The number under which the stage follows the list beside the mirrors.
pub(super) const STAGE: usize = usize::MAX;

/// The list that all mirrors of one plan work through.
#[derive(Debug)]
pub(super) struct Work {
    state: Mutex<WorkState>,
    grown: watch::Sender<()>,
    preparer: Arc<Preparer>,
    backlog: Arc<Backlog>,
}

#[derive(Debug, Default)]
struct WorkState {
    images: Vec<Arc<WorkImage>>,
    /// Mirrors that have begun, each with what it has to do; the stage among them.
    followers: HashMap<usize, Queue>,
    /// What is in a bundle has to be found out by reading it.
    takes_time: bool,
    agreed: Option<Result<Agreed, Failure>>,
}

/// Images that a mirror has not begun with. They are held for it.
#[derive(Debug)]
struct Queue {
    workload: Workload,
    images: VecDeque<(usize, Arc<LeasedImage>, Assigned)>,
}

impl Queue {
    fn push(&mut self, at: usize, leased: Arc<LeasedImage>) {
        self.images.push_back((at, leased, self.workload.assign()));
    }
}

/// The plan of the whole bundle, by the list.
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
    pub(super) fn new(preparer: Arc<Preparer>, backlog: Arc<Backlog>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), grown: watch::Sender::new(()), preparer, backlog })
    }

    /// An image that will be in the plan, as far as is known.
    pub(super) fn add(&self, planned: PlannedImage, catalog: &Arc<Catalog>, share: BacklogShare) {
        self.preparer.announce(&planned.content);
        let image = Arc::new(WorkImage::new(planned, Arc::clone(catalog)));
        {
            let mut state = self.state.lock();
            let at = state.images.len();
            state.images.push(Arc::clone(&image));
            // Where no mirror has begun nothing is held, and nobody waits until it was read.
            if !state.followers.is_empty() {
                let leased = self.preparer.hold(&image, share);
                state.followers.values_mut().for_each(|queue| queue.push(at, Arc::clone(&leased)));
            }
        }
        self.grown.send_replace(());
    }

    /// Whether it helps the mirrors of this plan that whoever reads waits for them: none where it has no mirror that has
    /// begun.
    pub(super) fn is_busy(&self) -> Option<bool> {
        let state = self.state.lock();
        // Nobody waits for the stage.
        let mut mirrors = state.followers.iter().filter(|(number, _)| **number != STAGE).peekable();
        mirrors.peek()?;
        Some(!mirrors.any(|(_, queue)| queue.workload.is_idle()))
    }

    /// The plan of the whole bundle. What it holds and was not found early is added to the list, which is whole then.
    /// `unreadable` is whether something that may hold images could not be read.
    pub(super) fn agree(&self, plan: &Plan, bundle: &Arc<Bundle>, unreadable: bool) {
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
                self.add(planned.clone(), catalog, BacklogShare::default());
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

    /// The plan of these mirrors, once it is made.
    pub(super) fn agreed(&self) -> Option<Result<Agreed, Failure>> {
        self.state.lock().agreed.clone()
    }

    /// The next image will be known when the bundle has been read so far: nobody should wait for it who can do something else.
    pub(super) fn takes_time(&self) {
        self.state.lock().takes_time = true;
        self.grown.send_replace(());
    }

    /// The first image that a mirror is asked for; none where there is no plan, or it takes longer until one is known.
    pub(super) async fn first(&self, within: Duration) -> Option<Arc<WorkImage>> {
        let mut grown = self.grown.subscribe();
        let known = async {
            loop {
                grown.borrow_and_update();
                {
                    let state = self.state.lock();
                    let first = state.images.iter().find(|image| image.planned.after_subjects == 0);
                    if first.is_some() || state.takes_time || state.agreed.is_some() {
                        return first.cloned();
                    }
                }
                grown.changed().await.ok()?;
            }
        };
        tokio::time::timeout(within, known).await.ok().flatten()
    }

    /// Waits for the plan of these mirrors.
    pub(super) async fn settled(&self) -> Result<Agreed, Failure> {
        let mut grown = self.grown.subscribe();
        loop {
            grown.borrow_and_update();
            if let Some(agreed) = self.agreed() {
                return agreed;
            }
            // The list holds the other end itself.
            if grown.changed().await.is_err() {
                return Err(Failure::internal("the list of images has no end"));
            }
        }
    }

    /// A mirror begins. From now on all that is on the list, or comes to it, is held until the mirror has brought it.
    pub(super) fn join(self: &Arc<Self>, mirror: usize) -> Follower {
        let grown = self.grown.subscribe();
        let mut state = self.state.lock();
        let mut queue = Queue { workload: self.backlog.workload(), images: VecDeque::new() };
        for (at, image) in state.images.iter().enumerate() {
            queue.push(at, self.preparer.hold(image, BacklogShare::default()));
        }
        state.followers.insert(mirror, queue);
        drop(state);
        Follower { work: Arc::clone(self), mirror, grown }
    }

    /// What a mirror needs to bring an image once more.
    pub(super) fn lease(&self, at: usize, mirror: usize) -> Option<Lease> {
        let leased = self.preparer.hold(&self.image(at)?, BacklogShare::default());
        Some(Lease::new(leased, mirror, None))
    }

    /// The next image for a mirror; whether there may be more, where there is none now.
    fn next(&self, mirror: usize) -> Result<(usize, Lease), bool> {
        let mut state = self.state.lock();
        let next = state.followers.get_mut(&mirror).and_then(|queue| queue.images.pop_front());
        let may_grow = state.agreed.is_none();
        drop(state);
        next.map(|(at, leased, assigned)| (at, Lease::new(leased, mirror, Some(assigned)))).ok_or(may_grow)
    }
}

/// A mirror that works through the list. When it is dropped nothing is held for it any more.
#[derive(Debug)]
pub(super) struct Follower {
    work: Arc<Work>,
    mirror: usize,
    grown: watch::Receiver<()>,
}

impl Follower {
    /// The images with their places in the list, from the first to the last that there will be.
    pub(super) fn images(self) -> impl Stream<Item = (usize, Lease)> {
        stream::unfold(self, |mut follower| async move {
            loop {
                follower.grown.borrow_and_update();
                match follower.work.next(follower.mirror) {
                    Ok(next) => return Some((next, follower)),
                    Err(true) if follower.grown.changed().await.is_ok() => {}
                    Err(_) => return None,
                }
            }
        })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let queue = self.work.state.lock().followers.remove(&self.mirror);
        drop(queue);
    }
}

/// The same image at the same place under the same tags.
fn key(planned: &PlannedImage) -> (Repository, Vec<Tag>, ContentKey) {
    let mut tags = planned.tags.clone();
    tags.sort_unstable();
    (planned.repository.clone(), tags, planned.content.key())
}
