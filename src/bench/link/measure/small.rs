//! Small blobs: requests count, and bytes hardly. So the same blob is pushed each time, and as a push does it: it is committed, and
//! one blob is all that stays until the end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;

use super::Link;
use super::commit::{refused, staying};
use super::send::{MeasuredContent, StayingBody, send};
use super::setting::Setting;
use crate::bench::link::statistics::figure;
use crate::bench::link::stop::Ended;
use crate::clock::Instant;
use crate::report::document::{Figure, TransferMethod};

/// As large as the configuration of an image.
const BLOB_BYTES: u64 = 4 << 10;
/// As many at a time as a push has with its usual number of uploads.
const AT_ONCE: u32 = 32;
/// Where requests are counted, that many only meet the limit.
const AT_ONCE_WHERE_COUNTED: u32 = 4;
const REPEATS: u32 = 5;
/// All of them together may take this part of all bytes.
const PART_OF_BYTES: u64 = 32;
/// Fewer in one repeat are no measurement.
const LEAST_BLOBS: u64 = 8;

/// Blobs that were taken in a second, and requests that were, where others were refused with 429.
pub(in crate::bench::link) async fn small_blobs(
    link: &Link,
    time: Duration,
    all_bytes: u64,
) -> Result<(Option<Figure>, Option<f64>), Ended> {
    let most = (all_bytes / PART_OF_BYTES / u64::from(REPEATS) / BLOB_BYTES).max(LEAST_BLOBS);
    let (mut rates, mut taken) = (Vec::new(), None);
    let staying = staying(link, BLOB_BYTES).await?;
    for _ in 0..REPEATS {
        let before = (link.rate_limited(), link.counts.requests.load(Ordering::Relaxed));
        let began = Instant::now();
        let at_once = if before.0 > 0 { AT_ONCE_WHERE_COUNTED } else { AT_ONCE };
        let left = AtomicU64::new(most);
        let at_once = u64::from(at_once).min(most / 2);
        let workers = join_all((0..at_once).map(|_| worker(link, staying, began + time, &left))).await;
        let blobs = workers.into_iter().collect::<Result<Vec<u32>, Ended>>()?.into_iter().sum::<u32>();
        let seconds = began.elapsed().as_secs_f64().max(1e-3);
        rates.push(f64::from(blobs) / seconds);
        let refused = link.rate_limited() - before.0;
        if refused > 0 {
            let all = link.counts.requests.load(Ordering::Relaxed) - before.1;
            // Some repeats waited for longer than they had to.
            let now = (all - refused.min(all)) as f64 / seconds;
            taken = Some(taken.map_or(now, |most: f64| most.max(now)));
        }
    }
    Ok((figure(&rates), taken))
}

/// Sends one after the other until then, or until none are `left`; how many were taken.
async fn worker(link: &Link, staying: StayingBody, until: Instant, left: &AtomicU64) -> Result<u32, Ended> {
    let setting = Setting::one_by_one(BLOB_BYTES, TransferMethod::Put);
    let mut blobs = 0;
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        link.take(BLOB_BYTES)?;
        let session = link.open(&link.stop).await?;
        let times = send(link, &link.stop, session, &setting, MeasuredContent::Staying(staying)).await?;
        if !times.is_kept {
            return Err(refused());
        }
        blobs += 1;
        if Instant::now() >= until {
            break;
        }
    }
    Ok(blobs)
}
