//! How many connections are served at once, and which one closes when another needs its place.
//!
//! A connection without a request does no harm while there is room. When all places are taken, a new connection takes the
//! place of an idle one at once, and the longest idle closes first: a client opens another connection when it needs one,
//! and a client that opens a thousand silent ones loses those. A new connection keeps its place for a second, because its
//! request may be on its way: without that, of many new connections each would close the one before it.
//!
//! Where every connection has a request, the slowest peer for which the server waits gives way: a client
//! that begins a thousand uploads and sends no more of them does not keep others out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::pace::Pace;
use crate::clock::Instant;
use crate::locks::Mutex;

/// How long a new connection may be silent before it has to give way to another one.
const FIRST_REQUEST_GRACE: Duration = Duration::from_secs(1);

/// How soon it is asked again which connection could give way.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// The limit on connections, shared by all of them.
#[derive(Debug, Clone)]
pub(super) struct ConnectionLimit(Arc<LimitState>);

#[derive(Debug)]
struct LimitState {
    occupancy: Mutex<Occupancy>,
    /// A place became free, or a connection became idle, or one that had to close did not.
    changed: Notify,
}

#[derive(Debug)]
struct Occupancy {
    free: usize,
    next: u64,
    /// The longest idle first.
    idle: BTreeMap<u64, IdleConnection>,
    /// The connection that has to close. It is idle until it has, unless a request came first.
    closing: Option<u64>,
    /// All that have a place, and how fast their peers are.
    paces: BTreeMap<u64, Arc<Pace>>,
    /// One of them that has to give up its request.
    yielding: Option<u64>,
    yields_after: Duration,
}

#[derive(Debug)]
struct IdleConnection {
    close: CancellationToken,
    /// The time from which it gives way.
    yields_at: Instant,
}

/// The result of asking for a place.
#[derive(Debug, PartialEq, Eq)]
enum Attempt {
    Taken,
    /// Try again after a change, or at this time.
    Wait(Option<Instant>),
}

impl Occupancy {
    /// Takes a place. If all are taken, an idle connection is closed.
    fn take(&mut self, now: Instant) -> Attempt {
        if self.free > 0 {
            self.free -= 1;
            return Attempt::Taken;
        }
        Attempt::Wait(self.make_room(now))
    }

    /// Has one connection give up its place. Where none can yet: when to ask again.
    fn make_room(&mut self, now: Instant) -> Option<Instant> {
        if !self.idle.is_empty() {
            return self.close_idle(now);
        }
        if self.yielding.is_some_and(|number| self.paces.contains_key(&number)) {
            return None;
        }
        let slow = self
            .paces
            .iter()
            .filter_map(|(number, pace)| Some((pace.bytes_lately(now, self.yields_after)?, *number)));
        self.yielding = slow.min().map(|(_, number)| number);
        match self.yielding.and_then(|number| self.paces.get(&number)) {
            Some(slowest) => {
                slowest.give_way();
                None
            }
            None => Some(now + ASK_AGAIN_AFTER),
        }
    }

    /// Closes the connection that has been idle longest, unless one is closing already. If none is idle long enough: when one
    /// will be.
    fn close_idle(&mut self, now: Instant) -> Option<Instant> {
        if self.closing.is_some_and(|number| self.idle.contains_key(&number)) {
            return None;
        }
        let found = self.idle.iter().find(|(_, connection)| connection.yields_at <= now);
        self.closing = found.map(|(number, _)| *number);
        match found {
            Some((_, connection)) => {
                connection.close.cancel();
                None
            }
            None => self.idle.values().map(|connection| connection.yields_at).min(),
        }
    }

    fn add_idle(&mut self, close: CancellationToken, yields_at: Instant) -> u64 {
        let number = self.next;
        self.next += 1;
        self.idle.insert(number, IdleConnection { close, yields_at });
        number
    }
}

impl ConnectionLimit {
    pub(super) fn new(connections: usize, yields_after: Duration) -> Self {
        let occupancy = Occupancy {
            free: connections,
            next: 0,
            idle: BTreeMap::new(),
            closing: None,
            paces: BTreeMap::new(),
            yielding: None,
            yields_after,
        };
        Self(Arc::new(LimitState { occupancy: Mutex::new(occupancy), changed: Notify::new() }))
    }

    /// Waits for a place. One task waits at a time.
    pub(super) async fn acquire(&self) -> ConnectionPermit {
        loop {
            let attempt = self.0.occupancy.lock().take(Instant::now());
            match attempt {
                Attempt::Taken => return ConnectionPermit::new(self.clone()),
                Attempt::Wait(None) => self.0.changed.notified().await,
                Attempt::Wait(Some(until)) => {
                    tokio::select! {
                        () = self.0.changed.notified() => {}
                        () = tokio::time::sleep_until(until) => {}
                    }
                }
            }
        }
    }

    /// Has a connection close, to free its descriptor.
    pub(super) fn make_room(&self) {
        self.0.occupancy.lock().make_room(Instant::now());
    }
}

/// The state of a connection.
#[derive(Debug)]
enum Activity {
    /// It waits for a request; its number in the list.
    Idle(u64),
    Answering,
    /// The answer is complete, and part of it may not be sent yet.
    Flushing,
}

/// The place of one connection; free again when it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    limit: ConnectionLimit,
    activity: Mutex<Activity>,
    /// Its number among all.
    number: u64,
    pace: Arc<Pace>,
    /// Cancelled when the connection has to close, after the request that it may have.
    close: CancellationToken,
}

impl ConnectionPermit {
    fn new(limit: ConnectionLimit) -> Self {
        let (close, pace) = (CancellationToken::new(), Arc::<Pace>::default());
        let mut occupancy = limit.0.occupancy.lock();
        let number = occupancy.add_idle(close.clone(), Instant::now() + FIRST_REQUEST_GRACE);
        occupancy.paces.insert(number, Arc::clone(&pace));
        drop(occupancy);
        Self { limit, activity: Mutex::new(Activity::Idle(number)), number, pace, close }
    }

    /// How fast its peer is.
    pub(super) fn pace(&self) -> Arc<Pace> {
        Arc::clone(&self.pace)
    }

    /// The connection has to close.
    pub(super) async fn closing(&self) {
        self.close.cancelled().await;
    }

    /// A request has arrived: from now on the connection keeps its place.
    pub(super) fn begin_request(&self) {
        let mut activity = self.activity.lock();
        if let Activity::Idle(number) = *activity {
            let mut occupancy = self.limit.0.occupancy.lock();
            occupancy.idle.remove(&number);
            if occupancy.closing == Some(number) {
                // It goes on, so another one has to close.
                self.limit.0.changed.notify_one();
            }
        }
        *activity = Activity::Answering;
    }

    /// The whole answer was handed to the connection.
    pub(super) fn end_request(&self) {
        let mut activity = self.activity.lock();
        if matches!(*activity, Activity::Answering) {
            *activity = Activity::Flushing;
        }
    }

    /// All that was handed to the connection was sent. After an answer it is idle: closing it cuts nothing off.
    pub(super) fn flushed(&self) {
        let mut activity = self.activity.lock();
        if matches!(*activity, Activity::Flushing) {
            let number = self.limit.0.occupancy.lock().add_idle(self.close.clone(), Instant::now());
            *activity = Activity::Idle(number);
            self.limit.0.changed.notify_one();
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        matches!(*self.activity.lock(), Activity::Idle(_))
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut occupancy = self.limit.0.occupancy.lock();
        if let Activity::Idle(number) = *self.activity.get_mut() {
            occupancy.idle.remove(&number);
        }
        occupancy.paces.remove(&self.number);
        occupancy.free += 1;
        drop(occupancy);
        self.limit.0.changed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const YIELDS_AFTER: Duration = Duration::from_secs(2);

    /// Permits of connections that have a request.
    async fn busy(limit: &ConnectionLimit, number: usize) -> Vec<ConnectionPermit> {
        let mut permits = Vec::new();
        for _ in 0..number {
            let permit = limit.acquire().await;
            permit.begin_request();
            permits.push(permit);
        }
        permits
    }

    fn becomes_idle(permit: &ConnectionPermit) {
        permit.end_request();
        permit.flushed();
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_connection_closes_and_a_busy_one_stays() {
        let limit = ConnectionLimit::new(3, YIELDS_AFTER);
        let mut permits = busy(&limit, 3).await;
        becomes_idle(&permits[2]);
        becomes_idle(&permits[1]);
        {
            let newcomer = limit.acquire();
            tokio::pin!(newcomer);
            assert!(newcomer.as_mut().now_or_never().is_none());
            let closed: Vec<_> = permits.iter().map(|permit| permit.close.is_cancelled()).collect();
            assert_eq!(closed, [false, false, true]);
            permits.remove(2);
            newcomer.await.begin_request();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_becomes_idle_gives_way_to_one_that_waits() {
        let limit = ConnectionLimit::new(2, YIELDS_AFTER);
        let mut permits = busy(&limit, 2).await;
        let newcomer = limit.acquire();
        tokio::pin!(newcomer);
        assert!(newcomer.as_mut().now_or_never().is_none());
        permits[1].end_request();
        assert!(newcomer.as_mut().now_or_never().is_none());
        assert!(!permits[1].close.is_cancelled(), "part of its answer may not be sent yet");
        permits[1].flushed();
        assert!(newcomer.as_mut().now_or_never().is_none());
        assert!(permits[1].close.is_cancelled());
        permits.pop();
        assert!(newcomer.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_came_first_makes_another_connection_close() {
        let limit = ConnectionLimit::new(2, YIELDS_AFTER);
        let permits = busy(&limit, 2).await;
        permits.iter().for_each(becomes_idle);
        let newcomer = limit.acquire();
        tokio::pin!(newcomer);
        assert!(newcomer.as_mut().now_or_never().is_none());
        assert!(permits[0].close.is_cancelled() && !permits[1].close.is_cancelled());
        permits[0].begin_request();
        assert!(newcomer.as_mut().now_or_never().is_none());
        assert!(permits[1].close.is_cancelled());
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_connection_has_a_moment_for_its_first_request() {
        let limit = ConnectionLimit::new(1, YIELDS_AFTER);
        let first = limit.acquire().await;
        let newcomer = limit.acquire();
        tokio::pin!(newcomer);
        assert!(newcomer.as_mut().now_or_never().is_none());
        tokio::time::advance(FIRST_REQUEST_GRACE / 2).await;
        assert!(newcomer.as_mut().now_or_never().is_none());
        assert!(!first.close.is_cancelled());
        tokio::time::advance(FIRST_REQUEST_GRACE).await;
        assert!(newcomer.as_mut().now_or_never().is_none());
        assert!(first.close.is_cancelled());
        drop(first);
        assert!(newcomer.now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn where_all_are_busy_the_slowest_that_is_waited_for_gives_way() {
        let limit = ConnectionLimit::new(3, YIELDS_AFTER);
        let mut permits = busy(&limit, 3).await;
        permits[1].pace.waits();
        permits[2].pace.waits();
        let newcomer = limit.acquire();
        tokio::pin!(newcomer);
        assert!(newcomer.as_mut().now_or_never().is_none());
        let yielding = |permits: &[ConnectionPermit]| {
            permits.iter().map(|permit| permit.pace.yielding().is_cancelled()).collect::<Vec<_>>()
        };
        assert_eq!(yielding(&permits), [false, false, false], "they may be quick yet");
        tokio::time::advance(YIELDS_AFTER).await;
        permits[1].pace.moved(1000);
        permits[1].pace.waits();
        assert!(newcomer.as_mut().now_or_never().is_none());
        assert_eq!(yielding(&permits), [false, false, true]);
        permits.pop();
        assert!(newcomer.now_or_never().is_some());
    }
}
