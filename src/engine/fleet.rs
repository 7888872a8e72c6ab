//! A fleet: many mirrors brought up to date with bundles, in whose place others may come.
//!
//! In: a [`FleetRun`]. Out: a [`FleetResult`]. Two things are decided here beside what a push decides. A mirror that has something
//! newer stays as it is. Where the sum of a file proves wrong, the next file of that bundle is pushed in its place, to the
//! mirrors for which that is no step back. The caller shows what is said between two pushes.

mod bundles;
mod locking;
mod outcomes;

use std::num::NonZeroUsize;

use tokio_util::sync::CancellationToken;

pub(crate) use self::bundles::{BundleChoice, BundleFile, FleetBundles, PASSED_OVER_HINT};
pub(crate) use self::locking::{IfBusy, LockedMirrors, already_locked, lock_each, no_lock};
pub(crate) use self::outcomes::not_reached;
use super::reading::Met;
use super::{Locks, MirrorSettings, PushResult, Run, RunSettings, Schedule, push};
use crate::bundle::Opener;
use crate::clock::Instant;
use crate::exit::Exit;
use crate::report::document::{BundleEntry, DeferredSite};
use crate::report::outcome::exit_of_sites;
use crate::report::{Class, Failure, Listeners, Outcome};
use crate::state::RunId;

/// All that is needed to bring a fleet up to date.
pub(crate) struct FleetRun {
    /// What the mirrors get.
    pub bundles: FleetBundles,
    /// Opens the bundles.
    pub opener: Opener,
    /// The mirrors, locked as far as they can be.
    pub mirrors: Vec<MirrorSettings>,
    /// In which order, and when.
    pub schedule: FleetSchedule,
    /// How the run behaves, whatever the mirror.
    pub settings: RunSettings,
    /// Ends it early, and well.
    pub cancel: CancellationToken,
}

/// In which order mirrors are fed, by their names, and what ends that.
#[derive(Debug, Clone, Default)]
pub(crate) struct FleetSchedule {
    /// Mirrors that are fed at the same time, at the most.
    pub parallel: Option<NonZeroUsize>,
    /// The names of the mirrors of each wave. Those in no wave come last, together.
    pub waves: Vec<Vec<String>>,
    /// After this many failed mirrors no other one begins.
    pub max_failures: Option<NonZeroUsize>,
    /// Mirrors of the fleet that have failed before anything was sent.
    pub failed_before: usize,
    /// When the run ends, whatever is still to be done.
    pub deadline: Option<Instant>,
}

impl FleetSchedule {
    /// Why none of the mirrors begins, if too many others have failed before.
    fn too_many_failed(&self) -> Option<Failure> {
        let most = self.max_failures.filter(|most| self.failed_before >= most.get())?;
        let why = format!("{most} sites failed before anything was sent; max_failed_sites allows no more");
        Some(Failure::new(Class::NotBegun, why))
    }

    /// The same for these mirrors, by their places.
    fn of(&self, mirrors: &[MirrorSettings]) -> Schedule {
        let place = |name: &String| mirrors.iter().position(|mirror| mirror.name == *name);
        let places = |wave: &Vec<String>| {
            let mut places: Vec<usize> = wave.iter().filter_map(place).collect();
            places.sort_unstable();
            places
        };
        let left = |most: NonZeroUsize| NonZeroUsize::new(most.get().saturating_sub(self.failed_before));
        Schedule {
            parallel: self.parallel,
            waves: self.waves.iter().map(places).collect(),
            max_failures: self.max_failures.and_then(left),
            deadline: self.deadline,
        }
    }
}

/// What became of a fleet.
pub(crate) struct FleetResult {
    /// The outcomes of the mirrors that were not left for later alone.
    pub outcomes: Vec<Outcome>,
    /// Those whose windows were closed, or closed before they were complete.
    pub deferred: Vec<DeferredSite>,
    /// The files that were pushed last, as given and as the report lists them; none where nothing was.
    pub pushed: Option<(Vec<String>, Vec<BundleEntry>)>,
    /// Why files came in the place of others, while they were pushed.
    pub replacements: Vec<String>,
    /// Newer files that were not pushed, each with the reason.
    pub passed_over: Vec<String>,
    /// The most images that a mirror was to get.
    pub images: usize,
    /// What was met in the bundles.
    pub met: Met,
    /// The number of the run in the history.
    pub run: Option<RunId>,
    /// How the last push ended.
    pub ended: Result<Exit, Failure>,
}

/// The exit code of a run whose push ended so, and of whose sites all have these outcomes. `has_newest` is whether no newer file
/// was passed over.
pub(crate) fn exit(of_push: Exit, all: &[Outcome], has_newest: bool) -> Exit {
    match exit_of_sites(all) {
        // All sites are complete: what the bundle itself has to say counts.
        Exit::Complete if has_newest => of_push,
        Exit::Complete => of_push.max(Exit::Incomplete),
        of_sites => of_sites,
    }
}

/// A fleet on its way.
pub(crate) struct Fleet {
    run: FleetRun,
    /// The outcomes of mirrors that are not fed any more.
    settled: Vec<Outcome>,
    /// What came of earlier pushes to mirrors that are fed again.
    earlier: Vec<Outcome>,
    replacements: Vec<String>,
    pushed: Option<(Vec<String>, Vec<BundleEntry>)>,
    number: Option<RunId>,
    last: Option<PushResult>,
}

impl Fleet {
    /// Sets those mirrors aside that stay as they are. Waits for the state.
    pub(crate) fn new(mut run: FleetRun) -> Self {
        let mirrors = std::mem::take(&mut run.mirrors);
        let (fed, kept) = run.bundles.keep_newer(mirrors, &run.opener.state);
        let mut settled: Vec<Outcome> =
            kept.into_iter().map(|(name, why)| Outcome::not_begun(name, why)).collect();
        run.mirrors = fed;
        if let Some(why) = run.schedule.too_many_failed() {
            let none = run.mirrors.drain(..).map(|mirror| Outcome::not_begun(mirror.name, why.clone()));
            settled.extend(none);
        }
        let (earlier, replacements) = (Vec::new(), Vec::new());
        Self { run, settled, earlier, replacements, pushed: None, number: None, last: None }
    }

    /// Whether a mirror is to be fed.
    pub(crate) fn feeds(&self, name: &str) -> bool {
        self.run.mirrors.iter().any(|mirror| mirror.name == name)
    }

    /// Pushes the bundles to the mirrors that are to be fed. The listeners hear of it.
    pub(crate) async fn push(&mut self, listeners: &Listeners) {
        if self.run.mirrors.is_empty() {
            return;
        }
        let FleetRun { bundles, opener, mirrors, schedule, settings, cancel } = &self.run;
        let mut pushed = push(Run {
            inputs: bundles.inputs(),
            sums: bundles.sums(),
            opener: opener.clone(),
            mirrors: mirrors.clone(),
            schedule: schedule.of(mirrors),
            locks: Locks::Held,
            number: self.number,
            settings: settings.clone(),
            listeners: listeners.clone(),
            cancel: cancel.clone(),
        })
        .await;
        self.number = pushed.run.or(self.number);
        pushed.outcomes = outcomes::after(pushed.outcomes, std::mem::take(&mut self.earlier));
        let sources = bundles.inputs().iter().map(ToString::to_string).collect();
        self.pushed = Some((sources, bundles.entries(opener)));
        self.last = Some(pushed);
    }

    /// Takes the next file in the place of one whose sum has proved wrong. Gives the warning about that; the fleet is to be
    /// pushed to again then. Waits for the state.
    pub(crate) fn replace_wrong(&mut self) -> Option<String> {
        let last = self.last.as_mut()?;
        let warning = self.run.bundles.replace(last.wrong_sum.as_deref()?)?;
        self.replacements.push(warning.clone());
        let mirrors = std::mem::take(&mut self.run.mirrors);
        let (fed, kept) = self.run.bundles.keep_newer(mirrors, &self.run.opener.state);
        let (stayed, earlier) = outcomes::kept(std::mem::take(&mut last.outcomes), &kept);
        self.run.mirrors = fed;
        self.settled.extend(stayed);
        if self.run.mirrors.is_empty() {
            last.ended = Ok(Exit::Incomplete);
            last.wrong_sum = None;
        } else {
            self.earlier = earlier;
        }
        Some(warning)
    }

    /// What became of it.
    pub(crate) fn end(self) -> FleetResult {
        let Self { run, settled, replacements, pushed, number, last, .. } = self;
        let nothing = || (Vec::new(), 0, Met::default(), Ok(Exit::Complete));
        let (fed, images, met, ended) = last.map_or_else(nothing, |last| {
            let images = last.read.as_ref().map_or(0, |read| read.plans.most_images());
            (last.outcomes, images, last.met, last.ended)
        });
        let (deferred, fed) = outcomes::left_for_later(fed);
        let outcomes = settled.into_iter().chain(fed).collect();
        let passed_over = run.bundles.passed_over().to_vec();
        FleetResult { outcomes, deferred, pushed, replacements, passed_over, images, met, run: number, ended }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::Care;
    use crate::registry::ClientOptions;

    fn mirror(name: &str) -> MirrorSettings {
        MirrorSettings {
            name: name.to_owned(),
            target: "r.example/a".parse().unwrap(),
            rules: Arc::default(),
            client: ClientOptions::default(),
            threads: None,
            atomic_tags: false,
            care: Care::default(),
            window: None,
            gate: None,
            is_new: false,
        }
    }

    #[test]
    fn a_wave_has_those_of_its_mirrors_that_are_fed() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let schedule = FleetSchedule {
            waves: vec![names(&["canary", "gone"]), names(&["b", "a"])],
            ..FleetSchedule::default()
        };
        let mirrors = ["a", "b", "canary", "last"].map(mirror);
        assert_eq!(schedule.of(&mirrors).waves, [vec![2], vec![0, 1]]);
    }

    #[test]
    fn what_failed_before_counts_among_the_failures_that_end_a_run() {
        let schedule = |failed_before| FleetSchedule {
            max_failures: NonZeroUsize::new(3),
            failed_before,
            ..FleetSchedule::default()
        };
        assert_eq!(schedule(1).of(&[]).max_failures, NonZeroUsize::new(2));
        assert!(schedule(2).too_many_failed().is_none());
        assert_eq!(schedule(3).too_many_failed().unwrap().class, Class::NotBegun);
    }
}
