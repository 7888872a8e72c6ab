//! Feeds the mirrors of a run while its bundles are read, as the supervisor decides.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::future::{BoxFuture, FutureExt as _, OptionFuture};
use futures_util::stream::FuturesUnordered;
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use super::backlog::Backlog;
use super::checksums::Sums;
use super::context::{Context, Damage};
use super::layers::Layers;
use super::mirror::{self, Joining, LiveOutcome, MaxConcurrency};
use super::prepare::Preparer;
use super::reading::{self, BundleReader, Met, Read, ReadSettings};
use super::staging::Staging;
use super::stop::StopSignal;
use super::supervisor::{End, Halt, Order, Supervisor, WindowState};
use super::work::Work;
use super::{MirrorSettings, Run, start_event};
use crate::bundle::{KnownLayers, LayerRecall};
use crate::clock::{self, Instant};
use crate::compress::SpillSettings;
use crate::error::{BundleError, Fault};
use crate::hook::gate::Gates;
use crate::plan::Groups;
use crate::registry::Hosts;
use crate::report::outcome::WindowClosing;
use crate::report::{Class, Event, Failure, Listeners, Outcome};
use crate::schedule::{Opening, Outside};

/// How long the reader of the bundle may take to notice that no mirror needs it any more.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// How long a blob in flight may take after the window of its mirror has closed.
const LAST_BLOB: Duration = Duration::from_secs(3600);
/// The same when the run reached its deadline.
const DEADLINE_GRACE: Duration = Duration::from_secs(10);
/// A mirror that was given up is left alone for this multiple of the time that the run waited for it, within these bounds.
const REST_FACTOR: u32 = 3;
const SHORTEST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// The result of reading and feeding.
pub(super) struct Fed {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) met: Met,
    /// None where no mirror was left to read for, or the run was interrupted.
    pub(super) read: Result<Option<Read>, BundleError>,
    /// What this run learned of the blobs of layers.
    pub(super) layers: KnownLayers,
    /// Content of the bundle proved damaged while it was read.
    pub(super) damaged: bool,
    /// A file of the bundle changed before every mirror had all of it.
    pub(super) changed: bool,
}

type ReadResult = (Met, Result<Read, BundleError>);

/// The mirrors of a run.
struct FedMirrors {
    settings: Vec<MirrorSettings>,
    /// What each shares with the others of its plan.
    contexts: Vec<Arc<Context>>,
    max: Vec<MaxConcurrency>,
    stops: Vec<StopSignal>,
    outcomes: Vec<Option<Outcome>>,
    /// Of those that are fed now.
    live_outcomes: Vec<Option<Arc<LiveOutcome>>>,
    tasks: FuturesUnordered<BoxFuture<'static, (usize, Result<Outcome, JoinError>)>>,
    aborts: Vec<AbortHandle>,
    /// Mirrors that have begun and do not follow the list yet.
    joining: FuturesUnordered<oneshot::Receiver<()>>,
    listeners: Listeners,
    started: Instant,
}

impl FedMirrors {
    fn gate(&self, mirror: usize, now: Instant) -> WindowState {
        let Some(window) = &self.settings[mirror].window else { return WindowState::Open(None) };
        let day = clock::timestamp();
        let at = |then| now + Duration::try_from(day.duration_until(then)).unwrap_or_default();
        match (window.at(day), window.outside) {
            (Opening::Open(until), _) => WindowState::Open(Some(at(until))),
            (Opening::Closed(until), Outside::Wait) => WindowState::Closed(Some(at(until))),
            (Opening::Closed(_), Outside::Stop) => WindowState::Closed(None),
        }
    }

    /// Begins to feed a mirror. What is found while the first ones connect is held for them, until they are given up; later
    /// ones have to be there first.
    fn begin(&mut self, number: usize, cancel: &CancellationToken, is_early: bool) {
        let context = Arc::clone(&self.contexts[number]);
        let joining = if is_early {
            Joining::Early(context.work.join(number))
        } else {
            let (sender, joined) = oneshot::channel();
            self.joining.push(joined);
            Joining::Connected(sender)
        };
        self.stops[number] = StopSignal::new(cancel);
        let (settings, stop) = (self.settings[number].clone(), self.stops[number].clone());
        let live = Arc::new(LiveOutcome::new(settings.name.clone()));
        self.live_outcomes[number] = Some(Arc::clone(&live));
        let task =
            tokio::spawn(mirror::run(number, settings, self.max[number], context, stop, joining, live));
        self.aborts.push(task.abort_handle());
        self.tasks.push(task.map(move |ended| (number, ended)).boxed());
    }

    fn stop(&self, number: usize, halt: Halt) {
        let grace = if halt == Halt::Window { LAST_BLOB } else { DEADLINE_GRACE };
        let waited = self.live_outcomes[number].as_ref().and_then(|live| live.waits_for());
        let last = waited.map(|waited| format!("it was waited for at last: {waited}"));
        if halt == Halt::Window {
            let name = &self.settings[number].name;
            self.listeners.note(format!("{name}: its window closes: what is on its way is sent to its end"));
        }
        self.stops[number].stop(with_last_wait(why(halt), halt, last), grace);
    }

    /// Says that the window of a mirror has closed before it was complete, how much is left, and when it goes on.
    fn window_closed(&self, number: usize, outcome: &Outcome) -> Option<WindowClosing> {
        let window = self.settings[number].window.as_ref()?;
        let closed_at = clock::timestamp();
        let opens_at = match window.at(closed_at) {
            Opening::Closed(until) => until,
            Opening::Open(_) => closed_at,
        };
        let images_left = Some(outcome.images_failed.len()).filter(|left| *left > 0);
        let is_waited_for = window.outside == Outside::Wait;
        let closed = Event::WindowClosed { mirror: number, images_left, opens_at, is_waited_for };
        self.listeners.emit(&closed);
        let (closed_at, opens_at) = (closed_at.to_string(), opens_at.to_string());
        Some(WindowClosing { closed_at, images_left, opens_at })
    }

    /// A mirror does not begin, or not again.
    fn skip(&mut self, number: usize, halt: Halt) {
        let name = &self.settings[number].name;
        let window = self.settings[number].window.as_ref();
        let closed = window.filter(|window| matches!(window.at(clock::timestamp()), Opening::Closed(_)));
        let last = closed.map(|window| format!("its window, {window}, is not open yet"));
        let why = with_last_wait(why(halt), halt, last.or_else(|| Some("its turn had not come".to_owned())));
        self.listeners.note(format!("{name}: {}", why.message));
        let outcome = match self.outcomes[number].take() {
            None => Outcome::not_begun(name.clone(), why),
            Some(deferred) if halt == Halt::Window => deferred,
            Some(deferred) => deferred.not_resumed(&why),
        };
        self.outcomes[number] = Some(outcome);
    }

    /// Records how the feeding of a mirror ended. A panic ends one mirror, not the run.
    fn ended(&mut self, number: usize, ended: Result<Outcome, JoinError>) -> End {
        let name = &self.settings[number].name;
        let lost = |error: JoinError| Outcome::lost(name.clone(), &error.to_string(), self.started.elapsed());
        let mut outcome = ended.unwrap_or_else(lost);
        self.live_outcomes[number] = None;
        if let Some(earlier) = self.outcomes[number].take() {
            outcome = outcome.after(earlier);
        }
        let patience = self.settings[number].client.retry.connect_patience;
        let rest = patience.saturating_mul(REST_FACTOR).clamp(SHORTEST_REST, LONGEST_REST);
        let end = end_of(&outcome, rest);
        if matches!(end, End::Deferred { .. }) {
            outcome.window_closings.extend(self.window_closed(number, &outcome));
        }
        self.outcomes[number] = Some(outcome);
        end
    }

    /// Ends all tasks at once. Returns the outcomes of the mirrors up to now.
    fn abandon(self) -> Vec<Outcome> {
        for task in &self.aborts {
            task.abort();
        }
        self.listeners.emit(&Event::Abandoned);
        let all = self.outcomes.into_iter().zip(self.live_outcomes).zip(self.settings);
        let so_far =
            |((earlier, live), settings): ((Option<Outcome>, Option<Arc<LiveOutcome>>), MirrorSettings)| {
                match live {
                    Some(live) => live.outcome_after(earlier),
                    None => earlier.unwrap_or_else(|| Outcome::new(settings.name)),
                }
            };
        all.map(so_far).collect()
    }

    fn into_outcomes(self) -> Vec<Outcome> {
        let all = self.outcomes.into_iter().zip(self.settings);
        all.map(|(outcome, settings)| {
            let never = || Outcome::not_begun(settings.name, Failure::interrupted());
            outcome.unwrap_or_else(never).settled()
        })
        .collect()
    }
}

fn end_of(outcome: &Outcome, rest: Duration) -> End {
    let is_any = |class| outcome.failures().any(|failure| failure.class == class);
    if outcome.is_complete() {
        End::Complete
    } else if is_any(Class::Deferred) {
        End::Deferred { has_failed: !outcome.is_deferred() }
    } else if is_any(Class::Unreachable) {
        End::Unreachable { rest }
    } else {
        End::Failed
    }
}

fn why(halt: Halt) -> Failure {
    match halt {
        Halt::Window => Failure::new(Class::Deferred, "its window is closed: it is left for a later run"),
        Halt::Deadline => Failure::new(
            Class::Deadline,
            "the deadline of the run has passed (--deadline, or `deadline` in the sites file)",
        )
        .hint("run again: what is there is not sent again; or give the run more time"),
        Halt::Failures(1) => Failure::new(Class::NotBegun, "not begun, because a mirror has failed"),
        Halt::Failures(count) => {
            Failure::new(Class::NotBegun, format!("not begun, because {count} mirrors have failed"))
        }
        Halt::Interrupted => Failure::interrupted(),
    }
}

/// The same, at a deadline: the message adds what the run was waiting for, because that may be the cause.
fn with_last_wait(why: Failure, halt: Halt, last: Option<String>) -> Failure {
    match last.filter(|_| halt == Halt::Deadline) {
        Some(last) => Failure { message: format!("{}; {last}", why.message), ..why },
        None => why,
    }
}

/// Feeds all mirrors. Returns when each is done, given up or left out, or the run was interrupted.
pub(super) async fn feed(run: Run, recall: LayerRecall, sums: Sums) -> Fed {
    let started = Instant::now();
    let Run { inputs, opener, mirrors: all, schedule, settings, listeners, cancel, .. } = run;
    listeners.emit(&start_event(&all));
    Hosts::announce(all.iter().map(|mirror| (&mirror.target.endpoint, &mirror.client)));
    let groups = Groups::by_rules(all.iter().map(|mirror| &mirror.rules));
    let (budget, pool) = (Arc::clone(&opener.budget), Arc::clone(&opener.pool));
    let (body_bytes, at_once) = (budget.shares().bodies, schedule.at_once(all.len()));
    let buffering = MaxConcurrency::buffering(body_bytes, at_once);
    let folder = opener.resources.spool_folder.clone();
    let spill = SpillSettings { budget: Arc::clone(&budget), room: None, folder };
    let (workers, cpu) = (opener.layer_workers(), opener.cpu.clone());
    let sha256 = Arc::clone(&cpu.sha256);
    let method = settings.layer_compression;
    let layers = Layers::new(pool, workers, method, spill, cpu, buffering, listeners.clone());
    let backlog = Backlog::new(budget.unread_bytes());
    let stage = opener.stage.clone();
    let preparer = Arc::new(Preparer::new(Arc::clone(&layers), buffering, sha256, budget, stage.clone()));
    let damage = Arc::new(Damage::default());
    let gates = Arc::new(Gates::new(Arc::clone(&opener.state), settings.earlier_verdicts));
    let context = || {
        Arc::new(Context {
            work: Work::new(Arc::clone(&preparer), Arc::clone(&backlog)),
            preparer: Arc::clone(&preparer),
            listeners: listeners.clone(),
            settings: settings.clone(),
            damage: Arc::clone(&damage),
            sums: sums.clone(),
            gates: Arc::clone(&gates),
            state: Arc::clone(&opener.state),
        })
    };
    let contexts: Vec<Arc<Context>> = groups.rules().iter().map(|_| context()).collect();
    let mut mirrors = FedMirrors {
        contexts: (0..all.len()).map(|number| Arc::clone(&contexts[groups.of_mirror(number)])).collect(),
        max: all.iter().map(|mirror| MaxConcurrency::new(body_bytes, at_once, mirror.threads)).collect(),
        stops: all.iter().map(|_| StopSignal::new(&cancel)).collect(),
        outcomes: all.iter().map(|_| None).collect(),
        live_outcomes: all.iter().map(|_| None).collect(),
        settings: all,
        tasks: FuturesUnordered::new(),
        aborts: Vec::new(),
        joining: FuturesUnordered::new(),
        listeners: listeners.clone(),
        started,
    };
    let works: Vec<Arc<Work>> = contexts.iter().map(|context| Arc::clone(&context.work)).collect();
    let deadline = schedule.deadline;
    let mut staging = stage.map(|stage| Staging::new(stage, &works, &preparer, &recall, &sums, &listeners));
    let mut supervisor = Supervisor::new(&schedule, mirrors.settings.len());
    let (stop, decoder) = (cancel.child_token(), opener.decoder.clone());
    // The stage reads too.
    if mirrors.settings.len() + usize::from(staging.is_some()) > 1 {
        decoder.spill_to_disk();
    }
    let mut reader = Some(BundleReader {
        inputs,
        opener,
        groups,
        settings: ReadSettings {
            accept: settings.accept,
            allow_damaged: settings.allow_damaged,
            connect_early: settings.connect_early,
            mirrors_come_later: true,
        },
        listeners: listeners.clone(),
        works,
        preparer,
        backlog,
        recall,
        cancel: stop.clone(),
    });
    let mut reading: Option<JoinHandle<ReadResult>> = None;
    let mut read: Option<ReadResult> = None;
    loop {
        let now = Instant::now();
        for order in supervisor.orders(now, |mirror| mirrors.gate(mirror, now)) {
            match order {
                Order::Begin(number) => mirrors.begin(number, &cancel, reader.is_some()),
                Order::Stop(number, halt) => mirrors.stop(number, halt),
                Order::Skip(number, halt) => mirrors.skip(number, halt),
            }
        }
        // Nothing is read before a mirror needs it.
        if !mirrors.tasks.is_empty()
            && let Some(mut reader) = reader.take()
        {
            if let Some(staging) = &mut staging {
                staging.begin();
            }
            reader.settings.mirrors_come_later = supervisor.some_wait();
            reading = Some(tokio::task::spawn_blocking(move || reader.read()));
        }
        // What mirrors that have just begun will read is known when they have joined.
        if read.is_some() && !supervisor.some_wait() && mirrors.joining.is_empty() {
            decoder.settle(false);
        }
        if supervisor.is_done() {
            break;
        }
        let look = supervisor.next_look(now, |mirror| mirrors.gate(mirror, now));
        tokio::select! {
            biased;
            Some(ended) = OptionFuture::from(reading.as_mut()) => {
                reading = None;
                let (met, result) = ended.unwrap_or_else(|error| panicked(&error));
                match result {
                    Err(error) if !cancel.is_cancelled() => {
                        return fed(mirrors.abandon(), met, Err(error), &layers, &damage);
                    }
                    result => {
                        if let Err(error) = &result {
                            tracing::debug!(%error, "reading ended because the run was interrupted");
                        }
                        read = Some((met, result));
                    }
                }
            }
            Some((number, ended)) = mirrors.tasks.next() => {
                let end = mirrors.ended(number, ended);
                let now = Instant::now();
                supervisor.ended(number, end, mirrors.gate(number, now), now);
            }
            Some(_joined) = mirrors.joining.next() => {}
            () = cancel.cancelled(), if !supervisor.is_interrupted() => supervisor.interrupt(),
            Some(()) = OptionFuture::from(look.map(tokio::time::sleep_until)) => {}
        }
    }
    if let Some(staging) = staging {
        // What was read is put there to the end. Nothing is read for the stage alone.
        let may_go_on = read.is_some() && !cancel.is_cancelled();
        staging.end(may_go_on, deadline, &cancel).await;
    }
    let outcomes = mirrors.into_outcomes();
    let (met, read) = match (read, reading) {
        (Some((met, result)), _) => (met, Ok(result.ok())),
        (None, None) => (Met::default(), Ok(None)),
        (None, Some(reading)) => {
            // No mirror is left to read for. A pipe that says nothing cannot be stopped, and is left to itself.
            stop.cancel();
            decoder.cancel();
            match tokio::time::timeout(SHUTDOWN_GRACE, reading).await {
                Ok(ended) => match ended.unwrap_or_else(|error| panicked(&error)) {
                    (met, Ok(read)) => (met, Ok(Some(read))),
                    (met, Err(error)) if error.fault() != Fault::Cancelled => (met, Err(error)),
                    (met, Err(_)) => (met, Ok(None)),
                },
                Err(_) => (Met::default(), Ok(None)),
            }
        }
    };
    fed(outcomes, met, read, &layers, &damage)
}

fn fed(
    outcomes: Vec<Outcome>,
    met: Met,
    read: Result<Option<Read>, BundleError>,
    layers: &Layers,
    damage: &Damage,
) -> Fed {
    let (damaged, changed) = (!damage.is_empty(), damage.has_changed());
    Fed { outcomes, met, read, layers: layers.learned(), damaged, changed }
}

fn panicked(error: &JoinError) -> ReadResult {
    (Met::default(), Err(reading::panicked(error)))
}
