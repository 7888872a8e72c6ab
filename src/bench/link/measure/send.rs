//! One body on its way to the mirror, with what is to become of it.

use std::time::Duration;

use super::setting::Setting;
use super::{Link, SingleRequest, is_reset};
use crate::bench::link::body::RandomBody;
use crate::bench::link::stop::{Ended, LinkDeadline};
use crate::oci::Digest;
use crate::registry::{MeasuredMethod, MeasuredTimes, MeasuredUpload, UploadSession, unmatched_digest};
use crate::report::document::TransferMethod;

/// A proxy that refuses a request for its size resets the connection while a body that is larger than its buffers comes in.
const SMALLEST_RESET: u64 = 64 << 10;
/// A body that is on its way when the end comes may take so long to arrive. What is cut off leaves a session that some
/// registries close for nobody.
const GRACE: Duration = Duration::from_secs(10);
const MOST_TRIES: u32 = 2;

/// A body that stays until the end of the measurement.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench::link) struct StayingBody {
    pub(in crate::bench::link) body: RandomBody,
    pub(in crate::bench::link) digest: Digest,
}

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(in crate::bench::link) enum MeasuredContent {
    /// So many new bytes, which are not to stay.
    Passing(u64),
    Staying(StayingBody),
}

impl MeasuredContent {
    /// A body, and the digest by which it is ended.
    fn body(self) -> (RandomBody, Digest) {
        match self {
            Self::Passing(bytes) => (RandomBody::new(bytes), unmatched_digest()),
            Self::Staying(StayingBody { body, digest }) => (body, digest),
        }
    }

    fn method(self, link: &Link, setting: &Setting) -> MeasuredMethod {
        match (setting.method, self, link.single) {
            (TransferMethod::Patch, _, _) => MeasuredMethod::Patch,
            (TransferMethod::Chunks, _, _) => MeasuredMethod::Chunks(setting.request_bytes),
            (TransferMethod::Put | TransferMethod::Get, Self::Passing(_), SingleRequest::Patch) => {
                MeasuredMethod::OpenPatch
            }
            (TransferMethod::Put | TransferMethod::Get, _, _) => MeasuredMethod::Put,
        }
    }
}

/// Sends one body into a session, and closes that.
pub(in crate::bench::link) async fn send(
    link: &Link,
    stop: &LinkDeadline,
    mut session: UploadSession,
    setting: &Setting,
    content: MeasuredContent,
) -> Result<MeasuredTimes, Ended> {
    let client = link.client(setting.protocol);
    let (mut tries, mut holds) = (0, false);
    loop {
        let (body, digest) = content.body();
        let bytes = body.bytes();
        let upload = MeasuredUpload {
            repository: &link.repository,
            body: &body,
            digest: &digest,
            method: content.method(link, setting),
            holds,
        };
        let sent = stop.or_within(GRACE, Box::pin(client.measure_upload(&mut session, &upload))).await;
        let error = match sent {
            Ok(Ok(times)) => {
                if times.is_kept {
                    session.finished();
                    if matches!(content, MeasuredContent::Passing(_)) {
                        // The mirror takes any digest.
                        link.traces.will_have(digest, bytes);
                    }
                } else {
                    link.traces.served(session, bytes);
                }
                return Ok(times);
            }
            Ok(Err(error)) => error,
            Err(ended) => {
                link.drain().await;
                link.close(session, bytes).await;
                return Err(ended);
            }
        };
        link.close(session, bytes).await;
        if error.status() == Some(413) {
            return Err(Ended::TooLarge(setting.request_bytes.min(bytes)));
        }
        if tries >= MOST_TRIES || !(error.wants_fewer_requests() || is_reset(&error)) {
            return Err(error.into());
        }
        tries += 1;
        if error.wants_fewer_requests() {
            link.pause(stop, &error).await?;
        } else {
            holds = bytes > SMALLEST_RESET;
        }
        session = link.open(stop).await?;
    }
}
