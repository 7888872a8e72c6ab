//! Downloads of one blob by several at a time.

use futures_util::StreamExt as _;
use futures_util::future::join_all;

use super::Link;
use super::upload::rate;
use crate::bench::link::stop::Ended;
use crate::clock::Instant;
use crate::oci::Digest;
use crate::registry::RegistryError;
use crate::report::document::HttpVersion;

/// A blob that is there to be read.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench::link) struct Readable {
    pub(in crate::bench::link) digest: Digest,
    pub(in crate::bench::link) bytes: u64,
}

/// Reads a blob `repeats` times in each of some streams; bytes a second, from the first question to the last byte, less a round
/// trip.
pub(in crate::bench::link) async fn trial(
    link: &Link,
    blob: &Readable,
    streams: u32,
    repeats: u32,
    protocol: HttpVersion,
) -> Result<f64, Ended> {
    let bytes = blob.bytes * u64::from(streams) * u64::from(repeats);
    link.take(bytes)?;
    let began = Instant::now();
    let stream = || async move {
        for _ in 0..repeats {
            link.ask(&link.stop, || read(link, blob, protocol)).await?;
        }
        Ok::<(), Ended>(())
    };
    let done = link.stop.or(join_all((0..streams).map(|_| stream()))).await?;
    done.into_iter().collect::<Result<(), Ended>>()?;
    Ok(rate(bytes, began.elapsed(), link.rtt))
}

async fn read(link: &Link, blob: &Readable, protocol: HttpVersion) -> Result<(), RegistryError> {
    let mut pieces = link.client(protocol).get_blob(&link.repository, &blob.digest, blob.bytes).await?;
    let mut bytes = 0;
    while let Some(piece) = pieces.next().await {
        let len = piece?.len() as u64;
        bytes += len;
        link.counts.body_received(len);
    }
    if bytes != blob.bytes {
        let text = format!("a blob of {} bytes came back with {bytes}", blob.bytes);
        return Err(RegistryError::integrity(text));
    }
    Ok(())
}
