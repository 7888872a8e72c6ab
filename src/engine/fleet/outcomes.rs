//! What the mirrors of a fleet came to, over several pushes. Pure.

use jiff::Timestamp;

use crate::report::document::{DeferralCause, DeferredSite};
use crate::report::outcome::OutcomeState;
use crate::report::{Failure, Outcome};

/// Mirrors that a run which failed as a whole did not come to. They have failed with it, but for those that it was not to fill
/// before a time.
pub(crate) fn not_reached<'s>(
    mirrors: impl Iterator<Item = (&'s str, Option<Timestamp>)>,
    failure: &Failure,
) -> (Vec<DeferredSite>, Vec<Outcome>) {
    let (mut deferred, mut failed) = (Vec::new(), Vec::new());
    for (name, left_until) in mirrors {
        match left_until {
            Some(until) => {
                let until = until.strftime("%Y-%m-%d %H:%M UTC");
                let message = format!("its window is closed until {until}: it is left for a later run");
                let (name, why) = (name.to_owned(), DeferralCause::Window);
                deferred.push(DeferredSite { name, why, message, closing: None });
            }
            None => failed.push(Outcome::not_begun(name.to_owned(), failure.clone())),
        }
    }
    (deferred, failed)
}

/// Mirrors whose window was closed, and the others with those to which something was sent before theirs closed.
pub(super) fn left_for_later(outcomes: Vec<Outcome>) -> (Vec<DeferredSite>, Vec<Outcome>) {
    let mut deferred = Vec::new();
    let mut fed = Vec::new();
    for outcome in outcomes {
        if outcome.state == OutcomeState::Deferred {
            let message = outcome.error.as_ref().map(|failure| failure.message.clone()).unwrap_or_default();
            let (name, closing) = (outcome.name.clone(), outcome.window_closings.last().cloned());
            deferred.push(DeferredSite { name, why: DeferralCause::Window, message, closing });
            if outcome.blobs_sent == 0 && outcome.bytes_sent == 0 && outcome.images_complete == 0 {
                continue;
            }
        }
        fed.push(outcome);
    }
    (deferred, fed)
}

/// What those came to that keep what they have after a push of a newer file whose sum was wrong, and what the others came to.
pub(super) fn kept(outcomes: Vec<Outcome>, kept: &[(String, Failure)]) -> (Vec<Outcome>, Vec<Outcome>) {
    let (mut settled, mut fed) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match kept.iter().find(|(name, _)| *name == outcome.name) {
            Some((_, why)) => {
                let outcome = Outcome { images_failed: Vec::new(), error: Some(why.clone()), ..outcome };
                settled.push(outcome.settled());
            }
            None => fed.push(outcome),
        }
    }
    (settled, fed)
}

/// The outcomes of mirrors, added to those of an earlier push of another file.
pub(super) fn after(outcomes: Vec<Outcome>, mut earlier: Vec<Outcome>) -> Vec<Outcome> {
    let with_earlier = |outcome: Outcome| match earlier.iter().position(|it| it.name == outcome.name) {
        Some(at) => outcome.after(earlier.swap_remove(at)),
        None => outcome,
    };
    outcomes.into_iter().map(with_earlier).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Class;

    #[test]
    fn a_mirror_to_which_nothing_was_sent_is_deferred_only() {
        let closed = || {
            let failure = Failure::new(Class::Deferred, "its window is closed until 22:00");
            Outcome { error: Some(failure), images: 3, ..Outcome::new("closed".into()) }.settled()
        };
        let stopped = Outcome { blobs_sent: 1, name: "stopped".into(), ..closed() };
        let complete = Outcome { name: "complete".into(), ..Outcome::new("x".into()) }.settled();
        let (deferred, fed) = left_for_later(vec![closed(), stopped, complete]);
        assert_eq!(deferred.iter().map(|site| site.name.as_str()).collect::<Vec<_>>(), ["closed", "stopped"]);
        assert_eq!(fed.iter().map(|it| it.name.as_str()).collect::<Vec<_>>(), ["stopped", "complete"]);
        assert_eq!(deferred[0].message, "its window is closed until 22:00");
    }

    #[test]
    fn mirrors_that_a_run_did_not_come_to_fail_with_it_unless_they_were_left_for_later() {
        let opens = "2030-01-02T22:00:00Z".parse().unwrap();
        let failure = Failure::new(Class::Arriving, "it is on its way");
        let (deferred, failed) = not_reached([("a", None), ("night", Some(opens))].into_iter(), &failure);
        assert_eq!((failed.len(), failed[0].name.as_str()), (1, "a"));
        assert_eq!(failed[0].error.as_ref().unwrap().class, Class::Arriving);
        assert_eq!((deferred.len(), deferred[0].why), (1, DeferralCause::Window));
        assert!(deferred[0].message.contains("closed until 2030-01-02 22:00 UTC"), "{}", deferred[0].message);
    }

    #[test]
    fn what_was_sent_of_a_bundle_whose_sum_was_wrong_counts() {
        let sent = |name: &str, bytes_sent| Outcome { bytes_sent, ..Outcome::new(name.into()) };
        let all = after(vec![sent("a", 1), sent("b", 2)], vec![sent("b", 5)]);
        assert_eq!(all.iter().map(|outcome| outcome.bytes_sent).collect::<Vec<_>>(), [1, 7]);
    }
}
