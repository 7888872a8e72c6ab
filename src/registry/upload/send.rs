//! The requests of an upload, one after the other, until one of them fails.

use std::ops::Range;
use std::pin::pin;
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, CONTENT_TYPE};
use reqwest::{Method, Url};

use super::next_request::NextRequest;
use super::{BlobProof, Upload, UploadSession};
use crate::clock::Instant;
use crate::registry::Registry;
use crate::registry::client::ApiRequest;
use crate::registry::error::RegistryError;
use crate::registry::quirks::{Keeping, UploadMethod};
use crate::registry::retry::Replay;

/// A body that broke sooner than this says nothing of the link: what it was handed may not have left this machine.
const MEASURED_AFTER: Duration = Duration::from_secs(5);

/// What is smaller and takes no longer is sent again by a later run: the ledger costs the disk more than that costs the link.
const KEPT_AFTER: Duration = Duration::from_millis(500);
const KEPT_AT_ONCE_BYTES: u64 = 8 << 20;

/// Where an upload stopped.
pub(super) struct InterruptedUpload {
    pub(super) request: NextRequest,
    pub(super) error: RegistryError,
    /// How long the request took.
    pub(super) lasted: Duration,
    /// How many of its bytes the network took.
    pub(super) handed: u64,
}

/// What came of one request.
enum Sent {
    /// The blob is there.
    Committed(BlobProof),
    /// The registry has its bytes. The next request goes there, if the answer says so.
    Appended(Option<Url>),
}

impl InterruptedUpload {
    /// Whether the blob can be there after all: a chunk alone makes none.
    pub(super) const fn may_be_committed(&self) -> bool {
        !matches!(self.request, NextRequest::Chunk(_))
    }
}

impl Registry {
    /// Sends what is left of a blob, and commits it.
    pub(super) async fn send(
        &self,
        upload: &Upload<'_>,
        session: &mut UploadSession,
        method: UploadMethod,
    ) -> Result<BlobProof, InterruptedUpload> {
        let next = |session: &UploadSession| {
            NextRequest::of(upload.body.len(), session.acknowledged(), method, &self.host().quirks())
        };
        let is_first_chunk = matches!(next(session), NextRequest::Chunk(range) if range.start == 0);
        if is_first_chunk {
            self.look_before_chunks(upload, session).await;
        }
        loop {
            let request = next(session);
            session.sends_up_to(request.range().end);
            upload.taken.goes_on_at(request.range().start, self.observer());
            let (began, before) = (Instant::now(), upload.taken.bytes());
            let sent = self.send_kept(upload, session, &request).await;
            let lasted = began.elapsed();
            let handed = upload.taken.bytes() - before;
            if sent.is_ok() || lasted >= MEASURED_AFTER {
                self.host().quirks().learn_rate(handed, lasted);
            }
            if sent.is_ok() {
                self.learn_taken(&request);
            }
            match sent {
                Err(error) => return Err(InterruptedUpload { request, error, lasted, handed }),
                Ok(Sent::Committed(proof)) => return Ok(proof),
                Ok(Sent::Appended(location)) => session.stands_at(request.range().end, location.as_ref()),
            }
        }
    }

    /// Sends one request. While it is on its way, the ledger learns of the session, if that takes long enough to be worth it.
    async fn send_kept(
        &self,
        upload: &Upload<'_>,
        session: &mut UploadSession,
        request: &NextRequest,
    ) -> Result<Sent, RegistryError> {
        let at = session.location()?;
        let mut sending = pin!(self.send_one(upload, at, request));
        if self.is_worth_keeping(upload, request) {
            if !session.is_offered() && upload.body.len() < KEPT_AT_ONCE_BYTES {
                tokio::select! {
                    biased;
                    sent = &mut sending => return sent,
                    () = tokio::time::sleep(KEPT_AFTER) => {}
                }
            }
            self.keep(upload, session);
        }
        sending.await
    }

    async fn send_one(
        &self,
        upload: &Upload<'_>,
        at: Url,
        request: &NextRequest,
    ) -> Result<Sent, RegistryError> {
        let (range, is_named) = match request {
            NextRequest::Commit(range) => {
                return self.commit(upload, &at, range.clone()).await.map(Sent::Committed);
            }
            NextRequest::Stream(range) => (range, false),
            NextRequest::Chunk(range) => (range, true),
        };
        self.append(upload, at, range.clone(), is_named).await.map(Sent::Appended)
    }

    /// One PATCH; where the next request goes, if the answer says so. What it says of the bytes that have arrived is not
    /// believed: it may be stuck at the first chunk, or be about this one alone. That it is a success says enough, and the
    /// digest is checked in the end.
    pub(super) async fn append(
        &self,
        upload: &Upload<'_>,
        at: Url,
        range: Range<u64>,
        is_named: bool,
    ) -> Result<Option<Url>, RegistryError> {
        let mut request = ApiRequest::new(Method::PATCH, at)
            .header(CONTENT_TYPE, "application/octet-stream")
            .payload(upload.payload(range.clone()), Replay::Never);
        if is_named {
            request = request.header(CONTENT_RANGE, &content_range(&range));
        }
        let reply = self.call(&upload.repository, &request).await?;
        self.location(&request, &reply)
    }

    fn learn_taken(&self, request: &NextRequest) {
        let mut quirks = self.host().quirks();
        quirks.learn_taken(request.len());
        match request {
            NextRequest::Chunk(range) if range.start > 0 => quirks.learn_chunk_taken(),
            NextRequest::Commit(range) if range.start > 0 && !range.is_empty() => {
                quirks.refuses_empty_commit |= quirks.this_run.ends_with_bytes;
            }
            _ => {}
        }
    }

    /// What can be known of a mirror before it gets a blob in chunks, is asked once.
    async fn look_before_chunks(&self, upload: &Upload<'_>, session: &mut UploadSession) {
        let is_known = {
            let quirks = self.host().quirks();
            quirks.needs_no_state || !matches!(quirks.keeping, Keeping::Unknown | Keeping::NotPut)
        };
        if is_known {
            return;
        }
        let judges = self.judges_by_state(&upload.repository, session).await;
        let mut quirks = self.host().quirks();
        if judges {
            quirks.keeping = Keeping::Nothing;
        } else {
            quirks.needs_no_state = true;
        }
    }
}

/// As the distribution specification has it: without the unit and the total of HTTP.
pub(super) fn content_range(range: &Range<u64>) -> String {
    format!("{}-{}", range.start, range.end.saturating_sub(1))
}
