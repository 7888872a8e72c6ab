//! `WWW-Authenticate`: what a registry wants, and whether its token server may be trusted. Pure.

use http_auth::ChallengeRef;
use url::{Host, Url};

use crate::registry::endpoint::{Endpoint, Reach, reach};

/// How to prove who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token from a server.
    Bearer(Bearer),
}

/// Where a token is to be had, and for what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) struct Bearer {
    pub(super) realm: Url,
    pub(super) service: Option<String>,
    pub(super) scope: Option<String>,
}

/// Picks what we can do among the challenges of an answer: tokens before passwords.
pub(in crate::registry) fn choose(values: &[String]) -> Option<Challenge> {
    let mut basic = None;
    for value in values {
        // What stands before a mistake still counts.
        for challenge in http_auth::ChallengeParser::new(value).map_while(Result::ok) {
            if challenge.scheme.eq_ignore_ascii_case("bearer") {
                if let Some(bearer) = bearer(&challenge) {
                    return Some(Challenge::Bearer(bearer));
                }
            } else if challenge.scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Challenge::Basic);
            }
        }
    }
    basic
}

fn bearer(challenge: &ChallengeRef<'_>) -> Option<Bearer> {
    let get = |name: &str| {
        let found = challenge.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.to_unescaped()).filter(|value| !value.is_empty())
    };
    let realm = Url::parse(&get("realm")?).ok()?;
    Some(Bearer { realm, service: get("service"), scope: get("scope") })
}

/// Whether a token may be asked for at `realm`.
///
/// A registry names its token server itself, so a bad one could name any: with credentials only the same origin, the
/// same organisation's domain over TLS, or a host that the operator allowed. Without credentials any public TLS host,
/// but never the inside of a network.
pub(super) fn check_realm(
    realm: &Url,
    endpoint: &Endpoint,
    allowed: &[String],
    with_secret: bool,
) -> Result<(), String> {
    let host = realm.host_str().unwrap_or_default();
    let refuse = |why: &str| Err(format!("the token server {host} is not trusted: {why}"));
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
        _ => return refuse("it is not reached by https"),
    }
    if endpoint.is_host_of(realm) || allowed.iter().any(|name| name.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    match realm.host() {
        Some(Host::Domain(name)) if !is_loopback => {
            let same = site(name).is_some_and(|realm_site| {
                endpoint
                    .url("")
                    .ok()
                    .and_then(|url| Some(site(url.host_str()?)? == realm_site))
                    .unwrap_or(false)
            });
            if same || !with_secret {
                Ok(())
            } else {
                refuse("it is not of the registry's domain, and not among the allowed ones (auth_realms)")
            }
        }
        _ => refuse("it is an address, or this machine"),
    }
}

/// The part of a name that one organisation registers, near enough: the last two labels, or three where the last but one
/// is as general as `co` in `co.uk`. Suffixes under which strangers get names of their own have no site.
fn site(host: &str) -> Option<String> {
    const SHARED: [&str; 9] = [
        "azurecr.io",
        "amazonaws.com",
        "azure.com",
        "windows.net",
        "cloudfront.net",
        "github.io",
        "gitlab.io",
        "pkg.dev",
        "run.app",
    ];
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let labels: Vec<&str> = host.split('.').collect();
    let general = |label: &str| {
        matches!(label, "co" | "com" | "org" | "net" | "gov" | "edu" | "ac" | "or" | "ne" | "go")
    };
    let take = match labels[..] {
        [.., second, first] if first.len() == 2 && general(second) => 3,
        _ => 2,
    };
    let start = labels.len().checked_sub(take)?;
    let site = labels[start..].join(".");
    (!SHARED.contains(&site.as_str())).then_some(site)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::endpoint::Target;
    use proptest::prelude::*;

    fn chosen(values: &[&str]) -> Option<Challenge> {
        choose(&values.iter().map(|&v| v.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn challenges_in_all_their_forms() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            Some(Challenge::Bearer(Bearer {
                realm: realm.parse().unwrap(),
                service: service.map(str::to_owned),
                scope: scope.map(str::to_owned),
            }))
        };
        let full = r#"Bearer realm="https://auth.r/token",service="r",scope="repository:a/b:pull,push",error="invalid_token""#;
        let expected = bearer("https://auth.r/token", Some("r"), Some("repository:a/b:pull,push"));
        assert_eq!(chosen(&[full]), expected);
        assert_eq!(chosen(&["Basic realm=\"x\"", full]), expected);
        assert_eq!(chosen(&[&format!("Negotiate, Basic realm=\"x\", {full}")]), expected);
        assert_eq!(chosen(&["bEARER Realm=\"https://r/t\""]), bearer("https://r/t", None, None));
        assert_eq!(chosen(&["basic realm=\"say \\\"hi\\\"\""]), Some(Challenge::Basic));
        assert_eq!(chosen(&["Bearer service=\"r\"", "Basic realm=x"]), Some(Challenge::Basic));
        assert_eq!(chosen(&["Bearer realm=\"no url\""]), None);
        assert_eq!(chosen(&["", "?!", "Digest realm=\"x\""]), None);
    }

    #[test]
    fn whom_a_token_server_may_be() {
        let check = |registry: &str, realm: &str, with_secret: bool| {
            let endpoint = registry.parse::<Target>().unwrap().endpoint;
            check_realm(&realm.parse().unwrap(), &endpoint, &["ok.example".to_owned()], with_secret).is_ok()
        };
        for (registry, realm, secret, anonymous) in [
            ("registry-1.docker.io", "https://auth.docker.io/token", true, true),
            ("r.example", "https://r.example:5001/auth", true, true),
            ("r.corp.example", "https://auth.corp.example/t", true, true),
            ("r.example", "https://ok.example/t", true, true),
            ("r.example", "https://evil.test/t", false, true),
            ("a.co.uk", "https://b.co.uk/t", false, true),
            ("a.azurecr.io", "https://b.azurecr.io/t", false, true),
            ("a.azurecr.io", "https://a.azurecr.io/t", true, true),
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

    proptest! {
        #[test]
        fn no_challenge_panics(value in ".{0,80}|(Bearer|Basic|,| |realm=|\"|https://r/|scope|=|\\\\){0,12}") {
            let _ = choose(&[value]);
        }
    }
}
