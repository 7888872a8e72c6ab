//! Whether a token server may be trusted with a password. Pure.

use url::{Host, Url};

use crate::registry::endpoint::{Endpoint, Reach, reach};
use crate::registry::location::is_named;
use crate::registry::redact::redacted;

/// Domains below which unrelated organisations have registries, and which the public suffix list lacks.
const SHARED: [&str; 3] = ["azurecr.io", "pkg.dev", "jfrog.io"];

/// A token server that is refused.
#[derive(Debug)]
pub(super) struct Foreign {
    pub(super) why: String,
    /// The host that the operator would have to allow.
    pub(super) allow: Option<String>,
}

/// Whether a token may be asked for at `realm`.
///
/// A registry names its token server itself, so a bad one could name any: with credentials only the same origin, the
/// same organisation's domain over TLS, or a host that the operator allowed. Without credentials any public TLS host,
/// but never the inside of a network.
///
/// # Errors
/// Why not, and whether the operator can allow it.
pub(super) fn check_realm(
    realm: &Url,
    endpoint: &Endpoint,
    allowed: &[String],
    with_secret: bool,
) -> Result<(), Foreign> {
    let host = realm.host_str().unwrap_or_default();
    let named = if host.is_empty() { redacted(realm) } else { host.to_owned() };
    let foreign = |why: &str| Foreign {
        why: format!("the registry names {named} as its token server, which is not asked: {why}"),
        allow: None,
    };
    let refuse = |why: &str| Err(foreign(why));
    let refuse_password = |why: &str| {
        let why = format!("{why}, and would be shown the password");
        Err(Foreign { allow: Some(host.to_owned()), ..foreign(&why) })
    };
    if !realm.username().is_empty() || realm.password().is_some() {
        return refuse("its address names a user");
    }
    if endpoint.is_origin_of(realm) {
        return Ok(());
    }
    let is_loopback = realm.host().as_ref().map(reach) == Some(Reach::Loopback);
    match realm.scheme() {
        "https" => {}
        "http" if endpoint.is_loopback() && is_loopback => return Ok(()),
        "http" if endpoint.is_host_of(realm) => {
            return refuse(
                "its address begins with http://; the registry must be told its own address with https:// (external_url, hostname)",
            );
        }
        _ => return refuse("its address does not begin with https://"),
    }
    if endpoint.is_host_of(realm) || allowed.iter().any(|name| is_named(name, realm)) {
        return Ok(());
    }
    match realm.host() {
        Some(Host::Domain(name)) if !is_loopback => {
            let own = endpoint.url("").ok().and_then(|url| site(url.host_str()?));
            if !with_secret || own.is_some() && own == site(name) {
                return Ok(());
            }
            refuse_password("it is not of the registry's own domain")
        }
        _ if with_secret => refuse_password("it is an address, or this machine"),
        _ => refuse("it is an address, or this machine"),
    }
}

/// The part of a name that one organisation has registered; none for a name that is itself a suffix, as `localhost`.
fn site(host: &str) -> Option<String> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    for shared in SHARED {
        if let Some(own) = host.strip_suffix(shared).and_then(|rest| rest.strip_suffix('.')) {
            return Some(format!("{}.{shared}", own.rsplit('.').next()?));
        }
    }
    psl::domain_str(&host).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::endpoint::Target;

    #[test]
    fn whom_a_token_server_may_be() {
        let check = |registry: &str, realm: &str, with_secret: bool| {
            let endpoint = registry.parse::<Target>().unwrap().endpoint;
            let allowed = ["ok.example".to_owned(), "10.1.1.1:8443".to_owned()];
            check_realm(&realm.parse().unwrap(), &endpoint, &allowed, with_secret).is_ok()
        };
        for (registry, realm, secret, anonymous) in [
            ("registry-1.docker.io", "https://auth.docker.io/token", true, true),
            ("r.example", "https://r.example:5001/auth", true, true),
            ("r.corp.example", "https://auth.corp.example/t", true, true),
            ("r.corp.local", "https://auth.corp.local/t", true, true),
            ("a.corp.co.uk", "https://b.corp.co.uk/t", true, true),
            ("r.example", "https://ok.example/t", true, true),
            ("r.example", "https://10.1.1.1:8443/t", true, true),
            ("r.example", "https://10.1.1.1/t", false, false),
            ("r.example", "https://evil.test/t", false, true),
            ("a.co.uk", "https://b.co.uk/t", false, true),
            ("a.github.io", "https://b.github.io/t", false, true),
            ("a.azurecr.io", "https://b.azurecr.io/t", false, true),
            ("a.azurecr.io", "https://a.azurecr.io/t", true, true),
            ("a.b.jfrog.io", "https://c.b.jfrog.io/t", true, true),
            ("vm:5000", "https://runsc/t", false, true),
            ("r.example", "http://r.example/t", false, false),
            ("r.example", "https://169.254.169.254/t", false, false),
            ("r.example", "https://localhost/t", false, false),
            ("r.example", "https://u:p@r.example/t", false, false),
            ("r.example", "file:///etc/passwd", false, false),
            ("http://10.0.0.1:5000", "http://10.0.0.1:5000/t", true, true),
            ("http://10.0.0.1:5000", "http://10.0.0.1:5001/t", false, false),
            ("10.0.0.1:5000", "https://10.0.0.1:5001/t", true, true),
            ("http://localhost:5000", "http://127.0.0.1:5001/t", true, true),
        ] {
            assert_eq!(check(registry, realm, true), secret, "{registry} {realm} with a secret");
            assert_eq!(check(registry, realm, false), anonymous, "{registry} {realm} without");
        }
    }

    #[test]
    fn a_refusal_says_how_it_is_allowed() {
        let endpoint = "vm:5000".parse::<Target>().unwrap().endpoint;
        let check = |realm: &str| check_realm(&realm.parse().unwrap(), &endpoint, &[], true).unwrap_err();
        assert_eq!(check("https://harbor.example/t").allow.as_deref(), Some("harbor.example"));
        assert!(check("http://harbor.example/t").allow.is_none(), "nobody can allow clear text");
    }
}
