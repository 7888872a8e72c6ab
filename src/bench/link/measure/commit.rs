//! Commits: what a registry does with bytes that it has. The request that commits carries none, so it takes a round trip and that.

use std::time::Duration;

use super::Link;
use super::download::Readable;
use super::send::{MeasuredContent, StayingBody, send};
use super::setting::Setting;
use super::upload::rate;
use crate::bench::link::body::RandomBody;
use crate::bench::link::stop::Ended;
use crate::registry::RegistryError;
use crate::report::document::{CommitTime, TransferMethod};

/// One upload that was taken apart.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench::link) struct TakenApart {
    pub(in crate::bench::link) commit: CommitTime,
    /// Bytes a second, without the commit.
    pub(in crate::bench::link) wire: f64,
}

/// Sends one body by PATCH, and ends it without keeping it.
pub(in crate::bench::link) async fn taken_apart(link: &Link, bytes: u64) -> Result<TakenApart, Ended> {
    link.take(bytes)?;
    let session = link.open(&link.stop).await?;
    let setting = Setting::one_by_one(bytes, TransferMethod::Patch);
    let times = send(link, &link.stop, session, &setting, MeasuredContent::Passing(bytes)).await?;
    link.close_served().await;
    let commit = times.commit.unwrap_or_default();
    let sending = (times.ended - times.began).saturating_sub(commit);
    Ok(TakenApart { commit: in_seconds(bytes, commit), wire: rate(bytes, sending, link.rtt) })
}

/// A body that is to stay until the end of the measurement.
pub(in crate::bench::link) async fn staying(link: &Link, bytes: u64) -> Result<StayingBody, Ended> {
    let body = RandomBody::new(bytes);
    // Hashing takes its time, and the runtime has others to serve.
    let digest = tokio::task::spawn_blocking(move || body.digest()).await;
    let digest = digest.map_err(|error| RegistryError::internal(error.to_string()))?;
    link.traces.will_have(digest, bytes);
    Ok(StayingBody { body, digest })
}

/// Sends one body that stays until the end of the measurement.
pub(in crate::bench::link) async fn kept(link: &Link, bytes: u64) -> Result<(Readable, CommitTime), Ended> {
    link.take(bytes)?;
    let staying = staying(link, bytes).await?;
    let session = link.open(&link.stop).await?;
    let setting = Setting::one_by_one(bytes, TransferMethod::Patch);
    let times = send(link, &link.stop, session, &setting, MeasuredContent::Staying(staying)).await?;
    if !times.is_kept {
        return Err(refused());
    }
    let readable = Readable { digest: staying.digest, bytes };
    Ok((readable, in_seconds(bytes, times.commit.unwrap_or_default())))
}

/// A mirror that refuses this takes no blobs.
pub(super) fn refused() -> Ended {
    RegistryError::integrity("the mirror refused the digest of a blob that it has whole").into()
}

fn in_seconds(bytes: u64, took: Duration) -> CommitTime {
    CommitTime { bytes, seconds: took.as_secs_f64() }
}
