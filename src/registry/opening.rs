//! The first words with a host are a question that is to be asked anyway: its answer says what the front door says.
//!
//! It says that a registry answers, what credentials are wanted, and that they are right. The front door (`GET /v2/`) is asked
//! only where the answer leaves that open: a 404 that anything on the web could have given, a refusal, a 401 without a
//! challenge (gcr.io challenges at its front door alone), an answer to somebody who has credentials and was not asked for them.

use reqwest::header::{ACCEPT, HeaderName};
use reqwest::{Method, Url};

use crate::oci::{Repository, media_type};
use crate::registry::auth::{Identities, Scopes};
use crate::registry::cause::Cause;
use crate::registry::client::{ApiClient, ApiRequest, Reply};
use crate::registry::connect;
use crate::registry::error::RegistryError;
use crate::registry::{Access, headers};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");

/// Whether a manifest is there, by tag or digest: what a mirror will be asked first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FirstQuestion {
    /// The repository, with the mirror's namespace.
    pub repository: Repository,
    /// The tag or digest.
    pub reference: String,
}

/// A first question that was asked, and what was answered.
pub(super) struct FirstAnswer {
    question: FirstQuestion,
    answer: Result<Reply, RegistryError>,
}

impl FirstAnswer {
    /// Whether this was the question.
    pub(super) fn is_to(&self, repository: &Repository, reference: &str) -> bool {
        self.question.repository == *repository && self.question.reference == reference
    }

    pub(super) fn into_answer(self) -> Result<Reply, RegistryError> {
        self.answer
    }
}

/// The question whether a manifest is there. Statuses that other questions have to follow are answers.
pub(super) fn request<'a>(manifest: Url) -> ApiRequest<'a> {
    let request = ApiRequest::new(Method::HEAD, manifest).header(ACCEPT, media_type::ACCEPT_MANIFESTS);
    request.also(&[400, 403, 404, 405, 412])
}

/// Asks a host its first question, and its front door where that is needed.
///
/// # Errors
/// No registry can be talked to there. What is wrong with the question alone is the answer to it.
pub(super) async fn ask(
    client: &ApiClient,
    identities: &Identities,
    access: Access,
    question: FirstQuestion,
) -> Result<Option<FirstAnswer>, RegistryError> {
    let FirstQuestion { repository, reference } = &question;
    let manifest = client.endpoint.url(&format!("{repository}/manifests/{reference}"))?;
    let asked = connect::as_probe(client, request(manifest));
    let (auth, scopes) = (identities.of(repository), Scopes::of(repository, access));
    let (answer, challenged) = match connect::exchange(client, &asked).await {
        Err(error) if error.status() == Some(401) => match identities.expect(&error) {
            Some(by_token) => (client.call(auth, &scopes, &asked).await, Some(by_token)),
            None => (Err(error), None),
        },
        answer => (answer, None),
    };
    let is_login_shown = challenged.is_some() || !auth.has_credential();
    match &answer {
        Ok(reply) if is_login_shown && is_of_registry(reply, challenged == Some(true)) => {}
        Err(error) if error.is_of_whole_registry() && !is_answer(error) => return Err(error.clone()),
        _ => {
            let asks_who = front_door(client, identities).await?;
            // It is asked again by somebody whom it knows.
            if asks_who && challenged.is_none() {
                return Ok(None);
            }
        }
    }
    Ok(Some(FirstAnswer { question, answer }))
}

/// Knocks at the front door, and shows credentials where it asks for them; whether it does.
pub(super) async fn front_door(client: &ApiClient, identities: &Identities) -> Result<bool, RegistryError> {
    match connect::knock(client).await {
        Ok(()) => Ok(false),
        Err(error) if error.status() == Some(401) => identities.learn(client, error).await.map(|()| true),
        Err(error) => Err(error),
    }
}

/// Whether the question was answered with what is no answer to it, as a redirect that is not followed. The front door says
/// whether a registry stands there all the same.
fn is_answer(error: &RegistryError) -> bool {
    matches!(error.cause(), Cause::Protocol(_))
}

/// Whether nothing but a registry answers so. A manifest has a digest; that one is not there says a registry that names its
/// API, or that has just taken a token.
fn is_of_registry(reply: &Reply, has_token: bool) -> bool {
    let names_api = || reply.headers.contains_key(API_VERSION);
    match reply.status {
        200 => names_api() || headers::content_digest(&reply.headers).is_some(),
        404 => names_api() || has_token,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
