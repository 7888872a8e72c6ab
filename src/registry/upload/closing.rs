//! Sessions that must not stay: cancelled, refused, and asked after.
//!
//! A push cancels as a courtesy and asks no further. Here each answer is taken for what it proves. docker-registry 2 judges a
//! session by the state in its location, so one that is out of date cancels nothing, although the answer is a 404 too; and it
//! leaves a session open whose digest it has refused.

use reqwest::Method;

use super::session_status::has_state;
use super::{Upload, UploadSession};
use crate::oci::{Digest, Repository};
use crate::registry::Registry;
use crate::registry::auth::Scopes;
use crate::registry::client::ApiRequest;
use crate::registry::error::RegistryError;

/// What docker-registry says of a session whose location is out of date.
const OUT_OF_DATE: &str = "BLOB_UPLOAD_INVALID";

/// What a registry answered when a session was to be cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CancelAnswer {
    /// It was there, and is gone.
    Removed,
    /// The registry knows of none.
    Unknown,
    /// It may be there, and the location that we have leads to it no more.
    OutOfDate,
}

impl Registry {
    /// Cancels a session.
    ///
    /// # Errors
    /// The registry does not let this account do that, or nobody.
    pub(crate) async fn cancel_upload(
        &self,
        repository: &Repository,
        session: &mut UploadSession,
    ) -> Result<CancelAnswer, RegistryError> {
        let answer = match self.delete_upload(repository, session).await {
            // docker-registry 3 has more of it than the location says, and tells where it stands now.
            Err(error) if error.status() == Some(416) => {
                self.status(repository, session).await?;
                self.delete_upload(repository, session).await
            }
            answer => answer,
        };
        match answer {
            Ok(()) => Ok(CancelAnswer::Removed),
            Err(error) if matches!(error.status(), Some(400 | 404)) => {
                let is_by_state = session.location().is_ok_and(|at| has_state(&at));
                let is_out_of_date = is_by_state && error.has_code(OUT_OF_DATE);
                Ok(if is_out_of_date { CancelAnswer::OutOfDate } else { CancelAnswer::Unknown })
            }
            Err(error) => Err(error),
        }
    }

    async fn delete_upload(
        &self,
        repository: &Repository,
        session: &UploadSession,
    ) -> Result<(), RegistryError> {
        let request = ApiRequest::new(Method::DELETE, session.location()?).for_itself();
        // docker-registry wants the right to delete for it, which a token for pushing does not have.
        self.call_with(repository, &Scopes::deleting(repository), &request).await.map(drop)
    }

    /// Ends a session with a digest that its bytes do not have, which most registries discard it for. That needs no right beyond
    /// that of a push.
    ///
    /// # Errors
    /// There was another answer than a refusal.
    pub(crate) async fn refuse_upload(
        &self,
        repository: &Repository,
        session: &UploadSession,
    ) -> Result<(), RegistryError> {
        let (nothing, digest) = (bytes::Bytes::new(), unmatched_digest());
        let upload = Upload::plain(repository, &digest, &nothing);
        self.end_upload(&upload, session, 0..0).await.map(drop)
    }

    /// Whether the registry has a session. One that judges by the state in its location spoils a session that it is asked for
    /// with an old one, so this comes last.
    ///
    /// # Errors
    /// It does not tell.
    pub(crate) async fn has_upload(
        &self,
        repository: &Repository,
        session: &UploadSession,
    ) -> Result<bool, RegistryError> {
        let request = ApiRequest::new(Method::GET, session.location()?).for_itself();
        let request = ApiRequest { follows: false, ..request };
        match self.call(repository, &request).await {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.status(), Some(400 | 404 | 410)) => Ok(error.has_code(OUT_OF_DATE)),
            Err(error) => Err(error),
        }
    }
}

/// A digest that no bytes of ours have.
pub(crate) fn unmatched_digest() -> Digest {
    Digest::of(&fastrand::u128(..).to_le_bytes())
}
