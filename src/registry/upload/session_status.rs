//! Asking a registry how much it has of an upload
//! ([distribution-spec, resuming](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#pushing-a-blob-in-chunks)).

use std::time::Duration;

use reqwest::header::RANGE;
use reqwest::{Method, Url};

use super::UploadSession;
use super::offset;
use crate::oci::Repository;
use crate::registry::client::ApiRequest;
use crate::registry::error::{FailureKind, RegistryError};
use crate::registry::{Registry, headers};

/// How often a registry is asked at most whether a connection that broke on our side still brings bytes on its own.
const MOST_QUESTIONS: u32 = 8;
/// The longest pause between two such questions.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Only this registry, in its versions 2 and 3, and what was made of it writes the state of a session into its location.
const STATE_PARAMETER: &str = "_state";

/// What a registry says of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SessionStatus {
    /// It has this number of bytes.
    Has(u64),
    /// It has the session, and does not say how much of it.
    NoOffset,
    /// It has no such session, or never tells.
    Lost,
    /// It does not tell now.
    Untold,
}

impl Registry {
    /// Asks until two answers agree: what a broken connection had brought may still be on its way to the disk. Only a registry
    /// that can no longer be reached makes this fail.
    pub(super) async fn settled_status(
        &self,
        repository: &Repository,
        session: &mut UploadSession,
    ) -> Result<SessionStatus, RegistryError> {
        let mut pause = self.policy().min_delay.min(MAX_PAUSE);
        let mut before = self.status(repository, session).await?;
        for _ in 1..MOST_QUESTIONS {
            if !matches!(before, SessionStatus::Has(_)) {
                break;
            }
            tokio::time::sleep(pause).await;
            let now = self.status(repository, session).await?;
            if now == before {
                break;
            }
            before = now;
            pause = (pause * 2).min(MAX_PAUSE);
        }
        Ok(before)
    }

    /// Asks once.
    pub(super) async fn status(
        &self,
        repository: &Repository,
        session: &mut UploadSession,
    ) -> Result<SessionStatus, RegistryError> {
        let request = ApiRequest::new(Method::GET, session.location()?).for_itself();
        let request = ApiRequest { follows: false, ..request };
        let reply = match self.call(repository, &request).await {
            Ok(reply) => reply,
            Err(error)
                if error.kind() == FailureKind::Unreachable && self.endpoint().is_origin_of(&request.url) =>
            {
                return Err(error);
            }
            Err(error) => {
                tracing::debug!(%error, "the upload cannot go on");
                let passes = error.is_retryable() || matches!(error.status(), Some(401 | 403));
                return Ok(if passes { SessionStatus::Untold } else { SessionStatus::Lost });
            }
        };
        // An answer with a body is that of somebody who does not know what was asked.
        if reply.status != 204 {
            return Ok(SessionStatus::Lost);
        }
        match self.location(&request, &reply) {
            Ok(Some(location)) => session.goes_on_at(&location),
            Ok(None) => {}
            Err(error) => {
                tracing::debug!(%error, "the upload cannot go on");
                return Ok(SessionStatus::Lost);
            }
        }
        let reported = offset::reported_bytes(headers::text(&reply.headers, RANGE));
        Ok(reported.map_or(SessionStatus::NoOffset, SessionStatus::Has))
    }

    /// Whether the registry loses the session of any upload whose connection breaks, as far as it can be found out before one
    /// does: docker-registry 2 and what is made of it judge a session by the state in its location, and 3 does so no more
    /// (<https://github.com/distribution/distribution/blob/v2.8.3/registry/handlers/blobupload.go>).
    pub(crate) async fn judges_by_state(&self, repository: &Repository, session: &UploadSession) -> bool {
        let Some(bare) = session.location().ok().and_then(|at| without_state(&at)) else { return false };
        let request = ApiRequest::new(Method::GET, bare).for_itself();
        let request = ApiRequest { follows: false, ..request };
        let asked = self.call(repository, &request).await;
        asked.is_err_and(|error| matches!(error.status(), Some(400 | 404)))
    }
}

/// Whether a location carries the state of its session.
pub(super) fn has_state(location: &Url) -> bool {
    location.query_pairs().any(|(name, _)| name == STATE_PARAMETER)
}

/// The same without it; none where it has none.
fn without_state(location: &Url) -> Option<Url> {
    let query = location.query().filter(|_| has_state(location))?;
    let is_state = |pair: &&str| pair.split('=').next() == Some(STATE_PARAMETER);
    let rest: Vec<&str> = query.split('&').filter(|pair| !is_state(pair)).collect();
    let mut bare = location.clone();
    bare.set_query((!rest.is_empty()).then(|| rest.join("&")).as_deref());
    Some(bare)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_is_taken_out_of_a_location_and_nothing_else() {
        for (location, bare) in [
            ("https://r.example/1?_state=a%2F=", Some("https://r.example/1")),
            ("https://r.example/1?x=%2F&_state=a&y", Some("https://r.example/1?x=%2F&y")),
            ("https://r.example/1?my_state=a", None),
            ("https://r.example/1", None),
        ] {
            let found = without_state(&Url::parse(location).unwrap());
            assert_eq!(found.as_ref().map(Url::as_str), bare, "{location}");
        }
    }
}
