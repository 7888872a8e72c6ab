//! What the runtime of a node would do, image for image, before a node has to do it.
//!
//! In: the hosts that the configuration of a node gives for each upstream ([`Upstream`]), pull credentials, and the names
//! of images with what is expected to be behind them. Out: a [`Verdict`] for each name, by tag and by digest. Every host is
//! asked what containerd would ask it, in containerd's order; a blob is asked for by HEAD, and no more than once of each
//! repository of a host. It never writes to a registry and never reads a configuration itself.

mod asker;
mod course;
mod verdict;
mod walk;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use crate::oci::{Digest, Reference};
pub use verdict::{Checked, Verdict};
pub use walk::run;

/// What a node has for the images of one upstream.
#[derive(Debug)]
pub struct Upstream {
    /// The host in the names of images, as `gcr.io`.
    pub name: String,
    /// The hosts that are asked, in this order.
    pub hosts: Vec<Host>,
    /// What in the configuration is not as somebody meant it: a file that containerd ignores, a folder of another name.
    pub notes: Vec<String>,
}

/// One host that is asked for the images of an upstream.
#[derive(Debug)]
pub struct Host {
    /// Where its API is, with the whole path that names of repositories are appended to: `https://mirror:5000/v2/ns`.
    pub root: Url,
    /// What it is to the upstream.
    pub role: Role,
    /// Capability `pull`: it is asked what a digest is. Content is asked of every host, whatever this says.
    pub can_pull: bool,
    /// Capability `resolve`: it is asked what a tag stands for.
    pub can_resolve: bool,
    /// How to talk to it.
    pub access: Access,
}

/// What a host is to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It stands in for the upstream.
    Mirror,
    /// It is the upstream, or what the configuration names as `server` behind the mirrors.
    Upstream,
}

/// How a node's configuration says to talk to a host.
#[derive(Debug, Default)]
pub struct Access {
    /// Files of authorities to trust beside the system's.
    pub ca: Vec<PathBuf>,
    /// Client certificates: a file with both, or a certificate and its key.
    pub client: Vec<(PathBuf, Option<PathBuf>)>,
    /// Any certificate will do.
    pub skip_verify: bool,
    /// Headers that go with every request. They may hold credentials.
    pub headers: Vec<(String, SecretString)>,
    /// How long a connection may take to come about; containerd's own 30 s without it.
    pub dial_timeout: Option<Duration>,
}

/// An image to check.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name. Asked for by tag, if it has one, and by digest, if that or what is expected gives one.
    pub name: Reference,
    /// What ought to be there.
    pub expected: Expected,
}

/// What ought to be behind a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expected {
    /// Nobody knows: whatever is there is right.
    Anything,
    /// This manifest.
    Manifest(Digest),
    /// An image of a docker-archive, which has no manifest before it is pushed.
    Image {
        /// The digest of its configuration.
        config: Digest,
        /// How many layers it has.
        layers: usize,
    },
}

/// What is asked, and how.
#[derive(Debug)]
pub struct Settings {
    /// What the node has, by the host in the names of images.
    pub upstreams: BTreeMap<String, Upstream>,
    /// A docker `config.json` with the pull credentials of the node.
    pub pull_credentials: Option<PathBuf>,
    /// No upstream is asked: what happens on the day on which the uplink is down.
    pub upstream_down: bool,
    /// Only these machines' images of an index; all of them when empty.
    pub platforms: Vec<String>,
}

impl Host {
    /// The upstream itself. On this machine it is spoken to in clear, as containerd does it (`config/hosts.go`).
    ///
    /// # Errors
    /// The name is not that of a host.
    pub fn upstream(name: &str) -> Result<Self, url::ParseError> {
        let host = if name == "docker.io" { "registry-1.docker.io" } else { name };
        let mut root = Url::parse(&format!("https://{host}/v2"))?;
        let is_local = match root.host() {
            Some(url::Host::Domain(name)) => name == "localhost",
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if is_local && root.port().is_some() {
            root = Url::parse(&format!("http://{host}/v2"))?;
        }
        Ok(Self {
            root,
            role: Role::Upstream,
            can_pull: true,
            can_resolve: true,
            access: Access { skip_verify: is_local, ..Access::default() },
        })
    }

    /// A mirror by its address alone, as `https://mirror:5000/v2/ns`; without a path, `/v2`.
    ///
    /// # Errors
    /// The text is not a URL of a host.
    pub fn mirror(endpoint: &str, access: Access) -> Result<Self, url::ParseError> {
        let mut root = Url::parse(endpoint)?;
        if root.host_str().is_none() {
            return Err(url::ParseError::EmptyHost);
        }
        if matches!(root.path(), "" | "/") {
            root.set_path("/v2");
        }
        Ok(Self { root, role: Role::Mirror, can_pull: true, can_resolve: true, access })
    }

    /// `host[:port]`, as containerd and credentials know it.
    pub fn authority(&self) -> String {
        let host = self.root.host_str().unwrap_or_default();
        self.root.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
    }

    /// Whether it is told which upstream is meant (`?ns=`): always, unless it is the upstream by name (`isProxy` in
    /// containerd's `core/remotes/docker/registry.go`).
    fn is_told(&self, upstream: &str) -> bool {
        let authority = self.authority();
        authority != upstream && !(upstream == "docker.io" && authority == "registry-1.docker.io")
    }
}

impl Upstream {
    /// What containerd does without any configuration: it asks the host in the name, Docker Hub by its other name.
    ///
    /// # Errors
    /// The name is not that of a host.
    pub fn direct(name: &str) -> Result<Self, url::ParseError> {
        Ok(Self { name: name.to_owned(), hosts: vec![Host::upstream(name)?], notes: Vec::new() })
    }

    /// Whether any host stands in for the upstream.
    pub fn is_mirrored(&self) -> bool {
        self.hosts.iter().any(|host| host.role == Role::Mirror)
    }
}
