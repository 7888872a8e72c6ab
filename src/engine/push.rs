//! A push from beginning to end: reads and feeds at the same time, and joins the results of both.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Run;
use super::checksums::Sums;
use super::feed::{Fed, feed};
use super::history::History;
use super::reading::{Met, Read};
use crate::bundle::{Accept, Bundle, LayerRecall};
use crate::exit::Exit;
use crate::registry::MirrorMemory;
use crate::report::{Failure, Outcome, outcome};
use crate::state::{Placement, RunId};

/// The result of a push.
#[derive(Debug)]
pub(crate) struct PushResult {
    /// The outcome of each mirror; none where the run ended before it began with them.
    pub outcomes: Vec<Outcome>,
    /// The bundles and their plans; none where they could not be read, or no mirror was left to read for.
    pub read: Option<Read>,
    /// What was met in the bundles.
    pub met: Met,
    /// The file of the bundles whose sum is not what it must be. Nothing was published then.
    pub wrong_sum: Option<PathBuf>,
    /// How the run ended.
    pub ended: Result<Exit, Failure>,
    /// Its number in the history; none where nothing is remembered.
    pub run: Option<RunId>,
}

/// What to do where a bundle changed and every mirror is complete.
const ALL_TAGS_MOVED: &str = "every mirror has all images of the bundle that was opened, and their tags were moved; wait until the new one \
                              is written completely, then run again";

impl PushResult {
    /// A run that ended before any mirror could be complete.
    fn nothing(outcomes: Vec<Outcome>, failure: Failure) -> Self {
        let failed = |outcome: Outcome| {
            let error = outcome.error.clone().or_else(|| Some(failure.clone()));
            Outcome { error, ..outcome }.settled()
        };
        let outcomes = outcomes.into_iter().map(failed).collect();
        Self { outcomes, read: None, met: Met::default(), wrong_sum: None, ended: Err(failure), run: None }
    }

    /// The exit code of the run.
    pub(crate) fn exit(&self) -> Exit {
        self.ended.as_ref().map_or_else(|failure| failure.exit, |exit| *exit)
    }
}

/// Reads bundles, and at the same time pushes what is found in them to every mirror. Returns when each mirror is done or given
/// up, or the run was interrupted. Nothing is published where the bundles cannot be read.
pub(crate) async fn push(mut run: Run) -> PushResult {
    let names: Vec<String> = run.mirrors.iter().map(|mirror| mirror.name.clone()).collect();
    let bundles = run.inputs.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let (state, listeners) = (Arc::clone(&run.opener.state), run.listeners.clone());
    let places: Vec<String> = run.mirrors.iter().map(|mirror| mirror.target.lock_key()).collect();
    let given = bundles.clone();
    let files: Vec<String> = run.inputs.iter().map(ToString::to_string).collect();
    let stage = run.opener.stage.clone();
    let begun = blocking({
        let (state, listeners, names) = (Arc::clone(&state), listeners.clone(), names.clone());
        let (retention, number) = (run.settings.retention, run.number);
        let locks = std::mem::take(&mut run.locks);
        let places: Vec<String> = run.mirrors.iter().map(|mirror| mirror.target.lock_key()).collect();
        move || {
            let locks = locks.taken(&state, &places, &listeners)?;
            let history = History::begin(&state, &bundles, &names, retention, number, locks);
            let new = history.are_new(&names);
            Ok((history, new, state.uploads()))
        }
    });
    let (history, new, uploads) = match begun.await.and_then(|begun| begun) {
        Ok(begun) => begun,
        Err(failure) => return PushResult::nothing(names.into_iter().map(Outcome::new).collect(), failure),
    };
    let number = history.run();
    let unknown: Vec<Outcome> = names.iter().cloned().map(Outcome::new).collect();
    for (mirror, new) in run.mirrors.iter_mut().zip(new) {
        mirror.is_new |= new;
        mirror.client.uploads.clone_from(&uploads);
        mirror.client.memory = Some(Arc::clone(&state) as Arc<dyn MirrorMemory>);
    }
    let recall = LayerRecall::new(&state, run.opener.stage.as_ref(), run.settings.layer_compression);
    let accept = run.settings.accept;
    let stop = run.cancel.child_token();
    let sums = Sums::begin(std::mem::take(&mut run.sums), &run.opener, stop.clone());
    let fed = feed(run, recall.clone(), sums.clone()).await;
    let ended = blocking(move || {
        let Fed { mut outcomes, mut met, read, layers, damaged, changed } = fed;
        let notes_of_stage = |met: &mut Met| {
            let notes = stage.as_ref().map(|stage| stage.take_notes()).unwrap_or_default();
            for note in &notes {
                listeners.note(note);
            }
            met.notes.extend(notes);
        };
        let read = match read {
            Ok(read) => read,
            Err(error) => {
                notes_of_stage(&mut met);
                let failure = Failure::from(error);
                let pushed = PushResult { met, ..PushResult::nothing(outcomes, failure) };
                history.end(pushed.ended.as_ref().copied(), &[]);
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
        if let Some(stage) = stage.as_ref().filter(|_| read.is_some()) {
            stage.collect();
        }
        notes_of_stage(&mut met);
        let known = met.notes.len();
        let ended = conclude(&outcomes, read.as_ref(), &mut met, accept, changed);
        met.notes[known..].iter().for_each(|note| listeners.note(note));
        let pushed = PushResult { outcomes, read, met, wrong_sum: None, ended, run: None };
        // What opening it has shown is kept, and said again in the next run.
        let is_news =
            |bundle: &Bundle| pushed.exit() == Exit::Bundle && !(pushed.ended.is_ok() && bundle.has_damage());
        if let Some(bundle) = bundle.filter(|bundle| damaged || is_news(bundle)) {
            bundle.forget(&state, stage.as_deref());
        }
        for (place, outcome) in places.into_iter().zip(&pushed.outcomes) {
            let (path, complete, tags) = (given.clone(), outcome.is_complete(), outcome.placed.clone());
            // A tag that was moved has left what the mirror had before.
            let is_given = complete || tags.iter().any(|it| it.own && it.tag.is_some());
            let files = if is_given { files.clone() } else { Vec::new() };
            state.placed(place, Placement { path, files, complete, tags });
        }
        history.end(pushed.ended.as_ref().copied(), &pushed.outcomes);
        pushed
    });
    let pushed = ended.await.unwrap_or_else(|failure| PushResult::nothing(unknown, failure));
    if pushed.exit() != Exit::Bundle {
        stop.cancel();
    }
    // Of a bundle that proved damaged the sum says whether it is what was meant.
    PushResult { wrong_sum: sums.wrong().await, run: number, ..pushed }
}

/// Runs work that may wait for a disk, away from the threads of the runtime.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::internal(format!("a thread ended: {error}")))
}

/// The result of the run as a whole.
fn conclude(
    outcomes: &[Outcome],
    read: Option<&Read>,
    met: &mut Met,
    accept: Accept,
    changed: bool,
) -> Result<Exit, Failure> {
    let mut exit = outcome::exit(outcomes);
    if let Some(Read { bundle, .. }) = read {
        // What takes the name of a bundle when every mirror has all of it changes nothing of that; nor does a bundle that is
        // removed, which was open until then.
        let is_gone = |path: &&Path| !path.exists();
        let replaced = bundle.replaced().filter(|_| exit == Exit::Complete);
        match replaced.filter(|paths| !changed || paths.iter().all(is_gone)) {
            None => bundle.check_unchanged().map_err(|error| {
                let failure = Failure::from(error);
                if exit == Exit::Complete { failure.hint(ALL_TAGS_MOVED) } else { failure }
            })?,
            Some(paths) => met.notes.extend(paths.into_iter().map(|path| {
                let what = if is_gone(&path) {
                    "it was removed after it was opened, and all of it was pushed"
                } else {
                    "another file took its name after all of it was pushed"
                };
                format!("{}: {what}", path.display())
            })),
        }
        if bundle.has_damage() {
            exit = exit.max(Exit::Bundle);
        }
    }
    Ok(accept.exit(exit, &met.left_out))
}
