//! Upload locations and redirects, resolved and checked. Pure.
//!
//! A `Location` may be absolute or relative in any way and carries state in its query that must come back byte for byte.
//! A server must not be able to lead credentials or an upload to another host: see CVE-2026-50151.

use url::Url;

use crate::oci::Digest;
use crate::registry::endpoint::{Endpoint, Reach, reach};

/// Why a location is not used for an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LocationRefusal {
    pub(super) why: String,
    /// The host that the operator would have to allow.
    pub(super) allow: Option<String>,
}

impl From<String> for LocationRefusal {
    fn from(why: String) -> Self {
        Self { why, allow: None }
    }
}

/// Resolves the `Location` of an upload against the URL that was asked.
///
/// A registry behind a proxy that ends TLS often says `http://` for itself, and one whose proxy passes its name on without
/// the port (`Host $host`) leaves the port out: both are taken back to the scheme and the port that are known to work.
/// Another host is refused unless it is among those `allowed`; it never gets credentials, as they are bound to the endpoint.
pub(super) fn upload(
    base: &Url,
    text: &str,
    endpoint: &Endpoint,
    allowed: &[String],
) -> Result<Url, LocationRefusal> {
    let mut url = join(base, text)?;
    if endpoint.is_host_of(&url) {
        let loses_tls = base.scheme() == "https" && url.scheme() == "http";
        let loses_port = url.port().is_none() && base.port().is_some();
        // A registry that is asked in clear text and calls itself https:// at the same port has no TLS there.
        let gains_tls = base.scheme() == "http" && url.scheme() == "https" && url.port() == base.port();
        if loses_tls || loses_port || gains_tls {
            url.set_port(None)
                .and_then(|()| url.set_scheme(base.scheme()))
                .map_err(|()| "its scheme cannot be mended".to_owned())?;
            url.set_port(Some(endpoint.port())).map_err(|()| "it cannot take the port".to_owned())?;
        }
        return Ok(url);
    }
    let host = url.host_str().unwrap_or_default();
    if !allowed.iter().any(|name| is_named(name, &url)) {
        let why = format!("it leads to another host, {host}");
        return Err(LocationRefusal { why, allow: Some(host.to_owned()) });
    }
    if url.scheme() != "https" && !endpoint.is_local() {
        return Err(format!("it leads to another host, {host}, in clear text").into());
    }
    check_reach(&url, endpoint)?;
    Ok(url)
}

/// Whether `HOST` or `HOST:PORT`, with or without a scheme, names the server of a URL.
pub(super) fn is_named(name: &str, url: &Url) -> bool {
    let bare = name.split_once("://").map_or(name, |(_, rest)| rest).trim_end_matches('/');
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or_default();
    bare.eq_ignore_ascii_case(host) || bare.eq_ignore_ascii_case(&format!("{host}:{port}"))
}

/// Resolves the redirect of a GET or HEAD: other hosts are usual there (object stores), without credentials.
pub(super) fn redirect(base: &Url, text: &str, endpoint: &Endpoint) -> Result<Url, String> {
    let url = join(base, text)?;
    if base.scheme() == "https" && url.scheme() != "https" {
        return Err("it leads from https to http".to_owned());
    }
    if !endpoint.is_host_of(&url) {
        check_reach(&url, endpoint)?;
    }
    Ok(url)
}

/// The URL that closes an upload: `digest=` is added to the query as it stands, never parsed and written again.
pub(super) fn with_digest(location: &Url, digest: &Digest) -> Result<Url, String> {
    let query = location.query().unwrap_or_default();
    if query.split('&').any(|pair| pair.split('=').next() == Some("digest")) {
        return Err("it already names a digest".to_owned());
    }
    let digest = digest.to_string().replace(':', "%3A");
    let mut url = location.clone();
    let between = if query.is_empty() { "" } else { "&" };
    url.set_query(Some(&format!("{query}{between}digest={digest}")));
    url.set_fragment(None);
    Ok(url)
}

fn join(base: &Url, text: &str) -> Result<Url, String> {
    let url = base.join(text).map_err(|e| format!("it is not a URL: {e}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("its scheme is neither http nor https".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it names a user".to_owned());
    }
    Ok(url)
}

/// A registry on a public address must not redirect to an address inside a network.
fn check_reach(url: &Url, endpoint: &Endpoint) -> Result<(), String> {
    match url.host().as_ref().map(reach) {
        Some(Reach::Public) => Ok(()),
        Some(Reach::Private | Reach::Loopback) if endpoint.is_local() => Ok(()),
        _ => Err(format!("it leads to {}, which is not public", url.host_str().unwrap_or("no host"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::endpoint::Target;
    use proptest::prelude::*;

    fn endpoint(text: &str) -> Endpoint {
        text.parse::<Target>().unwrap().endpoint
    }

    #[test]
    fn upload_locations() {
        let base = Url::parse("https://r.example:5000/v2/a/blobs/uploads/").unwrap();
        let endpoint = endpoint("r.example:5000");
        for (text, expected) in [
            (
                "https://r.example:5000/v2/a/blobs/uploads/1",
                Ok("https://r.example:5000/v2/a/blobs/uploads/1"),
            ),
            (
                "/v2/a/blobs/uploads/1?_state=x%3D",
                Ok("https://r.example:5000/v2/a/blobs/uploads/1?_state=x%3D"),
            ),
            ("1", Ok("https://r.example:5000/v2/a/blobs/uploads/1")),
            ("../uploads/1", Ok("https://r.example:5000/v2/a/blobs/uploads/1")),
            (
                "?_nouploadcache=false&_state=a/b+c~",
                Ok("https://r.example:5000/v2/a/blobs/uploads/?_nouploadcache=false&_state=a/b+c~"),
            ),
            ("//r.example:5000/up/1", Ok("https://r.example:5000/up/1")),
            ("/prefix/v2/a%20b/1", Ok("https://r.example:5000/prefix/v2/a%20b/1")),
            ("/v2/1#frag", Ok("https://r.example:5000/v2/1#frag")),
            ("https://R.Example:8443/1", Ok("https://r.example:8443/1")),
            ("http://r.example/v2/1", Ok("https://r.example:5000/v2/1")),
            ("http://r.example:5000/v2/1?a=b", Ok("https://r.example:5000/v2/1?a=b")),
            ("http://r.example:80/v2/1", Ok("https://r.example:5000/v2/1")),
            ("https://r.example/v2/1?a=b", Ok("https://r.example:5000/v2/1?a=b")),
            ("https://evil.example/1", Err("another host")),
            ("//evil.example/1", Err("another host")),
            ("\\\\evil.example/1", Err("another host")),
            ("https://r.example.evil.example/1", Err("another host")),
            ("https://u:p@r.example:5000/1", Err("user")),
            ("ftp://r.example/1", Err("scheme")),
            ("https://[", Err("not a URL")),
        ] {
            let found = upload(&base, text, &endpoint, &[]).map_err(|refused| refused.why);
            match expected {
                Ok(url) => assert_eq!(found.as_ref().map(Url::as_str), Ok(url), "{text}"),
                Err(why) => assert!(found.clone().unwrap_err().contains(why), "{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_default_port_comes_back_after_http() {
        let base = Url::parse("https://r.example/v2/").unwrap();
        let found = upload(&base, "http://r.example:8080/v2/1", &endpoint("r.example"), &[]).unwrap();
        assert_eq!(found.as_str(), "https://r.example/v2/1");
    }

    #[test]
    fn in_clear_text_the_port_and_the_scheme_that_work_are_kept() {
        let base = Url::parse("http://r.example:5000/v2/").unwrap();
        for (text, expected) in [
            ("http://r.example/v2/1?a=b", "http://r.example:5000/v2/1?a=b"),
            ("https://r.example/v2/1", "http://r.example:5000/v2/1"),
            ("https://r.example:5000/v2/1", "http://r.example:5000/v2/1"),
            ("https://r.example:8443/v2/1", "https://r.example:8443/v2/1"),
            ("http://r.example:81/v2/1", "http://r.example:81/v2/1"),
        ] {
            let found = upload(&base, text, &endpoint("http://r.example:5000"), &[]).unwrap();
            assert_eq!(found.as_str(), expected, "{text}");
        }
    }

    #[test]
    fn foreign_locations_that_are_allowed_stay_public_and_secret() {
        let base = Url::parse("https://r.example/v2/").unwrap();
        let (public, local) = (endpoint("r.example"), endpoint("10.0.0.1"));
        let allowed = ["store.example:443", "10.0.0.2", "169.254.169.254"].map(str::to_owned);
        let to = |text: &str, endpoint: &Endpoint| upload(&base, text, endpoint, &allowed);
        assert!(to("https://store.example/1", &public).is_ok());
        assert!(to("http://store.example/1", &public).is_err());
        assert!(to("https://10.0.0.2/1", &public).is_err());
        assert!(to("https://10.0.0.2/1", &local).is_ok());
        assert!(to("https://169.254.169.254/1", &local).is_err());
        let other = to("https://other.example/1", &public).unwrap_err();
        assert_eq!(other.allow.as_deref(), Some("other.example"));
    }

    #[test]
    fn redirects() {
        let base = Url::parse("https://r.example/v2/a/blobs/x").unwrap();
        let public = endpoint("r.example");
        assert!(redirect(&base, "https://bucket.store.example/x?sig=1", &public).is_ok());
        assert!(redirect(&base, "/other", &public).is_ok());
        for text in [
            "http://r.example/x",
            "https://127.0.0.1/x",
            "https://localhost/x",
            "https://[::1]/",
            "file:///etc/passwd",
        ] {
            assert!(redirect(&base, text, &public).is_err(), "{text}");
        }
        let plain = Url::parse("http://10.0.0.1:5000/v2/").unwrap();
        assert!(redirect(&plain, "http://10.0.0.2:9000/x", &endpoint("http://10.0.0.1:5000")).is_ok());
    }

    #[test]
    fn the_digest_is_added_to_the_query_as_it_stands() {
        let digest = Digest::of(b"");
        let hex = digest.hex();
        for (location, query) in [
            ("https://r/1", format!("digest=sha256%3A{hex}")),
            ("https://r/1?", format!("digest=sha256%3A{hex}")),
            ("https://r/1?_state=a%2Fb=&z=+", format!("_state=a%2Fb=&z=+&digest=sha256%3A{hex}")),
        ] {
            let url = with_digest(&Url::parse(location).unwrap(), &digest).unwrap();
            assert_eq!(url.query(), Some(query.as_str()), "{location}");
        }
        assert!(with_digest(&Url::parse("https://r/1?digest=x").unwrap(), &digest).is_err());
    }

    proptest! {
        #[test]
        fn no_location_panics_or_leaves_the_host(text in ".{0,60}|(https?:)?[/\\\\a-z.:@?#\\[\\]0-9]{0,40}") {
            let base = Url::parse("https://r.example/v2/a/blobs/uploads/").unwrap();
            let endpoint = endpoint("r.example");
            if let Ok(url) = upload(&base, &text, &endpoint, &[]) {
                prop_assert!(endpoint.is_host_of(&url) && url.scheme() == "https");
            }
        }
    }
}
