//! Sends requests as the runtime of a node does: to the root that its configuration names, with the name of the upstream
//! in the query, without a ping, and without the patience of a push.
//!
//! The order is containerd's (`core/remotes/docker/resolver.go`, `fetcher.go`): credentials are shown only after a 401; a
//! request that is answered with 408 or 429 is sent again at once, up to five times; every other answer is final. In: a host,
//! credentials, a question. Out: what was found, or the error with its status. `node::check` decides which host is next.

use std::sync::Arc;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::oci::{Digest, Repository, media_type};
use crate::registry::auth::{Auth, Scopes};
use crate::registry::client::{ApiClient, ApiRequest, Reply, Want};
use crate::registry::endpoint::Target;
use crate::registry::error::{Cause, RegistryError};
use crate::registry::tls::Clients;
use crate::registry::transport::Transport;
use crate::registry::{Access, ClientOptions, RetryPolicy, headers};

const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
/// How often containerd sends a request that is answered with 408 or 429 (`maxAttempts`).
const MAX_ATTEMPTS: u32 = 5;

/// One host of a node's configuration, ready to be asked.
pub(crate) struct Puller {
    client: ApiClient,
    auth: Auth,
    root: String,
    headers: HeaderMap,
}

/// A question.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask<'a> {
    /// The repository by its name upstream. A namespace is in the root.
    pub repository: &'a Repository,
    /// The content or name that the request is about.
    pub wanted: PullQuery<'a>,
    /// The upstream's name, for hosts that are not the upstream (`?ns=`).
    pub namespace: Option<&'a str>,
}

/// What a request can be about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PullQuery<'a> {
    /// What a tag or digest stands for: HEAD, or GET where that is not taken.
    Head(&'a str),
    /// A manifest, whole.
    Manifest(&'a str),
    /// Whether a blob is there.
    Blob(Digest),
}

/// The answer of a host that has it.
#[derive(Debug, Clone)]
pub(crate) struct PullAnswer {
    /// What the host says the digest is, as it stands in the header.
    pub digest: Option<String>,
    /// How many bytes a GET gives, if the host says it.
    pub size: Option<u64>,
    /// The media type, empty if the host does not say it.
    pub media_type: String,
    /// The manifest, where one was asked for whole.
    pub body: Bytes,
}

impl std::fmt::Debug for Puller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Puller({}{})", self.client.endpoint, self.root)
    }
}

impl Puller {
    /// Sets up what is needed to ask below `root`, as `https://mirror.example:5000/v2/namespace`. Sends nothing.
    ///
    /// `headers` go with each request and may be secrets. Of `options`, the policy of retries is not used.
    ///
    /// # Errors
    /// A root that is not a registry's, and certificates that cannot be used.
    pub(crate) fn new(
        root: &Url,
        headers: &[(String, SecretString)],
        options: ClientOptions,
    ) -> Result<Self, RegistryError> {
        let origin = root.origin().ascii_serialization();
        let endpoint = origin.parse::<Target>()?.endpoint;
        let clients = Arc::new(Clients::new(&endpoint, &options)?);
        let policy = RetryPolicy {
            attempts: 1,
            connect_patience: std::time::Duration::ZERO,
            ..RetryPolicy::default()
        };
        let mut private = HeaderMap::new();
        for (name, value) in headers {
            let bad = || RegistryError::from(Cause::Protocol(format!("the header {name:?} cannot be sent")));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?;
            let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| bad())?;
            value.set_sensitive(true);
            private.append(name, value);
        }
        for (_, value) in headers {
            options.secrets.remember(value);
        }
        let auth = Auth::new(&options);
        let transport = Transport::new(clients, &options);
        Ok(Self {
            client: ApiClient::alone(endpoint, transport, policy, options.observer),
            auth,
            root: root.path().trim_end_matches('/').to_owned(),
            headers: private,
        })
    }

    /// Asks.
    ///
    /// # Errors
    /// Whatever is not a success; [`RegistryError::status`] tells those with an answer from those without.
    pub(crate) async fn ask(&self, ask: &Ask<'_>) -> Result<PullAnswer, RegistryError> {
        match ask.wanted {
            PullQuery::Head(reference) => {
                let path = format!("manifests/{reference}");
                match self.send(ask, Method::HEAD, &path, media_type::ACCEPT_MANIFESTS, Want::Nothing).await {
                    // Registries that have no HEAD for manifests.
                    Err(error) if error.status() == Some(405) => self.whole(ask, reference).await,
                    found => found,
                }
            }
            PullQuery::Manifest(reference) => self.whole(ask, reference).await,
            PullQuery::Blob(digest) => {
                let path = format!("blobs/{digest}");
                match self.send(ask, Method::HEAD, &path, "*/*", Want::Nothing).await {
                    // containerd asks by GET alone: where HEAD is not taken, the head of a GET tells.
                    Err(error) if !matches!(error.status(), None | Some(401 | 404)) => {
                        self.send(ask, Method::GET, &path, "*/*", Want::Stream).await
                    }
                    found => found,
                }
            }
        }
    }

    async fn whole(&self, ask: &Ask<'_>, reference: &str) -> Result<PullAnswer, RegistryError> {
        let path = format!("manifests/{reference}");
        let want = Want::Whole(MAX_PULLED_MANIFEST_BYTES);
        let found = self.send(ask, Method::GET, &path, media_type::ACCEPT_MANIFESTS, want).await?;
        Ok(PullAnswer { size: Some(found.body.len() as u64), ..found })
    }

    async fn send(
        &self,
        ask: &Ask<'_>,
        method: Method,
        path: &str,
        accept: &str,
        want: Want,
    ) -> Result<PullAnswer, RegistryError> {
        let text = format!("{}{}/{}/{path}", self.client.endpoint, self.root, ask.repository);
        let mut url = Url::parse(&text).map_err(|error| {
            RegistryError::from(Cause::Internal(format!("{text:?} is not a URL: {error}")))
        })?;
        if let Some(upstream) = ask.namespace {
            url.query_pairs_mut().append_pair("ns", upstream);
        }
        let mut request = ApiRequest::new(method, url).header(ACCEPT, accept).want(want);
        request.private_headers = self.headers.clone();
        let scopes = Scopes::of(ask.repository, Access::Pull);
        let mut attempts = 1;
        let reply = loop {
            match self.client.call(&self.auth, &scopes, &request).await {
                Err(error) if matches!(error.status(), Some(408 | 429)) && attempts < MAX_ATTEMPTS => {
                    attempts += 1;
                }
                outcome => break outcome?,
            }
        };
        Ok(found(reply))
    }
}

fn found(reply: Reply) -> PullAnswer {
    PullAnswer {
        digest: headers::text(&reply.headers, DOCKER_CONTENT_DIGEST).map(str::to_owned),
        size: headers::content_length(&reply.headers),
        media_type: headers::text(&reply.headers, CONTENT_TYPE).map(headers::media_type).unwrap_or_default(),
        body: reply.body,
    }
}

/// The largest manifest that containerd takes (`MaxManifestSize`; the odd number is theirs).
pub(crate) const MAX_PULLED_MANIFEST_BYTES: u64 = 4 * 1048 * 1048;

#[cfg(test)]
mod tests;
