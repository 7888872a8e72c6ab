//! Asks for the blobs of an image, and opens sessions for them, before it is known whether the mirror has the image.

use std::collections::HashMap;

use futures_util::future::{join, join_all};

use super::Transfer;
use super::step::BlobPresence;
use crate::engine::mirror::SMALL_BYTES;
use crate::engine::mirror::knowledge::{Ahead, LocationGuard};
use crate::engine::mirror::limiter::{ByRate, Permit};
use crate::engine::prepared::ReadyBlob;
use crate::locks::Mutex;
use crate::oci::{Digest, Repository};
use crate::registry::UploadSession;

/// Blobs that were asked for ahead.
#[derive(Debug, Default)]
pub(crate) struct Prefetch<'a>(Mutex<HashMap<Digest, PrefetchedBlob<'a>>>);

/// A blob on its way: its location, what the repository was found to hold, and the session opened for it, if any.
#[derive(Debug)]
pub(super) struct PrefetchedBlob<'a> {
    pub(super) location: LocationGuard,
    pub(super) held: Option<BlobPresence>,
    pub(super) session: Option<OpenSession<'a>>,
}

/// A session that waits for the bytes, and the permit of a large body.
#[derive(Debug)]
pub(super) struct OpenSession<'a> {
    pub(super) session: UploadSession,
    pub(super) permit: Option<Permit<'a, ByRate>>,
}

impl<'a> Prefetch<'a> {
    pub(super) fn take(&self, digest: &Digest) -> Option<PrefetchedBlob<'a>> {
        self.0.lock().remove(digest)
    }

    /// The image waits for room: its permits are for what can be sent now.
    pub(crate) fn return_permits(&self) {
        let mut begun = self.0.lock();
        let open = begun.values_mut().filter_map(|begun| begun.session.as_mut());
        open.filter_map(|open| open.permit.take()).for_each(Permit::unused);
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
            let location = self.knowledge.blobs.location(&blob.digest).try_lock_owned().ok()?;
            if !location.is_empty() || self.elsewhere(repository, blob).is_some() {
                return None;
            }
            let opened = async {
                let is_worth_it = ahead == Ahead::AllBlobs || blob.size > SMALL_BYTES;
                if is_worth_it { self.open(repository, blob).await } else { None }
            };
            let (held, session) = join(self.ask(repository, blob), opened).await;
            Some((blob.digest, PrefetchedBlob { location, held: held.ok(), session }))
        });
        Prefetch(Mutex::new(join_all(begun).await.into_iter().flatten().collect()))
    }

    async fn open(&self, repository: &Repository, blob: &ReadyBlob) -> Option<OpenSession<'_>> {
        // A session would wait, and a permit with it, while the bytes are made.
        if !blob.body.is_ready() {
            return None;
        }
        let permit = if blob.size > SMALL_BYTES { Some(self.link.limiter.spare_body()?) } else { None };
        let _question = self.link.question().await.ok()?;
        let session = self.link.registry.start_upload(repository).await.ok()?;
        Some(OpenSession { session, permit })
    }

    /// Cancels the sessions that are not needed.
    pub(crate) async fn cancel(&self, prefetch: Prefetch<'_>) {
        let begun = prefetch.0.into_inner().into_values();
        let needless = begun.filter_map(|begun| begun.session);
        join_all(needless.map(|session| self.cancel_one(session))).await;
    }

    pub(super) async fn cancel_one(&self, needless: OpenSession<'_>) {
        if let Some(permit) = needless.permit {
            permit.unused();
        }
        let Ok(_question) = self.link.question().await else { return };
        if !needless.session.cancel().await {
            self.knowledge.expectations().sessions_stay();
        }
    }
}
