//! The task of one mirror.
//!
//! Many images are under way at once, in the order of the bundle, so that neighbours read the same decoded parts; the
//! limiter bounds the requests in flight. Images arrive while the bundle is still being read. Tags wait until all of it has
//! been read.
//!
//! The task alone owns the results of images and its [`Inbox`]. An image that is under way borrows the [`Actor`]: where the
//! mirror is, what may be done there, what the mirrors of the run share, and how blobs get to the mirror.

mod base;
mod gate;
mod place;
mod policy;
mod push_image;
mod results;
mod tags;
mod withheld;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use futures_util::{Stream, StreamExt as _, future, stream};

pub(super) use self::base::BaseCheck;
pub(super) use self::place::MirrorPlace;
pub(super) use self::policy::Policy;
use self::results::{Results, Untagged};
use super::inbox::Inbox;
use super::inference::BlobInference;
use super::publish::Publisher;
use super::transfer::Transfer;
use super::verify::Verifier;
use crate::engine::Context;
use crate::engine::image::{Lease, WorkImage};
use crate::engine::stop::StopSignal;
use crate::engine::work::{Agreed, Follower};
use crate::exit::Exit;
use crate::report::outcome::{ImageFailure, Outcome, Phase};
use crate::report::{Class, Event, Failure};

/// Images under way at once. Each costs a few small requests; the limiter bounds what is in flight.
const IMAGES_AT_ONCE: usize = 128;

/// Does the work of one mirror.
pub(super) struct Actor {
    /// What the mirror is called, and where it is.
    pub(super) place: MirrorPlace,
    /// What may be done there.
    pub(super) policy: Policy,
    /// What the mirrors of the run share.
    pub(super) run: Arc<Context>,
    /// Ends the work early.
    pub(super) stop: StopSignal,
    /// How blobs get to the mirror, and what is known of it.
    pub(super) transfer: Transfer,
    /// Whether it has what deltas leave to their bases.
    pub(super) base: BaseCheck,
}

impl Actor {
    /// Works through the images of the list, and moves their tags in the end.
    pub(super) async fn work(&self, mut inbox: Inbox, follower: Follower, outcome: &mut Outcome) {
        let mut results = Results::default();
        // What refers to other images comes after those.
        let mut referring = BTreeMap::<usize, Vec<(usize, Lease)>>::new();
        let images = follower.images().take_until(self.stop.token().cancelled()).filter_map(|(at, lease)| {
            let after = lease.image.planned.after_subjects;
            if after == 0 {
                return future::ready(Some((at, lease)));
            }
            referring.entry(after).or_default().push((at, lease));
            future::ready(None)
        });
        self.attend(&mut inbox, self.images(images, &mut results)).await;
        for images in referring.into_values() {
            self.attend(&mut inbox, self.images(stream::iter(images), &mut results)).await;
        }
        let agreed = match self.run.work.agreed().unwrap_or_else(|| Err(self.stop.why())) {
            Ok(agreed) => agreed,
            Err(failure) => {
                outcome.error = Some(failure);
                return;
            }
        };
        match self.sums().await {
            Ok(()) => {
                tokio::select! {
                    biased;
                    () = self.run.note_change(&agreed) => {}
                    () = self.stop.overdue(self.transfer.link.registry.idle()) => {}
                }
                self.attend(&mut inbox, self.publish_tags(&agreed, &mut results, outcome)).await;
                self.report_failures(&agreed, results, &mut inbox, None, outcome);
            }
            Err(failure) => self.report_failures(&agreed, results, &mut inbox, Some(failure), outcome),
        }
        self.inference().settle();
    }

    /// Waits for the sums of the bundle, unless the mirror is stopped.
    async fn sums(&self) -> Result<(), Failure> {
        tokio::select! {
            biased;
            right = self.run.sums.are_right() => right,
            () = self.stop.token().cancelled() => Err(self.stop.why()),
        }
    }

    /// Sends images, many at once.
    async fn images(&self, images: impl Stream<Item = (usize, Lease)>, results: &mut Results) {
        let pushed =
            images
                .map(|(at, lease)| async move {
                    (at, self.push_image(at, &lease).await, Arc::clone(&lease.image))
                })
                .buffer_unordered(IMAGES_AT_ONCE);
        let mut pushed = pin!(pushed);
        while let Some((at, pushed, image)) = pushed.next().await {
            match pushed {
                Ok(untagged) => {
                    self.run.listeners.emit(&Event::ImageWhole {
                        mirror: self.transfer.counts.mirror,
                        image: image.planned.name.clone(),
                        already: untagged.already,
                    });
                    self.enter(at, Phase::Tag);
                    results.untagged.insert(at, untagged);
                }
                Err((phase, failure)) => self.fail(results, at, &image, phase, failure),
            }
        }
    }

    /// Names each image that is not complete. `whole` is what failed the mirror as a whole.
    fn report_failures(
        &self,
        agreed: &Agreed,
        mut results: Results,
        inbox: &mut Inbox,
        whole: Option<Failure>,
        outcome: &mut Outcome,
    ) {
        let is_whole = results.complete.len() == agreed.images.len();
        outcome.error = whole.or_else(|| self.stop.reason().filter(|_| !is_whole));
        for &at in agreed.images.iter().filter(|at| !results.complete.contains(at)) {
            // Requests that did not end within the grace leave images that are neither complete nor failed.
            let (phase, failure) = results.failed.remove(&at).unwrap_or_else(|| {
                let phase = inbox.phase(at).unwrap_or(Phase::Upload);
                (phase, outcome.error.clone().unwrap_or_else(|| self.stop.why()))
            });
            // What its window deferred was ended for a graver reason afterwards.
            let is_deferred = failure.class == Class::Deferred;
            let failure = if is_deferred { self.stop.why() } else { failure };
            let Some(image) = self.run.work.image(at) else { continue };
            outcome.images_failed.push(ImageFailure {
                image: image.planned.name.clone(),
                place: self.place.of_image(&image.planned),
                digest: image.planned.content.manifest_digest(),
                phase,
                failure,
            });
        }
    }

    /// Work notices the cancellation at its next request; this bounds how long the present ones may take.
    async fn attend(&self, inbox: &mut Inbox, work: impl Future<Output = ()>) {
        let attended = inbox.attend(work, |needless| self.transfer.cancel(needless));
        tokio::select! {
            () = attended => {}
            () = self.stop.overdue(self.transfer.link.registry.idle()) => {}
        }
    }

    fn enter(&self, at: usize, phase: Phase) {
        self.transfer.outbox.entered(at, phase);
    }

    fn publisher(&self) -> Publisher<'_> {
        Publisher::new(&self.transfer)
    }

    fn verifier(&self) -> Verifier<'_> {
        Verifier::new(&self.transfer, self.policy.care.verification)
    }

    fn inference(&self) -> BlobInference<'_> {
        BlobInference::new(&self.transfer, &self.run.state)
    }

    fn fail(&self, results: &mut Results, at: usize, image: &WorkImage, phase: Phase, failure: Failure) {
        let (why, cause) = match failure.class {
            // The words of a gate may be long: they are shown when the run ends.
            Class::GateRefused => ("its gate refused it", "its gate refused them"),
            _ => (failure.message.as_str(), failure.cause.as_deref().unwrap_or(&failure.message)),
        };
        self.run.listeners.emit(&Event::ImageFailed {
            mirror: self.transfer.counts.mirror,
            image: image.planned.name.clone(),
            class: failure.class,
            why: why.to_owned(),
            cause: cause.to_owned(),
        });
        self.run.note_damage(image, &failure);
        let failure = self.confined(image, failure);
        results.failed.insert(at, (phase, failure));
    }

    /// Damage to one archive of several leaves the run incomplete; the others go on.
    fn confined(&self, image: &WorkImage, failure: Failure) -> Failure {
        if failure.exit != Exit::Bundle || image.planned.unit.is_none() {
            return failure;
        }
        let accepted = self.run.settings.accept.unreadable;
        Failure { exit: if accepted { Exit::Complete } else { Exit::Incomplete }, ..failure }
    }
}
