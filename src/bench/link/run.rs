//! All measurements of one link, in order; what was found by the time it ends is kept, however it ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::body::RandomBody;
use super::downloads::downloads;
use super::limit::{Observations, judge};
use super::measure::commit::kept;
use super::measure::latency::{figures, latencies};
use super::measure::send::{MeasuredContent, send};
use super::measure::setting::Setting;
use super::measure::small::small_blobs;
use super::measure::upload::soak;
use super::measure::{Link, LinkCounts, SingleRequest};
use super::recommend::{self, LackingBytes};
use super::statistics::whole;
use super::stop::{Ended, LinkDeadline};
use super::sweep::{Sweep, TrialTerms};
use crate::clock::Instant;
use crate::engine::{self, MirrorSettings};
use crate::oci::Repository;
use crate::registry::{
    FailureKind, Keeping, MeasuredFacts, MirrorMemory, Mount, Observer, Reachability, Registry,
    unmatched_digest,
};
use crate::report::document::{
    BundleEstimate, ConnectSeconds, LinkTarget, SoakSecond, TlsSession, TransferMethod,
};
use crate::report::event::LinkStep;
use crate::report::{Failure, Listeners};
use crate::units::ByteCount;

/// The repository that is used, below the namespace of the mirror.
const REPOSITORY: &str = "layercast-bench";
/// How long the answer to one request may take.
const RESPONSE: Duration = Duration::from_secs(30);
/// Opening connections costs more than asking.
const COLD: usize = 5;
const SOAK: Duration = Duration::from_secs(30);
const MOUNTS: Duration = Duration::from_millis(500);
const SMALL_BLOB: u64 = 64 << 10;
/// What is sent first, to see how a session ends.
const FIRST_BODY: u64 = 4 << 10;
const LARGEST_KEPT: u64 = 16 << 20;
/// The blob that is read may take this part of all bytes, and one trial of reading it that part.
const PART_OF_KEPT: u64 = 256;
const PART_OF_DOWNLOAD: u64 = 64;
/// What a part that breaks off is cut from.
const PROBE: (u64, u64) = (1 << 20, 768 << 10);
/// One trial takes this part of the time that is given.
const PART_OF_TIME: u32 = 60;
const TRIAL_TIME: std::ops::RangeInclusive<Duration> = Duration::from_millis(150)..=Duration::from_secs(2);

/// What a measurement may cost, and what is wanted beside the usual.
#[derive(Debug, Clone)]
pub(crate) struct LinkTerms {
    /// Bytes that may go over the link, both ways together.
    pub(crate) bytes: u64,
    /// How many of them may go where the mirror keeps what is sent.
    pub(crate) bytes_where_kept: u64,
    /// How long it may take; closing what was opened comes after it.
    pub(crate) time: Duration,
    /// The repository to use, instead of one of our own below the namespace.
    pub(crate) repository: Option<Repository>,
    /// Whether it is found out what the mirror keeps of a request that breaks off.
    pub(crate) probes_resume: bool,
    /// Whether the best setting is held up for half a minute.
    pub(crate) soak: Soak,
    /// A limit of our own, in bytes a second.
    pub(crate) own_limit: Option<u64>,
}

/// Whether the best setting is held up for half a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Soak {
    No,
    /// With the bytes that are left then.
    Within,
    /// With as many bytes as it takes.
    Whole,
}

/// Measures the link to a mirror. Whether it was interrupted comes with what was found.
pub(crate) async fn measure(
    mirror: &MirrorSettings,
    terms: &LinkTerms,
    lacking: Option<&LackingBytes>,
    listeners: Listeners,
    cancel: CancellationToken,
) -> (LinkTarget, bool) {
    let mut target = LinkTarget { name: mirror.name.clone(), ..LinkTarget::default() };
    let repository = match repository(mirror, terms) {
        Ok(repository) => repository,
        Err(failure) => return (LinkTarget { error: Some(failure), ..target }, false),
    };
    target.place = format!("{}/{repository}", mirror.target.endpoint.authority());
    let stop = LinkDeadline::new(cancel, terms.time);
    let counts = Arc::new(LinkCounts::new(listeners));
    let mut client = mirror.client.clone();
    client.observer = Arc::clone(&counts) as Arc<dyn Observer>;
    // What earlier runs have learned is not to be measured, and each request is sent once.
    (client.memory, client.uploads) = (None, None);
    client.retry.attempts = 1;
    client.timeouts.response = client.timeouts.response.min(RESPONSE);
    let began = Instant::now();
    let registry = match stop.or(Box::pin(Registry::connect(&mirror.target.endpoint, client.clone()))).await {
        Ok(Ok(registry)) => registry,
        Ok(Err(error)) => {
            return (LinkTarget { error: Some(engine::failure_of_connection(&error)), ..target }, false);
        }
        Err(ended) => return end(target, ended),
    };
    target.connect.enter_seconds = Some(began.elapsed().as_secs_f64());
    let reach = registry.reach(&client).await;
    reached(reach, &mut target);
    let mut link = Link::new(registry, repository, stop, counts, terms.bytes);
    if target.tls.as_ref().and_then(|tls| tls.alpn.as_deref()) == Some("h2") {
        client.bodies_over_http2 = true;
        match link.stop.or(Box::pin(Registry::connect(&mirror.target.endpoint, client))).await {
            Ok(Ok(registry)) => link.over_http2 = Some(registry),
            Ok(Err(error)) => target.notes.push(format!("HTTP/2 was not measured: {error}")),
            Err(ended) => return end(target, ended),
        }
    }
    let mut sweep = Sweep::default();
    let ended = Box::pin(all(&mut link, terms, &mut sweep, &mut target)).await;
    conclude(&link, terms, sweep, lacking, &mut target);
    link.counts.enter(LinkStep::CleanUp);
    target.left_behind = link.traces.remove(&link.registry, &link.repository).await;
    target.requests = link.counts.requests.load(Ordering::Relaxed);
    target.bytes_sent = link.counts.sent.load(Ordering::Relaxed);
    target.bytes_received = link.counts.received.load(Ordering::Relaxed);
    target.notes.append(&mut link.counts.warnings.lock());
    match ended {
        Ok(()) => (target, false),
        Err(ended) => end(target, ended),
    }
}

fn end(mut target: LinkTarget, ended: Ended) -> (LinkTarget, bool) {
    match ended {
        Ended::Interrupted => {
            target.notes.push("interrupted: what is missing was not measured".to_owned());
            return (target, true);
        }
        Ended::UsedUp => target.notes.push(
            "the time or the bytes were used up before all was measured: give more with --seconds or --bytes"
                .to_owned(),
        ),
        Ended::TooLarge(bytes) => {
            target.notes.push(format!("a request of {bytes} bytes was refused as too large"));
        }
        Ended::Refused(error) => {
            let mut failure = Failure::from(&error);
            if error.kind() == FailureKind::NotFound {
                failure = failure.hint(
                    "make the repository, or the project that it is in, or name another one: --repository NAME",
                );
            }
            target.error = Some(failure);
        }
    }
    (target, false)
}

fn repository(mirror: &MirrorSettings, terms: &LinkTerms) -> Result<Repository, Failure> {
    if let Some(repository) = &terms.repository {
        return Ok(repository.clone());
    }
    let own: Repository = REPOSITORY.parse()?;
    Ok(own.below(mirror.target.namespace.as_ref())?)
}

fn reached(reach: Reachability, target: &mut LinkTarget) {
    let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
    target.connect = ConnectSeconds {
        addresses: reach.addresses.iter().map(ToString::to_string).collect(),
        name_seconds: seconds(reach.name),
        tcp_seconds: seconds(reach.tcp),
        tls_seconds: seconds(reach.tls.as_ref().map(|tls| tls.took)),
        ..target.connect.clone()
    };
    target.tls = reach.tls.map(|tls| TlsSession { version: tls.version, cipher: tls.cipher, alpn: tls.alpn });
    target
        .notes
        .extend(reach.why_not.map(|why| format!("the steps of a connection were not measured: {why}")));
}

async fn all(
    link: &mut Link,
    terms: &LinkTerms,
    sweep: &mut Sweep,
    target: &mut LinkTarget,
) -> Result<(), Ended> {
    let time = (terms.time / PART_OF_TIME).clamp(*TRIAL_TIME.start(), *TRIAL_TIME.end());
    let login = link.stop.or(Box::pin(link.registry.time_login(&link.repository))).await??;
    target.connect.token_seconds = login.map(|took| took.as_secs_f64());
    sessions(link, terms, target).await?;
    link.counts.enter(LinkStep::RoundTrip);
    let missing = unmatched_digest();
    let head = || Box::pin(async { link.registry.head_blob(&link.repository, &missing).await.map(drop) });
    let rtt = latencies(link, time * 2, 3, head).await?;
    let cold = cold(link).await?;
    (target.rtt_seconds, target.cold_seconds) = (rtt, figures(&cold));
    if let Some(rtt) = &target.rtt_seconds {
        // What is taken off a time is never more than the way itself.
        link.rtt = Duration::from_secs_f64(rtt.least);
    }
    link.counts.enter(LinkStep::SmallBlobs);
    let (small, taken) = small_blobs(link, time / 2, terms.bytes).await?;
    (target.small_blobs_per_second, target.requests_per_second) = (small, taken);
    link.counts.enter(LinkStep::Uploads);
    sweep.run(link, TrialTerms { time, bytes: terms.bytes }).await?;
    link.counts.enter(LinkStep::Downloads);
    if let Err(ended) = Box::pin(with_blobs(link, time, terms, sweep, target)).await {
        match ended {
            // Keeping a blob may be denied where uploads are not.
            Ended::Refused(error) => {
                target.notes.push(format!("reading and mounting were not measured: {error}"));
            }
            ended => return Err(ended),
        }
    }
    if terms.probes_resume {
        link.counts.enter(LinkStep::Resume);
        target.keeps = probe(link, target).await?;
    }
    if let (Soak::Within | Soak::Whole, Some(upload)) = (terms.soak, &sweep.upload) {
        let wanted = upload.best_bytes_per_second * SOAK.as_secs_f64();
        if terms.soak == Soak::Whole {
            link.allow(whole(wanted));
        }
        let share = (link.left() as f64 / wanted).min(1.0);
        if share < 1.0 {
            target.notes.push(format!(
                "the soak was cut to {:.0} s, for which the bytes sufficed",
                share * SOAK.as_secs_f64()
            ));
        }
        let setting = Setting {
            streams: upload.streams,
            request_bytes: upload.request_bytes,
            method: upload.method,
            protocol: upload.protocol,
        };
        link.counts.enter(LinkStep::Soak);
        let time = SOAK.mul_f64(share);
        let seconds = soak(link, &setting, time, upload.best_bytes_per_second).await?;
        let second =
            |(at, bytes): (usize, u64)| SoakSecond { at_seconds: at as f64, bytes_per_second: bytes as f64 };
        target.soak = seconds.into_iter().enumerate().map(second).collect();
    }
    Ok(())
}

/// The right to push, before anything else is asked, and how sessions end here.
async fn sessions(link: &mut Link, terms: &LinkTerms, target: &mut LinkTarget) -> Result<(), Ended> {
    let session = link.open(&link.stop).await?;
    let is_by_state = link.registry.judges_by_state(&link.repository, &session).await;
    let mut is_closed = link.close(session, 0).await;
    if is_by_state {
        link.traces.are_by_state();
    } else if is_closed {
        link.take(FIRST_BODY)?;
        let setting = Setting::one_by_one(FIRST_BODY, TransferMethod::Put);
        let session = link.open(&link.stop).await?;
        send(link, &link.stop, session, &setting, MeasuredContent::Passing(FIRST_BODY)).await?;
        is_closed = link.close_served().await;
    }
    if is_by_state || !is_closed {
        link.single = SingleRequest::Patch;
        target.notes.push(
            "the registry keeps a session whose digest it has refused, so what is measured as PUT went by PATCH, in one request as \
             well, and was cancelled"
                .to_owned(),
        );
    }
    if !is_closed && link.left() > terms.bytes_where_kept {
        link.cut(terms.bytes_where_kept);
        target.notes.push(format!(
            "what is sent here can be cancelled by nobody, so no more than {} went over the link; --bytes is consent to more",
            ByteCount(terms.bytes_where_kept)
        ));
    }
    Ok(())
}

async fn cold(link: &Link) -> Result<Vec<f64>, Ended> {
    let mut samples = Vec::new();
    for _ in 0..COLD {
        let began = Instant::now();
        let missing = unmatched_digest();
        match link.stop.or(Box::pin(link.registry.head_afresh(&link.repository, &missing))).await? {
            Ok(()) => samples.push(began.elapsed().as_secs_f64()),
            Err(error) if error.wants_fewer_requests() => link.pause(&link.stop, &error).await?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(samples)
}

/// What needs a blob that is there: mounts, downloads, commits that are kept.
async fn with_blobs(
    link: &Link,
    time: Duration,
    terms: &LinkTerms,
    sweep: &mut Sweep,
    target: &mut LinkTarget,
) -> Result<(), Ended> {
    let (small, commit) = kept(link, SMALL_BLOB).await?;
    sweep.commits.push(commit);
    let mount = || {
        Box::pin(async {
            match link.registry.mount(&link.repository, &small.digest, &link.repository).await? {
                Mount::Done(_) => {}
                Mount::Session(session) => {
                    link.close(session, 0).await;
                }
            }
            Ok(())
        })
    };
    target.mount_seconds = latencies(link, MOUNTS.min(time), 1, mount).await?;
    let rate = sweep.upload.as_ref().map_or(1e6, |upload| upload.best_bytes_per_second);
    let most = [
        LARGEST_KEPT,
        terms.bytes / PART_OF_KEPT,
        sweep.refused_bytes.map_or(u64::MAX, |_| sweep.taken_bytes),
    ];
    let most = most.into_iter().min().unwrap_or(LARGEST_KEPT);
    let bytes = whole(rate * time.as_secs_f64() / 4.0).clamp(SMALL_BLOB, most.max(SMALL_BLOB));
    let (blob, commit) = kept(link, bytes).await?;
    sweep.commits.push(commit);
    target.download = downloads(link, &blob, time, terms.bytes / PART_OF_DOWNLOAD, &mut target.notes).await?;
    Ok(())
}

async fn probe(link: &Link, target: &mut LinkTarget) -> Result<Option<String>, Ended> {
    let (bytes, breaks_at) = PROBE;
    link.take(bytes)?;
    let mut session = link.open(&link.stop).await?;
    if link.registry.judges_by_state(&link.repository, &session).await {
        // What is broken off can be closed by nobody there, and is known to be lost.
        link.close(session, 0).await;
        return Ok(Some("nothing".to_owned()));
    }
    let body = RandomBody::new(bytes).breaking_at(breaks_at);
    let probed =
        link.stop.or(Box::pin(link.registry.probe_keeping(&link.repository, &mut session, &body))).await;
    link.close(session, bytes).await;
    match probed? {
        Ok(Some(keeping)) => Ok(Some(
            match keeping {
                Keeping::Bytes => "bytes",
                Keeping::Chunks => "chunks",
                Keeping::Nothing | Keeping::NotPut | Keeping::Unknown => "nothing",
            }
            .to_owned(),
        )),
        Ok(None) => Ok(None),
        Err(error) => {
            target
                .notes
                .push(format!("what is kept of a request that breaks off was not found out: {error}"));
            Ok(None)
        }
    }
}

/// What follows from what was measured.
fn conclude(
    link: &Link,
    terms: &LinkTerms,
    sweep: Sweep,
    lacking: Option<&LackingBytes>,
    target: &mut LinkTarget,
) {
    target.rate_limited = link.rate_limited();
    target.refused_bytes = sweep.refused_bytes;
    target.commit_seconds = sweep.commits;
    target.notes.extend(sweep.notes);
    let Some(upload) = sweep.upload else { return };
    let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64);
    let (limit, evidence) = judge(&Observations {
        rtt: link.rtt.as_secs_f64(),
        wire: sweep.wire,
        best: upload.best_bytes_per_second,
        streams: upload.streams,
        growth: sweep.growth,
        cores: (upload.busy_cores.unwrap_or(0.0), cores),
        commits: &target.commit_seconds,
        refused_bytes: sweep.refused_bytes,
        rate_limited: target.rate_limited,
        requests_per_second: target.requests_per_second,
        own_limit: terms.own_limit,
    });
    let most_bytes = sweep.refused_bytes.map(|_| sweep.taken_bytes);
    let recommended = recommend::settings(limit, &upload, &sweep.equivalent, sweep.loses_by_many, most_bytes);
    let estimate = |lacking: &LackingBytes| -> BundleEstimate {
        let small = target.small_blobs_per_second.as_ref();
        recommend::estimate(lacking, &upload.rate, small, target.rtt_seconds.as_ref())
    };
    target.estimates = lacking.map(estimate).into_iter().collect();
    (target.limit, target.evidence, target.recommendation) = (Some(limit), evidence, Some(recommended));
    target.upload = Some(upload);
}

/// Keeps what was found out of a mirror, so that the next run begins with it.
///
/// # Errors
/// It cannot be reached any more.
pub(crate) async fn keep(
    mirror: &MirrorSettings,
    found: &LinkTarget,
    memory: Arc<dyn MirrorMemory>,
) -> Result<(), Failure> {
    let Some(upload) = &found.upload else { return Ok(()) };
    let mut client = mirror.client.clone();
    client.memory = Some(memory);
    let registry = Registry::connect(&mirror.target.endpoint, client).await;
    let registry = registry.map_err(|error| engine::failure_of_connection(&error))?;
    let each = upload.best_bytes_per_second / f64::from(upload.streams.max(1));
    registry.keep_measured(MeasuredFacts {
        refused_bytes: found.refused_bytes,
        bytes_per_second: Some(whole(each).max(1)),
        by_patch: upload.method == TransferMethod::Patch,
    });
    Ok(())
}
