//! What became of a mirror: what is complete, what is not, and why.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::exit::Exit;
use crate::oci::Digest;
use crate::report::timeline::Timeline;
use crate::report::{Class, Failure};
use crate::state::PlacedTag;

/// The outcome of one mirror.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// The mirror.
    pub name: String,
    /// Images that it was to get; 0 where that never became known.
    #[serde(default)]
    pub images: usize,
    /// Images that are there, whole, with their tags.
    pub images_complete: usize,
    /// Of those, how many were there before.
    pub images_unchanged: usize,
    /// Images that are complete, each with how far that was checked.
    #[serde(default)]
    pub images_verified: Vec<VerifiedImage>,
    /// What is remembered of them: where they are, and whether this run put them there.
    #[serde(skip)]
    pub placed: Vec<PlacedTag>,
    /// Images that are not complete, each with its reason.
    pub images_failed: Vec<ImageFailure>,
    /// Tags that stood for another image before this run.
    pub tags_replaced: Vec<TagReplaced>,
    /// Blobs that were uploaded.
    pub blobs_sent: u64,
    /// Blobs that were there before.
    pub blobs_skipped: u64,
    /// Blobs taken over from another repository of the same mirror.
    pub blobs_mounted: u64,
    /// Blob bytes put on the wire, failed tries among them.
    pub bytes_sent: u64,
    /// Uploads that went on where they were, after their connection broke or an earlier run ended.
    #[serde(default)]
    pub uploads_resumed: u64,
    /// Bytes of blobs that an earlier run had sent of uploads that broke off, and this one did not send again.
    #[serde(default)]
    pub bytes_found: u64,
    /// What the mirror keeps of an upload that breaks off.
    #[serde(default)]
    pub resume: Resume,
    /// Requests that were answered or given up.
    pub requests: u64,
    /// From the first request to the last.
    pub elapsed_seconds: f64,
    /// What the mirror waited for in that time.
    #[serde(default)]
    pub waits: Waits,
    /// Why the mirror as a whole failed, if it did.
    pub error: Option<Failure>,
    /// How far the run came with it.
    #[serde(default)]
    pub state: OutcomeState,
    /// When its window closed before it was complete.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub window_closings: Vec<WindowClosing>,
    /// Where the site stands in a run of `sync`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub site: Option<SiteFacts>,
    /// What happened when; none where the run did not come to the mirror.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeline: Option<Timeline>,
}

/// Who waited for whom while a mirror was fed. All but the last together are its time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[expect(clippy::struct_field_names, reason = "fields of the report say their unit")]
pub(crate) struct Waits {
    /// Seconds in which nothing was on its way to the mirror: it waited for the bundle, the compressor or other mirrors.
    pub mirror_waited_seconds: f64,
    /// Seconds in which bytes of blobs were ready and waited until the mirror took them.
    pub bytes_waited_seconds: f64,
    /// Seconds in which answers were waited for, and nothing else.
    pub answers_waited_seconds: f64,
    /// Seconds in which bytes of blobs were ready, and the limit on bytes a second held all of them back.
    #[serde(default)]
    pub limit_waited_seconds: f64,
    /// Seconds in which requests that had failed waited for their next try, and nothing else was on its way.
    #[serde(default)]
    pub retries_waited_seconds: f64,
    /// How long the first answer took.
    pub round_trip_seconds: f64,
}

impl Waits {
    /// With those of an earlier try.
    fn after(self, earlier: Self) -> Self {
        Self {
            mirror_waited_seconds: self.mirror_waited_seconds + earlier.mirror_waited_seconds,
            bytes_waited_seconds: self.bytes_waited_seconds + earlier.bytes_waited_seconds,
            answers_waited_seconds: self.answers_waited_seconds + earlier.answers_waited_seconds,
            limit_waited_seconds: self.limit_waited_seconds + earlier.limit_waited_seconds,
            retries_waited_seconds: self.retries_waited_seconds + earlier.retries_waited_seconds,
            round_trip_seconds: self.round_trip_seconds.max(earlier.round_trip_seconds),
        }
    }
}

/// A window that closed while its mirror was fed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WindowClosing {
    /// When the mirror was left, by RFC 3339.
    pub closed_at: String,
    /// Images that were not complete then; none where the bundle was not read to its end.
    pub images_left: Option<usize>,
    /// When the window opens next, by RFC 3339.
    pub opens_at: String,
}

/// What to do after an interruption where blobs that broke off are lost.
const AGAIN_FROM_FIRST_BYTE: &str = "run the same command again: what is there stays, and a blob that was on its way is sent again from its first byte";
/// The same where nobody knows it yet.
const AGAIN_WHERE_IT_WAS: &str = "run the same command again: it goes on from here";
/// The same where it is not known.
const AGAIN_IF_KEPT: &str = "run the same command again: what is there stays, and a blob that was on its way goes on where it was if the mirror has kept it";

/// What a mirror keeps of an upload whose connection breaks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Resume {
    /// None has broken yet, as far as is remembered.
    #[default]
    Unknown,
    /// Nothing: the blob is sent again from its first byte.
    None,
    /// The chunks that it has acknowledged.
    Chunks,
    /// Every byte that arrived.
    Bytes,
}

/// How far a run came with a mirror.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutcomeState {
    /// Everything asked for is there.
    Complete,
    /// Something is not.
    #[default]
    Incomplete,
    /// It is left for a later run, as was asked for.
    Deferred,
    /// The run ended before it began with the mirror.
    NotBegun,
}

/// Where a site stands in a run of `sync`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SiteFacts {
    /// The registry with its namespace.
    pub registry: String,
    /// The groups that it is in.
    pub groups: Vec<String>,
    /// The wave in which its turn came, from 1.
    pub wave: u32,
    /// Its window, in words; none where it may always be talked to.
    pub window: Option<String>,
}

/// An image that is complete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VerifiedImage {
    /// Its name in the bundle.
    pub image: String,
    /// Where on the mirror it is.
    pub place: String,
    /// Its digest there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// How far that was checked.
    pub verified: Verified,
}

/// How far it was checked that an image is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verified {
    /// The mirror answered a HEAD, or acknowledged what was sent.
    Head,
    /// It also has the children of an index, and returned bytes of blobs that were found there.
    Sample,
    /// Everything was read back and has its digest.
    Pull,
}

/// A tag that was moved from one image to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TagReplaced {
    /// The name on the mirror, tag included.
    pub place: String,
    /// The digest it stood for; none where the registry does not tell it.
    pub from: Option<Digest>,
    /// The digest it stands for.
    pub to: Digest,
}

/// An image that is not complete.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ImageFailure {
    /// Its name in the bundle.
    pub image: String,
    /// Where on the mirror it belongs.
    pub place: String,
    /// The digest that it is to have there; none of an image that has no manifest yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// How far it came.
    pub phase: Phase,
    /// Why it went no further.
    #[serde(flatten)]
    pub failure: Failure,
}

/// The steps of an image on its way to a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Phase {
    /// Reading it from the bundle.
    Prepare,
    /// Asking the mirror what it has.
    Probe,
    /// Sending blobs.
    Upload,
    /// Sending manifests and reading them back.
    Publish,
    /// Asking the gate whether its tags may move.
    Gate,
    /// Moving its tags.
    Tag,
    /// Asking the mirror whether it is whole.
    Verify,
}

impl Outcome {
    /// An outcome of a mirror of which nothing is known yet.
    pub(crate) fn new(name: String) -> Self {
        Self {
            name,
            images: 0,
            images_complete: 0,
            images_unchanged: 0,
            images_verified: Vec::new(),
            placed: Vec::new(),
            images_failed: Vec::new(),
            tags_replaced: Vec::new(),
            blobs_sent: 0,
            blobs_skipped: 0,
            blobs_mounted: 0,
            bytes_sent: 0,
            uploads_resumed: 0,
            bytes_found: 0,
            resume: Resume::default(),
            requests: 0,
            elapsed_seconds: 0.0,
            waits: Waits::default(),
            error: None,
            state: OutcomeState::default(),
            window_closings: Vec::new(),
            site: None,
            timeline: None,
        }
    }

    /// A mirror that was not fed at all.
    pub(crate) fn not_begun(name: String, why: Failure) -> Self {
        Self { error: Some(why), state: OutcomeState::NotBegun, ..Self::new(name) }
    }

    /// The actor of a mirror is gone.
    pub(crate) fn lost(name: String, why: &str, elapsed: Duration) -> Self {
        let error = Some(Failure::internal(format!("the mirror's task ended: {why}")));
        Self { error, elapsed_seconds: elapsed.as_secs_f64(), ..Self::new(name) }
    }

    /// This outcome added to that of an earlier try. What that try sent is found now, and does not count as unchanged.
    pub(crate) fn after(mut self, earlier: Self) -> Self {
        let sent_earlier = earlier.images_complete - earlier.images_unchanged.min(earlier.images_complete);
        self.images_unchanged = self.images_unchanged.saturating_sub(sent_earlier);
        for placed in &mut self.placed {
            let is_same = |it: &PlacedTag| {
                PlacedTag { own: true, ..it.clone() } == PlacedTag { own: true, ..placed.clone() }
            };
            placed.own |= earlier.placed.iter().any(|it| it.own && is_same(it));
        }
        self.tags_replaced.extend(earlier.tags_replaced);
        self.window_closings.splice(0..0, earlier.window_closings);
        self.blobs_sent += earlier.blobs_sent;
        self.blobs_mounted += earlier.blobs_mounted;
        self.bytes_sent += earlier.bytes_sent;
        self.uploads_resumed += earlier.uploads_resumed;
        self.bytes_found += earlier.bytes_found;
        if self.resume == Resume::Unknown {
            self.resume = earlier.resume;
        }
        self.requests += earlier.requests;
        self.elapsed_seconds += earlier.elapsed_seconds;
        self.waits = self.waits.after(earlier.waits);
        self
    }

    /// With `why` instead of each deferral: the run ends before what was deferred.
    pub(crate) fn not_resumed(mut self, why: &Failure) -> Self {
        self.error = self.error.filter(|error| error.class != Class::Deferred).or_else(|| Some(why.clone()));
        for failed in self.images_failed.iter_mut().filter(|it| it.failure.class == Class::Deferred) {
            failed.failure = why.clone();
        }
        self
    }

    /// With its state, as it follows from the rest.
    pub(crate) fn settled(mut self) -> Self {
        self.state = match self.state {
            _ if self.is_complete() => OutcomeState::Complete,
            _ if self.is_deferred() => OutcomeState::Deferred,
            OutcomeState::NotBegun => OutcomeState::NotBegun,
            _ => OutcomeState::Incomplete,
        };
        self
    }

    /// Why it was left, if the run was interrupted.
    pub(crate) fn interrupted(&self) -> Option<&Failure> {
        let of_images = self.images_failed.iter().map(|failed| &failed.failure);
        self.error.iter().chain(of_images).find(|failure| failure.class == Class::Interrupted)
    }

    /// Says, where the run was interrupted, what becomes of the blobs that were on their way. `are_kept` is whether this run
    /// keeps what a later one needs to go on with them.
    pub(crate) fn advise_interrupted(&mut self, are_kept: bool) {
        let hint = match self.resume {
            _ if !are_kept => AGAIN_FROM_FIRST_BYTE,
            Resume::None => AGAIN_FROM_FIRST_BYTE,
            Resume::Unknown => AGAIN_IF_KEPT,
            Resume::Chunks | Resume::Bytes => AGAIN_WHERE_IT_WAS,
        };
        let of_images = self.images_failed.iter_mut().map(|failed| &mut failed.failure);
        for failure in self.error.iter_mut().chain(of_images) {
            if failure.class == Class::Interrupted {
                failure.hint = Some(hint.to_owned());
            }
        }
    }

    /// Whether everything asked for is there.
    pub(crate) fn is_complete(&self) -> bool {
        self.error.is_none() && self.images_failed.is_empty()
    }

    /// All that failed: the mirror as a whole, and its images.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.error.iter().chain(self.images_failed.iter().map(|failed| &failed.failure))
    }

    /// Whether what is not there was left for a later run, and nothing else failed.
    pub(crate) fn is_deferred(&self) -> bool {
        !self.is_complete() && self.failures().all(|failure| failure.class == Class::Deferred)
    }

    /// What each failure alone would end with; nothing for one that was accepted.
    fn exits(&self) -> impl Iterator<Item = Exit> {
        self.failures().map(|failure| failure.exit).filter(|exit| *exit != Exit::Complete)
    }
}

/// Exit codes that outrank all others.
const DECISIVE: [Exit; 3] = [Exit::Interrupted, Exit::Bundle, Exit::Internal];

/// The exit code of a run: the gravest thing that all incomplete mirrors have in common, else "incomplete".
pub(crate) fn exit(outcomes: &[Outcome]) -> Exit {
    let exits: Vec<Exit> = outcomes.iter().flat_map(Outcome::exits).collect();
    for decisive in DECISIVE {
        if exits.contains(&decisive) {
            return decisive;
        }
    }
    match exits.as_slice() {
        [] => Exit::Complete,
        [first, rest @ ..]
            if outcomes.iter().all(|outcome| outcome.error.is_some()) && rest.iter().all(|e| e == first) =>
        {
            *first
        }
        [first, rest @ ..] if *first == Exit::Credentials && rest.iter().all(|e| e == first) => {
            Exit::Credentials
        }
        _ => Exit::Incomplete,
    }
}

/// The exit code of a run over sites.
pub(crate) fn exit_of_sites(outcomes: &[Outcome]) -> Exit {
    common_exit(outcomes.iter().flat_map(Outcome::exits))
}

/// The exit code of what has parts that ended with these: what all that are not complete have in common, else "incomplete";
/// what is decisive for one is decisive for all.
pub(crate) fn common_exit(exits: impl IntoIterator<Item = Exit>) -> Exit {
    let exits: Vec<Exit> = exits.into_iter().filter(|exit| *exit != Exit::Complete).collect();
    let decisive = DECISIVE.into_iter().find(|exit| exits.contains(exit));
    decisive.unwrap_or_else(|| match exits.as_slice() {
        [] => Exit::Complete,
        [first, rest @ ..] if rest.iter().all(|exit| exit == first) => *first,
        _ => Exit::Incomplete,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(exit: Exit) -> Outcome {
        Outcome { error: Some(Failure::internal("x").exit(exit)), ..Outcome::new("m".into()) }
    }

    #[test]
    fn exit_codes_of_sites_say_what_those_that_are_not_complete_have_in_common() {
        let good = || Outcome::new("good".into());
        assert_eq!(exit_of_sites(&[good(), good()]), Exit::Complete);
        for cause in [Exit::Unreachable, Exit::Credentials, Exit::Locked, Exit::Usage, Exit::Incomplete] {
            assert_eq!(exit_of_sites(&[good(), failed(cause), failed(cause)]), cause);
        }
        assert_eq!(
            exit_of_sites(&[good(), failed(Exit::Locked), failed(Exit::Unreachable)]),
            Exit::Incomplete
        );
        assert_eq!(exit_of_sites(&[failed(Exit::Bundle), failed(Exit::Unreachable)]), Exit::Bundle);
    }

    #[test]
    fn what_is_said_of_an_interruption_is_what_the_next_run_finds() {
        let hint = |resume, are_kept| {
            let error = Some(Failure::interrupted());
            let mut outcome = Outcome { resume, error, ..Outcome::new("m".into()) };
            outcome.advise_interrupted(are_kept);
            outcome.interrupted().and_then(|failure| failure.hint.clone()).unwrap()
        };
        assert!(hint(Resume::Bytes, true).ends_with("it goes on from here"));
        assert!(hint(Resume::Unknown, true).ends_with("if the mirror has kept it"));
        for (resume, are_kept) in [(Resume::None, true), (Resume::Bytes, false), (Resume::Unknown, false)] {
            assert!(hint(resume, are_kept).ends_with("is sent again from its first byte"), "{resume:?}");
        }
    }

    #[test]
    fn exit_codes_say_what_all_failed_mirrors_have_in_common() {
        let good = || Outcome::new("good".into());
        assert_eq!(exit(&[good(), good()]), Exit::Complete);
        assert_eq!(exit(&[failed(Exit::Unreachable), failed(Exit::Unreachable)]), Exit::Unreachable);
        assert_eq!(exit(&[good(), failed(Exit::Unreachable)]), Exit::Incomplete);
        assert_eq!(exit(&[failed(Exit::Credentials), failed(Exit::Unreachable)]), Exit::Incomplete);
        assert_eq!(exit(&[good(), failed(Exit::Credentials)]), Exit::Credentials);
        assert_eq!(exit(&[good(), failed(Exit::Bundle)]), Exit::Bundle);
        assert_eq!(exit(&[failed(Exit::Interrupted), failed(Exit::Bundle)]), Exit::Interrupted);
    }

    #[test]
    fn the_state_says_how_far_the_run_came_and_what_is_deferred_is_not_undone() {
        let state = |outcome: Outcome| outcome.settled().state;
        let with = |class| Outcome { error: Some(Failure::new(class, "x")), ..Outcome::new("m".into()) };
        assert_eq!(state(Outcome::new("m".into())), OutcomeState::Complete);
        assert_eq!(state(with(Class::Unreachable)), OutcomeState::Incomplete);
        assert_eq!(state(with(Class::Deferred)), OutcomeState::Deferred);
        let not_begun = |class| Outcome::not_begun("m".into(), Failure::new(class, "x"));
        assert_eq!(state(not_begun(Class::NotBegun)), OutcomeState::NotBegun);
        assert_eq!(state(not_begun(Class::Deferred)), OutcomeState::Deferred);
        assert_eq!(exit(&[with(Class::Deferred), Outcome::new("m".into())]), Exit::Complete);
        assert_eq!(exit(&[with(Class::Deferred), not_begun(Class::NotBegun)]), Exit::Incomplete);
        assert_eq!(exit(&[with(Class::Deadline)]), Exit::Incomplete);
        let written = serde_json::to_value(not_begun(Class::NotBegun).settled()).unwrap();
        assert_eq!(written["state"], "not_begun");
    }

    #[test]
    fn what_failed_before_a_window_closed_has_failed_and_a_deferral_ends_with_the_run_that_was_to_go_on() {
        let image = |class| ImageFailure {
            image: "a".into(),
            place: "a".into(),
            digest: None,
            phase: Phase::Upload,
            failure: Failure::new(class, "x"),
        };
        let with = |classes: &[Class]| Outcome {
            error: Some(Failure::new(Class::Deferred, "x")),
            images_failed: classes.iter().copied().map(image).collect(),
            ..Outcome::new("m".into())
        };
        let all_deferred = with(&[Class::Deferred]);
        assert_eq!(all_deferred.clone().settled().state, OutcomeState::Deferred);
        let mixed = with(&[Class::Denied, Class::Deferred]);
        assert_eq!(mixed.clone().settled().state, OutcomeState::Incomplete);
        assert_eq!(exit_of_sites(std::slice::from_ref(&mixed)), Exit::Incomplete);

        let late = Failure::new(Class::Deadline, "late");
        let classes = |outcome: &Outcome| outcome.failures().map(|it| it.class).collect::<Vec<_>>();
        let ended = all_deferred.not_resumed(&late).settled();
        assert_eq!(classes(&ended), [Class::Deadline, Class::Deadline]);
        assert_eq!((ended.state, exit_of_sites(&[ended])), (OutcomeState::Incomplete, Exit::Incomplete));
        assert_eq!(classes(&mixed.not_resumed(&late)), [Class::Deadline, Class::Denied, Class::Deadline]);
    }

    #[test]
    fn what_an_earlier_try_sent_is_counted_and_not_called_unchanged() {
        let earlier =
            Outcome { images_complete: 3, images_unchanged: 1, blobs_sent: 5, ..Outcome::new("m".into()) };
        let now =
            Outcome { images_complete: 4, images_unchanged: 3, blobs_sent: 2, ..Outcome::new("m".into()) };
        let all = now.after(earlier);
        assert_eq!((all.images_complete, all.images_unchanged, all.blobs_sent), (4, 1, 7));
    }
}
