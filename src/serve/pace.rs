//! The recent rate of a peer while the server waits for it. When all places are taken by requests, the slowest gives way.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::Instant;
use crate::locks::Mutex;

/// The length of a window in which bytes are counted. They count for one more window.
const SLICE: Duration = Duration::from_secs(5);

/// The pace of the request on a connection.
#[derive(Debug, Default)]
pub(super) struct Pace {
    lately: Mutex<Lately>,
    /// Cancelled when another connection needs the place.
    yielding: CancellationToken,
}

#[derive(Debug, Default)]
struct Lately {
    /// When the server first waited for the peer in this request.
    since: Option<Instant>,
    is_waited_for: bool,
    slice: Option<Instant>,
    bytes: u64,
    bytes_before: u64,
}

impl Pace {
    /// The server waits for the peer.
    pub(super) fn waits(&self) {
        let now = Instant::now();
        let mut lately = self.lately.lock();
        lately.since.get_or_insert(now);
        lately.slice.get_or_insert(now);
        lately.is_waited_for = true;
    }

    /// Bytes moved.
    pub(super) fn moved(&self, bytes: u64) {
        let mut lately = self.lately.lock();
        lately.turn(Instant::now());
        lately.bytes += bytes;
        lately.is_waited_for = false;
    }

    /// The server does not wait for the peer any more: the body has ended, or the answer is on its way.
    pub(super) fn rests(&self) {
        *self.lately.lock() = Lately::default();
    }

    /// How many bytes moved lately, if the server waits for the peer now and has waited for at least this long.
    pub(super) fn bytes_lately(&self, now: Instant, waited: Duration) -> Option<u64> {
        let mut lately = self.lately.lock();
        let since = lately.since.filter(|_| lately.is_waited_for)?;
        if now.saturating_duration_since(since) < waited {
            return None;
        }
        lately.turn(now);
        Some(lately.bytes + lately.bytes_before)
    }

    /// Ends the request, because another connection needs its place.
    pub(super) fn give_way(&self) {
        self.yielding.cancel();
    }

    /// Is cancelled when the request has to end.
    pub(super) fn yielding(&self) -> CancellationToken {
        self.yielding.clone()
    }
}

impl Lately {
    fn turn(&mut self, now: Instant) {
        let Some(began) = self.slice else { return };
        let passed = now.saturating_duration_since(began);
        if passed >= SLICE {
            self.bytes_before = if passed < SLICE * 2 { self.bytes } else { 0 };
            (self.bytes, self.slice) = (0, Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAITED: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn only_the_time_for_which_the_peer_is_waited_for_counts() {
        let pace = Pace::default();
        assert_eq!(pace.bytes_lately(Instant::now(), WAITED), None, "nobody waits");
        pace.waits();
        tokio::time::advance(WAITED / 2).await;
        assert_eq!(pace.bytes_lately(Instant::now(), WAITED), None, "not for long");
        tokio::time::advance(WAITED).await;
        assert_eq!(pace.bytes_lately(Instant::now(), WAITED), Some(0));
        pace.moved(100);
        assert_eq!(pace.bytes_lately(Instant::now(), WAITED), None, "what came is being written");
        pace.waits();
        assert_eq!(pace.bytes_lately(Instant::now(), WAITED), Some(100));
        tokio::time::advance(SLICE).await;
        assert_eq!(pace.bytes_lately(Instant::now(), WAITED), Some(100));
        tokio::time::advance(SLICE).await;
        assert_eq!(pace.bytes_lately(Instant::now(), WAITED), Some(0), "that was not lately");
        pace.rests();
        assert_eq!(pace.bytes_lately(Instant::now(), WAITED), None);
    }
}
