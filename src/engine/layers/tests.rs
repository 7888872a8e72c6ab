use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;

use super::*;
use crate::budget::{Budget, Shares};
use crate::oci::Digest;
use crate::report::Listeners;
use crate::source::{ByteSpace, Certainty, Extent};

const LAYER_BYTES: usize = 1_000_000;

/// Layers of a run that has room for one of them.
struct Fixture {
    layers: Arc<Layers>,
    budget: Arc<Budget>,
}

impl Fixture {
    fn new() -> Self {
        let room = Method::Gzip.most_bytes(LAYER_BYTES as u64);
        let shares =
            Shares { parts: 0, layers: room, bodies: 0, disk: 0, layers_on_disk: 0, parts_on_disk: 0 };
        let budget = Budget::new(shares);
        let folder = std::env::temp_dir();
        let spill = SpillSettings { budget: Arc::clone(&budget), room: None, folder };
        let pool = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap());
        let layers = Layers::new(
            pool,
            2,
            Method::Gzip,
            spill,
            CpuMeters::default(),
            Buffering::new(1 << 20, 1),
            Listeners::default(),
        );
        Self { layers, budget }
    }

    /// Whether nothing takes any room.
    fn is_free(&self) -> bool {
        let all = self.budget.shares().layers;
        self.budget.admit(all, Turn::First).now_or_never().is_some()
    }

    /// A mirror has brought an image.
    fn brought(&self, mirror: usize) {
        drop(self.layers.lease(&[]).used_by(mirror));
    }
}

/// Counts how often it is read from its beginning.
#[derive(Debug)]
struct Counted(Bytes, Arc<AtomicUsize>);

impl ByteSpace for Counted {
    fn len(&self) -> Result<u64, BundleError> {
        Ok(self.0.len() as u64)
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        self.1.fetch_add(usize::from(offset == 0), Ordering::Relaxed);
        self.0.chunk_at(offset, max)
    }
}

/// A layer that does not compress, and how often it was made.
fn layer(seed: u64) -> (UnpackedLayer, Arc<AtomicUsize>) {
    let mut state = seed;
    let noise = (0..LAYER_BYTES).map(|_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    });
    let bytes = Bytes::from(noise.collect::<Vec<_>>());
    let (diff_id, size, made) = (Digest::of(&bytes), bytes.len() as u64, Arc::default());
    let extent = Extent::new(Arc::new(Counted(bytes, Arc::clone(&made))), 0, size);
    let member = format!("{seed}/layer.tar");
    (UnpackedLayer { diff_id, member, extent, size, stored: Stored::Plain, order: seed }, made)
}

fn count(made: &AtomicUsize) -> usize {
    made.load(Ordering::Relaxed)
}

#[tokio::test]
async fn what_was_made_goes_with_the_last_who_needs_it_also_when_its_task_panics() {
    let (run, (layer, _)) = (Fixture::new(), layer(1));
    let layers = Arc::clone(&run.layers);
    let mirror = tokio::spawn(async move {
        let lease = layers.lease(std::slice::from_ref(&layer));
        let _in_use = lease.used_by(0);
        lease.blob(&layer).await.unwrap();
        assert!(lease.made(&layer).is_none(), "the task of the mirror ends");
    });
    assert!(mirror.await.unwrap_err().is_panic());
    assert!(run.is_free());
}

#[tokio::test]
async fn whoever_gives_up_an_image_leaves_what_others_have_of_it_and_one_who_comes_late_has_it_made_again() {
    let (run, (layer, made)) = (Fixture::new(), layer(1));
    let [one, other] = [0, 1].map(|_| run.layers.lease(std::slice::from_ref(&layer)));
    let uses = [one.used_by(0), other.used_by(1)];
    one.blob(&layer).await.unwrap();
    drop((one, uses));
    assert!(other.blob(&layer).await.is_ok() && !run.is_free());
    assert_eq!(count(&made), 1);
    drop(other);
    assert!(run.is_free());
    let late = run.layers.lease(std::slice::from_ref(&layer));
    late.blob(&layer).await.unwrap();
    assert_eq!(count(&made), 2);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_mirror_that_has_not_come_to_it_gives_way_at_once() {
    let (run, (first, _), (second, _)) = (Fixture::new(), layer(1), layer(2));
    let [waiting, next] = [&first, &second].map(|layer| run.layers.lease(std::slice::from_ref(layer)));
    let in_use = waiting.used_by(0);
    waiting.blob(&first).await.unwrap();
    drop(in_use);
    assert!(waiting.made(&first).is_some(), "there is room");
    next.admit().now_or_never().expect("nobody brings the other one now");
    assert!(waiting.made(&first).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_mirror_that_stands_still_gives_way_to_one_that_is_ahead_and_goes_on_after_it() {
    let (run, (first, made), (second, _)) = (Fixture::new(), layer(1), layer(2));
    let [slow, fast] = [&first, &second].map(|layer| run.layers.lease(std::slice::from_ref(layer)));
    let uses = (slow.used_by(0), fast.used_by(1));
    slow.blob(&first).await.unwrap();
    run.brought(1);
    fast.blob(&second).await.unwrap();
    assert!(slow.made(&first).is_none());

    let mut again = pin!(slow.blob(&first));
    tokio::time::timeout(IDLE * 4, &mut again).await.expect_err("it comes after the other");
    drop((fast, uses.1));
    again.await.unwrap();
    assert_eq!(count(&made), 2);
}

#[tokio::test(start_paused = true)]
async fn a_mirror_never_gives_way_to_itself() {
    let (run, (first, made), (second, _)) = (Fixture::new(), layer(1), layer(2));
    let [one, next] = [&first, &second].map(|layer| run.layers.lease(std::slice::from_ref(layer)));
    let uses = (one.used_by(0), next.used_by(0));
    one.blob(&first).await.unwrap();
    let mut admitted = pin!(next.admit());
    tokio::time::timeout(Duration::from_secs(3600), &mut admitted).await.expect_err("the link is slow");
    drop((one, uses.0));
    admitted.await;
    assert_eq!(count(&made), 1);
}

/// Mirrors of one plan bring the same images: the one that stands still is among those who wait for the next.
#[tokio::test(start_paused = true)]
async fn a_mirror_that_stands_still_holds_up_those_who_bring_the_same_images_once() {
    let run = Fixture::new();
    let layers = [1, 2, 3, 4].map(|seed| layer(seed).0);
    let leases = layers.each_ref().map(|layer| run.layers.lease(std::slice::from_ref(layer)));
    let _still = leases.each_ref().map(|lease| lease.used_by(0));
    let began = Instant::now();
    for (layer, lease) in layers.iter().zip(&leases) {
        let moving = lease.used_by(1);
        lease.blob(layer).await.unwrap();
        drop(moving);
    }
    let took = began.elapsed();
    assert!((IDLE..IDLE * 2).contains(&took), "{took:?}");
}

#[tokio::test]
async fn what_was_made_for_a_mirror_that_left_meanwhile_gives_way() {
    let (run, (first, _), (second, _)) = (Fixture::new(), layer(1), layer(2));
    let [left, next] = [&first, &second].map(|layer| run.layers.lease(std::slice::from_ref(layer)));
    let in_use = left.used_by(0);
    let mut making = Box::pin(left.blob(&first));
    assert!((&mut making).now_or_never().is_none());
    drop(in_use);
    making.await.unwrap();
    next.admit().now_or_never().expect("nobody brings the other one now");
}

/// Notes what is said of its being read.
#[derive(Debug)]
struct Wanted {
    bytes: Result<Bytes, Fault>,
    certain: AtomicUsize,
    again: AtomicUsize,
}

impl Wanted {
    fn new(bytes: Result<Bytes, Fault>) -> Arc<Self> {
        Arc::new(Self { bytes, certain: AtomicUsize::new(0), again: AtomicUsize::new(0) })
    }

    fn layer(self: &Arc<Self>) -> UnpackedLayer {
        let bytes = self.bytes.clone().unwrap_or_default();
        let (diff_id, size) = (Digest::of(&bytes), bytes.len().max(1) as u64);
        let extent = Extent::new(Arc::clone(self) as Arc<dyn ByteSpace>, 0, size);
        UnpackedLayer { diff_id, member: "layer.tar".into(), extent, size, stored: Stored::Plain, order: 0 }
    }

    fn count(&self, certainty: Certainty) -> &AtomicUsize {
        match certainty {
            Certainty::Again => &self.again,
            Certainty::Certain | Certainty::Possible => &self.certain,
        }
    }

    /// How many will read it, and how many may have to once more.
    fn by(&self) -> (usize, usize) {
        (count(&self.certain), count(&self.again))
    }
}

impl ByteSpace for Wanted {
    fn len(&self) -> Result<u64, BundleError> {
        Ok(self.bytes.as_ref().map_or(1, Bytes::len) as u64)
    }

    fn chunk_at(&self, offset: u64, max: usize) -> Result<Bytes, BundleError> {
        self.bytes.as_ref().map_err(|fault| BundleError::new(*fault, "x"))?.chunk_at(offset, max)
    }

    fn will_read(&self, _: std::ops::Range<u64>, certainty: Certainty) {
        self.count(certainty).fetch_add(1, Ordering::Relaxed);
    }

    fn will_not_read(&self, _: std::ops::Range<u64>, certainty: Certainty) {
        self.count(certainty).fetch_sub(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn what_may_have_to_be_made_again_may_be_read_again_until_nobody_needs_it() {
    let run = Fixture::new();
    let space = Wanted::new(Ok(Bytes::from_static(b"content")));
    let layer = space.layer();
    let [one, other] = [0, 1].map(|_| run.layers.lease(std::slice::from_ref(&layer)));
    assert_eq!(space.by(), (1, 0));
    one.blob(&layer).await.unwrap();
    drop(one);
    crate::testing::eventually("it may be made again", || space.by() == (0, 1)).await;
    drop(other);
    crate::testing::eventually("nobody needs it", || space.by() == (0, 0)).await;

    let broken = Wanted::new(Err(Fault::Io));
    let layer = broken.layer();
    let lease = run.layers.lease(std::slice::from_ref(&layer));
    assert!(lease.blob(&layer).await.is_err());
    assert_eq!(broken.by(), (1, 0), "another try will read it");
}

/// One that waits for a layer has a thread that may wait, and whoever makes the layer needs none of those.
#[test]
fn a_body_that_waits_for_its_layer_does_not_keep_it_from_being_made() {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.max_blocking_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let (run, (layer, _)) = (Fixture::new(), layer(1));
        let lease = run.layers.lease(std::slice::from_ref(&layer));
        let facts = lease.facts(&layer).await.unwrap();
        let mut body = lease.body(&layer, &facts).open(0..facts.size);
        let mut sent = body.next().await.unwrap().unwrap().len() as u64;
        drop(run.layers.table.lock().drop_unpinned());
        let rest = async {
            while let Some(chunk) = body.next().await {
                sent += chunk.unwrap().len() as u64;
                drop(run.layers.table.lock().drop_unpinned());
            }
        };
        tokio::time::timeout(Duration::from_secs(60), rest).await.expect("the layer is made");
        assert_eq!(sent, facts.size);
    });
}

#[tokio::test]
async fn a_body_whose_layer_gave_way_goes_on_where_it_was() {
    let (run, (first, made), (second, _)) = (Fixture::new(), layer(1), layer(2));
    let [slow, fast] = [&first, &second].map(|layer| run.layers.lease(std::slice::from_ref(layer)));
    let _uses = (slow.used_by(0), fast.used_by(1));
    run.brought(1);
    let facts = slow.facts(&first).await.unwrap();
    let mut body = slow.body(&first, &facts).open(0..facts.size);
    let mut sent = body.next().await.unwrap().unwrap().to_vec();
    let revoked = run.layers.table.lock().revoke_idle(fast.number, Instant::now() + IDLE);
    assert!(revoked.is_some());
    drop(run.layers.table.lock().drop_unpinned());
    while let Some(chunk) = body.next().await {
        sent.extend_from_slice(&chunk.unwrap());
    }
    assert_eq!((Digest::of(&sent), count(&made)), (facts.digest, 2));
}

/// A mirror sends the only room's layer, stands still, and its image has given way to another one of the same mirror.
async fn given_way(run: &Fixture) -> [(Arc<LayerLease>, MirrorUse, UnpackedLayer); 2] {
    let (first, second) = (layer(1).0, layer(2).0);
    let [slow, next] = [&first, &second].map(|layer| run.layers.lease(std::slice::from_ref(layer)));
    let uses = (slow.used_by(0), next.used_by(0));
    slow.blob(&first).await.unwrap();
    let fast = next.used_by(1);
    run.brought(1);
    next.blob(&second).await.unwrap();
    assert!(slow.made(&first).is_none() && next.made(&second).is_some(), "it stood still");
    drop(fast);
    [(slow, uses.0, first), (next, uses.1, second)]
}

#[tokio::test(start_paused = true)]
async fn an_image_that_waits_for_another_one_of_its_mirror_gives_way_to_it_at_once() {
    let run = Fixture::new();
    let [(slow, slow_use, first), (next, next_use, second)] = given_way(&run).await;
    {
        let mut again = pin!(slow.blob(&first));
        tokio::time::timeout(IDLE * 4, &mut again).await.expect_err("the other one is being sent");
        // All that is left to do for it is to wait for what the first one has.
        let branches = [next_use.active().fork(), next_use.active().fork()];
        let _branches_go_on = next_use.active().suspend();
        let _suspended = branches.each_ref().map(|branch| branch.suspend());
        again.await.unwrap();
    }
    assert!(next.made(&second).is_none());
    drop((slow, slow_use));
    next.blob(&second).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn one_of_several_things_that_waits_costs_an_image_no_room_while_another_goes_on() {
    let (run, (first, _), (second, _)) = (Fixture::new(), layer(1), layer(2));
    let [one, next] = [&first, &second].map(|layer| run.layers.lease(std::slice::from_ref(layer)));
    let (uses, _next_is_sent) = (one.used_by(0), next.used_by(0));
    one.blob(&first).await.unwrap();
    let branches = [uses.active().fork(), uses.active().fork()];
    let _branches_go_on = uses.active().suspend();
    let _suspended = branches[0].suspend();
    let mut admitted = pin!(next.admit());
    tokio::time::timeout(Duration::from_secs(3600), &mut admitted).await.expect_err("one branch goes on");
    drop(branches[1].suspend());
    assert!(!one.is_admitted(), "nobody did anything for it");
    admitted.await;
}

/// What waits for a permit waits for a request that has one; nothing says so but that it does not get on.
#[tokio::test(start_paused = true)]
async fn a_request_under_way_gets_room_from_images_that_its_mirror_does_not_get_on_with() {
    let run = Fixture::new();
    let [(slow, _slow_is_sent, first), (next, _next_is_sent, second)] = given_way(&run).await;
    // It asked first, and would only wait for a permit with what it got.
    let third = layer(3).0;
    let blocked = run.layers.lease(std::slice::from_ref(&third));
    let _blocked_is_sent = blocked.used_by(0);
    let mut early = pin!(blocked.admit());
    assert!((&mut early).now_or_never().is_none());

    let mut under_way = pin!(slow.blob_under_way(&first));
    let made = tokio::select! {
        made = &mut under_way => made,
        () = &mut early => panic!("it would wait for the request that is under way"),
    };
    made.unwrap();
    assert!(next.made(&second).is_none());
}
