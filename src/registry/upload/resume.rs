//! Resumes uploads that broke off in an earlier run: the ledger has their offsets, and the registry confirms them.

use std::time::Duration;

use super::ledger::{SessionReach, StoredSession, UploadKey};
use super::next_request::NextRequest;
use super::offset;
use super::session_status::SessionStatus;
use super::{RESUMABLE_BYTES, Upload, UploadSession};
use crate::oci::{Digest, Repository};
use crate::registry::Registry;
use crate::registry::quirks::Keeping;

/// How long a session counts after its last request. No registry is known to keep one longer than a week (docker-registry 3,
/// `layercast serve`). Most keep it for less, and what they keep of it says nothing of how long: a question that comes too late
/// costs one request.
const LIFETIME: Duration = Duration::from_secs(6 * 24 * 3600);

impl Registry {
    fn key(&self, repository: &Repository, digest: &Digest) -> UploadKey {
        UploadKey { registry: self.record_name(), repository: repository.clone(), digest: *digest }
    }

    /// Whether a later run could go on with what this request sends.
    pub(super) fn is_worth_keeping(&self, upload: &Upload<'_>, request: &NextRequest) -> bool {
        let may_stay = match self.host().quirks().keeping {
            Keeping::Nothing => false,
            Keeping::NotPut => !matches!(request, NextRequest::Commit(_)),
            Keeping::Unknown | Keeping::Chunks | Keeping::Bytes => true,
        };
        may_stay && upload.body.len() >= RESUMABLE_BYTES && self.ledger().is_some()
    }

    /// A later run can go on with the session.
    pub(super) fn keep(&self, upload: &Upload<'_>, session: &mut UploadSession) {
        if let Some(ledger) = self.ledger()
            && let Some((stored, mark)) = session.offer(upload.body.len(), LIFETIME)
        {
            ledger.keep(self.key(&upload.repository, upload.digest), stored, mark);
        }
    }

    /// Nobody goes on with the session.
    pub(super) fn forget(&self, upload: &Upload<'_>) {
        self.forget_sessions(&upload.repository, upload.digest);
    }

    /// A blob is there, or its session is gone: no later run goes on with sessions of it that earlier ones left.
    pub(crate) fn forget_sessions(&self, repository: &Repository, digest: &Digest) {
        if let Some(ledger) = self.ledger() {
            ledger.forget(self.key(repository, digest));
        }
    }

    /// The session of an earlier run, where it stands now, if the registry still has it. One of another repository does where
    /// the registry mounts: images share layers, and which of them sends a shared one is chance. The upload is about that
    /// repository then.
    pub(super) async fn earlier_session(&self, upload: &mut Upload<'_>) -> Option<UploadSession> {
        let ledger = self.ledger().filter(|_| upload.body.len() >= RESUMABLE_BYTES)?;
        let mounts = self.host().quirks().takes_mounts();
        let reach = if mounts { SessionReach::AnyRepository } else { SessionReach::OwnRepository };
        let (repository, stored) = ledger.claim(self.key(&upload.repository, upload.digest), reach).await?;
        let meant = std::mem::replace(&mut upload.repository, repository);
        let session = self.reopened_session(upload, &stored).await;
        if session.is_none() {
            upload.repository = meant;
        }
        session
    }

    async fn reopened_session(
        &self,
        upload: &mut Upload<'_>,
        stored: &StoredSession,
    ) -> Option<UploadSession> {
        let mut session = match UploadSession::reopened(self, &upload.repository, stored) {
            Ok(session) if stored.size == upload.body.len() => session,
            _ => {
                self.forget(upload);
                return None;
            }
        };
        // Where the registry cannot be asked now, the upload itself will say why; a later run may have more luck.
        let status = self.settled_status(&upload.repository, &mut session).await.ok()?;
        let at = match status {
            SessionStatus::Untold => return None,
            // The mirror may have been started anew, over an empty store: that says nothing of what it keeps.
            SessionStatus::Lost => {
                session.abandoned();
                None
            }
            SessionStatus::NoOffset => None,
            SessionStatus::Has(reported) => offset::resume_at(&session.window(), reported, None),
        };
        let Some(at) = at else {
            self.cancel(upload, session).await;
            return None;
        };
        if stored.sent > stored.acknowledged {
            self.host().quirks().learn_kept(&(stored.acknowledged..stored.sent), at);
            self.remember();
        }
        session.stands_at(at, None);
        (upload.bytes_found, upload.resumed) = (at, upload.resumed + 1);
        Some(session)
    }
}
