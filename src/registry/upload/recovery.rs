//! Decides about an upload that stopped: it resumes, starts again, or fails. What the failure says of the
//! mirror is remembered here.

use super::failures::{UploadDecision, UploadFailures};
use super::next_request::NextRequest;
use super::offset;
use super::send::InterruptedUpload;
use super::session_status::{SessionStatus, has_state};
use super::{RESUMABLE_BYTES, Upload, UploadSession};
use crate::registry::Registry;
use crate::registry::cause::Cause;
use crate::registry::error::RegistryError;
use crate::registry::quirks::{Keeping, LostBy, is_dropped};

/// An upload that has come this much further is worth all its tries again: the link breaks, and it gets there all the same.
const PROGRESS_BYTES: u64 = 256 << 10;

impl Registry {
    /// Finds out what there is to do about an upload that stopped. Only a registry that cannot be reached makes this fail.
    pub(super) async fn after_failure(
        &self,
        upload: &mut Upload<'_>,
        session: &mut UploadSession,
        stopped: &InterruptedUpload,
        trials: &mut UploadFailures,
    ) -> Result<UploadDecision, RegistryError> {
        let InterruptedUpload { request, error, lasted, handed } = stopped;
        let by_hand = |trials: &mut UploadFailures| trials.decide(error.cause(), self.policy());
        if breaks(error.cause()) {
            self.host().quirks().learn_broken(*lasted);
        }
        match (request, error.status()) {
            (NextRequest::Chunk(range) | NextRequest::Commit(range), Some(416)) if is_placed(request) => {
                let refused = range.start;
                return self.after_wrong_place(upload, session, stopped, refused, trials).await;
            }
            // It is not the method where as much was refused before.
            (_, Some(413))
                if trials.switched
                    || matches!(request, NextRequest::Chunk(_))
                    || self.host().quirks().was_refused(request.len()) =>
            {
                return self.after_too_large(upload, session, request.len()).await;
            }
            (NextRequest::Chunk(_), Some(400 | 405 | 411 | 415 | 501)) if self.may_refuse_chunks(error) => {
                return Ok(self.after_refused_chunk(upload, trials));
            }
            _ => {}
        }
        let is_bare =
            matches!(request, NextRequest::Commit(range) if range.is_empty()) && error.status() == Some(500);
        let progressed = request.range().start >= trials.kept_bytes + PROGRESS_BYTES;
        if !self.is_worth_asking(request, error.cause(), progressed) {
            return Ok(by_hand(trials));
        }
        match self.settled_status(&upload.repository, session).await? {
            SessionStatus::Has(reported) => {
                let Some(at) = offset::resume_at(&session.window(), reported, None) else {
                    tracing::debug!(reported, window = ?session.window(), "the registry has something else of the upload");
                    return Ok(by_hand(trials));
                };
                if breaks(error.cause()) && request.len() > 0 {
                    self.host().quirks().learn_kept(request.range(), at);
                    upload.dropped += u32::from(is_dropped(request.range().start, at, *handed));
                }
                // It has all of the blob, and had it before the last pause, and does not commit it: it may want bytes with that.
                if is_bare && trials.kept_bytes >= upload.body.len() && self.refuses_empty_commit(upload) {
                    *trials = UploadFailures { switched: trials.switched, ..UploadFailures::default() };
                    return Ok(UploadDecision::Restart);
                }
                Ok(self.resume(session, at, stopped, trials))
            }
            SessionStatus::Lost => {
                // It must all be sent again in any case, and was once already.
                if is_bare && trials.refused > 0 {
                    self.refuses_empty_commit(upload);
                }
                self.learn_lost(session, stopped);
                self.forget(upload);
                session.abandoned();
                Ok(by_hand(trials))
            }
            SessionStatus::NoOffset | SessionStatus::Untold => Ok(by_hand(trials)),
        }
    }

    /// Whether the registry may have something of the upload that is worth a question. `progressed` is whether it had acknowledged more
    /// since it was last asked.
    fn is_worth_asking(&self, request: &NextRequest, cause: &Cause, progressed: bool) -> bool {
        let is_open = match cause {
            // docker-registry signs the state of a session with a secret that is a new one after a restart, unless it was
            // given one (`http.secret`). Where it tells how far the session is, it signs anew.
            Cause::Answer(refusal) if refusal.has_code("BLOB_UPLOAD_INVALID") => progressed,
            Cause::Answer(refusal) => refusal.is_transient(),
            Cause::Broken(_) | Cause::NotHttp(_) | Cause::Stalled(_) | Cause::TooSlow { .. } => true,
            _ => false,
        };
        // What is answered leaves the connection as it is, and a commit without bytes costs no more than the question.
        let may_be_kept = self.host().quirks().keeping != Keeping::Nothing
            || request.len() == 0 && matches!(cause, Cause::Answer(_));
        is_open && request.range().end >= RESUMABLE_BYTES && may_be_kept
    }

    /// Goes on at a byte, as long as that leads somewhere.
    fn resume(
        &self,
        session: &mut UploadSession,
        at: u64,
        stopped: &InterruptedUpload,
        trials: &mut UploadFailures,
    ) -> UploadDecision {
        session.stands_at(at, None);
        if at >= trials.kept_bytes + PROGRESS_BYTES {
            *trials =
                UploadFailures { kept_bytes: at, switched: trials.switched, ..UploadFailures::default() };
            return UploadDecision::Resume;
        }
        match trials.decide(stopped.error.cause(), self.policy()) {
            UploadDecision::GiveUp => UploadDecision::GiveUp,
            _ if self.host().take_retry() => UploadDecision::Resume,
            _ => UploadDecision::GiveUp,
        }
    }

    /// A chunk was not where the registry wants the next one, or it was larger than it takes, which some say in the same way.
    async fn after_wrong_place(
        &self,
        upload: &Upload<'_>,
        session: &mut UploadSession,
        stopped: &InterruptedUpload,
        refused: u64,
        trials: &mut UploadFailures,
    ) -> Result<UploadDecision, RegistryError> {
        let SessionStatus::Has(reported) = self.settled_status(&upload.repository, session).await? else {
            trials.broken += 1;
            return Ok(self.restart(trials));
        };
        match offset::resume_at(&session.window(), reported, Some(refused)) {
            Some(at) if at == refused => {
                let smaller = self.learn_too_large(stopped.request.len());
                session.stands_at(at, None);
                Ok(if smaller { UploadDecision::Resume } else { UploadDecision::GiveUp })
            }
            Some(at) => {
                session.stands_at(at, None);
                trials.broken += 1;
                Ok(if trials.broken <= self.policy().restarts {
                    UploadDecision::Resume
                } else {
                    UploadDecision::GiveUp
                })
            }
            None => {
                trials.broken += 1;
                Ok(self.restart(trials))
            }
        }
    }

    fn restart(&self, trials: &UploadFailures) -> UploadDecision {
        if trials.broken <= self.policy().restarts { UploadDecision::Restart } else { UploadDecision::GiveUp }
    }

    /// A body of this size is refused by whatever method. The session did not come to know of it, if a proxy refused.
    async fn after_too_large(
        &self,
        upload: &Upload<'_>,
        session: &mut UploadSession,
        bytes: u64,
    ) -> Result<UploadDecision, RegistryError> {
        if !self.learn_too_large(bytes) {
            return Ok(UploadDecision::GiveUp);
        }
        let begun = session.acknowledged();
        if begun > 0 && self.settled_status(&upload.repository, session).await? == SessionStatus::Has(begun) {
            session.stands_at(begun, None);
            return Ok(UploadDecision::Resume);
        }
        Ok(UploadDecision::Restart)
    }

    /// Remembers that a body of this size is refused; whether there is a smaller one to try.
    fn learn_too_large(&self, bytes: u64) -> bool {
        let mut quirks = self.host().quirks();
        quirks.learn_refused(bytes);
        quirks.can_be_smaller(bytes)
    }

    /// Whether a refusal may say that the mirror takes a blob in one piece only.
    fn may_refuse_chunks(&self, error: &RegistryError) -> bool {
        let quirks = self.host().quirks();
        let is_about_session = error.answer().is_some_and(|answer| {
            answer.has_code("BLOB_UPLOAD_UNKNOWN") || answer.has_code("BLOB_UPLOAD_INVALID")
        });
        !(quirks.keeping.can_resume() || quirks.refuses_chunks || is_about_session)
    }

    /// One such refusal may be a stray one; two are remembered, unless the blob is known to be too large for one piece.
    fn after_refused_chunk(&self, upload: &Upload<'_>, trials: &mut UploadFailures) -> UploadDecision {
        self.host().quirks().learn_chunk_refused(upload.body.len());
        trials.broken += 1;
        self.restart(trials)
    }

    /// Whether a commit may have failed because it had no bytes: commits carry some from now on. That is remembered once one of
    /// them is taken, for a registry with a full disk refuses both.
    fn refuses_empty_commit(&self, upload: &Upload<'_>) -> bool {
        let mut quirks = self.host().quirks();
        let is_known = quirks.refuses_empty_commit || quirks.this_run.ends_with_bytes;
        let is_new = !is_known && quirks.chunk(upload.body.len()).is_some();
        quirks.this_run.ends_with_bytes |= is_new;
        is_new
    }

    fn learn_lost(&self, session: &UploadSession, stopped: &InterruptedUpload) {
        if !breaks(stopped.error.cause()) || !session.is_fresh() || stopped.request.len() == 0 {
            return;
        }
        let judges_by_state = session.location().is_ok_and(|location| has_state(&location));
        let by = match stopped.request {
            // One that keeps sessions would have said so: in its version 3 it does not mind an old state.
            _ if judges_by_state => LostBy::Patch,
            NextRequest::Commit(_) => LostBy::Put,
            NextRequest::Stream(_) | NextRequest::Chunk(_) => LostBy::Patch,
        };
        self.host().quirks().learn_lost(by, stopped.lasted);
        self.say_that_nothing_is_kept();
    }

    /// What an operator of a poor link should know of a mirror.
    pub(super) fn say_that_nothing_is_kept(&self) {
        let text =
            "does not keep an upload whose connection breaks: such a blob is sent again from its first byte";
        if !self.keeping().can_resume() && self.host().is_news(text) {
            self.observer().warning(&format!("{} {text}", self.endpoint()));
        }
    }
}

/// Whether a request says where its bytes lie.
const fn is_placed(request: &NextRequest) -> bool {
    match request {
        NextRequest::Chunk(_) => true,
        NextRequest::Commit(range) => range.start > 0 && range.start < range.end,
        NextRequest::Stream(_) => false,
    }
}

/// Whether the connection is to blame, or a limit on time.
fn breaks(cause: &Cause) -> bool {
    match cause {
        Cause::Broken(_) | Cause::Stalled(_) => true,
        Cause::Answer(refusal) => refusal.is_of_gateway() || refusal.status == 408,
        _ => false,
    }
}
