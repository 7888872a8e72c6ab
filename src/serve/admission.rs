//! Requests that are refused before their path is read.

use axum::http::header::{HOST, ORIGIN, TRANSFER_ENCODING};
use axum::http::request::Parts;
use axum::http::uri::Authority;
use axum::http::{Method, StatusCode, Version};

use super::error::{Code, Refusal};
use crate::loopback;

/// The settings that decide which requests are refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct AdmissionPolicy {
    /// Only this machine can reach the server.
    pub(super) is_loopback: bool,
    /// The operator allows all clients and all host names.
    pub(super) anonymous: bool,
    pub(super) read_only: bool,
}

/// Refuses requests that break HTTP's rules, requests that a page in a browser of this machine may have sent, and changes of
/// a read-only registry.
pub(super) fn admit(request: &Parts, policy: AdmissionPolicy) -> Result<(), Refusal> {
    let bad = |why: &str| Refusal::new(Code::Unsupported, why).status(StatusCode::BAD_REQUEST);
    // RFC 9112, 3.2: a server must answer 400 to a request without a Host, with two of them, or with an invalid one.
    let mut hosts = request.headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            if !host.is_empty() && Authority::try_from(host.as_bytes()).is_err() {
                return Err(bad("the Host header is invalid"));
            }
            // The DNS name of another site may resolve to this machine (DNS rebinding), and then its pages send no Origin.
            let origin = [b"http://", host.as_bytes()].concat();
            if policy.is_loopback && !policy.anonymous && !host.is_empty() && !is_local(&origin) {
                let why = "this registry is for this machine alone: localhost, 127.0.0.1 or [::1] is its name; a proxy before it \
                           sends one of them as Host, or the registry is served with --anonymous";
                return Err(Refusal::new(Code::Denied, why));
            }
        }
        (None, _) if request.version == Version::HTTP_10 => {}
        (None, _) => return Err(bad("a Host header is missing")),
        (Some(_), Some(_)) => return Err(bad("there are two Host headers")),
    }
    // RFC 9112, 6.1 and 7.1: recipients disagree on the length of a body that is chunked twice, or coded in another way.
    let codings = request.headers.get_all(TRANSFER_ENCODING).iter();
    let mut codings = codings.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    if let (Some(first), more) = (codings.next(), codings.next())
        && (more.is_some() || !first.trim_ascii().eq_ignore_ascii_case(b"chunked"))
    {
        return Err(bad("Transfer-Encoding may be chunked, once, and nothing else"));
    }
    // A page of another site can make a browser on this machine send requests here, and this registry has no login.
    if policy.is_loopback && request.headers.get_all(ORIGIN).iter().any(|origin| !is_local(origin.as_bytes()))
    {
        let why = "a page of another site (Origin) may not use a registry of this machine";
        return Err(Refusal::new(Code::Denied, why));
    }
    if policy.read_only && !matches!(request.method, Method::GET | Method::HEAD) {
        return Err(Refusal::new(Code::Unsupported, "this registry is read-only"));
    }
    Ok(())
}

fn is_local(origin: &[u8]) -> bool {
    let origin = std::str::from_utf8(origin).ok().and_then(|text| url::Url::parse(text).ok());
    match origin.as_ref().and_then(url::Url::host) {
        Some(url::Host::Domain(name)) => loopback::is_localhost(name),
        Some(url::Host::Ipv4(address)) => loopback::is_loopback(address.into()),
        Some(url::Host::Ipv6(address)) => loopback::is_loopback(address.into()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::Request;

    const LOOPBACK: AdmissionPolicy =
        AdmissionPolicy { is_loopback: true, anonymous: false, read_only: false };

    fn status(policy: AdmissionPolicy, method: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().method(method).uri("/v2/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (parts, ()) = request.body(()).unwrap().into_parts();
        admit(&parts, policy).map_or_else(|refusal| refusal.status.as_u16(), |()| 200)
    }

    #[test]
    fn one_host_and_a_right_one() {
        for (hosts, expected) in [
            (&["127.0.0.1:5000"][..], 200),
            (&["[::1]:5000"], 200),
            (&[""], 200),
            (&[], 400),
            (&["localhost"], 200),
            (&["evil.example:5000"], 403),
            (&["127.0.0.1.evil.example"], 403),
            (&["a", "a"], 400),
            (&["a b"], 400),
            (&["a/b"], 400),
        ] {
            let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
            assert_eq!(status(LOOPBACK, "GET", &headers), expected, "{hosts:?}");
            let open = AdmissionPolicy { anonymous: true, ..LOOPBACK };
            assert_eq!(
                status(open, "GET", &headers),
                if expected == 403 { 200 } else { expected },
                "{hosts:?}"
            );
        }
    }

    #[test]
    fn a_body_is_chunked_once() {
        for (codings, expected) in [
            (&["chunked"][..], 200),
            (&["Chunked "], 200),
            (&["chunked", "chunked"], 400),
            (&["chunked, chunked"], 400),
            (&["gzip, chunked"], 400),
            (&["identity"], 400),
        ] {
            let codings = codings.iter().map(|coding| ("transfer-encoding", *coding));
            let headers: Vec<_> = codings.chain([("host", "localhost")]).collect();
            assert_eq!(status(LOOPBACK, "PUT", &headers), expected, "{headers:?}");
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
            let headers = [("host", "localhost:5000"), ("origin", origin)];
            assert_eq!(status(LOOPBACK, "GET", &headers), expected, "{origin}");
            let open = AdmissionPolicy { is_loopback: false, ..LOOPBACK };
            assert_eq!(
                status(open, "POST", &headers),
                200,
                "a registry that serves everybody serves pages too"
            );
        }
    }

    #[test]
    fn a_read_only_registry_changes_nothing() {
        let policy = AdmissionPolicy { read_only: true, ..LOOPBACK };
        let headers = [("host", "127.0.0.1")];
        for (method, expected) in [
            ("GET", 200),
            ("HEAD", 200),
            ("PUT", 405),
            ("POST", 405),
            ("PATCH", 405),
            ("DELETE", 405),
            ("X", 405),
        ] {
            assert_eq!(status(policy, method, &headers), expected, "{method}");
        }
    }
}
