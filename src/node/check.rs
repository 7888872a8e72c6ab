//! What the runtime of a node would do, image for image, before a node has to do it.
//!
//! In: the hosts that the configuration of a node gives for each upstream ([`UpstreamHosts`], from a hosts tree or from the
//! endpoints of a cluster file), pull credentials, and the names of images with what is expected to be behind them. Out: a
//! [`PullDecision`] for each name, by tag and by digest. Every host is asked what containerd would ask it, in containerd's
//! order; it asks for a blob by HEAD, once in each repository of a host. It never writes to a registry.

mod asker;
mod decision;
mod failover;
#[cfg(test)]
mod tests;
mod walk;

use std::collections::BTreeMap;
use std::path::PathBuf;

use url::Url;

use crate::node::hosts::directory::Loaded;
use crate::node::hosts::{self, Capability, HostOrigin, HostsFile, Version};
use crate::oci::{Digest, Reference};
pub(crate) use decision::{CheckedImage, PullDecision};
pub(crate) use walk::run;

/// What a node has for the images of one upstream.
#[derive(Debug)]
pub(crate) struct UpstreamHosts {
    /// The host in the names of images, as `gcr.io`.
    pub name: String,
    /// The hosts that are asked, in this order.
    pub hosts: Vec<AskedHost>,
    /// What in the configuration is not as somebody meant it.
    pub notes: Vec<String>,
    /// That the configuration has no mirror for it, and the correction.
    pub uncovered: Option<String>,
}

/// One host that is asked for the images of an upstream.
#[derive(Debug)]
pub(crate) struct AskedHost {
    /// How the node's configuration says to ask it.
    pub node: hosts::Host,
    /// What it is to the upstream.
    pub role: Role,
    /// A docker `config.json` with the node's credentials for it.
    pub pull_credentials: Option<PathBuf>,
}

/// What a host is to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It stands in for the upstream.
    Mirror,
    /// It is the upstream, or what the configuration names as `server` behind the mirrors.
    Upstream,
}

/// A mirror as people and cluster files name one.
#[derive(Debug, Clone)]
pub(crate) struct MirrorEndpoint {
    /// `https://mirror:5000`, with `/v2/NAMESPACE` if it has a namespace.
    pub url: String,
    /// The file with its authority.
    pub ca: Option<PathBuf>,
    /// A docker `config.json` with the node's credentials for it.
    pub pull_credentials: Option<PathBuf>,
}

/// An image to check.
#[derive(Debug, Clone)]
pub(crate) struct ImageToCheck {
    /// Its name. Asked for by tag, if it has one, and by digest, if that or what is expected gives one.
    pub name: Reference,
    /// What ought to be there.
    pub expected: Expected,
}

/// What ought to be behind a tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expected {
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
pub(crate) struct CheckOptions {
    /// What the node has, by the host in the names of images.
    pub upstreams: BTreeMap<String, UpstreamHosts>,
    /// No upstream is asked: what happens on the day on which the uplink is down.
    pub upstream_down: bool,
    /// Only these machines' images of an index (`linux/amd64`); all of them when empty.
    pub platforms: Vec<String>,
}

impl UpstreamHosts {
    /// From the hosts that a configuration gives, in order. The last of them is the upstream unless it is, by its
    /// address, one of the mirrors again or stands alone under another name: those are ways to have no fail-over.
    pub(crate) fn new(name: &str, nodes: Vec<hosts::Host>) -> Self {
        let tables: Vec<String> = nodes
            .iter()
            .filter(|node| node.origin == HostOrigin::Table)
            .map(|node| node.authority.clone())
            .collect();
        let stands_in = |node: &hosts::Host| match node.origin {
            HostOrigin::Upstream => false,
            _ if is_by_name(node, name) => false,
            HostOrigin::Table => true,
            HostOrigin::Server => tables.is_empty() || tables.contains(&node.authority),
        };
        let role = |node: &hosts::Host| if stands_in(node) { Role::Mirror } else { Role::Upstream };
        let host = |node: hosts::Host| AskedHost { role: role(&node), node, pull_credentials: None };
        let hosts = nodes.into_iter().map(host).collect();
        Self { name: name.to_owned(), hosts, notes: Vec::new(), uncovered: None }
    }

    /// From what a disk says: the folders of containerd's `config_path`.
    pub(crate) fn loaded(name: &str, loaded: Loaded) -> Self {
        let mut upstream = Self::new(name, loaded.hosts);
        upstream.uncovered = match &loaded.folder {
            None => Some(format!("nothing in the tree covers {name} (add --host {name} to mirror render)")),
            Some(folder) if loaded.ignored.is_none() && !upstream.is_mirrored() => {
                Some(format!("{} names no mirror for {name}", folder.display()))
            }
            Some(_) => None,
        };
        if let Some(ignored) = loaded.ignored {
            let folder = loaded.folder.unwrap_or_default().join(hosts::FILE_NAME);
            let line = ignored.at.map(|at| format!(":{}", at.line)).unwrap_or_default();
            upstream.notes.push(format!("{}{line}: {ignored}", folder.display()));
        }
        upstream
    }

    /// From endpoints alone, as a cluster file names them (`registryMirrors`): each is asked at its address as it stands,
    /// then, with `fail_over`, the upstream.
    ///
    /// # Errors
    /// An endpoint that is not an `http` or `https` URL, with the reason.
    pub(crate) fn behind(
        name: &str,
        endpoints: &[MirrorEndpoint],
        fail_over: bool,
        version: Version,
    ) -> Result<Self, String> {
        let mut file = HostsFile::default();
        for endpoint in endpoints {
            let url = Url::parse(&endpoint.url).map_err(|error| format!("{:?}: {error}", endpoint.url))?;
            if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
                return Err(format!("{:?} is not the http or https address of a registry", endpoint.url));
            }
            let bare = matches!(url.path(), "" | "/");
            let text = if bare {
                format!("{}/v2", endpoint.url.trim_end_matches('/'))
            } else {
                endpoint.url.clone()
            };
            let settings = hosts::HostSettings {
                capabilities: vec![Capability::Pull, Capability::Resolve],
                ca: endpoint.ca.iter().map(|path| path.display().to_string()).collect(),
                override_path: true,
                ..hosts::HostSettings::default()
            };
            file.hosts.push((text, settings));
        }
        let folder = std::path::Path::new("");
        let mut nodes = file.resolve(name, folder, version);
        if !fail_over {
            nodes.retain(|node| node.origin == HostOrigin::Table);
        }
        let mut upstream = Self::new(name, nodes);
        for (host, endpoint) in upstream.hosts.iter_mut().zip(endpoints) {
            host.pull_credentials.clone_from(&endpoint.pull_credentials);
        }
        Ok(upstream)
    }

    /// Whether any host stands in for the upstream.
    pub(crate) fn is_mirrored(&self) -> bool {
        self.hosts.iter().any(|host| host.role == Role::Mirror)
    }
}

/// Whether a host is the upstream by its name: then it is not told which upstream is meant (`isProxy` in containerd's
/// `core/remotes/docker/registry.go`).
fn is_by_name(node: &hosts::Host, upstream: &str) -> bool {
    node.authority == upstream || upstream == "docker.io" && node.authority == "registry-1.docker.io"
}
