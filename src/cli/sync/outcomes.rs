//! The outcomes of sites, as the report of a run has them.

use super::bundles::TakenBundles;
use crate::cli::config;
use crate::config::Site;
use crate::engine::MirrorSettings;
use crate::report::document::{DeferralCause, DeferredSite};
use crate::report::outcome::OutcomeState;
use crate::report::{Document, Failure, Outcome};
use crate::state::State;

/// Sites that a run which failed as a whole did not come to have failed with it, but for those that it was not to fill now.
pub(super) fn without_a_word(sites: &[Site], failure: &Failure, document: &mut Document) {
    for site in sites {
        let is_told = document.mirrors.iter().any(|outcome| outcome.name == site.name)
            || document.deferred.iter().any(|deferred| deferred.name == site.name);
        if is_told {
            continue;
        }
        match config::left_until(site) {
            Some(until) => {
                let until = until.strftime("%Y-%m-%d %H:%M UTC");
                let message = format!("its window is closed until {until}: it is left for a later run");
                let (name, why) = (site.name.clone(), DeferralCause::Window);
                document.deferred.push(DeferredSite { name, why, message, closing: None });
            }
            None => document.mirrors.push(Outcome::not_begun(site.name.clone(), failure.clone())),
        }
    }
}

/// Sites whose window was closed, and the others with those to which something was sent before theirs closed.
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

/// Mirrors that are fed, and the names of those that have something newer than what is taken: they stay as they are, for this reason.
pub(super) fn those_that_stay(
    mirrors: Vec<MirrorSettings>,
    bundles: &TakenBundles,
    state: &State,
) -> (Vec<MirrorSettings>, Vec<(String, Failure)>) {
    let places: Vec<String> = mirrors.iter().map(|mirror| mirror.target.lock_key()).collect();
    let (mut fed, mut stay) = (Vec::new(), Vec::new());
    for (mirror, given) in mirrors.into_iter().zip(state.files_given(&places)) {
        match bundles.older_than(&given) {
            Some(why) => stay.push((mirror.name, why)),
            None => fed.push(mirror),
        }
    }
    (fed, stay)
}

/// What those came to that stay as they are after a try with a newer file whose sum was wrong, and what the others came to.
pub(super) fn stayed(outcomes: Vec<Outcome>, stay: &[(String, Failure)]) -> (Vec<Outcome>, Vec<Outcome>) {
    let (mut stayed, mut fed) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match stay.iter().find(|(name, _)| *name == outcome.name) {
            Some((_, why)) => {
                let outcome = Outcome { images_failed: Vec::new(), error: Some(why.clone()), ..outcome };
                stayed.push(outcome.settled());
            }
            None => fed.push(outcome),
        }
    }
    (stayed, fed)
}

/// The outcomes of mirrors, added to those of an earlier try over another bundle.
pub(super) fn after(outcomes: Vec<Outcome>, mut earlier: Vec<Outcome>) -> Vec<Outcome> {
    let with_earlier = |outcome: Outcome| match earlier.iter().position(|it| it.name == outcome.name) {
        Some(at) => outcome.after(earlier.swap_remove(at)),
        None => outcome,
    };
    outcomes.into_iter().map(with_earlier).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report::Class;

    #[test]
    fn a_site_to_which_nothing_was_sent_is_deferred_only() {
        let closed = || {
            let failure = Failure::new(Class::Deferred, "its window is closed until 22:00");
            Outcome { error: Some(failure), images: 3, ..Outcome::new("closed".into()) }.settled()
        };
        let stopped = Outcome { blobs_sent: 1, name: "stopped".into(), ..closed() };
        let complete = Outcome { name: "complete".into(), ..Outcome::new("x".into()) }.settled();
        let (deferred, fed) = left_for_later(vec![closed(), stopped, complete]);
        let names = |names: Vec<&String>| names.into_iter().cloned().collect::<Vec<_>>();
        assert_eq!(names(deferred.iter().map(|site| &site.name).collect()), ["closed", "stopped"]);
        assert_eq!(names(fed.iter().map(|outcome| &outcome.name).collect()), ["stopped", "complete"]);
        assert_eq!(deferred[0].message, "its window is closed until 22:00");
    }

    #[test]
    fn sites_that_a_run_did_not_come_to_fail_with_it() {
        let text = "version: 1\nbundles: [{path: b}]\ndefaults: {registry: 'https://r.example'}\n\
                    sites: [{name: a, namespace: a}, {name: b, namespace: b}, {name: c, namespace: c}]\n";
        let sites = crate::config::parse(Path::new("f.yaml"), text).config.unwrap().sites;
        let mut document = Document::begin(Vec::new());
        document.mirrors = vec![Outcome::new("b".into())];
        let why = DeferralCause::Running;
        document.deferred =
            vec![DeferredSite { name: "c".into(), why, message: String::new(), closing: None }];
        without_a_word(&sites, &Failure::new(Class::Arriving, "it is on its way"), &mut document);
        let told: Vec<_> = document.mirrors.iter().map(|it| (it.name.as_str(), it.error.is_some())).collect();
        assert_eq!(told, [("b", false), ("a", true)]);
    }

    #[test]
    fn what_was_sent_of_a_bundle_whose_sum_was_wrong_counts() {
        let sent = |name: &str, bytes_sent| Outcome { bytes_sent, ..Outcome::new(name.into()) };
        let all = after(vec![sent("a", 1), sent("b", 2)], vec![sent("b", 5)]);
        assert_eq!(all.iter().map(|outcome| outcome.bytes_sent).collect::<Vec<_>>(), [1, 7]);
    }
}
