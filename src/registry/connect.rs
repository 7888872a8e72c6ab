//! Connects to a host: which scheme it speaks, and whether a registry answers (`GET /v2/`, the ping).

use std::sync::Arc;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::HeaderMap;

use crate::clock::Instant;
use crate::registry::cause::{Cause, TlsFault};
use crate::registry::client::{ApiClient, ApiRequest, Reply, Want};
use crate::registry::endpoint::{Endpoint, Scheme};
use crate::registry::error::{MAX_ERROR_BYTES, RegistryError};
use crate::registry::retry::driver::{RetryDriver, Retryability};
use crate::registry::retry::{Operation, Replay};
use crate::registry::tls::{self, Clients};
use crate::registry::transport::{Probe, Transport};
use crate::registry::{ClientOptions, webpage};

/// A server on this machine answers a handshake within this time, or waits for a line of text.
const LOCAL_HANDSHAKE: Duration = Duration::from_secs(3);
/// The least time limit on the first answer.
const LEAST_PATIENCE: Duration = Duration::from_secs(3);
/// A port that is addressed in clear text, and does not answer for this long, may wait for a TLS handshake.
const CLEAR_TEXT_SILENCE: Duration = Duration::from_secs(1);

/// The scheme to speak. Only to a registry on this machine, where nobody can listen in, is plain HTTP spoken without being
/// written, and only when the other side does not speak TLS at all and no certificates were given for it alone.
pub(super) async fn scheme(endpoint: &Endpoint, options: &ClientOptions) -> Result<Scheme, RegistryError> {
    match endpoint.scheme() {
        Scheme::Unstated if !options.must_speak_tls => {}
        Scheme::Http => return Ok(Scheme::Http),
        _ => return Ok(Scheme::Https),
    }
    let mut options = options.clone();
    options.timeouts.connect = options.timeouts.connect.min(LOCAL_HANDSHAKE);
    let clients = Arc::new(Clients::new(endpoint, &options)?);
    let url = endpoint.url("")?;
    let handshakes = clients.control.clone();
    let transport = Transport::new(clients, &options);
    let client = ApiClient::alone(endpoint.clone(), transport, options.retry, options.observer);
    let what = format!("GET {url}");
    let mut driver = RetryDriver::new(&client.policy, client.observer.as_ref(), what);
    let retryability = Retryability { operation: Operation::Read, replay: Replay::Safe, shows_health: false };
    loop {
        client.until_reachable(&driver, &Method::GET, &url).await?;
        let began = Instant::now();
        let request = handshakes.get(url.clone()).headers(HeaderMap::new());
        let sent = tokio::time::timeout(options.timeouts.response, request.send()).await;
        let Ok(Err(error)) = sent else { return Ok(Scheme::Https) };
        if tls::speaks_no_tls(&error) {
            return Ok(Scheme::Http);
        }
        let cause = tls::cause_of(&error);
        if !matches!(cause, Cause::Unreachable(_)) {
            return Ok(Scheme::Https);
        }
        client.host.breaker().failed(&cause, Duration::ZERO);
        let error = client.transport.blanked(RegistryError::new("GET", &url, cause));
        driver.retry(&client.host, retryability, began, error).await?;
    }
}

/// Pings the host. A 401 comes back as an error: it says what credentials are wanted.
pub(super) async fn ping(client: &ApiClient) -> Result<(), RegistryError> {
    let ping = ApiRequest::new(Method::GET, client.endpoint.url("")?).want(Want::Beginning(MAX_ERROR_BYTES));
    let ping = as_probe(client, ping);
    let reply = exchange(client, &ping).await?;
    match webpage::in_place_of_registry(&reply.headers, &reply.body) {
        None => Ok(()),
        Some(what) if client.endpoint.is_host_of(&reply.url) => {
            Err(client.failed(&ping, Cause::NotRegistry(what)))
        }
        Some(what) => {
            let host = reply.url.host_str().unwrap_or_default();
            Err(client.failed(&ping, Cause::NotRegistry(format!("it leads to {host}, where {what}"))))
        }
    }
}

/// The same request, as one that finds out whether the host is there.
pub(super) fn as_probe<'a>(client: &ApiClient, request: ApiRequest<'a>) -> ApiRequest<'a> {
    let patience = client.policy.connect_patience;
    let to_connect = client.transport.connect_timeout();
    let least = if patience.is_zero() { to_connect } else { to_connect.min(LEAST_PATIENCE) };
    let deadline = patience.max(least);
    let deadline = deadline.min(client.transport.commit_timeout(0));
    ApiRequest { probe: Some(Probe { deadline, afresh: false }), ..request }
}

/// Sends the first request to a host, without credentials. The error of a host that needs TLS differs from that of one that
/// does not answer.
pub(super) async fn exchange(client: &ApiClient, first: &ApiRequest<'_>) -> Result<Reply, RegistryError> {
    let reply = tokio::select! {
        reply = client.exchange(first, None) => reply,
        () = waits_for_handshake(client) => return Err(client.failed(first, Cause::SpeaksTls)),
    };
    let reply = match reply {
        // An alert of TLS is no HTTP.
        Err(error) if error.status().is_none() && client.endpoint.scheme() == Scheme::Http => {
            let speaks_tls = speaks_tls(client, CLEAR_TEXT_SILENCE).await.unwrap_or(false);
            return Err(if speaks_tls { client.failed(first, Cause::SpeaksTls) } else { error });
        }
        reply => reply?,
    };
    if client.endpoint.scheme() == Scheme::Http
        && reply.url.scheme() == "https"
        && client.endpoint.is_host_of(&reply.url)
    {
        // Reads follow that redirect, and writes do not.
        return Err(client.failed(first, Cause::LeadsToHttps(reply.url.origin().ascii_serialization())));
    }
    Ok(reply)
}

/// Returns when a port that is addressed in clear text and does not answer turns out to speak TLS, and otherwise never.
async fn waits_for_handshake(client: &ApiClient) {
    if client.endpoint.scheme() != Scheme::Http {
        std::future::pending::<()>().await;
    }
    let mut silence = CLEAR_TEXT_SILENCE;
    loop {
        tokio::time::sleep(silence).await;
        if speaks_tls(client, silence).await.unwrap_or(false) {
            return;
        }
        silence = (silence * 2).min(client.transport.connect_timeout());
    }
}

/// Whether the other side completes a TLS handshake. No secret is sent to it, so its certificate need not be valid.
async fn speaks_tls(client: &ApiClient, within: Duration) -> Result<bool, RegistryError> {
    let endpoint = client.endpoint.with_scheme(Scheme::Https).with_port(client.endpoint.port());
    let mut options = ClientOptions { skip_verify: true, ..ClientOptions::default() };
    options.timeouts.connect = within;
    let clients = Clients::new(&endpoint, &options)?;
    let asked = clients.data.get(endpoint.url("")?).send();
    Ok(match tokio::time::timeout(within, asked).await {
        Ok(Ok(_)) => true,
        Ok(Err(error)) => match tls::cause_of(&error) {
            Cause::Tls { fault, .. } => fault != TlsFault::NotTls,
            // The handshake was made, and then it hung up.
            Cause::Broken(_) => true,
            _ => false,
        },
        Err(_) => false,
    })
}

#[cfg(test)]
mod tests;
