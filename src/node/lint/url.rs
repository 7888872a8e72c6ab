//! A URL as people write it into configuration, taken apart without any judgement.

use crate::node::hosts::{self, split_port};

/// The parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UrlParts<'a> {
    /// `None` where there is no `://`.
    pub(super) scheme: Option<&'a str>,
    pub(super) userinfo: Option<&'a str>,
    /// `host` or `host:port`.
    pub(super) authority: &'a str,
    /// With its first slash; without query and fragment.
    pub(super) path: &'a str,
    pub(super) query: bool,
}

pub(super) fn parts(text: &str) -> UrlParts<'_> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme, rest)) => (Some(scheme), rest),
        None => (None, text),
    };
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let (rest, query) = (&rest[..end], end < rest.len());
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let (userinfo, authority) = match authority.rsplit_once('@') {
        Some((userinfo, host)) => (Some(userinfo), host),
        None => (None, authority),
    };
    UrlParts { scheme, userinfo, authority, path, query }
}

impl UrlParts<'_> {
    /// The path's parts.
    pub(super) fn segments(&self) -> Vec<&str> {
        self.path.split('/').filter(|segment| !segment.is_empty()).collect()
    }

    /// The path without a `v2` in it: the namespace.
    pub(super) fn namespace(&self) -> String {
        let segments = self.segments();
        segments.into_iter().filter(|segment| *segment != "v2").collect::<Vec<_>>().join("/")
    }

    /// As it may be shown: without a password.
    pub(super) fn shown(&self) -> String {
        let scheme = self.scheme.map(|scheme| format!("{scheme}://")).unwrap_or_default();
        format!("{scheme}{}{}", self.authority, self.path)
    }
}

/// Names under which Docker Hub is known to people but not to runtimes, which say `docker.io`.
pub(super) fn is_docker_alias(host: &str) -> bool {
    matches!(
        host,
        "index.docker.io"
            | "registry-1.docker.io"
            | "hub.docker.com"
            | "registry.hub.docker.com"
            | "docker.com"
    )
}

/// Names of Docker Hub that no registry answers under, or that redirect to a web site.
pub(super) fn is_docker_web_site(host: &str) -> bool {
    matches!(host, "docker.io" | "www.docker.io" | "hub.docker.com" | "docker.com" | "www.docker.com")
}

/// The server that has the images of a registry by its name in images.
pub(super) fn server_of(upstream: &str) -> &str {
    let host = split_port(upstream).0;
    if host == "docker.io" || is_docker_alias(host) { "registry-1.docker.io" } else { upstream }
}

/// Why the host of a URL is invalid: several addresses in one, a wildcard, a missing port.
pub(super) fn garbled(text: &str) -> Option<&'static str> {
    let UrlParts { scheme, authority, path, .. } = parts(text);
    if authority.contains('*') {
        return Some("a wildcard is no host");
    }
    if text.contains([',', ';', ' ']) || path.contains("://") || text.matches("://").count() > 1 {
        return Some("several addresses are run together");
    }
    if authority.ends_with(':') || authority.is_empty() {
        return Some("the host or its port is missing");
    }
    if scheme.is_some_and(|scheme| !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https")) {
        return Some("registries are spoken to by http and https alone");
    }
    // containerd takes what begins with http for a whole URL, and `httpd:5000` for a scheme.
    (text.starts_with("http") && !text.contains("://")).then_some("it begins like a scheme")
}

/// Why what is written for an endpoint cannot be asked; `https://` is put in front where no scheme is, as containerd and k3s do.
pub(super) fn endpoint_fault(endpoint: &str) -> Option<String> {
    let whole = if endpoint.contains("://") {
        endpoint.to_owned()
    } else {
        format!("https://{}", endpoint.trim_start_matches('/'))
    };
    let scheme = parts(&whole).scheme.unwrap_or_default().to_ascii_lowercase();
    if !matches!(scheme.as_str(), "http" | "https") && !endpoint.contains([',', ';', ' ']) {
        return Some(format!("{scheme}:// is not how registries are spoken to"));
    }
    garbled(&whole).map(str::to_owned).or_else(|| hosts::url_fault(&whole))
}

/// Why runtimes never look for a registry under a name, and the one to write.
pub(super) fn wrong_name(name: &str) -> Option<(String, String)> {
    let UrlParts { scheme, authority, path, .. } = parts(name);
    let (host, port) = split_port(authority);
    if name.is_empty() {
        return Some((
            "the name of the registry is empty".to_owned(),
            "the registry's name, as gcr.io".to_owned(),
        ));
    }
    if is_docker_alias(host) || host == "docker.io" && !port.is_empty() {
        return Some((format!("{name} is not what runtimes call the registry"), "docker.io".to_owned()));
    }
    if scheme.is_some() {
        return Some((
            format!("{} has a scheme, and names of registries have none", parts(name).shown()),
            authority.to_owned(),
        ));
    }
    if !path.is_empty() {
        let why = format!("{name} has a path, and registries are looked up by host and port alone");
        return Some((why, authority.to_owned()));
    }
    if authority.contains('*') && authority != "*" {
        let why = format!("{name} is taken as it stands: only * alone stands for all registries");
        return Some((why, "* alone, or each registry by its whole name".to_owned()));
    }
    if authority != "*" && !is_registry_name(authority) {
        let why = format!("{name} is not the name of a registry: an image {name}/a is docker.io/{name}/a");
        return Some((why, "the registry's whole name with its port, as images have it".to_owned()));
    }
    None
}

/// The root of the API of a registry that is known to have it below a path: Nexus and Artifactory.
pub(super) fn api_below(parts: &UrlParts<'_>) -> Option<String> {
    let segments: Vec<&str> = parts.segments().into_iter().filter(|segment| *segment != "v2").collect();
    match segments[..] {
        ["repository", name] => Some(format!("/repository/{name}/v2")),
        ["artifactory", "api", "docker", name] => Some(format!("/artifactory/api/docker/{name}/v2")),
        ["api", "docker", name] => Some(format!("/api/docker/{name}/v2")),
        _ => None,
    }
}

/// Whether runtimes take the first part of an image's name for a registry.
pub(super) fn is_registry_name(host: &str) -> bool {
    host.contains(['.', ':']) || host == "localhost"
}

/// The one of `endpoints` that is on the same host as `name`, but on another port, if none is the same.
pub(super) fn other_port<'a>(name: &str, endpoints: &[&'a str]) -> Option<&'a str> {
    if endpoints.contains(&name) {
        return None;
    }
    endpoints.iter().copied().find(|endpoint| split_port(endpoint).0 == split_port(name).0)
}
