//! Uploads with one setting: so many streams, each with bodies one after the other.
//!
//! The rate is that of bytes which the mirror has acknowledged, from the first byte of the first body to the last answer, less
//! the round trip in which that answer travels. What lies in the buffers of this machine counts for nothing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};

use super::Link;
use super::send::{MeasuredContent, send};
use super::setting::Setting;
use crate::bench::link::statistics::whole;
use crate::bench::link::stop::{Ended, LinkDeadline};
use crate::clock::{Instant, process_cpu};
use crate::registry::UploadSession;
use crate::report::document::TransferMethod;

/// What came of a trial.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench::link) struct Trial {
    /// Bytes a second.
    pub(in crate::bench::link) rate: f64,
    /// Cores of this machine that were busy.
    pub(in crate::bench::link) busy_cores: f64,
}

/// Sends about so many bytes with a setting.
pub(in crate::bench::link) async fn trial(
    link: &Link,
    setting: &Setting,
    bytes: u64,
) -> Result<Trial, Ended> {
    let share = (bytes / u64::from(setting.streams.max(1))).max(setting.request_bytes.min(bytes)).max(1);
    let stop = link.stop.part();
    let sessions = join_all((0..setting.streams).map(|_| link.open(&stop))).await;
    let (mut opened, mut failed) = (Vec::new(), None);
    for session in sessions {
        match session {
            Ok(session) => opened.push(session),
            Err(ended) => failed = Some(ended),
        }
    }
    if let Some(ended) = failed {
        for session in opened {
            link.close(session, 0).await;
        }
        return Err(ended);
    }
    let (cpu, began) = (process_cpu(), Instant::now());
    let streams = join_all(opened.into_iter().map(|session| stream(link, &stop, session, setting, share)));
    let streams = streams.await;
    let busy = process_cpu().saturating_sub(cpu).as_secs_f64();
    let busy_cores = busy / began.elapsed().as_secs_f64().max(1e-6);
    link.close_served().await;
    // The first one that failed ended the others.
    let is_cause = |ended: &&Ended| !matches!(ended, Ended::UsedUp);
    let causes: Vec<&Ended> = streams.iter().filter_map(|stream| stream.as_ref().err()).collect();
    if let Some(ended) = causes.iter().copied().find(is_cause).or(causes.first().copied()) {
        return Err(ended.clone());
    }
    let done: Vec<&SentBodies> = streams.iter().flatten().collect();
    let first = done.iter().map(|sent| sent.first).min().unwrap_or(began);
    let last = done.iter().map(|sent| sent.last).max().unwrap_or(began);
    let bytes: u64 = done.iter().map(|sent| sent.bytes).sum();
    Ok(Trial { rate: rate(bytes, last - first, link.rtt * setting.last_ways()), busy_cores })
}

/// Bytes a second over a time of which `ways` are only the way of the last answer.
pub(super) fn rate(bytes: u64, took: Duration, ways: Duration) -> f64 {
    // Never less than a tenth: on a short trial the round trip may have been longer than usual.
    let on_the_wire = took.saturating_sub(ways).max(took / 10).max(Duration::from_micros(100));
    bytes as f64 / on_the_wire.as_secs_f64()
}

/// What a stream has sent.
struct SentBodies {
    first: Instant,
    last: Instant,
    bytes: u64,
}

/// Sends bodies until it has sent its share. While one is on its way, the session of the next one is opened.
async fn stream(
    link: &Link,
    stop: &LinkDeadline,
    session: UploadSession,
    setting: &Setting,
    share: u64,
) -> Result<SentBodies, Ended> {
    let done = Box::pin(bodies(link, stop, session, setting, share)).await;
    if done.is_err() {
        stop.end_part();
    }
    done
}

async fn bodies(
    link: &Link,
    stop: &LinkDeadline,
    session: UploadSession,
    setting: &Setting,
    share: u64,
) -> Result<SentBodies, Ended> {
    let size = match setting.method {
        TransferMethod::Chunks => share,
        _ => setting.request_bytes.min(share),
    };
    let (mut next, mut sent) = (Some(session), None::<SentBodies>);
    let mut left = share;
    while let Some(session) = next.take() {
        if let Err(ended) = link.take(size) {
            link.close(session, 0).await;
            return Err(ended);
        }
        left = left.saturating_sub(size);
        let sending = Box::pin(send(link, stop, session, setting, MeasuredContent::Passing(size)));
        // What is left over is less than a body and says nothing more.
        let (times, opened) = if left >= size {
            let (times, opened) = join(sending, link.open(stop)).await;
            (times, Some(opened))
        } else {
            (sending.await, None)
        };
        match (times, opened) {
            (Ok(times), opened) => {
                let bytes = sent.as_ref().map_or(0, |sent| sent.bytes) + size;
                let first = sent.as_ref().map_or(times.began, |sent| sent.first);
                sent = Some(SentBodies { first, last: times.ended, bytes });
                next = opened.transpose()?;
            }
            (Err(ended), opened) => {
                if let Some(Ok(session)) = opened {
                    link.close(session, 0).await;
                }
                return Err(ended);
            }
        }
    }
    sent.ok_or(Ended::UsedUp)
}

/// Sends at the best setting for some time, and gives the bytes of each second.
pub(in crate::bench::link) async fn soak(
    link: &Link,
    setting: &Setting,
    time: Duration,
    rate: f64,
) -> Result<Vec<u64>, Ended> {
    let counts = Arc::clone(&link.counts);
    let watch = async {
        let (mut seconds, mut next) = (Vec::new(), Instant::now());
        let sent = || counts.sent.load(std::sync::atomic::Ordering::Relaxed);
        let mut before = sent();
        loop {
            next += Duration::from_secs(1);
            tokio::time::sleep_until(next).await;
            let now = sent();
            seconds.push(now - before);
            before = now;
            if seconds.len() as u64 >= time.as_secs() {
                return seconds;
            }
        }
    };
    let bytes = whole(rate * time.as_secs_f64());
    let sending = trial(link, setting, bytes.min(link.left()));
    tokio::pin!(sending);
    tokio::pin!(watch);
    let mut ended = None;
    loop {
        tokio::select! {
            done = &mut sending, if ended.is_none() => ended = Some(done),
            seconds = &mut watch => {
                return match ended {
                    Some(Err(ended)) => Err(ended),
                    Some(Ok(_)) => Ok(seconds),
                    // What is still on its way is let come to its end, and its session closed.
                    None => sending.await.map(|_| seconds),
                };
            }
        }
    }
}
