//! A push from beginning to end: reading and feeding at the same time, and what both came to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::backlog::Backlog;
use super::context::{Context, Damage};
use super::history::History;
use super::layers::Layers;
use super::mirror::{MaxConcurrency, Tally};
use super::prepare::Preparer;
use super::reading::{self, Met, Read, ReadSettings, Reader};
use super::sums::Sums;
use super::work::Work;
use super::{Run, mirror};
use crate::bundle::{Accept, KnownLayers, LayerRecall};
use crate::clock::Instant;
use crate::compress::SpillSettings;
use crate::error::{BundleError, Fault};
use crate::exit::Exit;
use crate::plan::Groups;
use crate::report::{Event, Failure, Outcome, outcome};

/// What a push came to.
#[derive(Debug)]
pub(crate) struct Pushed {
    /// What became of each mirror; none where the run ended before it came to them.
    pub outcomes: Vec<Outcome>,
    /// The bundles and their plans; none where they could not be read, or no mirror was left to read for.
    pub read: Option<Read>,
    /// What was met in the bundles.
    pub met: Met,
    /// The file of the bundles whose sum is not what it must be. Nothing was published then.
    pub wrong_sum: Option<PathBuf>,
    /// How the run ended.
    pub ended: Result<Exit, Failure>,
}

impl Pushed {
    /// A run that ended before any mirror could be complete.
    fn nothing(outcomes: Vec<Outcome>, failure: Failure) -> Self {
        let failed = |outcome: Outcome| {
            let error = outcome.error.clone().or_else(|| Some(failure.clone()));
            Outcome { error, ..outcome }
        };
        let outcomes = outcomes.into_iter().map(failed).collect();
        Self { outcomes, read: None, met: Met::default(), wrong_sum: None, ended: Err(failure) }
    }

    /// The exit code of the run.
    pub(crate) fn exit(&self) -> Exit {
        self.ended.as_ref().map_or_else(|failure| failure.exit, |exit| *exit)
    }
}

/// Reads bundles and pushes what is found in them to every mirror, the one while the other goes on. Comes back when each
/// mirror is done, given up, or the run was told to stop. Nothing is published where the bundles cannot be read.
pub(crate) async fn push(mut run: Run) -> Pushed {
    let names: Vec<String> = run.mirrors.iter().map(|mirror| mirror.name.clone()).collect();
    let bundles = run.inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let (state, listeners) = (Arc::clone(&run.opener.state), run.listeners.clone());
    let begun = blocking({
        let (state, listeners, names) = (Arc::clone(&state), listeners.clone(), names.clone());
        let retention = run.settings.retention;
        let locks = std::mem::take(&mut run.locks);
        let places: Vec<String> = run.mirrors.iter().map(|mirror| mirror.target.to_string()).collect();
        move || {
            let locks = locks.taken(&state, &places, &listeners)?;
            let history = History::begin(&state, &bundles, &names, retention, locks);
            let new: Vec<bool> = names.iter().map(|name| history.is_new(name)).collect();
            Ok((history, new))
        }
    });
    let (history, new) = match begun.await.and_then(|begun| begun) {
        Ok(begun) => begun,
        Err(failure) => return Pushed::nothing(names.into_iter().map(Outcome::new).collect(), failure),
    };
    let unknown: Vec<Outcome> = names.iter().cloned().map(Outcome::new).collect();
    run.mirrors.iter_mut().zip(new).for_each(|(mirror, new)| mirror.is_new |= new);
    let recall = LayerRecall::new(&state, run.settings.layer_compression);
    let accept = run.settings.accept;
    let stop = run.cancel.child_token();
    let sums = Sums::begin(std::mem::take(&mut run.sums), &run.opener, stop.clone());
    let fed = feed(run, names, recall.clone(), sums.clone()).await;
    let ended = blocking(move || {
        let Fed { mut outcomes, mut met, read, layers, damaged, changed } = fed;
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                let failure = Failure::from(error);
                let pushed = Pushed { met, ..Pushed::nothing(outcomes, failure) };
                history.end(pushed.ended.as_ref().copied(), &[], &listeners);
                return pushed;
            }
        };
        let bundle = read.as_ref().map(|read| Arc::clone(&read.bundle));
        recall.remember(&layers, bundle.as_ref().map_or(&[], |bundle| bundle.identities()));
        if let Some(read) = &read {
            for (outcome, plan) in outcomes.iter_mut().zip(read.plans.by_mirror()) {
                outcome.images = plan.as_ref().map_or(0, |plan| plan.images.len());
            }
        }
        let known = met.notes.len();
        let ended = conclude(&outcomes, read.as_ref(), &mut met, accept, changed);
        met.notes[known..].iter().for_each(|note| listeners.note(note));
        let pushed = Pushed { outcomes, read, met, wrong_sum: None, ended };
        if let Some(bundle) = bundle.filter(|_| damaged || pushed.exit() == Exit::Bundle) {
            bundle.forget(&state);
        }
        history.end(pushed.ended.as_ref().copied(), &pushed.outcomes, &listeners);
        pushed
    });
    let pushed = ended.await.unwrap_or_else(|failure| Pushed::nothing(unknown, failure));
    if pushed.exit() != Exit::Bundle {
        stop.cancel();
    }
    // Of a bundle that proved damaged the sum says whether it is what was meant.
    Pushed { wrong_sum: sums.wrong().await, ..pushed }
}

/// Does what may wait for a disk, away from the threads of the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::internal(format!("a thread ended: {error}")))
}

/// What the run as a whole comes to.
fn conclude(
    outcomes: &[Outcome],
    read: Option<&Read>,
    met: &mut Met,
    accept: Accept,
    changed: bool,
) -> Result<Exit, Failure> {
    let mut exit = outcome::exit(outcomes);
    if let Some(Read { bundle, .. }) = read {
        // What takes the name of a bundle when every mirror has all of it changes nothing of that.
        let replaced = if exit == Exit::Complete && !changed { bundle.replaced() } else { None };
        match replaced {
            None => bundle.check_unchanged()?,
            Some(paths) => met.notes.extend(paths.into_iter().map(|path| {
                format!("{}: another file took its name after all of it was pushed", path.display())
            })),
        }
        if bundle.catalog.broken.iter().any(|broken| broken.unit.is_none()) {
            exit = exit.max(Exit::Bundle);
        }
    }
    Ok(accept.exit(exit, &met.left_out))
}

/// What reading and feeding came to.
struct Fed {
    outcomes: Vec<Outcome>,
    met: Met,
    /// None where no mirror was left to read for, or the run was told to stop.
    read: Result<Option<Read>, BundleError>,
    /// What was found out of the blobs that layers become.
    layers: KnownLayers,
    /// Content of the bundle proved damaged while it was read.
    damaged: bool,
    /// A file of the bundle changed before every mirror had all of it.
    changed: bool,
}

async fn feed(run: Run, names: Vec<String>, recall: LayerRecall, sums: Sums) -> Fed {
    let started = Instant::now();
    let Run { inputs, opener, mirrors, settings, listeners, cancel, .. } = run;
    listeners.emit(&Event::Started { mirrors: names.clone() });
    let groups = Groups::by_rules(mirrors.iter().map(|mirror| &mirror.rules));
    let (budget, pool) = (Arc::clone(&opener.budget), Arc::clone(&opener.pool));
    let body_bytes = budget.shares().bodies;
    let buffering = MaxConcurrency::buffering(body_bytes, mirrors.len());
    let folder = opener.resources.spool_folder.clone();
    let spill = SpillSettings { budget: Arc::clone(&budget), room: None, folder };
    let (workers, cpu) = (opener.layer_workers(), Arc::clone(&opener.compressing));
    let layers = Layers::new(pool, workers, settings.layer_compression, spill, cpu, buffering);
    let backlog = Backlog::new(budget.unread_bytes());
    let preparer = Arc::new(Preparer::new(Arc::clone(&layers), buffering, budget));
    let damage = Arc::new(Damage::default());
    let context = || {
        Arc::new(Context {
            work: Work::new(Arc::clone(&preparer), Arc::clone(&backlog)),
            preparer: Arc::clone(&preparer),
            listeners: listeners.clone(),
            cancel: cancel.clone(),
            settings: settings.clone(),
            damage: Arc::clone(&damage),
            sums: sums.clone(),
        })
    };
    let contexts: Vec<Arc<Context>> = groups.rules().iter().map(|_| context()).collect();
    let all = mirrors.len();
    let mut tallies = Vec::with_capacity(all);
    let actors: Vec<_> = mirrors
        .into_iter()
        .enumerate()
        .map(|(number, mirror)| {
            let max = MaxConcurrency::new(body_bytes, all, mirror.threads);
            let context = Arc::clone(&contexts[groups.of_mirror(number)]);
            // What is found while it connects is held for it, until it is given up.
            let follower = context.work.join(number);
            let tally = Arc::new(Tally::new(mirror.name.clone()));
            tallies.push(Arc::clone(&tally));
            tokio::spawn(mirror::run(number, mirror, max, context, follower, tally))
        })
        .collect();
    let stop = cancel.child_token();
    let decoder = opener.decoder.clone();
    let reader = Reader {
        inputs,
        opener,
        groups,
        settings: ReadSettings {
            accept: settings.accept,
            allow_damaged: settings.allow_damaged,
            mirrors_come_later: false,
        },
        listeners: listeners.clone(),
        works: contexts.iter().map(|context| Arc::clone(&context.work)).collect(),
        preparer,
        backlog,
        recall,
        cancel: stop.clone(),
    };
    let reading = tokio::task::spawn_blocking(move || reader.read());
    let aborts: Vec<_> = actors.iter().map(tokio::task::JoinHandle::abort_handle).collect();
    let feeding = async {
        let mut outcomes = Vec::with_capacity(actors.len());
        for (actor, name) in actors.into_iter().zip(names) {
            // A panic takes down one mirror, not the run.
            outcomes.push(
                actor
                    .await
                    .unwrap_or_else(|error| Outcome::lost(name, &error.to_string(), started.elapsed())),
            );
        }
        outcomes
    };
    tokio::pin!(feeding, reading);
    let read = |joined: Result<(Met, Result<Read, BundleError>), tokio::task::JoinError>| {
        joined.unwrap_or_else(|error| (Met::default(), Err(reading::panicked(&error))))
    };
    let (outcomes, met, read) = tokio::select! {
        biased;
        joined = &mut reading => match read(joined) {
            (met, Ok(read)) => (feeding.await, met, Ok(Some(read))),
            (met, Err(error)) if cancel.is_cancelled() => {
                tracing::debug!(%error, "reading ended because the run was told to stop");
                (feeding.await, met, Ok(None))
            }
            (met, Err(error)) => {
                aborts.iter().for_each(tokio::task::AbortHandle::abort);
                listeners.emit(&Event::Abandoned);
                (tallies.iter().map(|tally| tally.outcome()).collect(), met, Err(error))
            }
        },
        outcomes = &mut feeding => {
            // No mirror is left to read for. A pipe that says nothing cannot be told, and is left to itself.
            stop.cancel();
            decoder.cancel();
            match tokio::time::timeout(SHUTDOWN_GRACE, reading).await.map(read) {
                Ok((met, Ok(read))) => (outcomes, met, Ok(Some(read))),
                Ok((met, Err(error))) if error.fault() != Fault::Cancelled => (outcomes, met, Err(error)),
                Ok((met, Err(_))) => (outcomes, met, Ok(None)),
                Err(_) => (outcomes, Met::default(), Ok(None)),
            }
        }
    };
    Fed {
        outcomes,
        met,
        read,
        layers: layers.learned(),
        damaged: !damage.is_empty(),
        changed: damage.has_changed(),
    }
}

/// How long whoever reads the bundle may take to notice that nobody wants it any more.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
