//! The model of a mirror for one node. Every value is validated on construction, so renderers write it as it is.

use std::fmt;

use secrecy::{ExposeSecret as _, SecretString};

use super::RenderRefusal;
use crate::node::hosts::split_port;
use crate::oci::Repository;
use crate::registry::{ApiPathFault, Endpoint, Scheme, Target, namespace_of};
use crate::tls::Authorities;

/// A mirror as nodes use it. This is where a cluster file is turned into configuration: fill one for each of its mirrors.
#[derive(Debug, Clone)]
pub(crate) struct NodeMirror {
    /// The registry.
    endpoint: Endpoint,
    /// What is pulled from it, in the order given; never empty.
    upstreams: Vec<MirroredRegistry>,
    /// Who signed its certificate, if the system does not know.
    pub authorities: Option<Authorities>,
    /// Who may pull.
    pub credentials: Option<MirrorLogin>,
    /// Whether a node may ask the upstream for what the mirror does not give.
    pub fallback: bool,
}

/// A registry whose images lie on the mirror.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MirroredRegistry {
    /// `gcr.io`, `localhost:5000`.
    pub host: String,
    /// The path on the mirror below which they lie.
    pub namespace: Option<Repository>,
}

/// A user of the mirror.
#[derive(Debug, Clone)]
pub(crate) struct MirrorLogin {
    /// The name.
    pub username: String,
    /// The password.
    pub password: SecretString,
}

impl NodeMirror {
    /// A mirror at an endpoint as runtimes are given it: `https://HOST[:PORT]` or `https://HOST[:PORT]/v2/NAMESPACE`. An
    /// upstream is `HOST`, or `HOST=PATH` if its images lie in a place of their own below that.
    ///
    /// # Errors
    /// When one of them is not what it should be, with the correction.
    pub(crate) fn new(endpoint: &str, upstreams: &[impl AsRef<str>]) -> Result<Self, RenderRefusal> {
        let Target { endpoint, namespace } = parse_endpoint(endpoint)?;
        let mut found: Vec<MirroredRegistry> = Vec::new();
        for text in upstreams {
            let upstream = parse_upstream(text.as_ref(), namespace.as_ref())?;
            if found.iter().any(|known| known.host == upstream.host) {
                return Err(RenderRefusal::new(upstream.host, "given twice", "name each upstream once"));
            }
            found.push(upstream);
        }
        if found.is_empty() {
            let hint = "name the registries whose images lie on the mirror, as --host gcr.io";
            return Err(RenderRefusal::new("no upstream", "a mirror of nothing cannot be configured", hint));
        }
        Ok(Self { endpoint, upstreams: found, authorities: None, credentials: None, fallback: true })
    }

    /// What is pulled from it.
    pub(crate) fn upstreams(&self) -> &[MirroredRegistry] {
        &self.upstreams
    }

    /// `host` or `host:port`.
    pub(crate) fn authority(&self) -> String {
        self.endpoint.authority()
    }

    /// The registry without a path, as `https://172.18.0.20:5000`.
    pub(crate) fn base(&self) -> String {
        self.endpoint.to_string()
    }

    /// The port, given or not.
    pub(super) fn port(&self) -> u16 {
        self.endpoint.port()
    }

    /// Whether TLS is not spoken.
    pub(crate) fn is_plain(&self) -> bool {
        self.endpoint.scheme() == Scheme::Http
    }

    /// The root of the API for an upstream: `https://H:P/v2` or `https://H:P/v2/NAMESPACE`.
    pub(crate) fn api(&self, upstream: &MirroredRegistry) -> String {
        upstream.namespace.iter().fold(format!("{}/v2", self.base()), |base, path| format!("{base}/{path}"))
    }

    /// Where images of an upstream lie, as a name begins: `H:P` or `H:P/NAMESPACE`.
    pub(super) fn place(&self, upstream: &MirroredRegistry) -> String {
        upstream.namespace.iter().fold(self.authority(), |base, path| format!("{base}/{path}"))
    }

    /// The one namespace of all upstreams, for runtimes that know only one.
    pub(super) fn hosts(&self) -> String {
        let names: Vec<&str> = self.upstreams.iter().map(|upstream| upstream.host.as_str()).collect();
        names.join(", ")
    }

    /// The first lines of every file.
    pub(super) fn head(&self) -> String {
        let otherwise =
            if self.fallback { "the upstream is asked for the rest" } else { "nobody else is asked" };
        format!("# Made by `layercast mirror render`.\n# Images of {}; {otherwise}.\n", self.sources())
    }

    /// `gcr.io, quay.io come from https://m:5000/ns, those of docker.io from https://m:5000/hub`.
    fn sources(&self) -> String {
        let mut places: Vec<(Option<&Repository>, Vec<&str>)> = Vec::new();
        for MirroredRegistry { host, namespace } in &self.upstreams {
            match places.iter_mut().find(|(known, _)| *known == namespace.as_ref()) {
                Some((_, hosts)) => hosts.push(host),
                None => places.push((namespace.as_ref(), vec![host])),
            }
        }
        let sources = places.iter().enumerate().map(|(number, (namespace, hosts))| {
            let (those, come) = if number == 0 { ("", " come") } else { ("those of ", "") };
            let place = namespace.iter().fold(self.base(), |base, path| format!("{base}/{path}"));
            format!("{those}{}{come} from {place}", hosts.join(", "))
        });
        sources.collect::<Vec<_>>().join(", ")
    }

    /// Which upstreams share a place, so that two images of one name cannot be told apart.
    pub(super) fn collisions(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let mut seen: Vec<Option<&Repository>> = Vec::new();
        for upstream in &self.upstreams {
            let namespace = upstream.namespace.as_ref();
            if seen.contains(&namespace) {
                continue;
            }
            seen.push(namespace);
            let together: Vec<&str> = self
                .upstreams
                .iter()
                .filter(|other| other.namespace == upstream.namespace)
                .map(|other| other.host.as_str())
                .collect();
            let [first, second, ..] = together[..] else { continue };
            let own: Vec<String> = together
                .iter()
                .map(|host| format!("--host {host}={}", host.replace([':', '[', ']'], "-").trim_matches('-')))
                .collect();
            notes.push(format!(
                "{} lie at one place of the mirror: there, {first}/a/b and {second}/a/b are one name, and a node gets \
                 whichever was pushed last. Give each a namespace of its own: {} (and push with --rewrite '{}/(.*)={}/$1' \
                 and so on)",
                together.join(" and "),
                own.join(" "),
                first.replace('.', "\\."),
                first.replace([':', '[', ']'], "-").trim_matches('-'),
            ));
        }
        notes
    }
}

fn parse_endpoint(text: &str) -> Result<Target, RenderRefusal> {
    let bad = |why: &str, hint: String| {
        RenderRefusal::new(format!("endpoint {}", without_userinfo(text)), why, hint)
    };
    let form = || "write it as https://HOST[:PORT] or https://HOST[:PORT]/v2/NAMESPACE".to_owned();
    if is_list(text) {
        let hint = "give the option once for each mirror; what takes it once only is run once for each";
        return Err(bad("it holds more than one address", hint.to_owned()));
    }
    let Some((scheme @ ("https" | "http"), rest)) = text.split_once("://") else {
        return Err(bad("it does not begin with https:// or http://", form()));
    };
    let (authority, path) =
        rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
    let misplaced = |why: &str, namespace: &str| {
        let hint =
            format!("containerd takes a path as it stands: write {scheme}://{authority}/v2/{namespace}");
        bad(why, hint)
    };
    let namespace = match namespace_of(path) {
        Ok(namespace) => namespace.unwrap_or_default(),
        // The rendered files have no slash at the end, whoever wrote one here.
        Err(ApiPathFault::Root) => String::new(),
        Err(ApiPathFault::Twice(it)) => return Err(misplaced("/v2 stands in it twice", &it)),
        Err(ApiPathFault::Behind(it)) => return Err(misplaced("/v2 comes before the namespace", &it)),
        Err(ApiPathFault::Missing(it)) => return Err(misplaced("/v2 is missing before the namespace", &it)),
    };
    format!("{scheme}://{authority}/{namespace}")
        .parse()
        .map_err(|error: crate::registry::RegistryError| bad(&error.to_string(), form()))
}

fn parse_upstream(text: &str, base: Option<&Repository>) -> Result<MirroredRegistry, RenderRefusal> {
    let (host, path) = text.split_once('=').map_or((text, None), |(host, path)| (host, Some(path)));
    let bad = |why: &str, hint: &str| RenderRefusal::new(format!("upstream {host:?}"), why, hint);
    if matches!(
        host,
        "index.docker.io" | "registry-1.docker.io" | "hub.docker.com" | "registry.hub.docker.com"
    ) {
        return Err(bad("runtimes know it by another name", "write docker.io"));
    }
    if host == "*" || host == "_default" {
        let hint = "name each registry: what is not on the mirror then goes its usual way";
        return Err(bad("a mirror for everything hides every other registry", hint));
    }
    if is_list(text) {
        let each: Vec<String> = text
            .split(|c: char| ",;".contains(c) || c.is_whitespace())
            .filter(|part| !part.is_empty())
            .map(|part| format!("--host {part}"))
            .collect();
        let hint = format!("give the option once for each: {}", each.join(" "));
        return Err(RenderRefusal::new(format!("upstream {text:?}"), "more than one name", hint));
    }
    let form = "write it as it stands in names of images: gcr.io, registry.example:5000";
    // No image has a name that begins with this, so nobody asks for it.
    let is_name = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:[]".contains(c);
    if !host.chars().all(is_name) {
        return Err(bad("not the name of a registry", form));
    }
    if !host.contains(['.', ':']) && host != "localhost" {
        return Err(bad("no image names a registry so: its first part has a dot or a port", form));
    }
    if split_port(host).0 == "docker.io" && host != "docker.io" {
        return Err(bad("runtimes know it by another name", "write docker.io"));
    }
    let parsed: Result<Target, _> = format!("https://{host}").parse();
    let parsed = parsed.map_err(|_| bad("not the name of a registry", form))?;
    let namespace = match (path, base) {
        (None, base) => base.cloned(),
        (Some(path), base) => {
            let path: Result<Repository, _> = path.parse();
            let path = path.map_err(|error| bad(&error.to_string(), "write HOST=PATH, as quay.io=quay"))?;
            let full = path.below(base);
            Some(full.map_err(|error| bad(&error.to_string(), "shorten it"))?)
        }
    };
    Ok(MirroredRegistry { host: parsed.endpoint.authority(), namespace })
}

/// Whether several things stand where one belongs.
fn is_list(text: &str) -> bool {
    text.trim().contains(|c: char| ",;".contains(c) || c.is_whitespace())
}

fn without_userinfo(text: &str) -> String {
    text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, host)| format!("…@{host}"))
}

impl MirrorLogin {
    /// `user:password` in base64, as in an `Authorization: Basic` header.
    pub(super) fn basic(&self) -> SecretString {
        use base64::Engine as _;
        let plain = format!("{}:{}", self.username, self.password.expose_secret());
        base64::engine::general_purpose::STANDARD.encode(plain).into()
    }
}

impl fmt::Display for MirroredRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.host)
    }
}
