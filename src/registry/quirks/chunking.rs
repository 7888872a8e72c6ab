//! The size of upload chunks, from what a host refuses as too large, the rate of the link, and what is lost when a connection
//! breaks.

use super::{Keeping, Quirks};

/// How long one request with a part of a blob is to take: proxies, tokens and some registries allow a minute or less.
const CHUNK_SECONDS: u64 = 15;
/// What takes no longer than this goes in one request.
const WHOLE_SECONDS: u64 = 20;
/// The largest part that is lost where a mirror does not keep what arrived of a body that broke. One that asks for larger parts is
/// not believed.
const MAX_LOST_BYTES: u64 = 64 << 20;
/// The first part where nothing is known of the link.
const FIRST_CHUNK_BYTES: u64 = 16 << 20;
/// Smaller parts are more requests than bytes.
const MIN_CHUNK_BYTES: u64 = 128 << 10;
/// What a request may carry, where a larger one was refused: round numbers, as limits are.
const LADDER: [u64; 6] = [64 << 20, 16 << 20, 4 << 20, 1 << 20, 256 << 10, 64 << 10];

impl Quirks {
    /// Takes in that a body of this size was refused by both methods.
    pub(in crate::registry) fn learn_refused(&mut self, bytes: u64) {
        self.this_run.tries_larger = false;
        self.refused_bytes = Some(self.refused_bytes.map_or(bytes, |known| known.min(bytes)));
    }

    /// Takes in that a body of this size was taken: what was refused once is not refused any more.
    pub(in crate::registry) fn learn_taken(&mut self, bytes: u64) {
        if self.was_refused(bytes) {
            self.refused_bytes = self.refused_bytes.and_then(one_step_up);
            self.this_run.tries_larger = false;
        }
    }

    /// Whether a body of this size was refused before.
    pub(in crate::registry) fn was_refused(&self, bytes: u64) -> bool {
        self.refused_bytes.is_some_and(|refused| bytes >= refused)
    }

    /// Takes in what the host says of the smallest part, or that it says nothing of it.
    pub(in crate::registry) fn learn_least_chunk(&mut self, bytes: Option<u64>) {
        self.least_chunk = bytes.map(|bytes| bytes.min(MAX_LOST_BYTES)).filter(|bytes| *bytes > 0);
    }

    /// The most that a request may carry, as far as larger ones were refused. None is left where that is less than makes
    /// sense.
    pub(in crate::registry) fn most_bytes(&self) -> Option<u64> {
        let refused = self.refused_bytes?;
        let refused = if self.this_run.tries_larger { one_step_up(refused)? } else { refused };
        LADDER.into_iter().find(|bytes| *bytes < refused)
    }

    /// Whether a body of this size could be cut smaller than what was refused.
    pub(in crate::registry) fn can_be_smaller(&self, bytes: u64) -> bool {
        !self.refuses_chunks && self.most_bytes().is_some_and(|most| most < bytes)
    }

    /// How much of what is left of a blob goes with the next request; none for all of it.
    pub(in crate::registry) fn chunk(&self, left: u64) -> Option<u64> {
        if self.refuses_chunks {
            return None;
        }
        let most = self.most_bytes().filter(|most| *most < left);
        let by_time = self.chunk_by_time(left);
        if most.is_none() && by_time.is_none() {
            return None;
        }
        let wanted = by_time.unwrap_or(u64::MAX).max(self.least_chunk.unwrap_or(0));
        Some(wanted.min(most.unwrap_or(u64::MAX))).filter(|bytes| *bytes < left)
    }

    fn chunk_by_time(&self, left: u64) -> Option<u64> {
        // Where a session is lost with its connection, parts only cost requests, unless long ones break by themselves.
        if self.keeping == Keeping::Nothing && !self.slow_requests_break {
            return None;
        }
        let bytes = match self.bytes_per_second {
            Some(rate) if left <= rate.saturating_mul(WHOLE_SECONDS) => return None,
            Some(rate) => rate.saturating_mul(CHUNK_SECONDS),
            None if left <= MAX_LOST_BYTES => return None,
            None => FIRST_CHUNK_BYTES,
        };
        let most = if self.keeping == Keeping::Bytes { u64::MAX } else { MAX_LOST_BYTES };
        Some(bytes.clamp(MIN_CHUNK_BYTES, most))
    }
}

/// The size from which bodies count as refused where the next larger one is to be tried; none where whatever size is. Where the
/// smallest was refused as well, the size was not the reason.
fn one_step_up(refused: u64) -> Option<u64> {
    let most = LADDER.iter().position(|bytes| *bytes < refused)?;
    LADDER.get(most.checked_sub(1)?).map(|bytes| bytes + 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::LostBy;
    use super::*;

    const MIB: u64 = 1 << 20;

    fn with_rate(rate: u64, keeping: Keeping) -> Quirks {
        Quirks { bytes_per_second: Some(rate), keeping, ..Quirks::default() }
    }

    #[test]
    fn a_blob_goes_in_one_request_where_that_takes_no_longer_than_a_proxy_waits() {
        assert_eq!(Quirks::default().chunk(64 * MIB), None);
        assert_eq!(with_rate(100 * MIB, Keeping::Unknown).chunk(2000 * MIB), None);
        assert_eq!(with_rate(MIB, Keeping::Unknown).chunk(20 * MIB), None);
    }

    #[test]
    fn parts_are_sized_by_time_and_bounded_where_a_broken_one_is_lost() {
        assert_eq!(Quirks::default().chunk(65 * MIB), Some(16 * MIB));
        assert_eq!(with_rate(MIB, Keeping::Unknown).chunk(21 * MIB), Some(15 * MIB));
        assert_eq!(with_rate(10 * MIB, Keeping::Chunks).chunk(5000 * MIB), Some(64 * MIB));
        assert_eq!(with_rate(10 * MIB, Keeping::Bytes).chunk(5000 * MIB), Some(150 * MIB));
        assert_eq!(with_rate(1, Keeping::Bytes).chunk(5000 * MIB), Some(128 << 10));
    }

    #[test]
    fn a_mirror_that_loses_sessions_gets_single_requests_unless_long_ones_break() {
        let mut quirks = with_rate(MIB, Keeping::Nothing);
        assert_eq!(quirks.chunk(5000 * MIB), None);
        quirks.learn_broken(Duration::from_secs(19));
        assert_eq!(quirks.chunk(5000 * MIB), None);
        quirks.learn_broken(Duration::from_secs(60));
        assert_eq!(quirks.chunk(5000 * MIB), Some(15 * MIB));
        quirks.learn_lost(LostBy::Patch, Duration::from_secs(3));
        assert_eq!(quirks.chunk(5000 * MIB), None, "it was the link, and no limit on time");
    }

    #[test]
    fn what_was_refused_as_too_large_is_cut_until_nothing_is_left_to_cut() {
        let mut quirks = Quirks::default();
        let mut sizes = vec![6 * MIB];
        while let Some(next) = {
            quirks.learn_refused(sizes[sizes.len() - 1]);
            quirks.chunk(6 * MIB)
        } {
            sizes.push(next);
        }
        assert_eq!(sizes, [6 * MIB, 4 * MIB, MIB, 256 << 10, 64 << 10]);
        assert!(!quirks.can_be_smaller(64 << 10));
        let chunkless = Quirks { refuses_chunks: true, ..quirks };
        assert_eq!(chunkless.chunk(6 * MIB), None);
    }

    #[test]
    fn the_least_part_that_a_mirror_asks_for_is_kept_to_below_its_most() {
        let mut quirks = with_rate(100_000, Keeping::Unknown);
        quirks.learn_least_chunk(Some(5 * MIB));
        assert_eq!(quirks.chunk(100 * MIB), Some(5 * MIB));
        quirks.learn_refused(5 * MIB);
        assert_eq!(quirks.chunk(100 * MIB), Some(4 * MIB));
        quirks.learn_least_chunk(Some(1 << 30));
        assert_eq!(quirks.least_chunk, Some(64 * MIB), "no more than may be lost");
        quirks.learn_least_chunk(None);
        assert_eq!(quirks.least_chunk, None, "it asks for nothing any more");
    }

    #[test]
    fn a_limit_on_size_is_tried_one_step_up_in_a_later_run_and_goes_where_more_is_taken() {
        let mut quirks = Quirks::default();
        quirks.learn_refused(6 * MIB);
        let later = |quirks: &Quirks| quirks.clone().recalled(0);
        assert_eq!((quirks.most_bytes(), later(&quirks).most_bytes()), (Some(4 * MIB), Some(16 * MIB)));

        let mut refused = later(&quirks);
        refused.learn_refused(16 * MIB);
        assert_eq!(refused.most_bytes(), Some(4 * MIB), "it is as it was");

        let mut taken = later(&quirks);
        taken.learn_taken(MIB);
        assert_eq!(taken.refused_bytes, Some(6 * MIB), "that was never refused");
        taken.learn_taken(16 * MIB);
        assert_eq!(taken.most_bytes(), Some(16 * MIB));
        let mut taken = later(&taken);
        assert_eq!(taken.most_bytes(), Some(64 * MIB));
        taken.learn_taken(64 * MIB);
        assert_eq!(later(&taken).most_bytes(), None, "the last step");

        quirks.learn_refused(64 << 10);
        assert_eq!((quirks.most_bytes(), quirks.can_be_smaller(MIB)), (None, false));
        assert_eq!(later(&quirks).chunk(6 * MIB), None, "whatever the size, it was refused: a disk was full");
    }
}
