//! URLs of hosts: what containerd asks there, and whether that can be the API of a registry.

use super::super::{FileFindings, url};
use crate::document::{Position, Severity};
use crate::node::hosts::{Host, HostOrigin};

/// A URL that leads to no registry at all. Tells whether it is one.
pub(super) fn is_garbled(
    findings: &mut FileFindings<'_>,
    at: Position,
    text: &str,
    host: &Host,
    upstream: Option<&str>,
) -> bool {
    let is_server = host.origin == HostOrigin::Server;
    let key = if is_server { "server" } else { "[host]" };
    let server = upstream.map(url::server_of);
    let fix = match (is_server, server) {
        (true, Some(server)) => format!("write server = \"https://{server}\""),
        (true, None) => {
            "leave server out: each registry is then asked itself, docker.io at registry-1.docker.io"
                .to_owned()
        }
        (false, _) => "write [host.\"https://HOST:PORT\"], one for each address".to_owned(),
    };
    let effect = if is_server {
        "what the mirrors do not have is asked of a host that is not there: the pull fails"
    } else {
        "no host has that name: the mirror is never reached"
    };
    // containerd puts https:// in front of all that does not begin with http in small letters.
    let is_doubled = text.contains("://") && !text.starts_with("http");
    let why = is_doubled.then_some("containerd puts https:// in front of what does not begin with http");
    if let Some(why) = url::garbled(text).or(why) {
        // Not shown: what stands before an @ may be a password.
        let shown = text.rsplit('@').next().unwrap_or(text);
        let what = format!("{key} {shown:?} is not the address of a registry: {why}");
        findings.error("bad-address", at, [what, effect.to_owned(), fix]);
        return true;
    }
    let of_docker = upstream.is_none_or(|upstream| upstream == "docker.io" || url::is_docker_alias(upstream));
    if url::is_docker_web_site(&host.authority) && of_docker {
        let what = format!("{key} {} is a web site, and no registry", host.authority);
        let effect = "what is asked there ends in an error: there is no fall-back to Docker Hub".to_owned();
        let right = if is_server {
            "write server = \"https://registry-1.docker.io\""
        } else {
            "write [host.\"https://registry-1.docker.io\"]"
        };
        findings.error("not-a-registry", at, [what, effect, right.to_owned()]);
        return true;
    }
    false
}

/// A path that is not the root of a registry's API.
pub(super) fn check(findings: &mut FileFindings<'_>, at: Position, text: &str, host: &Host, verbatim: bool) {
    let parts = url::parts(text);
    let segments = parts.segments();
    let shown = parts.shown();
    let asked = format!("{}://{}{}/NAME/manifests/TAG", host.scheme, host.authority, host.path);
    let scheme = if parts.scheme == Some("http") { "http" } else { "https" };
    let below = url::api_below(&parts);
    let correct = || {
        let namespace = parts.namespace();
        let namespace =
            namespace.strip_prefix("v1").map_or(namespace.as_str(), |rest| rest.trim_start_matches('/'));
        let path = match &below {
            Some(api) => api.clone(),
            None if namespace.is_empty() => "/v2".to_owned(),
            None => format!("/v2/{namespace}"),
        };
        format!("write {scheme}://{}{path} with override_path = true", parts.authority)
    };
    if parts.query {
        let words = [
            format!("a query stands in the URL of {shown}"),
            "containerd drops it, and puts ns= there by itself".to_owned(),
            format!("write {scheme}://{}{}", parts.authority, parts.path),
        ];
        findings.warning("query-in-url", at, words);
    }
    if let Some(last) = segments.last().filter(|last| matches!(**last, "manifests" | "blobs" | "_catalog")) {
        let words = [
            format!("{shown} ends in {last}, which is a part of what is asked, and not the root of the API"),
            format!("containerd asks {asked}: 404, and the upstream is asked"),
            format!(
                "write {scheme}://{}/v2, with the namespace of the mirror behind it and override_path = true",
                parts.authority
            ),
        ];
        return findings.error("not-the-api", at, words);
    }
    if parts.userinfo.is_some() {
        let words = [
            format!("a user name stands in the URL of {}", parts.authority),
            "containerd drops it: the mirror is asked without credentials".to_owned(),
            "use a header, containerd's config.toml or an image pull secret".to_owned(),
        ];
        findings.error("password-in-url", at, words);
    }
    if segments.iter().filter(|&&segment| segment == "v2").count() > 1 {
        let effect = format!(
            "containerd asks {asked}, which the registry does not know: 404, and the upstream is asked"
        );
        findings.error("double-v2", at, [format!("{shown} has /v2 twice"), effect, correct()]);
    } else if verbatim && !segments.contains(&"v2") {
        let words = [
            format!("override_path takes the path of {shown} as it stands, and there is no /v2 in it"),
            format!(
                "containerd asks {asked}, which is not the registry's API: 404, and the upstream is asked"
            ),
            correct(),
        ];
        findings.error("missing-v2", at, words);
    } else if !verbatim && !segments.is_empty() && segments.last() != Some(&"v2") {
        let what = format!("{shown} has a path, and override_path is not set");
        if segments.contains(&"v2") {
            let effect =
                format!("containerd puts /v2 behind it and asks {asked}: 404, and the upstream is asked");
            findings.error("missing-override-path", at, [what, effect, correct()]);
        } else if below.is_none() {
            // Right for a registry whose API lies below the path, as that of Nexus and Artifactory does.
            let effect = format!(
                "containerd puts /v2 behind it and asks {asked}: 404 where the path is a namespace, and the upstream is asked"
            );
            let fix = format!("{}, unless the registry's API lies below {}", correct(), parts.path);
            findings.add(Severity::Warning, "missing-override-path", at, [what, effect, fix]);
        }
    }
}
