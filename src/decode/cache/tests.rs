use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::*;
use crate::budget::Shares;
use crate::testing::eventually_blocking;

const SIZE: usize = 1000;
const DISK: u64 = 1 << 30;

/// Parts that count how often they are decoded, how many at once, and into how many buffers that had to be made.
#[derive(Default)]
struct Counted {
    decoded: AtomicUsize,
    buffers: AtomicUsize,
    at_once: AtomicU64,
    most_at_once: AtomicU64,
    fails: bool,
    panics: bool,
}

impl PartSet for Counted {
    fn need_bytes(&self, _index: usize) -> u64 {
        SIZE as u64
    }

    fn decode(&self, index: usize, out: &mut Vec<u8>) -> Result<DecodeAttempt, BundleError> {
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        self.decoded.fetch_add(1, Ordering::SeqCst);
        // Everybody else has a turn meanwhile.
        (0..50).for_each(|_| std::thread::yield_now());
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        assert!(!self.panics, "as it was told");
        if self.fails {
            return Err(BundleError::new(Fault::CorruptCompression, "as it was told"));
        }
        self.buffers.fetch_add(usize::from(out.capacity() < SIZE), Ordering::SeqCst);
        out.clear();
        out.resize(SIZE, u8::try_from(index % 256).unwrap());
        Ok(DecodeAttempt::Whole)
    }
}

fn cache(threads: usize, parts: usize) -> Arc<PartCache> {
    cache_with_disk(threads, parts, 0)
}

fn cache_with_disk(threads: usize, parts: usize, parts_on_disk: u64) -> Arc<PartCache> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    let shares = Shares { parts: (parts * SIZE) as u64, disk: DISK, parts_on_disk, ..Shares::default() };
    // Unlike the system's folder for temporary files, this one is never in memory.
    let spool_dir = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target");
    let options = DecodeOptions { budget: Budget::new(shares), spool_dir, ..DecodeOptions::default() };
    let cache = PartCache::new(Arc::new(pool), &options, Arc::default());
    cache.spill_to_disk();
    cache
}

/// A part as it was decoded, wherever it is.
fn bytes(part: &DecodedPart) -> Bytes {
    part.copy(0..part.len()).expect("the disk gives it back")
}

fn counted(set: Counted) -> (Arc<Counted>, Arc<dyn PartSet>) {
    let set = Arc::new(set);
    (Arc::clone(&set), set)
}

#[test]
fn a_part_wanted_by_many_is_decoded_once() {
    let cache = cache(2, 4);
    let (counts, set) = counted(Counted::default());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(bytes(&cache.fetch(&set, 1, 7, 0..0).unwrap())[..], [7; SIZE]));
        }
    });
    assert_eq!(counts.decoded.load(Ordering::SeqCst), 1);
}

#[test]
fn a_failure_reaches_all_who_wait_and_stays() {
    for set in [Counted { fails: true, ..Counted::default() }, Counted { panics: true, ..Counted::default() }]
    {
        let cache = cache(2, 4);
        let (counts, set) = counted(set);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| assert!(cache.fetch(&set, 1, 0, 0..0).is_err()));
            }
        });
        assert!(cache.fetch(&set, 1, 0, 0..0).is_err());
        assert_eq!(counts.decoded.load(Ordering::SeqCst), 1);
        assert_eq!(cache.state.lock().used_bytes, 0);
    }
}

#[test]
fn the_budget_holds_however_many_readers_there_are() {
    let cache = cache(4, 3);
    let (counts, set) = counted(Counted::default());
    std::thread::scope(|scope| {
        for reader in 0..8_usize {
            let (cache, set) = (&cache, &set);
            scope.spawn(move || {
                for index in 0..6 {
                    let part =
                        cache.fetch(set, 1, reader + index, reader + index + 1..reader + index + 5).unwrap();
                    assert_eq!(usize::from(bytes(&part)[0]), reader + index);
                    assert!(cache.state.lock().used_bytes <= 3 * SIZE as u64);
                    cache.finish((1, reader + index));
                }
            });
        }
    });
    assert!(counts.most_at_once.load(Ordering::SeqCst) <= 3);
}

#[test]
fn reading_ahead_drops_nothing_that_is_being_read() {
    let cache = cache(1, 3);
    let (counts, set) = counted(Counted::default());
    let reader = |index, ahead| {
        std::thread::scope(|scope| {
            drop(scope.spawn(|| cache.fetch(&set, 1, index, ahead)).join().unwrap().unwrap());
        });
    };
    reader(0, 1..9);
    reader(1, 3..9);
    reader(2, 3..9);
    assert_eq!(counts.decoded.load(Ordering::SeqCst), 3, "no room for part 3");
    cache.finish((1, 0));
    cache.fetch(&set, 1, 2, 3..9).unwrap();
    assert!(cache.state.lock().entries.contains_key(&(1, 3)));
    assert!(!cache.state.lock().entries.contains_key(&(1, 0)));
}

#[test]
fn a_reader_that_turns_to_another_part_lets_the_first_go() {
    let cache = cache(1, 2);
    let (counts, set) = counted(Counted::default());
    for index in 0..20 {
        cache.fetch(&set, 1, index, 0..0).unwrap();
    }
    assert_eq!(counts.decoded.load(Ordering::SeqCst), 20);
    assert_eq!(cache.state.lock().waits_for_room, 0, "it waited for itself");
}

#[test]
fn a_forgotten_volume_leaves_nothing() {
    let cache = cache(2, 8);
    let (_, set) = counted(Counted::default());
    cache.fetch(&set, 1, 0, 1..6).unwrap();
    cache.fetch(&set, 2, 0, 0..0).unwrap();
    cache.forget(1);
    eventually_blocking("nothing of the volume is being decoded", || cache.is_idle());
    let state = cache.state.lock();
    assert_eq!((state.used_bytes, state.entries.len()), (SIZE as u64, 1));
}

/// A pool whose only thread does something else until the sender is dropped.
fn busy(parts: usize) -> (Arc<PartCache>, std::sync::mpsc::Sender<()>) {
    let cache = cache(1, parts);
    let (free, until) = std::sync::mpsc::channel::<()>();
    cache.pool.spawn(move || {
        let _ = until.recv();
    });
    (cache, free)
}

fn is_waited_for(cache: &PartCache) -> bool {
    cache.state.lock().entries.values().any(|entry| entry.waiting > 0)
}

#[test]
fn a_reader_waits_for_a_busy_pool_and_a_thread_that_decodes_does_not() {
    let (cache, free) = busy(4);
    let (counts, set) = counted(Counted::default());
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| bytes(&cache.fetch(&set, 1, 3, 0..0).unwrap())[0]);
        eventually_blocking("a reader waits for the part", || is_waited_for(&cache));
        // The pool may wait for this one, so this one cannot wait for the pool: not even for what others want.
        let decoder = scope.spawn(|| {
            let _decoding = Decoding::begin();
            bytes(&cache.fetch(&set, 1, 3, 0..0).unwrap())[0]
        });
        assert_eq!(decoder.join().unwrap(), 3);
        assert_eq!(reader.join().unwrap(), 3);
        let reader = scope.spawn(|| bytes(&cache.fetch(&set, 1, 5, 0..0).unwrap())[0]);
        drop(free);
        assert_eq!(reader.join().unwrap(), 5);
    });
    assert_eq!(counts.decoded.load(Ordering::SeqCst), 2);
}

#[test]
fn the_end_of_the_run_ends_every_wait() {
    let (cache, free) = busy(1);
    let (_, set) = counted(Counted::default());
    std::thread::scope(|scope| {
        let for_the_part = scope.spawn(|| cache.fetch(&set, 1, 3, 0..0).map(drop));
        eventually_blocking("a reader waits for the part", || is_waited_for(&cache));
        let for_room = scope.spawn(|| cache.fetch(&set, 1, 4, 0..0).map(drop));
        eventually_blocking("a reader waits for room", || cache.state.lock().short_of_room > 0);
        cache.cancel();
        for waiting in [for_the_part, for_room] {
            assert_eq!(waiting.join().unwrap().unwrap_err().fault(), Fault::Cancelled);
        }
    });
    drop(free);
}

/// A part that finds out, twice, that it needs twice the memory.
struct Growing(AtomicU64);

impl PartSet for Growing {
    fn need_bytes(&self, _index: usize) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn decode(&self, _index: usize, out: &mut Vec<u8>) -> Result<DecodeAttempt, BundleError> {
        let need = self.need_bytes(0);
        if need < 4 * SIZE as u64 {
            self.0.store(2 * need, Ordering::SeqCst);
            return Ok(DecodeAttempt::NeedsRoom);
        }
        *out = vec![1; usize::try_from(need).unwrap()];
        Ok(DecodeAttempt::Whole)
    }
}

#[test]
fn a_part_that_needs_more_room_gets_it_from_the_budget_and_is_read_by_all_who_wait() {
    let cache = cache(2, 5);
    let (_, small) = counted(Counted::default());
    for index in 0..4 {
        cache.fetch(&small, 1, index, 0..0).unwrap();
    }
    let set: Arc<dyn PartSet> = Arc::new(Growing(AtomicU64::new(SIZE as u64)));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| assert_eq!(cache.fetch(&set, 2, 0, 0..0).unwrap().len(), 4 * SIZE));
        }
    });
    assert!(cache.state.lock().used_bytes <= 5 * SIZE as u64, "others have made room");
}

/// A budget that would hold all parts. Nobody needs one any more that its only reader is through with.
#[test]
fn what_nobody_will_read_goes_whatever_the_budget_and_its_buffer_is_used_again() {
    const PARTS: usize = 30;
    let cache = cache(1, PARTS);
    let (counts, set) = counted(Counted::default());
    cache.want(1, 0..PARTS, Certainty::Possible);
    let mut most = 0;
    let mut read = |index: usize| {
        cache.fetch(&set, 1, index, 0..0).unwrap();
        cache.finish((1, index));
        most = most.max(cache.state.lock().used_bytes);
    };
    (0..4).for_each(&mut read);
    cache.settle(false);
    (0..4).for_each(&mut read);
    assert_eq!(counts.decoded.load(Ordering::SeqCst), 4, "another reader may come to them");
    cache.unwant(1, 0..4, Certainty::Possible);
    for index in 4..PARTS {
        read(index);
        cache.unwant(1, index..index + 1, Certainty::Possible);
    }
    assert_eq!(counts.decoded.load(Ordering::SeqCst), PARTS, "each once");
    assert!(most <= 4 * SIZE as u64, "{most} bytes");
    assert_eq!(counts.buffers.load(Ordering::SeqCst), 4);
    let state = cache.state.lock();
    let spares = state.spare_bytes();
    assert_eq!((state.entries.len(), state.used_bytes), (0, spares));
}

/// Reads all parts in order, and wants each no more when it is through with it.
fn read_all(cache: &Arc<PartCache>, set: &Arc<dyn PartSet>, parts: usize) {
    for index in 0..parts {
        let part = bytes(&cache.fetch(set, 1, index, index + 1..parts.min(index + 3)).unwrap());
        assert_eq!(part[..], vec![u8::try_from(index).unwrap(); SIZE]);
        cache.finish((1, index));
        cache.unwant(1, index..index + 1, Certainty::Possible);
    }
}

/// Memory for three parts.
#[test]
fn what_memory_has_no_room_for_is_decoded_once_and_read_from_the_disk() {
    const PARTS: usize = 20;
    let cache = cache_with_disk(2, 3, DISK);
    let (counts, set) = counted(Counted::default());
    for _ in 0..4 {
        cache.want(1, 0..PARTS, Certainty::Possible);
    }
    cache.settle(false);
    // Two read side by side, and two more when these are through.
    for _ in 0..2 {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| read_all(&cache, &set, PARTS));
            }
        });
    }
    assert_eq!(counts.decoded.load(Ordering::SeqCst), PARTS);
    assert_eq!(cache.state.lock().entries.values().map(|entry| entry.waiting).sum::<usize>(), 0);
    assert!(cache.meter.spool_high_water_bytes() > 0);
    assert_eq!(cache.meter.spooled_bytes(), 0, "nobody wants them any more");
}

#[test]
fn parts_leave_the_disk_when_a_spool_needs_it_and_when_it_fails() {
    const PARTS: usize = 6;
    let cache = cache_with_disk(1, 2, DISK);
    let (counts, set) = counted(Counted::default());
    cache.want(1, 0..PARTS, Certainty::Possible);
    let read_all = || {
        for index in 0..PARTS {
            let part = bytes(&cache.fetch(&set, 1, index, 0..0).unwrap());
            assert_eq!(usize::from(part[0]), index);
        }
    };
    read_all();
    read_all();
    assert_eq!(counts.decoded.load(Ordering::SeqCst), PARTS);
    cache.lost((1, 0));
    read_all();
    assert_eq!(counts.decoded.load(Ordering::SeqCst), PARTS + 1);
    let spool = cache.budget.spool(DISK).expect("parts have no claim to it");
    assert_eq!(cache.meter.spooled_bytes(), 0);
    read_all();
    assert!(counts.decoded.load(Ordering::SeqCst) >= 2 * PARTS - 2, "they are decoded again");
    drop(spool);
}

#[test]
fn who_comes_later_finds_on_the_disk_what_those_before_have_read() {
    const PARTS: usize = 12;
    let cache = cache_with_disk(2, 3, DISK);
    let (counts, set) = counted(Counted::default());
    for _ in 0..3 {
        cache.want(1, 0..PARTS, Certainty::Possible);
        cache.settle(true);
        read_all(&cache, &set, PARTS);
    }
    assert_eq!(counts.decoded.load(Ordering::SeqCst), PARTS);
    cache.settle(false);
    assert_eq!(cache.meter.spooled_bytes(), 0, "nobody comes any more");
}
