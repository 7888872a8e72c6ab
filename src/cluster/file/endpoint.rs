//! An endpoint of a mirror: `https://HOST[:PORT][/v2/NAMESPACE]` becomes a place to push to.

use crate::registry::{ApiPathFault, Target, namespace_of};

/// An endpoint that can be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ParsedEndpoint {
    /// With its scheme.
    pub(super) text: String,
    pub(super) target: Target,
    /// What somebody should know of it all the same: what, and the correction.
    pub(super) warning: Option<(String, String)>,
}

/// Why it cannot be used, and the correction.
pub(super) type EndpointRefusal = (String, String);

/// The endpoint that leads nodes to where a bundle was pushed.
pub(super) fn of(target: &Target) -> String {
    match &target.namespace {
        Some(namespace) => format!("{}/v2/{namespace}", target.endpoint),
        None => target.endpoint.to_string(),
    }
}

pub(super) fn parse(text: &str) -> Result<ParsedEndpoint, EndpointRefusal> {
    let (scheme, rest) = text.split_once("://").unwrap_or(("https", text));
    if rest.contains('@') {
        // Not shown: what stands before it may be a password.
        return Err((
            "credentials have no place in an endpoint".to_owned(),
            "name a docker config.json in pullCredentialConfigPath".to_owned(),
        ));
    }
    if rest.contains([',', ';', ' ']) {
        return Err((
            "more than one address stands in it".to_owned(),
            "endpoint: https://HOST:PORT, in an entry of its own for each mirror".to_owned(),
        ));
    }
    if scheme != "https" && scheme != "http" {
        return Err((format!("{scheme}:// is neither https nor http"), format!("endpoint: https://{rest}")));
    }
    let (authority, path) =
        rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
    let namespace = namespace(scheme, authority, path)?;
    let address = match &namespace {
        Some(namespace) => format!("{scheme}://{authority}/{namespace}"),
        None => format!("{scheme}://{authority}"),
    };
    let target: Target = address.parse().map_err(|error: crate::registry::RegistryError| {
        (error.to_string(), "endpoint: https://HOST:PORT, or https://HOST:PORT/v2/NAMESPACE".to_owned())
    })?;
    let whole = of(&target);
    let warning = if !text.contains("://") {
        Some(("the endpoint has no scheme".to_owned(), format!("endpoint: {whole}")))
    } else if scheme == "http" && !target.endpoint.is_loopback() {
        Some((
            "images and credentials cross the network without TLS".to_owned(),
            format!("endpoint: https://{rest}, with the registry's CA in caCertPath"),
        ))
    } else {
        None
    };
    Ok(ParsedEndpoint { text: whole, target, warning })
}

/// What stands behind `/v2/`.
fn namespace(scheme: &str, authority: &str, path: Option<&str>) -> Result<Option<String>, EndpointRefusal> {
    let right = |namespace: &str| {
        let slash = if namespace.is_empty() { "" } else { "/" };
        format!("endpoint: {scheme}://{authority}/v2{slash}{namespace}")
    };
    namespace_of(path).map_err(|fault| match fault {
        ApiPathFault::Root => (
            "an endpoint that ends in / is asked for paths without /v2, which no registry has".to_owned(),
            format!("endpoint: {scheme}://{authority}"),
        ),
        ApiPathFault::Twice(namespace) => ("/v2 stands in it twice".to_owned(), right(&namespace)),
        ApiPathFault::Behind(namespace) => ("/v2 comes before the namespace".to_owned(), right(&namespace)),
        ApiPathFault::Missing(namespace) => (
            format!("/v2 is missing before the namespace {namespace}: every pull would end in 404"),
            right(&namespace),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_places_to_push_to() {
        for (text, whole, target, warned) in [
            ("https://172.18.0.20:5000", "https://172.18.0.20:5000", "172.18.0.20:5000", false),
            ("172.18.0.20:5000", "https://172.18.0.20:5000", "172.18.0.20:5000", true),
            ("https://r.example/v2/", "https://r.example", "r.example", false),
            ("https://r:1/v2/a/b/", "https://r:1/v2/a/b", "r:1/a/b", false),
            ("http://r:1/v2/a", "http://r:1/v2/a", "r:1/a", true),
            ("http://127.0.0.1:1", "http://127.0.0.1:1", "127.0.0.1:1", false),
            ("https://[fd00::1]:5000/v2/a", "https://[fd00::1]:5000/v2/a", "[fd00::1]:5000/a", false),
        ] {
            let endpoint = parse(text).unwrap();
            assert_eq!((endpoint.text.as_str(), endpoint.target.to_string().as_str()), (whole, target));
            assert_eq!(endpoint.warning.is_some(), warned, "{text}");
        }
    }

    #[test]
    fn mistakes_are_told_with_their_correction() {
        for (text, what, fix) in [
            ("https://r:1/ns", "missing before the namespace", "https://r:1/v2/ns"),
            ("https://r:1/a/b", "missing before the namespace a/b", "https://r:1/v2/a/b"),
            ("https://r:1/ns/v2", "before the namespace", "https://r:1/v2/ns"),
            ("https://r:1/v2/v2/ns", "twice", "https://r:1/v2/ns"),
            ("https://r:1/", "ends in /", "endpoint: https://r:1"),
            ("ftp://r:1", "neither https nor http", "https://r:1"),
            ("https://r:1/v2/NS", "", "NAMESPACE"),
            ("https://r:1/v2/a?b", "", "HOST:PORT"),
            ("https://", "host", "HOST:PORT"),
            ("https://a,https://b", "more than one address", "entry of its own"),
        ] {
            let (message, correction) = parse(text).unwrap_err();
            assert!(message.contains(what) && correction.contains(fix), "{text}: {message}: {correction}");
        }
        let (message, fix) = parse("https://u:hunter2@r:1").unwrap_err();
        assert!(!message.contains("hunter2") && fix.contains("pullCredentialConfigPath"));
    }
}
