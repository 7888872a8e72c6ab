//! Which proxy a request goes through, as the environment says: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in
//! small or capital letters.
//!
//! `NO_PROXY` takes every form that curl or Go takes: names with all their subdomains, with or without a leading dot;
//! addresses and networks (`10.0.0.0/8`); a port behind any of them; `*`.

use std::env;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use ipnet::IpNet;
use secrecy::SecretString;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::{Host, Url};

use crate::registry::error::{Cause, RegistryError};

/// How long to wait for the text with which a proxy explains a refusal.
const ASKED_FOR: Duration = Duration::from_secs(5);

/// The proxies of the environment.
#[derive(Debug, Clone, Default)]
pub(super) struct Proxies {
    http: Option<Proxy>,
    https: Option<Proxy>,
    bypass: Vec<Bypass>,
}

/// One proxy.
#[derive(Clone)]
pub(super) struct Proxy {
    url: Url,
    variable: String,
}

/// A host that is reached without a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bypass {
    whom: Whom,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Whom {
    Everybody,
    /// This name and those below it.
    Name(String),
    Network(IpNet),
}

impl Proxies {
    /// Reads the environment.
    ///
    /// # Errors
    /// A variable that names no proxy.
    pub(super) fn from_environment() -> Result<Self, RegistryError> {
        Self::read(|name| {
            env::var(name).ok().map(|value| value.trim().to_owned()).filter(|it| !it.is_empty())
        })
    }

    fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, RegistryError> {
        let first =
            |names: [&str; 2]| names.iter().find_map(|name| Some(((*name).to_owned(), variable(name)?)));
        let proxy = |names| first(names).or_else(|| first(["all_proxy", "ALL_PROXY"])).map(Proxy::parse);
        let bypass = first(["no_proxy", "NO_PROXY"]).map(|(_, list)| list).unwrap_or_default();
        let entries = bypass.split(|c: char| c == ',' || c.is_whitespace());
        Ok(Self {
            http: proxy(["http_proxy", "HTTP_PROXY"]).transpose()?,
            https: proxy(["https_proxy", "HTTPS_PROXY"]).transpose()?,
            bypass: entries.filter_map(Bypass::parse).collect(),
        })
    }

    /// The secrets to redact.
    pub(super) fn secrets(&self) -> impl Iterator<Item = SecretString> {
        self.http.iter().chain(&self.https).filter_map(Proxy::secret)
    }

    /// The proxy for a URL, if it is not reached without one.
    pub(super) fn of(&self, url: &Url) -> Option<&Proxy> {
        let proxy = if url.scheme() == "http" { self.http.as_ref() } else { self.https.as_ref() };
        let host = url.host()?;
        let port = url.port_or_known_default();
        proxy.filter(|_| !self.bypass.iter().any(|entry| entry.holds(&host, port)))
    }
}

impl Proxy {
    fn parse((variable, text): (String, String)) -> Result<Self, RegistryError> {
        let bad =
            |why: &str| RegistryError::from(Cause::BadFile { path: variable.clone(), why: why.to_owned() });
        let whole = if text.contains("://") { text } else { format!("http://{text}") };
        // Its text may hold a password, so it is not quoted.
        let url =
            Url::parse(&whole).map_err(|_| bad("it is not the address of a proxy: http://HOST:PORT"))?;
        if !matches!(url.scheme(), "http" | "https" | "socks4" | "socks4a" | "socks5" | "socks5h") {
            return Err(bad("the scheme of a proxy is http, https or socks5"));
        }
        if url.host().is_none() {
            return Err(bad("it names no host"));
        }
        Ok(Self { url, variable })
    }

    /// Its address, with what it wants to be shown.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// What it answers when it is asked to connect to `host:port`, as `403 Forbidden`: the HTTP client does not tell. None
    /// where that cannot be asked, or it does connect.
    pub(super) async fn refusal(&self, authority: &str) -> Option<String> {
        let (host, port) = (self.url.host_str()?, self.url.port_or_known_default()?);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let asked = async {
            let mut socket = TcpStream::connect((host, port)).await.ok()?;
            let login = self.login().map(|login| format!("Proxy-Authorization: Basic {login}\r\n"));
            let login = login.unwrap_or_default();
            let request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{login}\r\n");
            socket.write_all(request.as_bytes()).await.ok()?;
            let mut head = [0; 128];
            let len = socket.read(&mut head).await.ok()?;
            status_of(&String::from_utf8_lossy(&head[..len]))
        };
        let answer = tokio::time::timeout(ASKED_FOR, asked);
        if self.url.scheme() == "http" { answer.await.ok().flatten() } else { None }
    }

    /// User and password, as they stand in a header.
    fn login(&self) -> Option<String> {
        let decoded =
            |part: &str| percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned();
        let password = self.url.password().map(decoded).unwrap_or_default();
        let user = Some(self.url.username()).filter(|user| !user.is_empty())?;
        Some(base64::engine::general_purpose::STANDARD.encode(format!("{}:{password}", decoded(user))))
    }

    /// The secret to redact.
    fn secret(&self) -> Option<SecretString> {
        let password = self.url.password()?;
        Some(percent_encoding::percent_decode_str(password).decode_utf8_lossy().into_owned().into())
    }
}

/// The status that an answer begins with, if it is a refusal.
fn status_of(head: &str) -> Option<String> {
    let (version, status) = head.lines().next()?.split_once(' ')?;
    let refused = version.starts_with("HTTP/") && !status.starts_with('2');
    refused.then(|| status.trim().to_owned())
}

/// The address, without a password, and where it comes from.
impl std::fmt::Display for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        write!(f, "the proxy {}://{host}", self.url.scheme())?;
        self.url.port().iter().try_for_each(|port| write!(f, ":{port}"))?;
        write!(f, " (from {})", self.variable)
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Bypass {
    fn parse(entry: &str) -> Option<Self> {
        let entry = entry.split_once("://").map_or(entry, |(_, rest)| rest).trim_end_matches('/');
        if entry.is_empty() {
            return None;
        }
        let whom = |text: &str| -> Option<Whom> {
            let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
            if let Ok(network) = bare.parse::<IpNet>() {
                return Some(Whom::Network(network));
            }
            if let Ok(address) = bare.parse::<IpAddr>() {
                return Some(Whom::Network(address.into()));
            }
            let name = bare.strip_prefix('*').unwrap_or(bare).trim_matches('.').to_ascii_lowercase();
            match (bare, name.as_str()) {
                ("*", _) => Some(Whom::Everybody),
                (_, "") => None,
                _ => Some(Whom::Name(name)),
            }
        };
        // An address of IPv6 has colons of its own.
        if let Some(found @ Whom::Network(_)) = whom(entry) {
            return Some(Self { whom: found, port: None });
        }
        match entry.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) {
            Some((host, port)) => Some(Self { whom: whom(host)?, port: Some(port) }),
            None => Some(Self { whom: whom(entry)?, port: None }),
        }
    }

    fn holds(&self, host: &Host<&str>, port: Option<u16>) -> bool {
        if self.port.is_some() && self.port != port {
            return false;
        }
        match (&self.whom, host) {
            (Whom::Everybody, _) => true,
            (Whom::Name(name), Host::Domain(host)) => {
                let host = host.trim_end_matches('.').to_ascii_lowercase();
                host.strip_suffix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            }
            (Whom::Network(network), Host::Ipv4(address)) => network.contains(&IpAddr::V4(*address)),
            (Whom::Network(network), Host::Ipv6(address)) => {
                network.contains(&address.to_canonical()) || network.contains(&IpAddr::V6(*address))
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(pairs: &[(&str, &str)]) -> Result<Proxies, RegistryError> {
        Proxies::read(|name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn who_is_reached_without_a_proxy() {
        let through = |bypass: &str, url: &str| {
            let set = [("HTTPS_PROXY", "http://p:3128"), ("NO_PROXY", bypass)];
            proxies(&set).unwrap().of(&url.parse().unwrap()).is_some()
        };
        for (bypass, url, is_through) in [
            ("", "https://r.corp.example/", true),
            ("*", "https://r.corp.example/", false),
            ("corp.example", "https://r.corp.example/", false),
            ("corp.example", "https://corp.example/", false),
            (".corp.example", "https://r.corp.example/", false),
            (".corp.example", "https://corp.example/", false),
            ("*.corp.example", "https://r.corp.example/", false),
            ("CORP.example", "https://R.Corp.Example/", false),
            ("rp.example", "https://r.corp.example/", true),
            ("r.corp.example:5000", "https://r.corp.example:5000/", false),
            ("r.corp.example:5000", "https://r.corp.example/", true),
            ("r.corp.example:443", "https://r.corp.example/", false),
            (".corp.example:5000", "https://r.corp.example:5000/", false),
            ("10.0.0.0/8", "https://10.1.2.3:5000/", false),
            ("10.0.0.0/8", "https://11.1.2.3/", true),
            ("10.1.2.3", "https://10.1.2.3:5000/", false),
            ("10.1.2.3:5000", "https://10.1.2.3:5000/", false),
            ("10.1.2.3:5001", "https://10.1.2.3:5000/", true),
            ("10.0.0.0/8:5000", "https://10.1.2.3:5000/", false),
            ("fd00::/8", "https://[fd00::1]:5000/", false),
            ("[fd00::1]:5000", "https://[fd00::1]:5000/", false),
            ("fd00::1", "https://[fd00::1]/", false),
            ("10.0.0.0/8", "https://[::ffff:10.1.2.3]/", false),
            ("a.example, , r.corp.example b.example", "https://r.corp.example/", false),
            ("https://r.corp.example/", "https://r.corp.example/", false),
        ] {
            assert_eq!(through(bypass, url), is_through, "{bypass:?} and {url}");
        }
    }

    #[test]
    fn which_variable_counts() {
        let of = |pairs: &[(&str, &str)], url: &str| {
            proxies(pairs).unwrap().of(&url.parse().unwrap()).map(ToString::to_string)
        };
        let both = [("https_proxy", "s:1"), ("HTTPS_PROXY", "S:2"), ("HTTP_PROXY", "u:secret@p:3")];
        assert_eq!(of(&both, "https://r/").as_deref(), Some("the proxy http://s:1 (from https_proxy)"));
        assert_eq!(of(&both, "http://r/").as_deref(), Some("the proxy http://p:3 (from HTTP_PROXY)"));
        let all = [("ALL_PROXY", "socks5://s:1080")];
        assert_eq!(of(&all, "http://r/").as_deref(), Some("the proxy socks5://s:1080 (from ALL_PROXY)"));
        for bad in ["ftp://u:secret@p", "http://", "http://a b"] {
            let error = proxies(&[("HTTPS_PROXY", bad)]).unwrap_err().to_string();
            assert!(error.starts_with("HTTPS_PROXY: ") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn the_status_of_a_refusal_is_read() {
        for (head, expected) in [
            ("HTTP/1.1 403 Forbidden\r\nServer: x\r\n", Some("403 Forbidden")),
            ("HTTP/1.0 503 \r\n", Some("503")),
            ("HTTP/1.1 200 OK\r\n\r\n", None),
            ("SSH-2.0-x y", None),
            ("", None),
        ] {
            assert_eq!(status_of(head).as_deref(), expected, "{head:?}");
        }
    }
}
