use futures_util::FutureExt as _;

use super::*;

fn budget(layers: u64, disk: u64) -> Arc<Budget> {
    Budget::new(Shares { parts: 0, layers, bodies: 0, disk, layers_on_disk: disk, parts_on_disk: disk })
}

#[test]
fn images_are_admitted_in_order_and_one_too_large_gets_all() {
    let budget = budget(4, 6);
    let small = budget.admit(1, Turn::First).now_or_never().expect("there is room");
    let mut huge = Box::pin(budget.admit(1 << 40, Turn::First));
    assert!((&mut huge).now_or_never().is_none(), "the small one has its room");
    let mut next = Box::pin(budget.admit(1, Turn::First));
    assert!((&mut next).now_or_never().is_none(), "nobody overtakes");
    drop(small);
    let huge = huge.now_or_never().expect("nobody else has any");
    assert!((&mut next).now_or_never().is_none());
    drop(huge);
    assert!(next.now_or_never().is_some());
}

#[tokio::test]
async fn whoever_gives_up_waiting_lets_the_next_one_in() {
    let budget = budget(10, 0);
    let held = budget.admit(5, Turn::First).await;
    let mut large = Box::pin(budget.admit(10, Turn::First));
    assert!((&mut large).now_or_never().is_none());
    let asking = Arc::clone(&budget);
    let small = tokio::spawn(async move { asking.admit(5, Turn::First).await });
    tokio::task::yield_now().await;
    assert!(!small.is_finished());
    drop(large);
    drop(small.await.unwrap());
    drop(held);
}

#[test]
fn layers_take_memory_before_disk_and_give_both_back() {
    let budget = budget(4, 6);
    let (mut one, mut other) = (budget.layer(None), budget.layer(None));
    assert_eq!(one.grow(3), Ok(3));
    assert_eq!(other.grow(3), Ok(1), "two on disk");
    assert_eq!(other.grow(5), Err(NoLayerRoom { limit: 10 }));
    drop(one);
    assert_eq!(other.grow(5), Ok(3));
    assert_eq!(budget.spool(3).unwrap_err(), NoDisk { needed: 7, limit: 6 });
    drop(other);
    assert_eq!(budget.spool(6).unwrap().bytes(), 6);
}

#[test]
fn a_layer_takes_what_was_promised_to_its_image_and_others_do_not() {
    let budget = budget(0, 10);
    let room = budget.admit(6, Turn::First).now_or_never().unwrap();
    let (mut layer, mut stranger) = (budget.layer(Some(Arc::clone(&room))), budget.layer(None));
    assert!(stranger.grow(5).is_err());
    assert!(budget.spool(5).is_err());
    let spool = budget.spool(4).unwrap();
    assert_eq!(layer.grow(4), Ok(0));
    assert!(budget.admit(1, Turn::First).now_or_never().is_none());
    room.settle();
    assert!(budget.admit(2, Turn::First).now_or_never().is_some(), "the layers turned out smaller");
    // A layer that other images have too outlives the room that it was made in.
    drop(room);
    assert_eq!(spool.grow(3), Err(NoDisk { needed: 11, limit: 10 }));
    drop(layer);
    assert_eq!(spool.grow(3), Ok(()));
    spool.give_back(5);
    assert!(budget.admit(8, Turn::First).now_or_never().is_some());
}

#[test]
fn a_try_that_fails_leaves_the_promise_as_it_was() {
    let budget = budget(2, 4);
    let room = budget.admit(6, Turn::First).now_or_never().unwrap();
    for _ in 0..3 {
        let mut layer = budget.layer(Some(Arc::clone(&room)));
        assert_eq!(layer.grow(5), Ok(2));
        assert!(budget.admit(1, Turn::First).now_or_never().is_none());
    }
    let mut layer = budget.layer(Some(Arc::clone(&room)));
    assert_eq!(layer.grow(6), Ok(2));
    drop(layer.finished());
    assert!(
        budget.admit(6, Turn::First).now_or_never().is_some(),
        "what is finished takes nothing of the promise along"
    );
}

#[test]
fn what_gave_its_room_away_comes_after_all_others() {
    let budget = budget(4, 0);
    let held = budget.admit(4, Turn::First).now_or_never().unwrap();
    let mut again = budget.admit(1, Turn::Again);
    let mut first = budget.admit(4, Turn::First);
    assert!((&mut again).now_or_never().is_none() && again.is_first());
    assert!((&mut first).now_or_never().is_none() && !again.is_first() && first.is_first());
    drop(held);
    assert!((&mut again).now_or_never().is_none());
    drop(first.now_or_never().expect("it is first"));
    assert!(again.now_or_never().is_some());
}

/// Counts what it is asked to drop.
#[derive(Debug, Default)]
struct Owner(Mutex<Vec<SpilledBytes>>);

impl Reclaim for Owner {
    fn reclaim(&self, bytes: u64) -> Reclaimed {
        let (mut gone, mut parts) = (Reclaimed::default(), self.0.lock());
        while gone.bytes() < bytes
            && let Some(part) = parts.pop()
        {
            let bytes = part.bytes;
            gone.add(Arc::new(part), bytes);
        }
        gone
    }
}

#[test]
fn spilled_parts_make_way_for_spools_and_for_layers() {
    let budget = budget(0, 10);
    let owner = Arc::new(Owner::default());
    let weak: Weak<Owner> = Arc::downgrade(&owner);
    budget.reclaims_from(weak);
    let spill = |bytes| owner.0.lock().extend(budget.spill(bytes));
    spill(6);
    assert!(budget.spill(5).is_none());
    let spool = budget.spool(4).unwrap();
    assert_eq!(owner.0.lock().len(), 1, "there is room for both");
    let larger = budget.spool(2).unwrap();
    assert!(owner.0.lock().is_empty());
    drop((spool, larger));
    spill(6);
    let room = budget.admit(6, Turn::First).now_or_never().unwrap();
    assert_eq!(owner.0.lock().len(), 1, "to wait for the disk is not for whoever asks for room");
    drop(budget.reclaim());
    assert!(owner.0.lock().is_empty());
    drop(room);
    spill(6);
    assert_eq!(budget.layer(None).grow(5), Ok(0));
    assert!(owner.0.lock().is_empty());
}

#[test]
fn no_more_goes_than_others_need_and_what_is_being_read_does_not_count() {
    let budget = budget(0, 10);
    let owners = [(); 2].map(|()| Arc::new(Owner::default()));
    for owner in &owners {
        budget.reclaims_from(Arc::downgrade(owner) as Weak<dyn Reclaim>);
        owner.0.lock().extend([budget.spill(2), budget.spill(2)].into_iter().flatten());
    }
    let left = || owners.each_ref().map(|owner| owner.0.lock().len());
    let _spool = budget.spool(3).unwrap();
    assert_eq!(left(), [1, 2], "one part is enough");

    let (part, mut gone) = (Arc::new(()), Reclaimed::default());
    gone.add(Arc::clone(&part), 5);
    assert_eq!(gone.bytes(), 0);
    gone.add(Arc::new(()), 5);
    assert_eq!(gone.bytes(), 5);
}
