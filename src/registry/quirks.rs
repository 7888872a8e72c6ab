//! The quirks of a host: plain data, learned from its answers and consulted before the next request.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units::ByteCount;

/// Mounts that failed one after the other before they are no longer tried.
const HOPELESS_MOUNTS: u32 = 5;
/// Mounts that were declined one after the other before no other mirror's repository is tried.
const DECLINED_MOUNTS: u32 = 5;
/// A request that took this long and broke may have met a limit on time.
const SLOW_REQUEST: Duration = Duration::from_secs(20);
/// How long one request with a part of a blob is to take: proxies, tokens and some registries allow a minute or less.
const CHUNK_SECONDS: u64 = 15;
/// What takes no longer than this goes in one request.
const WHOLE_SECONDS: u64 = 20;
/// The largest part that is lost where a mirror does not keep what arrived of a body that broke.
const MAX_LOST_BYTES: u64 = 64 << 20;
/// The first part where nothing is known of the link.
const FIRST_CHUNK_BYTES: u64 = 16 << 20;
/// Smaller parts are more requests than bytes.
const MIN_CHUNK_BYTES: u64 = 128 << 10;
/// A mirror that asks for larger parts than this is not believed.
const MAX_LEAST_CHUNK: u64 = 1 << 30;
/// What a request may carry, where a larger one was refused: round numbers, as limits are.
const LADDER: [u64; 6] = [64 << 20, 16 << 20, 4 << 20, 1 << 20, 256 << 10, 64 << 10];
/// Less says little of a link.
const MEASURED_BYTES: u64 = 256 << 10;

/// How the bytes of a blob get in
/// ([distribution-spec, pushing blobs](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-blobs)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum UploadMethod {
    /// One PUT with all bytes, which also commits them.
    #[default]
    Single,
    /// One PATCH with all bytes, and a PUT that commits them.
    Stream,
}

/// What a mirror keeps of an upload whose connection broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Keeping {
    /// None has broken yet.
    #[default]
    Unknown,
    /// The session of a PUT that broke is lost. What becomes of one whose PATCH breaks is not known.
    NotPut,
    /// Nothing: the session is lost.
    Nothing,
    /// The chunks that it has acknowledged.
    Chunks,
    /// Every byte that arrived.
    Bytes,
}

/// What is known of one host. Nothing in it is a secret; what a newer version added is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
#[expect(clippy::struct_excessive_bools, reason = "facts that have nothing to do with each other")]
pub(super) struct Quirks {
    /// The method by which the last blob that needed another one got in.
    pub(super) upload: UploadMethod,
    /// Mounts that failed since the last one that the host understood.
    pub(super) failed_mounts: u32,
    /// Mounts that were answered with a session since the last one that was done. Of this run alone: what other repositories hold
    /// changes.
    #[serde(skip)]
    pub(super) declined_mounts: u32,
    /// An account may not cancel its upload sessions.
    pub(super) keeps_sessions: bool,
    /// The smallest body that was refused as too large, whatever the method.
    pub(super) refused_bytes: Option<u64>,
    /// A policy keeps it from giving manifests out that it has. That may be another one tomorrow.
    #[serde(skip)]
    pub(super) withholds_manifests: bool,
    /// What it keeps of an upload whose connection broke.
    pub(super) keeping: Keeping,
    /// It takes a blob in one piece only.
    pub(super) refuses_chunks: bool,
    /// The end of an upload must carry bytes.
    pub(super) refuses_empty_commit: bool,
    /// The smallest part that it takes, but for the last one.
    pub(super) least_chunk: Option<u64>,
    /// It does not judge a session by the state in its location.
    pub(super) needs_no_state: bool,
    /// Requests that take long break.
    pub(super) slow_requests_break: bool,
    /// How quick the last bodies were.
    pub(super) bytes_per_second: Option<u64>,
}

impl UploadMethod {
    /// The one to try when this one is refused.
    pub(super) const fn other(self) -> Self {
        match self {
            Self::Single => Self::Stream,
            Self::Stream => Self::Single,
        }
    }
}

impl Keeping {
    /// Whether an upload that broke can go on.
    pub(crate) const fn can_resume(self) -> bool {
        matches!(self, Self::Chunks | Self::Bytes)
    }
}

impl Quirks {
    /// Whether mounting ever works here.
    pub(super) const fn mounts(&self) -> bool {
        self.failed_mounts < HOPELESS_MOUNTS
    }

    /// Whether a blob may be had from the repository of another mirror.
    pub(super) const fn takes_mounts(&self) -> bool {
        self.mounts() && self.declined_mounts < DECLINED_MOUNTS
    }

    /// Takes in whether a mount that the host understood was done.
    pub(super) const fn learn_mounted(&mut self, done: bool) {
        self.declined_mounts = if done { 0 } else { self.declined_mounts.saturating_add(1) };
    }

    /// Takes in how a mount ended.
    pub(super) const fn learn_mount(&mut self, understood: bool) {
        self.failed_mounts = if understood { 0 } else { self.failed_mounts.saturating_add(1) };
    }

    /// Takes in that a body of this size was refused by both methods.
    pub(super) fn learn_refused(&mut self, bytes: u64) {
        self.refused_bytes = Some(self.refused_bytes.map_or(bytes, |known| known.min(bytes)));
    }

    /// Whether these are worth keeping beside the others: rates change all the time.
    pub(super) fn differ_from(&self, other: &Self) -> bool {
        let but_for_rate = Self {
            bytes_per_second: other.bytes_per_second,
            declined_mounts: other.declined_mounts,
            withholds_manifests: other.withholds_manifests,
            ..self.clone()
        };
        let rate_differs = match (self.bytes_per_second, other.bytes_per_second) {
            (Some(now), Some(then)) => now > then.saturating_mul(2) || then > now.saturating_mul(2),
            (now, then) => now != then,
        };
        rate_differs || but_for_rate != *other
    }

    /// Takes in what the host says of the smallest part.
    pub(super) fn learn_least_chunk(&mut self, bytes: u64) {
        self.least_chunk = Some(bytes.min(MAX_LEAST_CHUNK)).filter(|bytes| *bytes > 0);
    }

    /// Takes in what became of bytes that were on their way when the connection broke: where the body began and ended, and
    /// where the session stands now.
    pub(super) fn learn_kept(&mut self, begun: u64, end: u64, now: u64) {
        let seen = if begun < now && now < end { Keeping::Bytes } else { Keeping::Chunks };
        if self.keeping != Keeping::Bytes {
            self.keeping = seen;
        }
    }

    /// Takes in that a session is lost whose connection broke, in a request that took so long.
    pub(super) fn learn_lost(&mut self, by: LostBy, lasted: Duration) {
        // One that kept bytes once has lost this session for another reason.
        if self.keeping != Keeping::Bytes {
            self.keeping = match (by, self.keeping) {
                (LostBy::Put, Keeping::Unknown | Keeping::NotPut) => Keeping::NotPut,
                (LostBy::Put, known) => known,
                (LostBy::Patch, _) => Keeping::Nothing,
            };
        }
        if by == LostBy::Patch && lasted < SLOW_REQUEST {
            self.slow_requests_break = false;
        }
    }

    /// Takes in that a request broke before it had an answer.
    pub(super) fn learn_broken(&mut self, lasted: Duration) {
        self.slow_requests_break |= lasted >= SLOW_REQUEST;
    }

    /// Takes in how long a body took. A link that has become slower counts at once.
    pub(super) fn learn_rate(&mut self, bytes: u64, took: Duration) {
        if bytes < MEASURED_BYTES {
            return;
        }
        let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX).max(1);
        let now = (bytes.saturating_mul(1000) / millis).max(1);
        self.bytes_per_second = Some(self.bytes_per_second.map_or(now, |known| now.min(known.midpoint(now))));
    }

    /// The most that a request may carry, as far as larger ones were refused. None is left where that is less than makes
    /// sense.
    pub(super) fn most_bytes(&self) -> Option<u64> {
        let refused = self.refused_bytes?;
        LADDER.into_iter().find(|bytes| *bytes < refused)
    }

    /// Whether a body of this size could be cut smaller than what was refused.
    pub(super) fn can_be_smaller(&self, bytes: u64) -> bool {
        !self.refuses_chunks && self.most_bytes().is_some_and(|most| most < bytes)
    }

    /// How much of what is left of a blob goes with the next request; none for all of it.
    pub(super) fn chunk(&self, left: u64) -> Option<u64> {
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

/// What is kept of a host, for people.
pub(crate) fn quirks_in_words(kept: &str) -> Vec<String> {
    let Ok(quirks) = serde_json::from_str::<Quirks>(kept) else {
        return vec!["what this version does not understand".to_owned()];
    };
    let mut words = Vec::new();
    match quirks.keeping {
        Keeping::Unknown => {}
        Keeping::NotPut | Keeping::Nothing => words.push("loses an upload that breaks off".to_owned()),
        Keeping::Chunks => words.push("keeps whole chunks of an upload that breaks off".to_owned()),
        Keeping::Bytes => words.push("keeps every byte of an upload that breaks off".to_owned()),
    }
    words.extend(quirks.most_bytes().map(|most| format!("takes {} in one request", ByteCount(most))));
    words.extend(quirks.least_chunk.map(|least| format!("asks for chunks of {}", ByteCount(least))));
    words.extend(quirks.bytes_per_second.map(|rate| format!("{} a second for one blob", ByteCount(rate))));
    for (is_so, what) in [
        (quirks.upload == UploadMethod::Stream, "takes blobs by PATCH"),
        (quirks.refuses_chunks, "takes no chunks"),
        (quirks.refuses_empty_commit, "wants bytes with each commit"),
        (quirks.slow_requests_break, "breaks requests that take long"),
        (quirks.keeps_sessions, "lets the account cancel no upload"),
        (!quirks.mounts(), "mounts nothing"),
    ] {
        if is_so {
            words.push(what.to_owned());
        }
    }
    words
}

/// Which request a session was lost with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LostBy {
    /// One that was to commit as well: some registries cancel an upload that could not be committed.
    Put,
    /// One that only sent bytes.
    Patch,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn mounts_are_given_up_after_five_failures_in_a_row() {
        let mut quirks = Quirks::default();
        (0..4).for_each(|_| quirks.learn_mount(false));
        quirks.learn_mount(true);
        (0..4).for_each(|_| quirks.learn_mount(false));
        assert!(quirks.mounts());
        quirks.learn_mount(false);
        assert!(!quirks.mounts());
    }

    #[test]
    fn a_host_that_declines_mounts_is_not_asked_to_take_over_from_other_mirrors() {
        let mut quirks = Quirks::default();
        (0..4).for_each(|_| quirks.learn_mounted(false));
        quirks.learn_mounted(true);
        (0..5).for_each(|_| quirks.learn_mounted(false));
        assert!(quirks.mounts() && !quirks.takes_mounts());
    }

    #[test]
    fn they_can_be_kept_and_grow() {
        let mut quirks = Quirks {
            upload: UploadMethod::Stream,
            keeps_sessions: true,
            keeping: Keeping::Bytes,
            ..Quirks::default()
        };
        quirks.learn_refused(9);
        quirks.learn_refused(30);
        let text = serde_json::to_string(&quirks).unwrap();
        assert_eq!(serde_json::from_str::<Quirks>(&text).unwrap(), quirks);
        assert!(text.contains(r#""upload":"stream""#) && text.contains(r#""refused_bytes":9"#), "{text}");
        let newer = r#"{"upload":"stream","later":{"least_bytes":1}}"#;
        assert_eq!(serde_json::from_str::<Quirks>(newer).unwrap().upload, UploadMethod::Stream);
    }

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
        quirks.learn_least_chunk(5 * MIB);
        assert_eq!(quirks.chunk(100 * MIB), Some(5 * MIB));
        quirks.learn_refused(5 * MIB);
        assert_eq!(quirks.chunk(100 * MIB), Some(4 * MIB));
        quirks.learn_least_chunk(u64::MAX);
        assert_eq!(quirks.least_chunk, Some(1 << 30));
    }

    #[test]
    fn what_a_mirror_keeps_is_learned_from_what_broke() {
        let after = |learn: &[&dyn Fn(&mut Quirks)]| {
            let mut quirks = Quirks::default();
            for learn in learn {
                learn(&mut quirks);
            }
            quirks.keeping
        };
        let soon = Duration::from_secs(1);
        let put = |quirks: &mut Quirks| quirks.learn_lost(LostBy::Put, soon);
        let patch = |quirks: &mut Quirks| quirks.learn_lost(LostBy::Patch, soon);
        let inside = |quirks: &mut Quirks| quirks.learn_kept(10, 20, 15);
        let begun = |quirks: &mut Quirks| quirks.learn_kept(10, 20, 10);
        let whole = |quirks: &mut Quirks| quirks.learn_kept(10, 20, 20);
        assert_eq!(after(&[&put]), Keeping::NotPut);
        assert_eq!(after(&[&put, &patch]), Keeping::Nothing);
        assert_eq!(after(&[&put, &begun]), Keeping::Chunks);
        assert_eq!(after(&[&whole]), Keeping::Chunks, "a whole part may be kept where a broken one is not");
        assert_eq!(after(&[&begun, &inside]), Keeping::Bytes);
        assert_eq!(after(&[&begun, &patch]), Keeping::Nothing);
        assert_eq!(after(&[&inside, &patch, &put, &begun]), Keeping::Bytes);
    }

    #[test]
    fn a_link_that_becomes_slower_counts_at_once() {
        let mut quirks = Quirks::default();
        let second = Duration::from_secs(1);
        quirks.learn_rate(1000, second);
        assert_eq!(quirks.bytes_per_second, None, "too little to say anything");
        quirks.learn_rate(10 * MIB, second);
        quirks.learn_rate(MIB, second);
        assert_eq!(quirks.bytes_per_second, Some(MIB));
        quirks.learn_rate(3 * MIB, second);
        assert_eq!(quirks.bytes_per_second, Some(2 * MIB));
    }
}
