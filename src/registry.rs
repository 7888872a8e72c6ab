//! The client of one registry: questions, blobs, manifests, tags, over the
//! [OCI distribution specification](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md) and what
//! real registries make of it.
//!
//! In: an [`Endpoint`], [`ClientOptions`], digests and bodies. Out: answers, or a [`RegistryError`] that knows whether
//! trying again can help. Retries happen here and nowhere above. Knows nothing of bundles, plans or state; never sends
//! credentials to a host that was not named, never falls back from TLS, never holds a blob.

mod api_path;
mod auth;
mod bandwidth;
mod blobs;
mod body;
mod cause;
mod client;
mod connect;
mod delete;
mod endpoint;
mod error;
mod error_response;
mod failure_kind;
mod first_request;
mod flight;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzed;
mod headers;
mod host;
mod hosts;
mod listing;
mod location;
mod manifests;
mod measured;
mod memory;
mod proxy;
mod puller;
mod quirks;
mod redact;
mod referrers;
mod repository_maker;
mod resolver;
mod retry;
mod sample;
mod sources;
#[cfg(test)]
mod testing;
mod tls;
mod transport;
mod upload;
mod webpage;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

pub(crate) use api_path::{ApiPathFault, namespace_of};
pub(crate) use auth::{Access, Accounts, Credential, CredentialSource, Proof, credentials};
pub(crate) use bandwidth::BandwidthLimiter;
pub use body::BlobBody;
pub(crate) use body::BodyStream;
pub(crate) use delete::Deleted;
pub use endpoint::Target;
pub(crate) use endpoint::{Endpoint, Scheme};
#[cfg(test)]
pub(crate) use error::refused;
pub(crate) use error::{ConnectStep, FailureKind, RegistryError};
pub(crate) use first_request::FirstRequest;
pub(crate) use flight::FlightPhase;
pub(crate) use hosts::Hosts;
pub(crate) use manifests::{ManifestBytes, ManifestHead};
pub(crate) use measured::{MeasuredFacts, Reachability};
pub(crate) use memory::MirrorMemory;
pub(crate) use puller::{Ask, MAX_PULLED_MANIFEST_BYTES, PullQuery, Puller};
pub(crate) use quirks::{Keeping, quirks_in_words};
pub(crate) use redact::SecretWords;
pub(crate) use repository_maker::RepositoryMaker;
pub(crate) use resolver::addresses;
pub(crate) use retry::RetryPolicy;
pub(crate) use sample::Sampled;
pub(crate) use sources::BlobSource;
pub(crate) use upload::{
    BlobProof, CancelAnswer, KeptMark, MeasuredMethod, MeasuredTimes, MeasuredUpload, Mount, SessionReach,
    StoredSession, UploadKey, UploadLedger, UploadSession, unmatched_digest,
};

use auth::Scopes;
use client::{ApiClient, ApiRequest, Reply};
use first_request::FirstResponse;
pub(crate) use host::Greeting;
use host::HostState;
use hosts::SharedHost;
pub(crate) use transport::BlobStream;
use transport::Transport;

use crate::locks::Mutex;
use crate::oci::Repository;
use crate::tls::{Authorities, ClientCertificate};

/// Hears what a registry client does. All methods may be called from anywhere and must return at once.
pub trait Observer: Send + Sync {
    /// A request was answered with `status`, or not at all, this long after it was sent.
    fn request(&self, _method: &str, _status: Option<u16>, _after: Duration) {}
    /// A request that waited for the first waits for the second now: it was sent where there is no first, and is answered
    /// or given up where there is no second.
    fn flight(&self, _left: Option<FlightPhase>, _entered: Option<FlightPhase>) {}
    /// Bytes of a blob were handed to the network.
    fn body_sent(&self, _bytes: u64) {}
    /// A blob of which bytes up to `from` were handed to the network goes on at `to`.
    fn body_repositioned(&self, _from: u64, _to: u64) {}
    /// Something is tried again. `cause` is a short form of `why`, equal for all requests that fail alike.
    fn retry(&self, _what: &str, _why: &str, _cause: &str, _after: Duration) {}
    /// Something a person should know; each text once per registry.
    fn warning(&self, _text: &str) {}
}

/// Hears nothing.
impl Observer for () {}

/// How long nothing may happen.
#[derive(Debug, Clone)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// While a body is being sent or received.
    pub stall: Duration,
    /// From the end of a request to its answer; large bodies get more.
    pub response: Duration,
    /// Until the kernel gives up on bytes that are not acknowledged.
    pub tcp_user: Duration,
    /// How long a body waits for an early refusal, once one may have been lost. A proxy that refuses a request for its size
    /// often resets the connection while the body comes in, and its answer is lost.
    pub early_refusal: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(60),
            response: Duration::from_secs(60),
            tcp_user: Duration::from_secs(60),
            early_refusal: Duration::from_secs(1),
        }
    }
}

/// All there is to say about how to talk to a registry.
#[derive(Clone)]
pub struct ClientOptions {
    /// Authorities to trust, besides the system's.
    pub authorities: Vec<Authorities>,
    /// Whether bodies share one connection (HTTP/2) where the host offers it: only to measure what that brings.
    pub(crate) bodies_over_http2: bool,
    /// Client certificates, for a registry that asks for one.
    pub client_certificates: Vec<ClientCertificate>,
    /// Whether any certificate is accepted. Only to find out what a node with this setting does.
    pub skip_verify: bool,
    /// Whether a registry on this machine without a scheme must speak TLS: certificates were given for it alone.
    pub must_speak_tls: bool,
    /// The credential.
    pub credential: Option<Credential>,
    /// Credentials for some namespaces, with all repositories below them.
    pub credentials_below: Vec<(Repository, Credential)>,
    /// The rights to ask for.
    pub access: Access,
    /// Token servers of other domains that may see the credentials.
    pub auth_realms: Vec<String>,
    /// The accounts of the run, so that none gets locked.
    pub accounts: Arc<Accounts>,
    /// The hosts of the run, which mirrors share.
    pub hosts: Arc<Hosts>,
    /// Secrets to redact from everything that is shown.
    pub secrets: Arc<SecretWords>,
    /// Other hosts to which uploads may be led, never with credentials.
    pub upload_hosts: Vec<String>,
    /// Creates missing repositories.
    pub(crate) repositories: Option<Arc<RepositoryMaker>>,
    /// Where the sessions of uploads are kept between runs.
    pub(crate) uploads: Option<Arc<dyn UploadLedger>>,
    /// What earlier runs have learned of registries.
    pub(crate) memory: Option<Arc<dyn MirrorMemory>>,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Retries.
    pub retry: RetryPolicy,
    /// Limits on bytes a second, all of which each body passes: this mirror's, those that it shares with others.
    pub bandwidth: Vec<Arc<BandwidthLimiter>>,
    /// Idle connections that are kept.
    pub max_idle_connections: usize,
    /// Hears what the client does.
    pub observer: Arc<dyn Observer>,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            authorities: Vec::new(),
            bodies_over_http2: false,
            client_certificates: Vec::new(),
            skip_verify: false,
            must_speak_tls: false,
            credential: None,
            credentials_below: Vec::new(),
            access: Access::default(),
            auth_realms: Vec::new(),
            accounts: Arc::default(),
            hosts: Arc::default(),
            secrets: Arc::default(),
            upload_hosts: Vec::new(),
            repositories: None,
            uploads: None,
            memory: None,
            timeouts: Timeouts::default(),
            retry: RetryPolicy::default(),
            bandwidth: Vec::new(),
            max_idle_connections: 256,
            observer: Arc::new(()),
        }
    }
}

impl ClientOptions {
    fn has_certificates(&self) -> bool {
        !self.authorities.is_empty() || !self.client_certificates.is_empty()
    }
}

impl fmt::Debug for ClientOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientOptions")
            .field("credential", &self.credential)
            .field("access", &self.access)
            .field("timeouts", &self.timeouts)
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// A registry that answered, as one mirror sees it. Cheap to clone. Mirrors of one run on one host share connections, tokens
/// and pauses.
#[derive(Clone)]
pub struct Registry(Arc<Inner>);

struct Inner {
    client: ApiClient,
    shared: Arc<SharedHost>,
    access: Access,
    upload_hosts: Vec<String>,
    repositories: Option<Arc<RepositoryMaker>>,
    uploads: Option<Arc<dyn UploadLedger>>,
    memory: Option<Arc<dyn MirrorMemory>>,
    /// Sessions that were dropped are cancelled meanwhile.
    cancels: TaskTracker,
    /// Until it is asked for.
    first_response: Mutex<Option<FirstResponse>>,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Registry({})", self.endpoint())
    }
}

impl Registry {
    /// Connects to a host. The first mirror of a run that does so with these options pings it (`GET /v2/`), and the others use
    /// what it learned.
    pub async fn connect(endpoint: &Endpoint, options: ClientOptions) -> Result<Self, RegistryError> {
        Self::connect_asking(endpoint, options, None).await
    }

    /// The same with the first request that this mirror will get, which takes the place of the ping. Its response is kept until
    /// [`Registry::head_manifest`] asks for it.
    pub(crate) async fn connect_asking(
        endpoint: &Endpoint,
        options: ClientOptions,
        first: Option<FirstRequest>,
    ) -> Result<Self, RegistryError> {
        let shared = options.hosts.shared(endpoint, &options);
        let (client, first_response) = options.hosts.connect(&shared, endpoint, &options, first).await?;
        let registry = Self(Arc::new(Inner {
            client,
            shared,
            access: options.access,
            upload_hosts: options.upload_hosts,
            repositories: options.repositories,
            uploads: options.uploads,
            memory: options.memory,
            cancels: TaskTracker::new(),
            first_response: Mutex::new(first_response),
        }));
        registry.recall().await;
        Ok(registry)
    }

    /// An estimate of the round-trip time, from the time of the first answer. Opening the connection was at least half of it,
    /// and two thirds with TLS.
    pub(crate) fn round_trip(&self) -> Duration {
        let ways = if self.endpoint().scheme() == Scheme::Http { 2 } else { 3 };
        self.host().first_answer_after() / ways
    }

    /// Waits until no request of this mirror is on its way, and none follows at once.
    pub(crate) async fn idle(&self) {
        self.transport().idle().await;
    }

    /// What its first answer said of it.
    pub(crate) fn greeting(&self) -> Option<Greeting> {
        self.host().greeted()
    }

    /// What it keeps of an upload whose connection breaks, as far as that was seen.
    pub(crate) fn keeping(&self) -> Keeping {
        self.host().quirks().keeping
    }

    /// Whether a later run can be told of upload sessions that this one leaves.
    pub(crate) fn keeps_sessions_for_later(&self) -> bool {
        self.ledger().is_some()
    }

    /// The registry in the records of the state: scheme, host, port, and the path of its API.
    pub(crate) fn record_name(&self) -> String {
        format!("{}{}", self.endpoint(), self.endpoint().api_path())
    }

    /// Where it is, with the scheme settled.
    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.0.client.endpoint
    }

    fn transport(&self) -> &Transport {
        &self.0.client.transport
    }

    fn host(&self) -> &HostState {
        &self.0.client.host
    }

    fn shared(&self) -> &SharedHost {
        &self.0.shared
    }

    fn policy(&self) -> &RetryPolicy {
        &self.0.client.policy
    }

    fn observer(&self) -> &dyn Observer {
        self.0.client.observer.as_ref()
    }

    fn cancels(&self) -> &TaskTracker {
        &self.0.cancels
    }

    fn upload_hosts(&self) -> &[String] {
        &self.0.upload_hosts
    }

    fn ledger(&self) -> Option<&dyn UploadLedger> {
        self.0.uploads.as_deref()
    }

    fn repository_maker(&self) -> Option<&RepositoryMaker> {
        self.0.repositories.as_deref()
    }

    fn url(&self, path: &str) -> Result<url::Url, RegistryError> {
        self.endpoint().url(path)
    }

    fn failed(&self, request: &ApiRequest<'_>, cause: error::Cause) -> RegistryError {
        self.0.client.failed(request, cause)
    }

    fn scopes(&self, repository: &Repository) -> Scopes {
        Scopes::of(repository, self.0.access)
    }

    /// The response to the first request, if that asked for this manifest.
    fn first_response(
        &self,
        repository: &Repository,
        reference: &str,
    ) -> Option<Result<Reply, RegistryError>> {
        let mut kept = self.0.first_response.lock();
        let is_this = kept.as_ref().is_some_and(|first| first.is_to(repository, reference));
        kept.take_if(|_| is_this).map(FirstResponse::into_response)
    }

    async fn call(&self, repository: &Repository, request: &ApiRequest<'_>) -> Result<Reply, RegistryError> {
        self.call_with(repository, &self.scopes(repository), request).await
    }

    async fn call_with(
        &self,
        repository: &Repository,
        scopes: &Scopes,
        request: &ApiRequest<'_>,
    ) -> Result<Reply, RegistryError> {
        let auth = self.0.shared.identities.of(repository);
        let reply = self.0.client.call(auth, scopes, request).await?;
        if self.0.access == Access::Pull {
            // With read access each answer is progress.
            self.host().breaker().acknowledged();
        }
        Ok(reply)
    }
}
