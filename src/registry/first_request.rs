//! The first request to a host is one that is needed anyway: its response takes the place of the ping (`GET /v2/`).
//!
//! It shows that a registry answers, what credentials it wants, and that they are right. The ping follows only where the
//! response leaves that open: a 404 that anything on the web could have given, a refusal, a 401 without a challenge (gcr.io
//! challenges in its answer to the ping alone), a success where there are credentials that the registry did not ask for.

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

/// Whether a manifest is there, by tag or digest: the first request that a mirror gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FirstRequest {
    /// The repository, with the mirror's namespace.
    pub repository: Repository,
    /// The tag or digest.
    pub reference: String,
}

/// The first request, and its response.
pub(super) struct FirstResponse {
    request: FirstRequest,
    response: Result<Reply, RegistryError>,
}

impl FirstResponse {
    /// Whether it is the response to this request.
    pub(super) fn is_to(&self, repository: &Repository, reference: &str) -> bool {
        self.request.repository == *repository && self.request.reference == reference
    }

    pub(super) fn into_response(self) -> Result<Reply, RegistryError> {
        self.response
    }
}

/// The question whether a manifest is there. Statuses that another request has to follow are answers.
pub(super) fn head_manifest<'a>(manifest: Url) -> ApiRequest<'a> {
    let request = ApiRequest::new(Method::HEAD, manifest).header(ACCEPT, media_type::ACCEPT_MANIFESTS);
    request.also(&[400, 403, 404, 405, 412])
}

/// Sends the first request to a host, and the ping where that is needed.
///
/// # Errors
/// No registry can be used there. A failure of this request alone is its response.
pub(super) async fn send(
    client: &ApiClient,
    identities: &Identities,
    access: Access,
    first: FirstRequest,
) -> Result<Option<FirstResponse>, RegistryError> {
    let FirstRequest { repository, reference } = &first;
    let manifest = client.endpoint.url(&format!("{repository}/manifests/{reference}"))?;
    let asked = connect::as_probe(client, head_manifest(manifest));
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
            let asks_who = ping(client, identities).await?;
            // The request is sent again with credentials.
            if asks_who && challenged.is_none() {
                return Ok(None);
            }
        }
    }
    Ok(Some(FirstResponse { request: first, response: answer }))
}

/// Pings the host, and shows credentials where it asks for them. Returns whether it does.
pub(super) async fn ping(client: &ApiClient, identities: &Identities) -> Result<bool, RegistryError> {
    match connect::ping(client).await {
        Ok(()) => Ok(false),
        Err(error) if error.status() == Some(401) => identities.learn(client, error).await.map(|()| true),
        Err(error) => Err(error),
    }
}

/// Whether the host answered with what is no answer to the request, as a redirect that is not followed. The ping says
/// whether it is a registry all the same.
fn is_answer(error: &RegistryError) -> bool {
    matches!(error.cause(), Cause::Protocol(_))
}

/// Whether only a registry answers like this. A manifest has a digest; that one is not there says a registry that names its
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
