//! Mirrors of a run on one host with one account share HTTP clients and their connections, tokens, the result of the first
//! request, and mount sources. So the hundredth site on a registry costs it no more than its images.
//!
//! All accounts on a host share what belongs to the host: pauses, circuit breakers, the retry budget, quirks. Each mirror's
//! client keeps its own observer, limits on bytes, and number of attempts.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::clock::Instant;
use crate::locks::Mutex;
use crate::registry::auth::Identities;
use crate::registry::client::ApiClient;
use crate::registry::endpoint::{Endpoint, Scheme};
use crate::registry::error::RegistryError;
use crate::registry::first_request::{self, FirstRequest, FirstResponse};
use crate::registry::host::{HostState, OtherHosts};
use crate::registry::sources::BlobSources;
use crate::registry::tls::Clients;
use crate::registry::transport::Transport;
use crate::registry::{ClientOptions, connect};
use crate::tls::system_authorities;

/// After no mirror could connect to a host, layercast leaves it alone for one and a half times its patience, within these
/// bounds: mirrors whose turn comes meanwhile fail as the first one did. Whoever tries a mirror again does so later.
const SHORTEST_REST: Duration = Duration::from_millis(500);
const LONGEST_REST: Duration = Duration::from_secs(30);
/// HTTP clients that are kept, with their connections, while no mirror uses them.
const MAX_IDLE_CLIENTS: usize = 16;
/// The number of blobs whose mount sources are remembered, for all hosts together.
const MAX_BLOBS: usize = 100_000;

/// The hosts of a run.
#[derive(Default)]
pub struct Hosts {
    shared: Mutex<HashMap<[u8; 32], Arc<SharedHost>>>,
    states: Mutex<HashMap<(Endpoint, Duration), Arc<HostState>>>,
    /// The last ones that were used.
    clients: Mutex<VecDeque<Arc<Clients>>>,
}

/// One host, as one account sees it.
pub(super) struct SharedHost {
    /// Held by the mirror that connects first, so that the others wait for the result.
    entry: tokio::sync::Mutex<HostEntry>,
    pub(super) identities: Identities,
    pub(super) blobs: BlobSources,
    others: Arc<OtherHosts>,
    clients: Mutex<Weak<Clients>>,
}

/// Whether mirrors can connect to a host.
enum HostEntry {
    Unknown,
    Connected(Scheme),
    Failed { why: RegistryError, since: Instant },
}

impl fmt::Debug for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hosts({})", self.shared.lock().len())
    }
}

impl Hosts {
    /// Announces the mirrors of the run. If several are on one host, the mount sources of their blobs are remembered.
    pub(crate) fn announce<'a>(mirrors: impl IntoIterator<Item = (&'a Endpoint, &'a ClientOptions)>) {
        let mut hosts: HashMap<*const SharedHost, (Arc<SharedHost>, usize)> = HashMap::new();
        for (endpoint, options) in mirrors {
            let shared = options.hosts.shared(endpoint, options);
            hosts.entry(Arc::as_ptr(&shared)).or_insert((shared, 0)).1 += 1;
        }
        let several: Vec<_> = hosts.into_values().filter(|(_, mirrors)| *mirrors > 1).collect();
        for (shared, _) in &several {
            shared.blobs.remember(MAX_BLOBS / several.len());
        }
    }

    /// The state that mirrors share which use this host with the same options.
    pub(super) fn shared(&self, endpoint: &Endpoint, options: &ClientOptions) -> Arc<SharedHost> {
        let new = || {
            Arc::new(SharedHost {
                entry: tokio::sync::Mutex::new(HostEntry::Unknown),
                identities: Identities::new(options),
                blobs: BlobSources::default(),
                others: Arc::new(OtherHosts::new(options.retry.connect_patience)),
                clients: Mutex::default(),
            })
        };
        Arc::clone(self.shared.lock().entry(key(endpoint, options)).or_insert_with(new))
    }

    /// A client of one mirror. The first one settles the scheme, learns what kind of credentials are wanted, and shows them: with
    /// its first request if it has one, else with the ping. Returns the response to that request as well.
    pub(super) async fn connect(
        &self,
        shared: &SharedHost,
        endpoint: &Endpoint,
        options: &ClientOptions,
        first: Option<FirstRequest>,
    ) -> Result<(ApiClient, Option<FirstResponse>), RegistryError> {
        let mut entry = shared.entry.lock().await;
        let known = match &*entry {
            HostEntry::Failed { why, since } if since.elapsed() < rest(options) => return Err(why.clone()),
            HostEntry::Connected(scheme) => Some(*scheme),
            HostEntry::Failed { .. } | HostEntry::Unknown => None,
        };
        let connected = self.connect_first(shared, endpoint, options, known, first).await;
        *entry = match &connected {
            Ok((client, _)) => HostEntry::Connected(client.endpoint.scheme()),
            Err(why) => HostEntry::Failed { why: why.clone(), since: Instant::now() },
        };
        connected
    }

    async fn connect_first(
        &self,
        shared: &SharedHost,
        endpoint: &Endpoint,
        options: &ClientOptions,
        known: Option<Scheme>,
        first: Option<FirstRequest>,
    ) -> Result<(ApiClient, Option<FirstResponse>), RegistryError> {
        let scheme = match known {
            Some(scheme) => scheme,
            None => settled_scheme(endpoint, options).await?,
        };
        let endpoint = endpoint.with_scheme(scheme);
        let host = self.state(&endpoint, options.retry.connect_patience);
        let client = ApiClient {
            transport: Transport::new(self.clients(shared, &endpoint, options)?, options),
            policy: options.retry.clone(),
            observer: Arc::clone(&options.observer),
            others: Arc::clone(&shared.others),
            host,
            endpoint,
        };
        let was_given_up = client.host.is_given_up();
        if let Some(cause) = client.host.given_up(Instant::now(), rest(options)) {
            return Err(client.not_reached(cause)?);
        }
        if known.is_some() && !was_given_up {
            return Ok((client, None));
        }
        let first_response = match first {
            Some(first) => first_request::send(&client, &shared.identities, options.access, first).await?,
            None => first_request::ping(&client, &shared.identities).await.map(|_| None)?,
        };
        Ok((client, first_response))
    }

    fn state(&self, endpoint: &Endpoint, patience: Duration) -> Arc<HostState> {
        let new = || Arc::new(HostState::new(patience));
        Arc::clone(self.states.lock().entry((endpoint.clone(), patience)).or_insert_with(new))
    }

    /// The HTTP clients of a host. Those that were dropped after long disuse, with their connections, are created again.
    fn clients(
        &self,
        shared: &SharedHost,
        endpoint: &Endpoint,
        options: &ClientOptions,
    ) -> Result<Arc<Clients>, RegistryError> {
        let mut known = shared.clients.lock();
        let clients = match known.upgrade() {
            Some(clients) => clients,
            None => Arc::new(Clients::new(endpoint, options)?),
        };
        *known = Arc::downgrade(&clients);
        let mut kept = self.clients.lock();
        kept.retain(|other| !Arc::ptr_eq(other, &clients));
        kept.push_back(Arc::clone(&clients));
        let too_many = kept.len().saturating_sub(MAX_IDLE_CLIENTS);
        kept.drain(..too_many);
        Ok(clients)
    }
}

fn rest(options: &ClientOptions) -> Duration {
    let patience = options.retry.connect_patience;
    (patience + patience / 2).clamp(SHORTEST_REST, LONGEST_REST)
}

async fn settled_scheme(endpoint: &Endpoint, options: &ClientOptions) -> Result<Scheme, RegistryError> {
    let scheme = connect::scheme(endpoint, options).await?;
    if endpoint.scheme() == Scheme::Unstated && scheme == Scheme::Http && options.has_certificates() {
        let text = "speaks plain HTTP: the certificates that are given for all mirrors are not used for it";
        options.observer.warning(&format!("{} {text}", endpoint.authority()));
    }
    if scheme == Scheme::Https && options.authorities.is_empty() && !options.skip_verify {
        // They will be asked for in the handshake, where reading them would hold up other mirrors.
        let read = tokio::task::spawn_blocking(|| system_authorities().is_some()).await;
        tracing::trace!(?read, "the system's authorities");
    }
    Ok(scheme)
}

/// A hash of all options that distinguish clients. Secrets cannot be read from it.
fn key(endpoint: &Endpoint, options: &ClientOptions) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    let terms = (
        options.skip_verify,
        options.must_speak_tls,
        options.bodies_over_http2,
        &options.timeouts,
        options.max_idle_connections,
    );
    let patience = options.retry.connect_patience;
    let written =
        format!("{:?} {endpoint} {} {terms:?} {patience:?}", endpoint.scheme(), endpoint.api_path());
    add(written.as_bytes());
    for realm in &options.auth_realms {
        add(realm.as_bytes());
    }
    if let Some(credential) = &options.credential {
        add(&credential.fingerprint());
    }
    for (path, credential) in &options.credentials_below {
        add(path.as_str().as_bytes());
        add(&credential.fingerprint());
    }
    for authorities in &options.authorities {
        add(b"authorities");
        authorities.certificates().iter().for_each(|certificate| add(certificate));
    }
    for certificate in &options.client_certificates {
        add(b"client certificate");
        certificate.chain().for_each(&mut add);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
