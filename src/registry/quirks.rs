//! The quirks of a host: plain data, learned from its answers and consulted before the next request.
//!
//! One stray answer is no quirk. What restricts a host is learned from two answers in one run, or where nothing else is left to
//! try; it is put to the test again after a week, and a limit on size one step up in each run.

mod chunking;
mod words;

use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use self::words::quirks_in_words;

/// Mounts that failed one after the other before they are no longer tried.
const HOPELESS_MOUNTS: u32 = 5;
/// Mounts that were declined one after the other before no other mirror's repository is tried.
const DECLINED_MOUNTS: u32 = 5;
/// A request that took this long and broke may have met a limit on time.
const SLOW_REQUEST: Duration = Duration::from_secs(20);
/// Sessions that were lost with their connections, or that ended with a chunk that was refused, before that counts.
const ENOUGH: u32 = 2;
/// How long it counts what a host was seen to refuse or lose, before it is tried once more: a week.
const JUDGED_FOR_SECONDS: i64 = 7 * 24 * 60 * 60;
/// What was handed over beyond this has left the buffers of both ends of a connection: at most 4 MiB here, and 6 MiB there (Linux,
/// `tcp_wmem` and `tcp_rmem`).
const BUFFERED_BYTES: u64 = 10 << 20;
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
    /// An account may not cancel its upload sessions.
    pub(super) keeps_sessions: bool,
    /// The smallest body that was refused as too large, whatever the method.
    pub(super) refused_bytes: Option<u64>,
    /// What it keeps of an upload whose connection broke.
    pub(super) keeping: Keeping,
    /// It takes a blob in one piece only.
    pub(super) refuses_chunks: bool,
    /// The end of an upload must carry bytes: it took one that did, after it had refused one that did not.
    pub(super) refuses_empty_commit: bool,
    /// The smallest part that it takes, but for the last one.
    pub(super) least_chunk: Option<u64>,
    /// It does not judge a session by the state in its location.
    pub(super) needs_no_state: bool,
    /// Requests that take long break.
    pub(super) slow_requests_break: bool,
    /// How quick the last bodies were.
    pub(super) bytes_per_second: Option<u64>,
    /// Since when it counts as refusing or losing something, in seconds since 1970.
    pub(super) judged_at: Option<i64>,
    /// What no later run is to know.
    #[serde(skip)]
    pub(super) this_run: SeenInRun,
}

/// What was seen of a host in this run alone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct SeenInRun {
    /// A policy keeps it from giving manifests out that it has. That may be another one tomorrow.
    pub(super) withholds_manifests: bool,
    /// Mounts that were answered with a session since the last one that was done: what other repositories hold changes.
    declined_mounts: u32,
    /// Sessions that were lost with the connection of a PUT, and of a PATCH, since one was kept.
    lost_by_put: u32,
    lost_by_patch: u32,
    /// Sessions that ended with a chunk that was refused, since a second chunk was taken.
    refused_chunks: u32,
    /// Bodies one step larger than what earlier runs were refused are tried.
    tries_larger: bool,
    /// Chunks that reached the other side and were dropped there.
    dropped_chunks: u32,
    /// It refused to end an upload without bytes, so its ends carry some.
    pub(super) ends_with_bytes: bool,
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
        self.mounts() && self.this_run.declined_mounts < DECLINED_MOUNTS
    }

    /// Takes in whether a mount that the host understood was done.
    pub(super) const fn learn_mounted(&mut self, done: bool) {
        let declined = &mut self.this_run.declined_mounts;
        *declined = if done { 0 } else { declined.saturating_add(1) };
    }

    /// Takes in how a mount ended.
    pub(super) const fn learn_mount(&mut self, understood: bool) {
        self.failed_mounts = if understood { 0 } else { self.failed_mounts.saturating_add(1) };
    }

    /// Whether these are worth keeping beside the others: rates change all the time.
    pub(super) fn differ_from(&self, other: &Self) -> bool {
        let but_for_rate = Self {
            bytes_per_second: other.bytes_per_second,
            this_run: other.this_run.clone(),
            ..self.clone()
        };
        let rate_differs = match (self.bytes_per_second, other.bytes_per_second) {
            (Some(now), Some(then)) => now > then.saturating_mul(2) || then > now.saturating_mul(2),
            (now, then) => now != then,
        };
        rate_differs || but_for_rate != *other
    }

    /// Takes in that a session stands at `now`, although the connection broke that brought it these bytes. A session that stands
    /// where the body began proves nothing: a proxy may have delivered nothing of it ([`Self::learn_dropped`]). Nor does one
    /// that has all of it.
    pub(super) fn learn_kept(&mut self, body: &Range<u64>, now: u64) {
        if body.start < now && now < body.end {
            self.keeping = Keeping::Bytes;
        } else if self.keeping == Keeping::Nothing {
            self.keeping = Keeping::Unknown;
        }
        (self.this_run.lost_by_put, self.this_run.lost_by_patch) = (0, 0);
    }

    /// Takes in how often nothing was kept of a chunk that had reached the other side. Only a blob that is there counts: until
    /// then the host may have refused all bytes for a reason of its own, as one with a full disk does.
    pub(super) const fn learn_dropped(&mut self, times: u32) {
        let dropped = &mut self.this_run.dropped_chunks;
        *dropped = dropped.saturating_add(times);
        if *dropped >= ENOUGH && !matches!(self.keeping, Keeping::Bytes) {
            self.keeping = Keeping::Chunks;
        }
    }

    /// Takes in that the host says of itself that it keeps every byte, which holds whatever was seen of a server before it.
    pub(super) const fn learn_told_bytes(&mut self) {
        self.keeping = Keeping::Bytes;
    }

    /// Takes in that a session is lost whose connection broke, in a request that took so long.
    pub(super) fn learn_lost(&mut self, by: LostBy, lasted: Duration) {
        let lost = match by {
            LostBy::Put => &mut self.this_run.lost_by_put,
            LostBy::Patch => &mut self.this_run.lost_by_patch,
        };
        *lost = lost.saturating_add(1);
        // One that kept bytes once has lost this session for another reason, and one that was started anew loses all of them once.
        if *lost >= ENOUGH && self.keeping != Keeping::Bytes {
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

    /// Takes in that a chunk of a blob was refused, and its session with it. Where the whole blob is known to be too large for one
    /// request, nothing is left but chunks.
    pub(super) fn learn_chunk_refused(&mut self, blob_bytes: u64) {
        if self.most_bytes().is_none_or(|most| blob_bytes <= most) {
            self.this_run.refused_chunks = self.this_run.refused_chunks.saturating_add(1);
            self.refuses_chunks |= self.this_run.refused_chunks >= ENOUGH;
        }
    }

    /// Takes in that a chunk was taken that was not the first of its blob.
    pub(super) const fn learn_chunk_taken(&mut self) {
        self.this_run.refused_chunks = 0;
    }

    /// Notes since when it is judged, if it is.
    pub(super) fn date_judgements(&mut self, now: i64) {
        let is_judged = matches!(self.keeping, Keeping::NotPut | Keeping::Nothing)
            || self.refuses_chunks
            || self.refuses_empty_commit
            || self.slow_requests_break
            || !self.mounts();
        self.judged_at = self.judged_at.or(Some(now)).filter(|_| is_judged);
    }

    /// These as a later run begins with them.
    pub(super) fn recalled(mut self, now: i64) -> Self {
        self.this_run = SeenInRun { tries_larger: true, ..SeenInRun::default() };
        let is_recent = |judged_at: i64| (judged_at..judged_at + JUDGED_FOR_SECONDS).contains(&now);
        if self.judged_at.is_some_and(|judged_at| !is_recent(judged_at)) {
            if !self.keeping.can_resume() {
                self.keeping = Keeping::Unknown;
            }
            (self.refuses_chunks, self.refuses_empty_commit) = (false, false);
            (self.slow_requests_break, self.failed_mounts) = (false, 0);
            self.judged_at = None;
        }
        self
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
}

/// Whether a session that stands at `now` has dropped a body that began there and of which `handed` bytes had left.
pub(super) const fn is_dropped(begun: u64, now: u64, handed: u64) -> bool {
    now == begun && handed > BUFFERED_BYTES
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
        let inside = |quirks: &mut Quirks| quirks.learn_kept(&(10..20), 15);
        let begun = |quirks: &mut Quirks| quirks.learn_kept(&(10..20), 10);
        let whole = |quirks: &mut Quirks| quirks.learn_kept(&(10..20), 20);
        let dropped = |quirks: &mut Quirks| quirks.learn_dropped(1);
        assert_eq!(after(&[&put]), Keeping::Unknown, "it may have been started anew");
        assert_eq!(after(&[&put, &patch]), Keeping::Unknown);
        assert_eq!(after(&[&put, &put]), Keeping::NotPut);
        assert_eq!(after(&[&put, &put, &patch, &patch]), Keeping::Nothing);
        assert_eq!(after(&[&begun, &begun, &begun]), Keeping::Unknown, "a proxy may have delivered nothing");
        assert_eq!(after(&[&whole, &whole]), Keeping::Unknown, "that says nothing of a part of it");
        assert_eq!(after(&[&begun, &inside]), Keeping::Bytes);
        assert_eq!(after(&[&patch, &begun, &patch]), Keeping::Unknown, "one was kept between them");
        assert_eq!(after(&[&begun, &patch, &patch]), Keeping::Nothing);
        assert_eq!(after(&[&patch, &patch, &whole]), Keeping::Unknown, "it keeps something after all");
        assert_eq!(after(&[&inside, &patch, &patch, &put, &begun]), Keeping::Bytes);
        assert_eq!(after(&[&dropped]), Keeping::Unknown, "one may be a stray one");
        assert_eq!(after(&[&dropped, &dropped]), Keeping::Chunks);
        assert_eq!(after(&[&dropped, &dropped, &inside, &dropped]), Keeping::Bytes);
        assert_eq!(after(&[&patch, &patch, &Quirks::learn_told_bytes]), Keeping::Bytes);
    }

    #[test]
    fn a_body_is_dropped_where_more_of_it_had_left_than_a_connection_holds() {
        assert!(is_dropped(16 * MIB, 16 * MIB, 11 * MIB));
        assert!(!is_dropped(16 * MIB, 16 * MIB, 9 * MIB), "it may never have got there");
        assert!(!is_dropped(16 * MIB, 17 * MIB, 11 * MIB));
    }

    #[test]
    fn chunks_are_refused_where_two_sessions_ended_with_one() {
        let mut quirks = Quirks::default();
        quirks.learn_chunk_refused(100 * MIB);
        quirks.learn_chunk_taken();
        quirks.learn_chunk_refused(100 * MIB);
        assert!(!quirks.refuses_chunks);
        quirks.learn_refused(50 * MIB);
        quirks.learn_chunk_refused(100 * MIB);
        assert!(!quirks.refuses_chunks, "they are the only way");
        quirks.learn_chunk_refused(10 * MIB);
        assert!(quirks.refuses_chunks);
    }

    #[test]
    fn what_a_host_refuses_or_loses_is_tried_once_more_after_a_week() {
        let mut quirks = Quirks {
            keeping: Keeping::Nothing,
            refuses_chunks: true,
            refuses_empty_commit: true,
            slow_requests_break: true,
            failed_mounts: HOPELESS_MOUNTS,
            keeps_sessions: true,
            ..Quirks::default()
        };
        let (day, began) = (24 * 60 * 60, 1_000_000);
        quirks.date_judgements(began);
        quirks.date_judgements(began + 3 * day);
        let kept = quirks.clone().recalled(began + 6 * day);
        assert!(kept.refuses_chunks && kept.keeping == Keeping::Nothing && !kept.mounts());
        for now in [began + 7 * day, began - day] {
            let mut anew = quirks.clone().recalled(now);
            anew.date_judgements(now);
            let rest = Quirks { keeps_sessions: true, ..Quirks::default() };
            assert!(!anew.differ_from(&rest), "{now}: {anew:?}");
        }
        let keeps = Quirks { keeping: Keeping::Bytes, ..quirks };
        assert_eq!(keeps.recalled(began + 30 * day).keeping, Keeping::Bytes, "that restricts nothing");
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
