//! The two HTTP clients of a registry, and what their errors mean.
//!
//! Blobs go over HTTP/1.1, one connection each: a single HTTP/2 connection throttles uploads over long ways. Everything
//! else may share an HTTP/2 connection. Both trust the same authorities, never follow a redirect by themselves, never
//! repeat a request and have no time limit of their own: the only read timeout on offer also counts while a body is being
//! sent, so the watch is kept in `transport`.

use std::error::Error as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, ClientBuilder, Response, StatusCode};
use rustix::io::Errno;
use rustls::{AlertDescription, ClientConfig};
use url::Url;

use crate::error::system_words;
use crate::registry::ClientOptions;
use crate::registry::endpoint::Endpoint;
use crate::registry::error::{Cause, ProxyFault, RegistryError, TlsFault};
use crate::registry::proxy::{Proxies, Proxy};
use crate::registry::redact::SecretWords;
use crate::registry::resolver::{ResolveError, SystemResolver};
use crate::tls::{ClientCertificate, Doubt, TrustedBy, Untrusted, client_config};

/// The clients of one registry.
pub(super) struct Clients {
    /// For questions, tokens and manifests.
    pub(super) control: Client,
    /// For blobs.
    pub(super) data: Client,
    /// For looking whether a host takes connections: it makes a new one each time.
    pub(super) probe: Client,
    /// What must not be shown of what servers say.
    pub(super) secrets: Arc<SecretWords>,
    proxies: Proxies,
    /// The client certificates that are shown where one is wanted, for messages.
    certificates: Vec<String>,
}

impl Clients {
    /// Builds both.
    pub(super) fn new(endpoint: &Endpoint, options: &ClientOptions) -> Result<Self, RegistryError> {
        let trust = if options.skip_verify {
            TrustedBy::Anybody
        } else {
            TrustedBy::Authorities(options.authorities.clone())
        };
        let config = client_config(&trust, &options.client_certificates)
            .map_err(|error| Cause::Internal(format!("TLS cannot be set up: {error}")))?;
        // As everybody does: a proxy of the environment is not for this machine itself.
        let proxies = if endpoint.is_loopback() { Proxies::default() } else { Proxies::from_environment()? };
        proxies.secrets().for_each(|secret| options.secrets.remember(&secret));
        // The first answer, whichever client asks, says which certificate the host has.
        let telling = |options: &ClientOptions| base(&proxies, options).tls_info(true);
        let control = build(telling(options), config.clone(), &[b"h2", b"http/1.1"])?;
        let protocols: &[&[u8]] =
            if options.bodies_over_http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        let data = build(telling(options), config.clone(), protocols)?;
        let keep_none = ClientOptions { max_idle_connections: 0, ..options.clone() };
        let probe = build(telling(&keep_none), config, &[b"http/1.1"])?;
        let certificates = options.client_certificates.iter().map(ClientCertificate::in_words).collect();
        Ok(Self { control, data, probe, secrets: Arc::clone(&options.secrets), proxies, certificates })
    }

    /// The proxy on the way to a URL.
    pub(super) fn proxy_of(&self, url: &Url) -> Option<&Proxy> {
        self.proxies.of(url)
    }

    /// What the proxy says of why it does not connect to a host.
    pub(super) async fn refusal_of_proxy(&self, url: &Url) -> Option<String> {
        let (proxy, host) = (self.proxies.of(url)?, host_of(url));
        let status = proxy.refusal(&host).await?;
        Some(format!("{proxy} does not connect to {host}: it answers {status}"))
    }

    /// What became of a request: an answer of the other side, or why there is none. What a proxy on the way says or does is
    /// not the registry's doing.
    pub(super) fn understand(
        &self,
        sent: Result<Response, reqwest::Error>,
        url: &Url,
    ) -> Result<Response, Cause> {
        let Some(proxy) = self.proxies.of(url) else {
            return sent.map_err(|error| self.shown_certificate(cause_of(&error)));
        };
        let refuses = || Cause::Proxy {
            fault: ProxyFault::Login,
            why: format!("{proxy} wants a user and a password, or does not take those in its address (407)"),
        };
        match sent {
            Ok(answer) if answer.status() == StatusCode::PROXY_AUTHENTICATION_REQUIRED => Err(refuses()),
            Ok(answer) if answer.status().as_u16() >= 400 && is_of_squid(&answer) => Err(Cause::Proxy {
                fault: ProxyFault::Refuses,
                why: format!("{proxy} answers {} in place of {}", answer.status(), host_of(url)),
            }),
            Ok(answer) => Ok(answer),
            Err(error) => Err(match cause_of(&error) {
                // The HTTP client has no types for what a proxy answers.
                Cause::Unreachable(why) if why.contains("proxy authorization required") => refuses(),
                Cause::Unreachable(why) if why.contains("tunnel error: unsuccessful") => Cause::Proxy {
                    fault: ProxyFault::Refuses,
                    why: format!(
                        "{proxy} answers, and does not connect to {}: it may not, or cannot reach it",
                        host_of(url)
                    ),
                },
                Cause::Unreachable(why) | Cause::NoSuchName(why) => {
                    Cause::Proxy { fault: ProxyFault::Away, why: format!("{proxy} cannot be used: {why}") }
                }
                other => self.shown_certificate(other),
            }),
        }
    }

    /// A refusal of our certificate, with the one that was shown.
    fn shown_certificate(&self, cause: Cause) -> Cause {
        match cause {
            Cause::Tls { fault: TlsFault::ClientCertificate, why } if !self.certificates.is_empty() => {
                let shown = self.certificates.join(", ");
                let (fault, why) =
                    (TlsFault::ClientCertificateRefused, format!("{why}; it was shown {shown}"));
                Cause::Tls { fault, why }
            }
            other => other,
        }
    }
}

/// Whether an answer says that Squid gave it, and no registry behind it.
fn is_of_squid(answer: &Response) -> bool {
    answer.headers().contains_key("x-squid-error")
}

fn host_of(url: &Url) -> String {
    let port = url.port_or_known_default().unwrap_or_default();
    format!("{}:{port}", url.host_str().unwrap_or_default())
}

fn build(
    mut builder: ClientBuilder,
    mut config: ClientConfig,
    protocols: &[&[u8]],
) -> Result<Client, RegistryError> {
    if !protocols.contains(&b"h2".as_slice()) {
        builder = builder.http1_only();
    }
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    let built = builder.tls_backend_preconfigured(config).build();
    built.map_err(|e| Cause::Internal(format!("the HTTP client cannot be set up: {}", causes(&e))).into())
}

fn base(proxies: &Proxies, options: &ClientOptions) -> ClientBuilder {
    let timeouts = &options.timeouts;
    let chosen = proxies.clone();
    Client::builder()
        .user_agent(concat!("layercast/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .dns_resolver(SystemResolver)
        // Also keeps the HTTP client from reading the environment in its own way.
        .proxy(reqwest::Proxy::custom(move |url| chosen.of(url).map(|proxy| proxy.url().clone())))
        .connect_timeout(timeouts.connect)
        .tcp_user_timeout(timeouts.tcp_user)
        // Many proxies close idle connections after a minute: be first.
        .pool_idle_timeout(Duration::from_secs(50))
        .pool_max_idle_per_host(options.max_idle_connections)
}

/// What an error of the HTTP client means. The causes are told apart by their types, as their texts may change.
pub(super) fn cause_of(error: &reqwest::Error) -> Cause {
    let (tls, _) = roots(error);
    let why = causes(error);
    if sources::<io::Error>(error).any(is_out_of_descriptors) {
        return Cause::NoDescriptors(why);
    }
    if let Some(untrusted) = tls.and_then(Untrusted::of) {
        let fault = match untrusted.doubt {
            Doubt::Issuer => TlsFault::UnknownIssuer,
            Doubt::Name => TlsFault::Name,
            Doubt::Dates => TlsFault::Dates,
            Doubt::Certificate => TlsFault::Certificate,
        };
        return Cause::Tls { fault, why: untrusted.to_string() };
    }
    match tls.and_then(|tls| tls_fault(tls, error.is_connect())) {
        Some(fault) => Cause::Tls { fault, why },
        None if names_nothing(error) => Cause::NoSuchName(why),
        None if error.is_connect() => Cause::Unreachable(why),
        None if sources::<hyper::Error>(error).any(hyper::Error::is_parse_too_large) => {
            Cause::Protocol(format!("the head of its answer is longer than any that is read: {why}"))
        }
        None if is_not_http(error) => Cause::NotHttp(why),
        None if error.is_builder() => Cause::Internal(why),
        None => Cause::Broken(why),
    }
}

/// Whether a connection to this machine failed in a way that says that the other side speaks, but not TLS.
pub(super) fn speaks_no_tls(error: &reqwest::Error) -> bool {
    let (tls, io) = roots(error);
    match (tls, io) {
        (Some(tls), _) => tls_fault(tls, error.is_connect()) == Some(TlsFault::NotTls),
        // It hung up on the handshake, or waits for the end of a line that never comes.
        (None, Some(io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)) => true,
        (None, _) => error.is_timeout(),
    }
}

/// Whether this process, or the machine, has as many files open as it may.
fn is_out_of_descriptors(error: &io::Error) -> bool {
    let refused = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(refused, Some(Errno::MFILE | Errno::NFILE))
}

/// Whether the name of the host does not exist.
fn names_nothing(error: &reqwest::Error) -> bool {
    sources::<ResolveError>(error).any(ResolveError::is_permanent)
}

/// Whether what came back could not be read as HTTP. One who speaks before it is asked has no type of its own.
fn is_not_http(error: &reqwest::Error) -> bool {
    sources::<hyper::Error>(error)
        .any(|error| error.is_parse() || error.to_string().contains("unexpected message"))
}

/// The causes that are of one type.
fn sources<E: std::error::Error + 'static>(error: &reqwest::Error) -> impl Iterator<Item = &E> {
    let all = std::iter::successors(error.source(), |&error| error.source());
    all.filter_map(|error| error.downcast_ref::<E>())
}

/// The errors at the bottom: of TLS, of the operating system.
fn roots(error: &reqwest::Error) -> (Option<&rustls::Error>, Option<io::ErrorKind>) {
    let mut kind = None;
    let mut next = error.source();
    while let Some(source) = next {
        if let Some(tls) = source.downcast_ref::<rustls::Error>() {
            return (Some(tls), kind);
        }
        next = match source.downcast_ref::<io::Error>() {
            Some(io) => {
                kind = Some(io.kind());
                // What an I/O error wraps is not its source: that would be the source of what it wraps.
                io.get_ref().map(|wrapped| wrapped as &(dyn std::error::Error + 'static))
            }
            None => source.source(),
        };
    }
    (None, kind)
}

/// What is wrong with TLS for good; `None` for damage on the way, which may pass.
fn tls_fault(error: &rustls::Error, in_handshake: bool) -> Option<TlsFault> {
    use rustls::Error as E;
    match error {
        E::InvalidCertificate(_) | E::NoCertificatesPresented => Some(TlsFault::Certificate),
        E::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::AccessDenied,
        ) => Some(TlsFault::ClientCertificate),
        E::InvalidMessage(_) if in_handshake => Some(TlsFault::NotTls),
        E::PeerIncompatible(_)
        | E::AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::ProtocolVersion) => {
            Some(TlsFault::Other)
        }
        _ => None,
    }
}

/// An error with its causes, without the URL (which may carry secrets) and without repetitions.
pub(super) fn causes(error: &reqwest::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = error.source();
    while let Some(source) = next {
        let text = match source.downcast_ref::<std::io::Error>() {
            Some(error) => system_words(error),
            None if source.is::<reqwest::Error>() => String::new(),
            None => source.to_string(),
        };
        // The names of the steps inside the client help nobody who reads what the system says of them.
        let is_step = text.starts_with("client error (") || text == "tcp connect error";
        if is_step && source.source().is_some() {
            next = source.source();
            continue;
        }
        let text =
            if text.contains("InvalidContentType") { "what answers speaks no TLS".to_owned() } else { text };
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        next = source.source();
    }
    if texts.is_empty() { "the HTTP client failed".to_owned() } else { texts.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_that_this_machine_has_no_more_of_are_told_apart() {
        let is_ours = |errno: Errno| is_out_of_descriptors(&errno.into());
        assert!(is_ours(Errno::MFILE) && is_ours(Errno::NFILE));
        assert!(!is_ours(Errno::CONNREFUSED) && !is_out_of_descriptors(&io::Error::other("x")));
        let cause = Cause::NoDescriptors("x".to_owned());
        assert!(!cause.may_pass() && cause.kind() == crate::registry::FailureKind::Machine);
    }
}
