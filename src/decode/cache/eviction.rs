//! Which decoded parts leave when room is needed. Pure: no lock, no I/O, and the caller gives the time.
//!
//! In: the state of each part and its readers, and who asks for room. Out: the parts that leave, or the time at which to ask
//! again. Parts read to their end leave first, then parts that their readers have left, then parts decoded ahead, then parts
//! that a reader has announced, the last part first because readers go from the first to the last. A part that is being read
//! leaves only when its reader has paused, or when the one who asks has waited long enough. So when there are more readers than
//! parts in the budget, the readers take turns, instead of decoding each part again for every chunk.

use std::cmp::Reverse;
use std::time::Duration;

use crate::clock::Instant;

/// A part that nobody has touched for this long is not being read.
pub(super) const IDLE: Duration = Duration::from_secs(1);
/// How long a reader waits for others to finish their parts before one of those leaves.
const PATIENCE: Duration = Duration::from_millis(250);

/// A part that could go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Evictable<K> {
    pub(super) key: K,
    /// The memory that it gives back.
    pub(super) bytes: u64,
    pub(super) standing: Standing,
    /// A reader has announced that it will read the part.
    pub(super) wanted: bool,
    /// When it was last read from, or when it was made.
    pub(super) touched: Instant,
}

/// How a part stands with its readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was read to its end.
    Finished,
    /// All its readers have turned to other parts. The walk over headers leaves parts that others are about to read.
    Left,
    /// It is to be decoded ahead, and nobody has begun.
    Queued,
    /// It was decoded ahead, and nobody has read from it yet.
    Unread,
    /// Somebody reads from it.
    Reading,
}

/// Who asks for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RoomFor {
    /// Decoding ahead. No part leaves for it that a reader may want as soon.
    Ahead,
    /// A reader that has waited since then.
    Reader { since: Instant },
}

/// Why no room can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoRoom {
    /// When there will be room at the latest, if nothing else happens; none where something must happen first.
    pub(super) until: Option<Instant>,
}

/// The parts that go so that `needed` bytes come free for `part`, in their order; as few as will do.
pub(super) fn choose<K: Copy + Ord>(
    candidates: impl IntoIterator<Item = Evictable<K>>,
    needed: u64,
    asker: RoomFor,
    part: K,
    now: Instant,
) -> Result<Vec<K>, NoRoom> {
    let candidates = candidates.into_iter();
    let mut parts: Vec<_> = candidates.filter_map(|it| Some((it.goes_at(asker, part)?, it))).collect();
    let free: u64 = parts.iter().filter(|(at, _)| *at <= now).map(|(_, part)| part.bytes).sum();
    let mut freed = 0;
    if free < needed {
        parts.sort_unstable_by_key(|(at, _)| *at);
        let enough = parts.iter().find(|(_, part)| {
            freed += part.bytes;
            freed >= needed
        });
        return Err(NoRoom { until: enough.map(|(at, _)| *at) });
    }
    parts.retain(|(at, _)| *at <= now);
    parts.sort_unstable_by_key(|(_, part)| part.place(now));
    let going = parts.into_iter().take_while(|(_, part)| {
        let lacking = freed < needed;
        freed += part.bytes;
        lacking
    });
    Ok(going.map(|(_, part)| part.key).collect())
}

impl<K: Copy + Ord> Evictable<K> {
    /// From when on it may go for this asker and part; None if never.
    fn goes_at(&self, asker: RoomFor, part: K) -> Option<Instant> {
        let idle = self.touched + IDLE;
        if self.wanted && asker == RoomFor::Ahead && self.key < part {
            return None;
        }
        match (self.standing, asker) {
            (Standing::Finished | Standing::Left, _) | (Standing::Queued, RoomFor::Reader { .. }) => {
                Some(self.touched)
            }
            (Standing::Reading, RoomFor::Ahead) => Some(idle),
            (Standing::Queued | Standing::Unread, RoomFor::Ahead) => None,
            (Standing::Unread | Standing::Reading, RoomFor::Reader { since }) => {
                Some(idle.min(since + PATIENCE))
            }
        }
    }

    /// Its place in the order of going: among what is wanted the last, else the longest untouched.
    fn place(&self, now: Instant) -> (u8, Option<Reverse<K>>, Instant, K) {
        (self.rank(now), self.wanted.then_some(Reverse(self.key)), self.touched, self.key)
    }

    /// The lowest goes first.
    fn rank(&self, now: Instant) -> u8 {
        let idle = now.saturating_duration_since(self.touched) >= IDLE;
        match self.standing {
            Standing::Queued => 2,
            Standing::Unread | Standing::Reading if !idle => 5,
            _ if self.wanted => 3,
            Standing::Finished => 0,
            Standing::Left | Standing::Reading => 1,
            Standing::Unread => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STANDINGS: [Standing; 5] =
        [Standing::Finished, Standing::Left, Standing::Queued, Standing::Unread, Standing::Reading];

    /// A part of ten bytes that was touched so many milliseconds before `now`.
    fn part(key: u8, standing: Standing, now: Instant, untouched: u64) -> Evictable<u8> {
        Evictable { key, bytes: 10, standing, wanted: false, touched: before(now, untouched) }
    }

    fn before(now: Instant, millis: u64) -> Instant {
        now.checked_sub(Duration::from_millis(millis)).expect("it is an hour from now")
    }

    /// Far enough from the machine's start that a second can be taken off.
    fn now() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    #[test]
    fn what_was_read_goes_before_what_was_left_before_what_was_not_begun() {
        let now = now();
        let parts = [
            part(1, Standing::Queued, now, 900),
            part(2, Standing::Left, now, 10),
            part(3, Standing::Left, now, 20),
            part(4, Standing::Finished, now, 0),
            part(5, Standing::Reading, now, 100),
        ];
        let reader = RoomFor::Reader { since: now };
        let going = |needed| choose(parts, needed, reader, 0, now);
        assert_eq!(going(1), Ok(vec![4]));
        assert_eq!(going(40), Ok(vec![4, 3, 2, 1]));
        assert_eq!(going(41), Err(NoRoom { until: Some(now + PATIENCE) }));
        assert_eq!(going(51), Err(NoRoom { until: None }), "not even with all of them");
    }

    #[test]
    fn nobody_loses_what_may_be_wanted_to_reading_ahead() {
        let now = now();
        let parts = [part(1, Standing::Queued, now, 900), part(2, Standing::Unread, now, 5000)];
        assert_eq!(choose(parts, 1, RoomFor::Ahead, 0, now), Err(NoRoom { until: None }));
    }

    #[test]
    fn what_will_be_read_goes_after_what_will_not_and_the_last_of_it_first() {
        let now = now();
        let wanted = |it: Evictable<u8>| Evictable { wanted: true, ..it };
        let parts = [
            wanted(part(1, Standing::Finished, now, 900)),
            wanted(part(2, Standing::Left, now, 500)),
            wanted(part(3, Standing::Left, now, 20)),
            part(4, Standing::Left, now, 0),
        ];
        let reader = RoomFor::Reader { since: now };
        assert_eq!(choose(parts, 40, reader, 0, now), Ok(vec![4, 3, 2, 1]));
        // Reading ahead takes nothing that comes before what it would bring.
        assert_eq!(choose(parts, 20, RoomFor::Ahead, 2, now), Ok(vec![4, 3]));
        assert_eq!(choose(parts, 40, RoomFor::Ahead, 2, now), Err(NoRoom { until: None }));
    }

    #[test]
    fn a_reader_waits_until_another_pauses_or_its_patience_ends_whatever_comes_first() {
        let now = now();
        let parts = [part(1, Standing::Reading, now, 900), part(2, Standing::Reading, now, 0)];
        let reader = RoomFor::Reader { since: now };
        let pause = now + Duration::from_millis(100);
        assert_eq!(choose(parts, 10, reader, 0, now), Err(NoRoom { until: Some(pause) }));
        assert_eq!(choose(parts, 10, reader, 0, pause), Ok(vec![1]));
        assert_eq!(choose(parts, 20, reader, 0, now), Err(NoRoom { until: Some(now + PATIENCE) }));
        assert_eq!(choose(parts, 20, reader, 0, now + PATIENCE), Ok(vec![1, 2]));
    }

    prop_compose! {
        fn parts()(parts in prop::collection::vec((0_usize..5, 0_u64..2000, 1_u64..30, any::<bool>()), 0..12)) -> Vec<(Standing, u64, u64, bool)> {
            parts.into_iter().map(|(standing, untouched, bytes, wanted)| (STANDINGS[standing], untouched, bytes, wanted)).collect()
        }
    }

    proptest! {
        #[test]
        fn enough_goes_and_no_more_or_the_moment_is_said(parts in parts(), needed in 1_u64..200, waited in prop::option::of(0_u64..500)) {
            let now = now();
            let candidates: Vec<_> = (0_u8..).zip(&parts).map(|(key, &(standing, untouched, bytes, wanted))| {
                Evictable { bytes, wanted, ..part(key, standing, now, untouched) }
            }).collect();
            let asker = waited.map_or(RoomFor::Ahead, |ms| RoomFor::Reader { since: before(now, ms) });
            let bytes = |keys: &[u8]| keys.iter().map(|key| parts[usize::from(*key)].2).sum::<u64>();
            match choose(candidates.clone(), needed, asker, 6, now) {
                Ok(going) => {
                    prop_assert!(bytes(&going) >= needed);
                    prop_assert!(bytes(&going[..going.len() - 1]) < needed, "one too many");
                    let rank = |key: u8| candidates[usize::from(key)].rank(now);
                    let last = rank(going[going.len() - 1]);
                    for it in candidates.iter().filter(|it| !going.contains(&it.key)) {
                        let may_go = it.goes_at(asker, 6).is_some_and(|at| at <= now);
                        prop_assert!(!may_go || it.rank(now) >= last, "{it:?} was to go before");
                    }
                }
                Err(NoRoom { until: Some(until) }) => {
                    prop_assert!(until > now);
                    prop_assert!(choose(candidates.clone(), needed, asker, 6, until).is_ok());
                    let too_early = choose(candidates, needed, asker, 6, before(until, 1));
                    prop_assert!(too_early.is_err(), "there was room before");
                }
                Err(NoRoom { until: None }) => {
                    prop_assert!(choose(candidates, needed, asker, 6, now + Duration::from_secs(3600)).is_err());
                }
            }
        }
    }
}
