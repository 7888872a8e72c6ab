//! What is refused before anybody looks at the path.

use axum::http::header::{HOST, ORIGIN};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode, Version};

use super::error::{Code, Refusal};

/// Where the server stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standing {
    /// Only this machine reaches it.
    pub(super) is_loopback: bool,
    pub(super) read_only: bool,
}

/// Refuses what is no HTTP, what a page in a browser of this machine may have sent, and changes where none are wanted.
pub(super) fn admit(request: &Parts, standing: Standing) -> Result<(), Refusal> {
    let bad = |why: &str| Refusal::new(Code::Unsupported, why).status(StatusCode::BAD_REQUEST);
    // RFC 9112, 3.2: a server must answer 400 to no Host, two of them, and one that is none.
    let mut hosts = request.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            if !host.is_empty() && Authority::try_from(host.as_bytes()).is_err() {
                return Err(bad("the Host header names no host"));
            }
        }
        (None, _) if request.version == Version::HTTP_10 => {}
        (None, _) => return Err(bad("a Host header is missing")),
        (Some(_), Some(_)) => return Err(bad("there are two Host headers")),
    }
    // A page of another site can make a browser on this machine send requests here, and what is here trusts everybody.
    // The name in Host proves nothing: the page's own name may have been pointed at this machine.
    if standing.is_loopback
        && request.headers.get_all(ORIGIN).iter().any(|origin| !is_local(origin.as_bytes()))
    {
        let why = "a page of another site must not talk to a registry of this machine";
        return Err(Refusal::new(Code::Denied, why));
    }
    if standing.read_only && !matches!(request.method, Method::GET | Method::HEAD) {
        return Err(Refusal::new(Code::Unsupported, "this registry is read-only"));
    }
    Ok(())
}

fn is_local(origin: &[u8]) -> bool {
    let origin = std::str::from_utf8(origin).ok().and_then(|text| url::Url::parse(text).ok());
    match origin.as_ref().and_then(url::Url::host) {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    const LOOPBACK: Standing = Standing { is_loopback: true, read_only: false };

    fn status(standing: Standing, method: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri("/v2/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        admit(&parts, standing).map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn one_host_and_a_right_one() {
        for (hosts, expected) in [
            (&["127.0.0.1:5000"][..], 200),
            (&["[::1]:5000"], 200),
            (&[""], 200),
            (&[], 400),
            (&["a", "a"], 400),
            (&["a b"], 400),
            (&["a/b"], 400),
        ] {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            assert_eq!(status(LOOPBACK, "GET", &headers), expected, "{hosts:?}");
        }
    }

    #[test]
    fn pages_of_other_sites_stay_outside() {
        for (origin, expected) in [
            ("http://localhost:5000", 200),
            ("http://127.0.0.1:8080", 200),
            ("http://[::1]", 200),
            ("http://ui.localhost", 200),
            ("https://evil.example", 403),
            ("http://localhost.evil.example", 403),
            ("null", 403),
            ("", 403),
        ] {
            let headers = [("host", "evil.example:5000"), ("origin", origin)];
            assert_eq!(status(LOOPBACK, "GET", &headers), expected, "{origin}");
            let open = Standing { is_loopback: false, ..LOOPBACK };
            assert_eq!(status(open, "POST", &headers), 200, "whoever serves everybody is open to pages too");
        }
    }

    #[test]
    fn a_read_only_registry_changes_nothing() {
        let standing = Standing { read_only: true, ..LOOPBACK };
        let headers = [("host", "a")];
        for (method, expected) in [
            ("GET", 200),
            ("HEAD", 200),
            ("PUT", 405),
            ("POST", 405),
            ("PATCH", 405),
            ("DELETE", 405),
            ("X", 405),
        ] {
            assert_eq!(status(standing, method, &headers), expected, "{method}");
        }
    }
}
