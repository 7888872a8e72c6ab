//! Measurements of a link other than uploads: the connection, single requests, and the removal of measured blobs.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, Error as TlsError};
use url::Host;

use super::auth::Scopes;
use super::client::ApiRequest;
use super::endpoint::{Endpoint, Scheme};
use super::error::RegistryError;
use super::proxy::Proxies;
use super::quirks::UploadMethod;
use super::transport::Probe;
use super::{ClientOptions, Registry, resolver};
use crate::clock::Instant;
use crate::oci::{Digest, Repository};
use crate::tls::{TrustedBy, client_config};

/// A login that took less time used a cached token.
const NO_LOGIN: Duration = Duration::from_micros(500);

/// How long the steps to a connection take, each once, over connections of their own.
#[derive(Debug, Default)]
pub(crate) struct Reachability {
    /// The addresses of the name; empty where an address was given, and behind a proxy.
    pub(crate) addresses: Vec<IpAddr>,
    /// Resolving the name.
    pub(crate) name: Option<Duration>,
    /// Opening a TCP connection.
    pub(crate) tcp: Option<Duration>,
    /// The handshake of TLS.
    pub(crate) tls: Option<Handshake>,
    /// Why the steps end here.
    pub(crate) why_not: Option<String>,
}

/// A handshake of TLS, and what was agreed on.
#[derive(Debug)]
pub(crate) struct Handshake {
    pub(crate) took: Duration,
    pub(crate) version: String,
    pub(crate) cipher: String,
    pub(crate) alpn: Option<String>,
}

/// Measured facts about a mirror, for later runs.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MeasuredFacts {
    /// The smallest request that was refused as too large.
    pub(crate) refused_bytes: Option<u64>,
    /// The rate of one upload.
    pub(crate) bytes_per_second: Option<u64>,
    /// Whether blobs go by PATCH.
    pub(crate) by_patch: bool,
}

impl Registry {
    /// Takes the steps to a connection one after the other. A proxy of the environment would be measured in its place, so there is
    /// nothing to measure behind one.
    pub(crate) async fn reach(&self, options: &ClientOptions) -> Reachability {
        let endpoint = self.endpoint().clone();
        let options = options.clone();
        let taken = tokio::task::spawn_blocking(move || steps(&endpoint, &options)).await;
        taken.unwrap_or_else(|error| Reachability {
            why_not: Some(error.to_string()),
            ..Reachability::default()
        })
    }

    /// How long the login for a repository takes, if one is wanted that is not known yet.
    pub(crate) async fn time_login(
        &self,
        repository: &Repository,
    ) -> Result<Option<Duration>, RegistryError> {
        let (began, scopes) = (Instant::now(), self.scopes(repository));
        let auth = self.0.shared.identities.of(repository);
        auth.authorization(&self.0.client, &scopes).await?;
        Ok(Some(began.elapsed()).filter(|took| *took > NO_LOGIN))
    }

    /// Asks for a blob over a connection of its own.
    pub(crate) async fn head_afresh(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), RegistryError> {
        let url = self.url(&format!("{repository}/blobs/{digest}"))?;
        let deadline = self.transport().commit_timeout(0);
        let request = ApiRequest::new(Method::HEAD, url).also(&[400, 403, 404, 405, 501]).for_itself();
        let request = ApiRequest { probe: Some(Probe { deadline, afresh: true }), ..request };
        self.call(repository, &request).await.map(drop)
    }

    /// Removes a blob of a repository. That it was not there is as good.
    ///
    /// # Errors
    /// The registry does not let this account do that, or nobody.
    pub(crate) async fn delete_blob(
        &self,
        repository: &Repository,
        digest: &Digest,
    ) -> Result<(), RegistryError> {
        let url = self.url(&format!("{repository}/blobs/{digest}"))?;
        let request = ApiRequest::new(Method::DELETE, url).also(&[404]).for_itself();
        let scopes = Scopes::deleting(repository);
        self.call_with(repository, &scopes, &request).await.map(drop)
    }

    /// Keeps the measured facts for the next run.
    pub(crate) fn keep_measured(&self, facts: MeasuredFacts) {
        {
            let mut quirks = self.host().quirks();
            quirks.refused_bytes = facts.refused_bytes;
            quirks.bytes_per_second = facts.bytes_per_second;
            quirks.upload = if facts.by_patch { UploadMethod::Stream } else { UploadMethod::Single };
        }
        self.remember();
    }
}

/// Blocks.
fn steps(endpoint: &Endpoint, options: &ClientOptions) -> Reachability {
    let mut reach = Reachability::default();
    if let Err(why) = take_steps(endpoint, options, &mut reach) {
        reach.why_not = Some(why);
    }
    reach
}

fn take_steps(endpoint: &Endpoint, options: &ClientOptions, reach: &mut Reachability) -> Result<(), String> {
    let url = endpoint.url("").map_err(|error| error.to_string())?;
    let proxies = if endpoint.is_loopback() { Proxies::default() } else { proxies()? };
    if let Some(proxy) = proxies.of(&url) {
        return Err(format!("{proxy} is on the way, and makes the connections"));
    }
    let host = url.host().ok_or("it has no host")?;
    let address = match host {
        Host::Domain(name) => {
            let began = Instant::now();
            let found = resolver::look_up(name).map_err(|error| error.to_string())?;
            reach.name = Some(began.elapsed());
            reach.addresses = found.iter().map(SocketAddr::ip).collect();
            *reach.addresses.first().ok_or("its name has no address")?
        }
        Host::Ipv4(address) => address.into(),
        Host::Ipv6(address) => address.into(),
    };
    let limit = options.timeouts.connect;
    let began = Instant::now();
    let socket = TcpStream::connect_timeout(&SocketAddr::new(address, endpoint.port()), limit);
    let mut socket = socket.map_err(|error| error.to_string())?;
    reach.tcp = Some(began.elapsed());
    if endpoint.scheme() != Scheme::Https {
        return Ok(());
    }
    socket.set_read_timeout(Some(limit)).map_err(|error| error.to_string())?;
    socket.set_write_timeout(Some(limit)).map_err(|error| error.to_string())?;
    let trust = if options.skip_verify {
        TrustedBy::Anybody
    } else {
        TrustedBy::Authorities(options.authorities.clone())
    };
    let words = |error: TlsError| error.to_string();
    let mut config = client_config(&trust, &options.client_certificates).map_err(words)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let name = match host {
        Host::Domain(name) => ServerName::try_from(name.to_owned()).map_err(|error| error.to_string())?,
        Host::Ipv4(address) => ServerName::from(IpAddr::from(address)),
        Host::Ipv6(address) => ServerName::from(IpAddr::from(address)),
    };
    let began = Instant::now();
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(words)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut socket).map_err(|error| error.to_string())?;
    }
    reach.tls = Some(Handshake {
        took: began.elapsed(),
        version: connection.protocol_version().map(|version| format!("{version:?}")).unwrap_or_default(),
        cipher: connection
            .negotiated_cipher_suite()
            .map(|suite| format!("{:?}", suite.suite()))
            .unwrap_or_default(),
        alpn: connection.alpn_protocol().map(|name| String::from_utf8_lossy(name).into_owned()),
    });
    Ok(())
}

fn proxies() -> Result<Proxies, String> {
    Proxies::from_environment().map_err(|error| error.to_string())
}
