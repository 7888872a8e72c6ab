//! Which registry, and which namespace in it: `HOST[:PORT][/NAMESPACE]` with an optional scheme becomes a [`Target`].
//!
//! Decides what counts as local (loopback and private addresses), because plain HTTP, redirects and upload locations are
//! judged by it. Never resolves a name.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use url::{Host, Url};

use crate::loopback;
use crate::oci::Repository;
use crate::registry::error::{Cause, RegistryError};

/// How to speak to a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    /// TLS: what a host without a scheme means.
    Https,
    /// Plain HTTP: only where it is written.
    Http,
    /// A loopback host without a scheme: found out when connecting.
    Unstated,
}

/// One registry: scheme, host and port. Credentials are bound to exactly this.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Endpoint {
    scheme: Scheme,
    host: Host<String>,
    port: Option<u16>,
    /// Where the API lies on it, without `/v2`: empty, or `/artifactory/api/docker/NAME`.
    api_path: String,
}

/// A registry and, if given, the namespace below which everything goes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// The registry.
    pub endpoint: Endpoint,
    /// The path in front of every repository.
    pub namespace: Option<Repository>,
}

/// What kind of machine a host written as an address is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// A name, or an address of the public Internet.
    Public,
    /// An address of a private network.
    Private,
    /// This machine.
    Loopback,
    /// Reachable on one cable only; clouds put their metadata services (and secrets) there.
    LinkLocal,
}

impl Endpoint {
    /// The scheme.
    pub(crate) fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The port, given or the scheme's own.
    pub(crate) fn port(&self) -> u16 {
        self.port.unwrap_or(if self.scheme == Scheme::Http { 80 } else { 443 })
    }

    /// `host`, or `host:port` where a port was written: the key under which credentials are kept.
    pub(crate) fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.to_string(),
        }
    }

    /// The host, where it is a name and no address.
    pub(crate) fn name(&self) -> Option<&str> {
        match &self.host {
            Host::Domain(name) => Some(name),
            Host::Ipv4(_) | Host::Ipv6(_) => None,
        }
    }

    /// Whether the host is this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        reach(&self.host) == Reach::Loopback
    }

    /// Whether the host is this machine or an address of a private network.
    pub(super) fn is_local(&self) -> bool {
        matches!(reach(&self.host), Reach::Loopback | Reach::Private)
    }

    /// The same endpoint with its scheme settled.
    #[must_use]
    pub(super) fn with_scheme(&self, scheme: Scheme) -> Self {
        Self { scheme, ..self.clone() }
    }

    /// The path below which it has its API; empty as a rule.
    pub(crate) fn api_path(&self) -> &str {
        &self.api_path
    }

    /// The same host, with its API below a path as it may be written: `/repository/NAME`, with or without `/v2` behind it.
    ///
    /// # Errors
    /// Why it is no such path.
    pub(crate) fn with_api_path(&self, text: &str) -> Result<Self, String> {
        let path = text.trim_end_matches('/');
        let path = path.strip_suffix("/v2").unwrap_or(path);
        let odd = |c: char| c.is_whitespace() || c.is_control() || "?#%\\".contains(c);
        if !path.is_empty() && !path.starts_with('/') {
            return Err(format!("{text:?} does not begin with /"));
        }
        if path.contains("//") || path.split('/').any(|part| matches!(part, "." | "..")) || path.contains(odd)
        {
            return Err(format!("{text:?} holds something that has no place in a path"));
        }
        Ok(Self { api_path: path.to_owned(), ..self.clone() })
    }

    /// The same host on another port.
    #[must_use]
    pub(super) fn with_port(&self, port: u16) -> Self {
        Self { port: Some(port), ..self.clone() }
    }

    /// The URL of a path of the API, as `manifests/x` below `/v2/`.
    ///
    /// # Errors
    /// Only if the parts do not make a URL, which valid repositories, tags and digests always do.
    pub(super) fn url(&self, path: &str) -> Result<Url, RegistryError> {
        let text = format!("{self}{}/v2/{path}", self.api_path);
        Url::parse(&text).map_err(|e| Cause::Internal(format!("{text:?} is not a URL: {e}")).into())
    }

    /// Whether a URL leads to exactly this scheme, host and port, which is where credentials may go.
    pub(super) fn is_origin_of(&self, url: &Url) -> bool {
        url.scheme() == self.scheme.name()
            && self.is_host_of(url)
            && url.port_or_known_default() == Some(self.port())
    }

    /// Host and port, without the port that belongs to the scheme.
    pub(crate) fn place(&self) -> String {
        let usual = if self.scheme == Scheme::Http { 80 } else { 443 };
        let port = self.port.filter(|port| *port != usual);
        port.map_or_else(|| self.host.to_string(), |port| format!("{}:{port}", self.host))
    }

    /// Whether a URL leads to this host, on whatever port.
    pub(super) fn is_host_of(&self, url: &Url) -> bool {
        url.host() == Some(borrowed(&self.host))
    }
}

impl Scheme {
    /// The name in a URL; an unstated one is taken for TLS.
    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https | Self::Unstated => "https",
        }
    }
}

fn borrowed(host: &Host<String>) -> Host<&str> {
    match host {
        Host::Domain(name) => Host::Domain(name.as_str()),
        Host::Ipv4(address) => Host::Ipv4(*address),
        Host::Ipv6(address) => Host::Ipv6(*address),
    }
}

/// What kind of machine a host is, as far as its text tells.
pub(super) fn reach<S: AsRef<str>>(host: &Host<S>) -> Reach {
    let address = match host {
        Host::Domain(name) => {
            return if loopback::is_localhost(name.as_ref()) { Reach::Loopback } else { Reach::Public };
        }
        Host::Ipv4(address) => IpAddr::V4(*address),
        Host::Ipv6(address) => address.to_canonical(),
    };
    match address {
        a if loopback::is_loopback(a) || a.is_unspecified() => Reach::Loopback,
        IpAddr::V4(a) if a.is_link_local() => Reach::LinkLocal,
        IpAddr::V4(a) if a.is_private() || a.octets()[0] == 100 && a.octets()[1] & 0xc0 == 64 => {
            Reach::Private
        }
        IpAddr::V6(a) if a.is_unicast_link_local() => Reach::LinkLocal,
        IpAddr::V6(a) if a.is_unique_local() => Reach::Private,
        _ => Reach::Public,
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.name(), self.host)?;
        self.port.iter().try_for_each(|port| write!(f, ":{port}"))
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.endpoint.authority())?;
        self.namespace.iter().try_for_each(|namespace| write!(f, "/{namespace}"))
    }
}

impl Target {
    /// Whether both lead to the same namespace of the same registry, however they are written.
    pub(crate) fn is_same_place(&self, other: &Self) -> bool {
        let place = |target: &Self| (target.endpoint.host.clone(), target.endpoint.port());
        place(self) == place(other)
            && self.endpoint.api_path == other.endpoint.api_path
            && self.namespace == other.namespace
    }

    /// What runs lock of it, however its port is written. One host may have several registries, each below a path of its own.
    pub(crate) fn lock_key(&self) -> String {
        let host = self.endpoint.place();
        let place = self.namespace.as_ref().map_or(host.clone(), |namespace| format!("{host}/{namespace}"));
        match self.endpoint.api_path.as_str() {
            "" => place,
            path => format!("{place} below {path}"),
        }
    }
}

/// The text as it may be shown: what stands before an `@` may be a password.
fn without_userinfo(text: &str) -> String {
    text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, host)| format!("…@{host}"))
}

impl FromStr for Target {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let bad = |why: &str| {
            RegistryError::from(Cause::BadTarget { text: without_userinfo(text), why: why.to_owned() })
        };
        let (scheme, rest) = match text.split_once("://") {
            Some(("https", rest)) => (Some(Scheme::Https), rest),
            Some(("http", rest)) => (Some(Scheme::Http), rest),
            Some(_) => return Err(bad("the scheme is neither http nor https")),
            None => (None, text),
        };
        if rest.contains('@') {
            return Err(bad("a user or a digest has no place in it"));
        }
        if rest.contains(['?', '#', '\\', '%']) || rest.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(bad("it holds a character that is not allowed"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() {
            return Err(bad("the host is missing"));
        }
        // The parser below takes much that no host is called; a list would become one odd name.
        let odd = |c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && !".-_:[]".contains(c);
        if let Some(odd) = authority.chars().find(|c| odd(*c)) {
            let more = if odd == ',' || odd == ';' { ": give the option once for each registry" } else { "" };
            return Err(bad(&format!("no host has {odd:?} in its name{more}")));
        }
        // The same parser that will later take apart every Location and redirect, so that hosts compare equal. An
        // explicit port that is the scheme's own would get lost in it, and with it the key of the credentials.
        let url = Url::parse(&format!("layercast://{authority}/")).map_err(|e| bad(&e.to_string()))?;
        let port = url.port();
        let host = url.host_str().and_then(|host| Host::parse(host).ok()).ok_or_else(|| bad("no host"))?;
        let path = path.strip_suffix('/').unwrap_or(path);
        if path == "v2" || path.starts_with("v2/") {
            return Err(bad("/v2 is the registry's API and not a namespace: leave it out"));
        }
        let namespace = match path {
            "" => None,
            path => Some(path.parse().map_err(|e: crate::error::BundleError| bad(&e.to_string()))?),
        };
        let scheme = scheme.unwrap_or(match reach(&host) {
            Reach::Loopback => Scheme::Unstated,
            _ => Scheme::Https,
        });
        Ok(Self { endpoint: Endpoint { scheme, host, port, api_path: String::new() }, namespace })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::error::FailureKind;
    use proptest::prelude::*;

    fn target(text: &str) -> Target {
        text.parse().unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn targets_are_taken_apart() {
        for (text, endpoint, scheme, namespace) in [
            ("10.200.0.2:5000", "https://10.200.0.2:5000", Scheme::Https, None),
            ("mirror.example/gdc/prod/", "https://mirror.example", Scheme::Https, Some("gdc/prod")),
            ("https://Mirror.Example:443/a", "https://mirror.example:443", Scheme::Https, Some("a")),
            ("http://mirror.example/", "http://mirror.example", Scheme::Http, None),
            ("localhost:5000/x", "https://localhost:5000", Scheme::Unstated, Some("x")),
            ("127.1.2.3", "https://127.1.2.3", Scheme::Unstated, None),
            ("[::1]:5000/x", "https://[::1]:5000", Scheme::Unstated, Some("x")),
            ("http://localhost:5000", "http://localhost:5000", Scheme::Http, None),
        ] {
            let target = target(text);
            assert_eq!(target.endpoint.to_string(), endpoint, "{text}");
            assert_eq!(target.endpoint.scheme(), scheme, "{text}");
            assert_eq!(target.namespace.as_ref().map(Repository::as_str), namespace, "{text}");
        }
    }

    #[test]
    fn the_port_of_the_scheme_makes_no_other_place() {
        let key = |text: &str| target(text).lock_key();
        for (one, other, is_same) in [
            ("http://h/a", "http://h:80/a", true),
            ("https://h", "h:443", true),
            ("http://h", "http://h:443", false),
            ("h:80", "h", false),
            ("h/a", "h/b", false),
        ] {
            assert_eq!(key(one) == key(other), is_same, "{one} {other}");
        }
    }

    #[test]
    fn what_is_not_a_target() {
        for text in [
            "",
            "/a",
            "ftp://host",
            "host:port",
            "host:70000",
            "user:secret@host",
            "host/v2",
            "host/v2/ns",
            "host/UPPER",
            "host/a//b",
            "host/../a",
            "ho st",
            "gcr.io,quay.io",
            "https://a:1;b:1",
            "a*b",
            "host/a?b=c",
            "https://",
        ] {
            let error = text.parse::<Target>().unwrap_err();
            assert_eq!(error.kind(), FailureKind::Usage, "{text}: {error}");
        }
    }

    #[test]
    fn an_api_may_lie_below_a_path() {
        let endpoint = target("https://h:5000/ns").endpoint;
        for (text, url) in [
            ("/repository/docker", "https://h:5000/repository/docker/v2/a/manifests/1"),
            ("/artifactory/api/docker/x/v2/", "https://h:5000/artifactory/api/docker/x/v2/a/manifests/1"),
            ("/", "https://h:5000/v2/a/manifests/1"),
            ("", "https://h:5000/v2/a/manifests/1"),
            ("/v2", "https://h:5000/v2/a/manifests/1"),
        ] {
            let url_found = endpoint.with_api_path(text).unwrap().url("a/manifests/1").unwrap();
            assert_eq!(url_found.as_str(), url, "{text}");
        }
        for text in ["repository", "/a//b", "/../x", "/a?b", "/a b", "https://h/x"] {
            assert!(endpoint.with_api_path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn one_place_may_be_written_in_several_ways() {
        for (a, b, same) in [
            ("h:5000", "http://h:5000", true),
            ("H:5000/a", "https://h:5000/a/", true),
            ("h", "https://h:443", true),
            ("http://h", "h:80", true),
            ("http://h", "h", false),
            ("h:5000", "h:5001", false),
            ("h:5000/a", "h:5000/b", false),
            ("h:5000/a", "h:5000", false),
        ] {
            assert_eq!(target(a).is_same_place(&target(b)), same, "{a} {b}");
        }
        // One host may have several registries.
        let below = |path: &str| {
            let target = target("h:5000/a");
            Target { endpoint: target.endpoint.with_api_path(path).unwrap(), ..target }
        };
        let [a, b] = ["/repository/a", "/repository/b"].map(below);
        assert!(a.is_same_place(&a) && !a.is_same_place(&b) && !a.is_same_place(&target("h:5000/a")));
        assert_eq!(a.lock_key(), "h:5000/a below /repository/a");
        assert_ne!(a.lock_key(), b.lock_key());
        assert_eq!(target("h:5000/a").lock_key(), "h:5000/a");
    }

    #[test]
    fn a_list_is_told_from_a_name() {
        let said = "a.example:5000,b.example".parse::<Target>().unwrap_err().to_string();
        assert!(said.contains("',' in its name") && said.contains("once for each"), "{said}");
    }

    #[test]
    fn credentials_are_bound_to_scheme_host_and_port() {
        let endpoint = target("mirror.example").endpoint;
        let is_origin = |url: &str| endpoint.is_origin_of(&Url::parse(url).unwrap());
        assert!(is_origin("https://mirror.example/v2/"));
        assert!(is_origin("https://MIRROR.example:443/v2/"));
        assert!(!is_origin("http://mirror.example/v2/"));
        assert!(!is_origin("https://mirror.example:8443/v2/"));
        assert!(!is_origin("https://mirror.example.evil.test/v2/"));
    }

    #[test]
    fn addresses_are_judged_by_their_text() {
        for (host, expected) in [
            ("example.com", Reach::Public),
            ("8.8.8.8", Reach::Public),
            ("10.0.0.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("169.254.169.254", Reach::LinkLocal),
            ("[fe80::1]", Reach::LinkLocal),
            ("[::ffff:127.0.0.1]", Reach::Loopback),
            ("[fd00::1]", Reach::Private),
            ("0.0.0.0", Reach::Loopback),
            ("a.localhost", Reach::Loopback),
        ] {
            assert_eq!(reach(&Host::parse(host).unwrap()), expected, "{host}");
        }
    }

    proptest! {
        #[test]
        fn parsing_never_panics_and_what_is_accepted_makes_urls(text in ".{0,40}|(https?://)?[a-z0-9.:/\\[\\]-]{0,40}") {
            if let Ok(target) = text.parse::<Target>() {
                prop_assert!(target.endpoint.url("").is_ok());
            }
        }
    }
}
