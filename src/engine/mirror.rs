//! One mirror: probe → upload → publish → verify for each image, tags last.
//!
//! [`actor`] is the task of the mirror and owns what became of its images. What it knows of the mirror is in [`knowledge`],
//! what it sends in [`transfer`] and [`publish`], what it looks at before tags move in [`verify`]. The [`limiter`] decides
//! how many requests are in flight at once.

mod activity;
mod actor;
mod counts;
mod knowledge;
mod limiter;
mod link;
pub(super) mod probe;
mod publish;
mod tally;
mod transfer;
mod verify;
mod vouchers;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OnceCell, oneshot};

use self::actor::Actor;
use self::counts::Counts;
use self::knowledge::{Expectations, Knowledge};
use self::limiter::ConcurrencyLimiter;
pub(super) use self::limiter::MaxConcurrency;
use self::link::MirrorLink;
use self::publish::Publisher;
pub(super) use self::tally::Tally;
use self::transfer::Transfer;
use self::verify::Verifier;
use self::vouchers::Vouchers;
use super::line::WorkerLine;
use super::stop::StopSignal;
use super::work::Follower;
use super::{Context, MirrorSettings, failure};
use crate::locks::Mutex;
use crate::registry::{Keeping, Observer, Registry};
use crate::report::outcome::Resume;
use crate::report::{Event, Failure, Outcome};

/// A blob up to this size may be sent without a probe, and counts as a question: its bytes cost less than the round trip.
const SMALL_BYTES: u64 = 64 << 10;
/// If an earlier run knows the bundle and the first question comes within this time, it replaces `GET /v2/`. If the bundle has
/// to be read, `GET /v2/` opens a connection and logs in meanwhile.
const FIRST_IMAGE_WITHIN: Duration = Duration::from_secs(2);

/// When a mirror joins those that follow the list of images.
pub(super) enum Joining {
    /// It has, before it is connected.
    Early(Follower),
    /// When it is connected. Then, or when it is given up, the sender goes.
    Connected(oneshot::Sender<()>),
}

/// Runs the whole work on one mirror.
pub(super) async fn run(
    number: usize,
    settings: MirrorSettings,
    max: MaxConcurrency,
    run: Arc<Context>,
    stop: StopSignal,
    joining: Joining,
    tally: Arc<Tally>,
) -> Outcome {
    let started = tally.started;
    let limiter = Arc::new(ConcurrencyLimiter::new(max));
    let counts = Arc::new(Counts::new(number, run.listeners.clone(), Arc::clone(&limiter)));
    let _ = tally.counts.set(Arc::clone(&counts));
    let mut outcome = Outcome::new(settings.name.clone());
    run.listeners.emit(&Event::Begun { mirror: number });
    match connect(settings, &run, stop, &counts, limiter).await {
        Err(failure) => outcome.error = Some(failure),
        Ok(actor) => {
            let follower = match joining {
                Joining::Early(follower) => follower,
                Joining::Connected(joined) => {
                    let follower = run.work.join(number);
                    drop(joined);
                    follower
                }
            };
            let registry = actor.link.registry.clone();
            actor.work(follower, &mut outcome).await;
            outcome.resume = match registry.keeping() {
                Keeping::Unknown => Resume::Unknown,
                Keeping::NotPut | Keeping::Nothing => Resume::None,
                Keeping::Chunks => Resume::Chunks,
                Keeping::Bytes => Resume::Bytes,
            };
        }
    }
    counts.write(&mut outcome);
    outcome.elapsed_seconds = started.elapsed().as_secs_f64();
    run.listeners.emit(&Event::Finished {
        mirror: number,
        complete: outcome.images_complete,
        failed: outcome.images_failed.len(),
        failure: outcome.error.as_ref().or_else(|| outcome.interrupted()).cloned(),
        took: started.elapsed(),
    });
    let _ = tally.ended.set(outcome.clone());
    outcome
}

async fn connect(
    settings: MirrorSettings,
    run: &Arc<Context>,
    stop: StopSignal,
    counts: &Arc<Counts>,
    limiter: Arc<ConcurrencyLimiter>,
) -> Result<Actor, Failure> {
    let mut client = settings.client;
    client.observer = Arc::clone(counts) as Arc<dyn Observer>;
    let connecting = async {
        let first = run.work.first(FIRST_IMAGE_WITHIN).await;
        let question =
            first.and_then(|image| probe::first_question(&image.planned, settings.target.namespace.as_ref()));
        Registry::connect_asking(&settings.target.endpoint, client, question).await
    };
    let registry = tokio::select! {
        connected = connecting => connected.map_err(|error| failure::of_connection(&error))?,
        () = stop.token().cancelled() => return Err(stop.why()),
    };
    run.listeners.emit(&Event::Connected { mirror: counts.mirror });
    limiter.connected(registry.round_trip());
    counts.activity.connected(registry.round_trip());
    let scouts = settings.is_new && !settings.care.recheck;
    let knowledge = Arc::new(Knowledge::new(Expectations::new(settings.is_new, scouts)));
    let link = Arc::new(MirrorLink::new(registry, limiter, &stop));
    let transfer = Arc::new(Transfer {
        link: Arc::clone(&link),
        knowledge: Arc::clone(&knowledge),
        counts: Arc::clone(counts),
        listeners: run.listeners.clone(),
        asks_for_each: settings.care.recheck,
        small_line: WorkerLine::new(1),
        body_line: WorkerLine::new(1),
    });
    let publisher = Publisher::new(Arc::clone(&transfer));
    let asks = !settings.is_new && !settings.care.recheck;
    let vouchers = Vouchers::new(Arc::clone(&transfer), Arc::clone(&run.state), asks);
    let verifier = Verifier::new(Arc::clone(&transfer), settings.care.verification);
    Ok(Actor {
        site: settings.name,
        host: settings.target.endpoint.authority(),
        mirror: settings.target.lock_key(),
        namespace: settings.target.namespace,
        atomic_tags: settings.atomic_tags,
        care: settings.care,
        gate: settings.gate,
        run: Arc::clone(run),
        stop,
        counts: Arc::clone(counts),
        link,
        knowledge,
        transfer,
        publisher,
        verifier,
        vouchers,
        base: OnceCell::new(),
        phases: Mutex::default(),
    })
}
