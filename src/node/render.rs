//! Configuration of nodes: what a mirror is ([`NodeMirror`]) becomes the files that one [`Runtime`] reads.
//!
//! Pure: nothing is read and nothing written. Out come [`Rendered`] files, each with the path it has on the node (or a name,
//! for what goes to a cluster), and notes on what the files cannot say. One file for each runtime lies below.

mod containerd;
mod crio;
mod daemonset;
mod docker;
mod eks_anywhere;
mod k3s;
mod kind;
mod legacy;
mod model;
mod openshift;
mod pull_secret;
mod talos;
#[cfg(test)]
mod tests;
mod text;

use secrecy::{ExposeSecret as _, SecretString};

pub(crate) use model::{MirrorLogin, MirroredRegistry, NodeMirror};

use super::hosts::Version;

/// Who reads the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Runtime {
    /// containerd with `config_path`: a tree of `hosts.toml`.
    Containerd,
    /// containerd without it: `registry.mirrors` in its `config.toml`.
    ContainerdLegacy,
    /// CRI-O.
    Crio,
    /// Podman, Buildah, Skopeo: they read what CRI-O reads.
    Podman,
    /// The Docker daemon.
    Docker,
    /// k3s.
    K3s,
    /// RKE2.
    Rke2,
    /// Talos from 1.12 on: documents of their own.
    Talos,
    /// Talos before 1.12: a patch of `machine.registries`.
    TalosLegacy,
    /// kind.
    Kind,
    /// OpenShift.
    OpenShift,
    /// EKS Anywhere.
    EksAnywhere,
    /// A secret of a Kubernetes cluster with the mirror's credentials.
    PullSecret,
    /// Any Kubernetes cluster on containerd: pods that install the tree of `hosts.toml`.
    DaemonSet,
}

impl Runtime {
    /// All of them.
    pub(crate) const ALL: [Self; 14] = [
        Self::Containerd,
        Self::ContainerdLegacy,
        Self::Crio,
        Self::Podman,
        Self::Docker,
        Self::K3s,
        Self::Rke2,
        Self::Talos,
        Self::TalosLegacy,
        Self::Kind,
        Self::OpenShift,
        Self::EksAnywhere,
        Self::PullSecret,
        Self::DaemonSet,
    ];

    /// The name on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::ContainerdLegacy => "containerd-legacy",
            Self::Crio => "crio",
            Self::Podman => "podman",
            Self::Docker => "docker",
            Self::K3s => "k3s",
            Self::Rke2 => "rke2",
            Self::Talos => "talos",
            Self::TalosLegacy => "talos-legacy",
            Self::Kind => "kind",
            Self::OpenShift => "openshift",
            Self::EksAnywhere => "eks-anywhere",
            Self::PullSecret => "image-pull-secret",
            Self::DaemonSet => "daemonset",
        }
    }
}

/// Options other than the mirror.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The version of containerd on the nodes; where it is not known, only what all since 1.6 read is written.
    pub containerd: Option<Version>,
    /// The namespace of a cluster for what goes there.
    pub cluster_namespace: String,
    /// The image whose `sh` the DaemonSet runs.
    pub installer_image: String,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            containerd: None,
            cluster_namespace: "layercast".to_owned(),
            installer_image: "docker.io/library/busybox:1.37".to_owned(),
        }
    }
}

/// A file of a node, or a manifest for a cluster.
#[derive(Debug, Clone)]
pub(crate) struct RenderedFile {
    /// Where it belongs: absolute on a node, a bare name for a manifest.
    pub path: String,
    /// Its mode.
    pub mode: u32,
    /// What is in it, passwords included.
    text: SecretString,
}

impl RenderedFile {
    fn new(path: impl Into<String>, mode: u32, text: String) -> Self {
        Self { path: path.into(), mode, text: text.into() }
    }

    /// What is in it, passwords included.
    pub(crate) fn text(&self) -> &str {
        self.text.expose_secret()
    }
}

/// The result.
#[derive(Debug, Clone)]
pub(crate) struct Rendered {
    /// The files.
    pub files: Vec<RenderedFile>,
    /// What the operator must know or do besides.
    pub notes: Vec<String>,
}

/// Why a runtime cannot use a mirror.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub(crate) struct RenderRefusal {
    /// The runtime or the value.
    what: String,
    why: String,
    /// What to do instead.
    pub hint: String,
}

impl RenderRefusal {
    fn new(what: impl Into<String>, why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into(), hint: hint.into() }
    }
}

/// The files that tell `runtime` of `mirror`.
///
/// # Errors
/// When the runtime has no way to say it.
pub(crate) fn render(
    runtime: Runtime,
    mirror: &NodeMirror,
    options: &Options,
) -> Result<Rendered, RenderRefusal> {
    let mut rendered = match runtime {
        Runtime::Containerd => containerd::render(mirror, options),
        Runtime::ContainerdLegacy => legacy::render(mirror, options),
        Runtime::Crio | Runtime::Podman => crio::render(mirror, runtime == Runtime::Crio),
        Runtime::Docker => docker::render(mirror),
        Runtime::K3s => k3s::render(mirror, "k3s"),
        Runtime::Rke2 => k3s::render(mirror, "rke2"),
        Runtime::Talos => Ok(talos::documents(mirror)),
        Runtime::TalosLegacy => Ok(talos::patch(mirror)),
        Runtime::Kind => kind::render(mirror, options),
        Runtime::OpenShift => openshift::render(mirror),
        Runtime::EksAnywhere => eks_anywhere::render(mirror),
        Runtime::PullSecret => pull_secret::render(mirror, options),
        Runtime::DaemonSet => daemonset::render(mirror, options),
    }?;
    rendered.notes.splice(0..0, mirror.collisions());
    if mirror.is_plain() {
        rendered.notes.push(format!(
            "{} is spoken to without TLS: whoever stands between it and the nodes can put other images in place",
            mirror.base()
        ));
    }
    Ok(rendered)
}
