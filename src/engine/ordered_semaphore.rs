//! A semaphore whose permits go to the waiter that lies first in the bundle: for layers to compress, or bodies to send.
//!
//! An image lists its blobs in another order than the bundle holds them. If they were read in the order of images, each part of
//! the bundle would be decoded again for every blob that reaches into it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::locks::Mutex;

/// Permits, and the reads that wait for one.
#[derive(Debug)]
pub(super) struct OrderedSemaphore(Mutex<SemaphoreState>);

#[derive(Debug)]
struct SemaphoreState {
    free: usize,
    next_ticket: u64,
    /// By the offset at which they begin; the ticket keeps equal ones apart.
    waiting: BTreeMap<(u64, u64), oneshot::Sender<OrderedPermit>>,
}

/// A permit; dropping it gives the next waiter its turn.
#[derive(Debug)]
pub(super) struct OrderedPermit(Arc<OrderedSemaphore>);

impl OrderedSemaphore {
    pub(super) fn new(permits: usize) -> Arc<Self> {
        let state = SemaphoreState { free: permits.max(1), next_ticket: 0, waiting: BTreeMap::new() };
        Arc::new(Self(Mutex::new(state)))
    }

    /// A permit for the read that begins at `offset`; None if the semaphore was given up.
    pub(super) async fn acquire(self: &Arc<Self>, offset: u64) -> Option<OrderedPermit> {
        let turn = {
            let mut state = self.0.lock();
            if state.free > 0 {
                state.free -= 1;
                return Some(OrderedPermit(Arc::clone(self)));
            }
            let (sender, turn) = oneshot::channel();
            state.next_ticket += 1;
            let ticket = state.next_ticket;
            state.waiting.insert((offset, ticket), sender);
            turn
        };
        turn.await.ok()
    }
}

impl Drop for OrderedPermit {
    fn drop(&mut self) {
        let semaphore = Arc::clone(&self.0);
        let next = {
            let mut state = semaphore.0.lock();
            // Whoever has gone away is passed over.
            let next =
                std::iter::from_fn(|| state.waiting.pop_first()).find(|(_, sender)| !sender.is_closed());
            if next.is_none() {
                state.free += 1;
            }
            next
        };
        if let Some((_, sender)) = next {
            // One that is gone by now drops its permit, and so it comes back here.
            drop(sender.send(OrderedPermit(Arc::clone(&semaphore))));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn the_first_in_the_bundle_comes_first_and_whoever_gives_up_holds_up_nobody() {
        let semaphore = OrderedSemaphore::new(1);
        let busy = semaphore.acquire(50).now_or_never().flatten().expect("one is free");
        let mut far = Box::pin(semaphore.acquire(90));
        let mut gone = Box::pin(semaphore.acquire(10));
        let mut near = Box::pin(semaphore.acquire(20));
        for waiting in [&mut far, &mut gone, &mut near] {
            assert!(waiting.now_or_never().is_none());
        }
        drop(gone);
        drop(busy);
        assert!((&mut far).now_or_never().is_none());
        let near = near.now_or_never().flatten().expect("it is first");
        drop(near);
        drop(far.now_or_never().flatten().expect("nobody else waits"));
        assert_eq!(semaphore.0.lock().free, 1);
    }
}
