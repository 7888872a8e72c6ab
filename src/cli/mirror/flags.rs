//! Flags that describe mirrors as nodes see them, for all that renders something of them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::named;
use crate::cli::output::Output;
use crate::cluster::file::{ClusterMirrors, FileRequirements, RegistryMirror};
use crate::node::hosts::Version;
use crate::node::render::{MirrorLogin, NodeMirror, Options, RenderRefusal, Rendered, Runtime, render};
use crate::registry::{Credential, Proof, credentials};
use crate::report::Failure;
use crate::tls::Authorities;

/// What a Secret of Kubernetes holds.
const MAX_CA_BYTES: usize = 1 << 20;

#[derive(Debug, clap::Args)]
pub(super) struct MirrorFlags {
    /// The mirror as nodes reach it: https://HOST[:PORT], or https://HOST[:PORT]/v2/NAMESPACE
    #[arg(long, value_name = "URL", requires = "host")]
    endpoint: Option<String>,
    /// Registry whose images lie on the mirror; with =PATH they lie below that path of it (repeatable)
    #[arg(long, value_name = "HOST[=PATH]", requires = "endpoint")]
    host: Vec<String>,
    /// Take mirrors, CAs and pull credentials from a cluster's configuration file instead; without a gcrKeyPath in it
    /// there is no fall-back
    #[arg(long, value_name = "FILE", conflicts_with_all = ["endpoint", "ca", "pull_credentials"])]
    cluster: Option<PathBuf>,
    /// Certificate authority of the mirror, for nodes that do not know it
    #[arg(long, alias = "cacert", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// A docker config.json with the credentials that nodes pull with; they end up in the files
    #[arg(long, value_name = "FILE")]
    pull_credentials: Option<PathBuf>,
    /// Let nodes ask nobody but the mirror, for sites without a way out
    #[arg(long)]
    no_fallback: bool,
    /// The containerd of the nodes, as 1.7 or 2.1.4 [default: what all since 1.6 read alike]
    #[arg(long, value_name = "VERSION")]
    containerd_version: Option<Version>,
    /// Namespace of the cluster for a DaemonSet or a secret
    #[arg(long, value_name = "NAME", default_value = "layercast")]
    cluster_namespace: String,
    /// Image whose shell a DaemonSet runs
    #[arg(long, value_name = "IMAGE", default_value = "docker.io/library/busybox:1.37")]
    installer_image: String,
}

impl MirrorFlags {
    /// The files of `runtime` for every mirror that was given.
    pub(super) fn render(&self, runtime: Runtime, output: &Output) -> Result<Rendered, Failure> {
        let options = Options {
            containerd: self.containerd_version,
            cluster_namespace: self.cluster_namespace.clone(),
            installer_image: self.installer_image.clone(),
        };
        let mut all = Rendered { files: Vec::new(), notes: Vec::new() };
        for mirror in self.mirrors(output)? {
            let rendered = render(runtime, &mirror, &options)?;
            for file in rendered.files {
                // Two mirrors with the same authority each bring it.
                match all.files.iter().find(|other| other.path == file.path) {
                    None => all.files.push(file),
                    Some(other) if other.text() == file.text() => {}
                    Some(_) => {
                        let message = format!(
                            "{}: the cluster has several mirrors, and each has its own word for this file",
                            file.path
                        );
                        let hint = "render one mirror at a time with --endpoint and --host, and join the files by hand";
                        return Err(Failure::usage(message).hint(hint));
                    }
                }
            }
            all.notes.extend(rendered.notes);
        }
        let mut seen = BTreeSet::new();
        all.notes.retain(|note| seen.insert(note.clone()));
        Ok(all)
    }

    fn mirrors(&self, output: &Output) -> Result<Vec<NodeMirror>, Failure> {
        if let Some(path) = &self.cluster {
            let cluster = crate::cli::cluster::read(path, &FileRequirements::default(), output)?;
            if cluster.mirrors.is_empty() {
                return Err(Failure::usage(format!(
                    "{}: there are no registryMirrors in it",
                    path.display()
                )));
            }
            let mut mirrors = of_cluster(&cluster, output)?;
            for mirror in &mut mirrors {
                mirror.fallback &= !self.no_fallback;
            }
            return Ok(mirrors);
        }
        let Some(endpoint) = &self.endpoint else {
            return Err(Failure::usage("no mirror is given").hint(
                "name it with --endpoint URL and --host HOST, or its cluster's file with --cluster FILE",
            ));
        };
        let mut mirror = NodeMirror::new(endpoint, &self.host)?;
        mirror.fallback = !self.no_fallback;
        if let Some(path) = &self.ca {
            mirror.authorities = Some(authorities(path, output)?);
        }
        if let Some(path) = &self.pull_credentials {
            mirror.credentials = Some(pull_credentials(path, &mirror.authority(), output)?);
        }
        Ok(vec![mirror])
    }
}

/// The mirrors of a cluster, with what is in the files that its own file names. Without a key for gcr.io nobody meant
/// nodes to fall back.
pub(in crate::cli) fn of_cluster(
    cluster: &ClusterMirrors,
    output: &Output,
) -> Result<Vec<NodeMirror>, Failure> {
    let mirror = |entry: &RegistryMirror| {
        let mut mirror = NodeMirror::new(&entry.endpoint, &entry.upstreams())?;
        mirror.fallback = cluster.gcr_key_path.is_some();
        let at = |key, file, failure| crate::cli::cluster::named(&cluster.path, key, file, failure);
        if let Some(file) = &entry.ca_cert_path {
            let read = authorities(&file.path, output);
            mirror.authorities = Some(read.map_err(|failure| at(named::CA, file, failure))?);
        }
        if let Some(file) = &entry.pull_credential_config_path {
            let read = pull_credentials(&file.path, &mirror.authority(), output);
            let named = |failure| at(named::PULL_CREDENTIALS, file, failure);
            mirror.credentials = Some(read.map_err(named)?);
        }
        Ok(mirror)
    };
    cluster.mirrors.iter().map(mirror).collect()
}

/// What nodes pull with from the registry at `authority`.
fn pull_credentials(path: &Path, authority: &str, output: &Output) -> Result<MirrorLogin, Failure> {
    let found = credentials::from_file(path, authority)?;
    found.troubles.iter().for_each(|trouble| output.warn(trouble));
    match found.credential.as_ref().map(Credential::proof) {
        Some(Proof::Password { user, password }) => {
            Ok(MirrorLogin { username: user.clone(), password: password.clone() })
        }
        Some(_) => {
            let message = format!("{} holds a token for {authority}", path.display());
            Err(Failure::usage(message).hint("nodes need a user name and a password"))
        }
        None => {
            let message = format!("{} has no credentials for {authority}", path.display());
            Err(Failure::usage(message).hint(format!("its \"auths\" need an entry \"{authority}\"")))
        }
    }
}

fn authorities(path: &Path, output: &Output) -> Result<Authorities, Failure> {
    let authorities = Authorities::read(path)?;
    authorities.notes().iter().for_each(|note| output.warn(note));
    if authorities.holds_key() {
        let failure = Failure::usage(format!("{}: {}", path.display(), named::KEY_INSIDE));
        return Err(failure.hint("give a file with certificates alone"));
    }
    if authorities.pem().len() > MAX_CA_BYTES {
        let text = "it is larger than 1 MiB, which is more than a cluster's secrets hold";
        return Err(Failure::usage(format!("{}: {text}", path.display()))
            .hint("give only the certificates of the authority that signed the mirror's"));
    }
    Ok(authorities)
}

impl From<RenderRefusal> for Failure {
    fn from(refused: RenderRefusal) -> Self {
        Self::usage(refused.to_string()).hint(refused.hint)
    }
}
