//! Asks for the blobs of an image, and opens sessions for them, before it is known whether the mirror has the image.

use std::collections::HashMap;

use futures_util::future::{join, join_all};

use super::Transfer;
use super::step::BlobPresence;
use crate::engine::mirror::SMALL_BYTES;
use crate::engine::mirror::inbox::Outbox;
use crate::engine::mirror::knowledge::{Ahead, LocationGuard};
use crate::engine::mirror::limiter::{ByRate, Permit};
use crate::engine::prepared::ReadyBlob;
use crate::oci::{Digest, Repository};
use crate::registry::UploadSession;

/// Blobs that were asked for ahead.
#[derive(Debug, Default)]
pub(crate) struct Prefetch<'a>(HashMap<Digest, PrefetchedBlob<'a>>);

/// A blob on its way: its location, what the repository was found to have, and the session opened for it, if any.
#[derive(Debug)]
pub(super) struct PrefetchedBlob<'a> {
    pub(super) location: LocationGuard,
    pub(super) presence: Option<BlobPresence>,
    pub(super) session: Option<OpenSession<'a>>,
}

/// A session that waits for the bytes, and the permit of a large body. Where it is dropped, the bytes were not needed: the task
/// of the mirror cancels the session, and somebody else uses the permit.
#[derive(Debug)]
pub(super) struct OpenSession<'a> {
    session: Option<UploadSession>,
    permit: Option<Permit<'a, ByRate>>,
    outbox: &'a Outbox,
}

impl<'a> OpenSession<'a> {
    /// For the bytes that are sent now.
    pub(super) fn into_parts(mut self) -> (Option<UploadSession>, Option<Permit<'a, ByRate>>) {
        (self.session.take(), self.permit.take())
    }

    /// There is nothing to send yet: others can use the permit.
    pub(super) fn return_permit(&mut self) {
        if let Some(permit) = self.permit.take() {
            permit.unused();
        }
    }
}

impl Drop for OpenSession<'_> {
    fn drop(&mut self) {
        self.return_permit();
        if let Some(needless) = self.session.take() {
            self.outbox.needless(needless);
        }
    }
}

impl<'a> Prefetch<'a> {
    pub(super) fn take(&mut self, digest: &Digest) -> Option<PrefetchedBlob<'a>> {
        self.0.remove(digest)
    }

    /// The image waits for room: its permits are for what can be sent now.
    pub(crate) fn return_permits(&mut self) {
        let open = self.0.values_mut().filter_map(|begun| begun.session.as_mut());
        open.for_each(OpenSession::return_permit);
    }
}

impl Transfer {
    /// Asks for blobs of which nothing is known yet, and opens sessions for them meanwhile as far as their bytes could go
    /// out at once. Where the mirror says nothing, nothing is known.
    pub(crate) async fn prefetch(
        &self,
        repository: &Repository,
        blobs: &[ReadyBlob],
        ahead: Ahead,
    ) -> Prefetch<'_> {
        let begun = blobs.iter().map(|blob| async {
            let location = self.knowledge.lock().blobs.location(&blob.digest);
            let location = location.try_lock_owned().ok()?;
            if !location.is_empty() || self.other_mirror(repository, blob).is_some() {
                return None;
            }
            let opened = async {
                let is_worth_it = ahead == Ahead::AllBlobs || blob.size > SMALL_BYTES;
                if is_worth_it { self.open(repository, blob).await } else { None }
            };
            let (presence, session) = join(self.ask(repository, blob), opened).await;
            Some((blob.digest, PrefetchedBlob { location, presence: presence.ok(), session }))
        });
        Prefetch(join_all(begun).await.into_iter().flatten().collect())
    }

    async fn open(&self, repository: &Repository, blob: &ReadyBlob) -> Option<OpenSession<'_>> {
        // A session would wait, and a permit with it, while the bytes are made.
        if !blob.body.is_ready() {
            return None;
        }
        let permit = if blob.size > SMALL_BYTES { Some(self.link.limiter.spare_body()?) } else { None };
        let _question = self.link.question().await.ok()?;
        let session = self.link.registry.start_upload(repository).await.ok()?;
        Some(self.opened(session, permit))
    }

    /// A session that is open.
    pub(super) fn opened<'a>(
        &'a self,
        session: UploadSession,
        permit: Option<Permit<'a, ByRate>>,
    ) -> OpenSession<'a> {
        OpenSession { session: Some(session), permit, outbox: &self.outbox }
    }

    /// Cancels a session that is not needed, and notes whether that can be done.
    pub(crate) async fn cancel(&self, needless: UploadSession) {
        let Ok(_question) = self.link.question().await else { return };
        if !needless.cancel().await {
            self.knowledge.lock().expectations.sessions_stay();
        }
    }
}
