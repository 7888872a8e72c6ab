//! One mirror: probe → upload → publish → verify for each image, tags last.
//!
//! [`actor`] is the task of the mirror and owns what became of its images; its [`inbox`] has what they leave to it. What is
//! known of the mirror is in [`knowledge`] (pure). [`transfer`] sends blobs, step by step, [`publish`] puts manifests,
//! [`inference`] saves questions, and [`verify`] checks before tags move. They borrow from the actor and own nothing. The
//! [`limiter`] decides how many requests are in flight at once. Requests and other threads share [`counts`] alone.

mod activity;
mod actor;
mod counts;
mod inbox;
mod inference;
mod knowledge;
mod limiter;
mod link;
mod live_outcome;
pub(super) mod probe;
mod publish;
mod transfer;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use self::actor::{Actor, BaseCheck, MirrorPlace, Policy};
use self::counts::Counts;
use self::inbox::{Inbox, Outbox};
use self::knowledge::{EarlierManifests, Expectations, Knowledge};
use self::limiter::ConcurrencyLimiter;
pub(super) use self::limiter::MaxConcurrency;
use self::link::MirrorLink;
pub(super) use self::live_outcome::LiveOutcome;
use self::transfer::Transfer;
use super::ordered_semaphore::OrderedSemaphore;
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
    live: Arc<LiveOutcome>,
) -> Outcome {
    let started = live.started;
    let limiter = Arc::new(ConcurrencyLimiter::new(max));
    let counts = Arc::new(Counts::new(number, run.listeners.clone(), Arc::clone(&limiter)));
    let _ = live.counts.set(Arc::clone(&counts));
    let mut outcome = Outcome::new(settings.name.clone());
    run.listeners.emit(&Event::Begun { mirror: number });
    let (outbox, inbox) = Inbox::new();
    match connect(settings, &run, stop, &counts, limiter, outbox).await {
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
            actor.work(inbox, follower, &mut outcome).await;
            let registry = &actor.transfer.link.registry;
            registry.settle_cancels().await;
            outcome.resume = match registry.keeping() {
                Keeping::Unknown => Resume::Unknown,
                Keeping::NotPut | Keeping::Nothing => Resume::None,
                Keeping::Chunks => Resume::Chunks,
                Keeping::Bytes => Resume::Bytes,
            };
            outcome.advise_interrupted(registry.keeps_sessions_for_later());
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
    let _ = live.ended.set(outcome.clone());
    outcome
}

async fn connect(
    settings: MirrorSettings,
    run: &Arc<Context>,
    stop: StopSignal,
    counts: &Arc<Counts>,
    limiter: Arc<ConcurrencyLimiter>,
    outbox: Outbox,
) -> Result<Actor, Failure> {
    let place = MirrorPlace::of(&settings);
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
    let MirrorSettings { atomic_tags, care, gate, is_new, .. } = settings;
    let expectations = Expectations::new(is_new, is_new && !care.recheck);
    let earlier = EarlierManifests::new(!is_new && !care.recheck);
    let transfer = Transfer {
        link: MirrorLink::new(registry, limiter, &stop),
        knowledge: Mutex::new(Knowledge::new(expectations, earlier)),
        counts: Arc::clone(counts),
        outbox,
        listeners: run.listeners.clone(),
        asks_for_each: care.recheck,
        small_queue: OrderedSemaphore::new(1),
        body_queue: OrderedSemaphore::new(1),
    };
    let policy = Policy { atomic_tags, care, gate };
    Ok(Actor { place, policy, run: Arc::clone(run), stop, transfer, base: BaseCheck::default() })
}
