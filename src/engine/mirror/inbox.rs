//! What the images of one mirror leave to its task while they are under way.
//!
//! An image is a future that may be ended at any moment. How far it had come, and the upload sessions that it no longer needs,
//! outlive it here: the task owns both.

use std::collections::HashMap;
use std::pin::pin;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::registry::UploadSession;
use crate::report::outcome::Phase;

/// What an image tells the task of its mirror.
#[derive(Debug)]
enum ImageEvent {
    /// The image of this place in the list begins with a phase.
    Entered(usize, Phase),
    /// A session was opened and is not needed.
    NeedlessSession(UploadSession),
}

/// The end of the inbox that images have.
#[derive(Debug, Clone)]
pub(super) struct Outbox(UnboundedSender<ImageEvent>);

impl Outbox {
    /// The image of this place in the list begins with a phase.
    pub(super) fn entered(&self, image: usize, phase: Phase) {
        drop(self.0.send(ImageEvent::Entered(image, phase)));
    }

    /// A session is not needed. Where the task has ended, it cancels itself.
    pub(super) fn needless(&self, session: UploadSession) {
        drop(self.0.send(ImageEvent::NeedlessSession(session)));
    }
}

/// What the task has heard of its images.
#[derive(Debug)]
pub(super) struct Inbox {
    events: UnboundedReceiver<ImageEvent>,
    /// How far each image has come, by its place in the list.
    phases: HashMap<usize, Phase>,
}

impl Inbox {
    pub(super) fn new() -> (Outbox, Self) {
        let (sender, events) = unbounded_channel();
        (Outbox(sender), Self { events, phases: HashMap::new() })
    }

    /// Listens while images are worked on, and has each needless session cancelled. Returns when the work is done and the last
    /// session is gone.
    pub(super) async fn attend<C: Future<Output = ()>>(
        &mut self,
        work: impl Future<Output = ()>,
        cancel: impl Fn(UploadSession) -> C,
    ) {
        let mut work = pin!(work);
        let mut is_done = false;
        let mut cancellations = FuturesUnordered::new();
        loop {
            while let Ok(event) = self.events.try_recv() {
                cancellations.extend(self.take_in(event).map(&cancel));
            }
            if is_done && cancellations.is_empty() {
                return;
            }
            tokio::select! {
                biased;
                () = &mut work, if !is_done => is_done = true,
                Some(()) = cancellations.next() => {}
                Some(event) = self.events.recv() => cancellations.extend(self.take_in(event).map(&cancel)),
            }
        }
    }

    /// How far an image has come; none where no work on it began.
    pub(super) fn phase(&mut self, image: usize) -> Option<Phase> {
        while let Ok(event) = self.events.try_recv() {
            // What is not cancelled here cancels itself.
            drop(self.take_in(event));
        }
        self.phases.get(&image).copied()
    }

    /// Takes in an event; gives the session that is to be cancelled.
    fn take_in(&mut self, event: ImageEvent) -> Option<UploadSession> {
        match event {
            ImageEvent::Entered(image, phase) => {
                self.phases.insert(image, phase);
                None
            }
            ImageEvent::NeedlessSession(session) => Some(session),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn how_far_an_image_had_come_is_known_when_its_work_was_cut_off() {
        let (outbox, mut inbox) = Inbox::new();
        let work = async {
            outbox.entered(3, Phase::Probe);
            outbox.entered(3, Phase::Upload);
            outbox.entered(4, Phase::Verify);
            std::future::pending::<()>().await;
        };
        let none = |_| async { unreachable!("no session was opened") };
        assert!(inbox.attend(work, none).now_or_never().is_none());
        assert_eq!(
            [3, 4, 5].map(|image| inbox.phase(image)),
            [Some(Phase::Upload), Some(Phase::Verify), None]
        );
    }
}
