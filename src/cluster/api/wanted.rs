//! What a cluster's file asks for, as objects of Kubernetes. Pure.

use serde_json::{Value, json};

use super::secret::Secret;
use crate::cluster::file::{ClusterMirrors, RegistryMirror};
use crate::node::render::NodeMirror;

/// What a cluster should have.
#[derive(Debug, Clone)]
pub(crate) struct DesiredState {
    /// The Cluster.
    pub name: String,
    /// Where it and its secrets are.
    pub namespace: String,
    /// `GROUP/VERSION` of the Cluster.
    pub api_version: String,
    /// Each once, whatever number of mirrors points at it.
    pub secrets: Vec<Secret>,
    /// `spec.nodeConfig.registryMirrors`.
    mirrors: Vec<Value>,
}

impl DesiredState {
    /// From a file, and from what is in the files that it names, mirror for mirror.
    pub(crate) fn new(cluster: &ClusterMirrors, contents: &[NodeMirror]) -> Self {
        let mut wanted = Self {
            name: cluster.name.clone(),
            namespace: cluster.namespace.clone(),
            api_version: cluster.api_version.clone(),
            secrets: Vec::new(),
            mirrors: Vec::new(),
        };
        for (entry, content) in cluster.mirrors.iter().zip(contents) {
            let ca = content.authorities.as_ref().map(Secret::authorities);
            let pull =
                content.credentials.as_ref().map(|known| Secret::pull_credentials(&entry.host_port, known));
            let mirror = mirror(entry, ca.as_ref(), pull.as_ref(), &wanted.namespace);
            wanted.mirrors.push(mirror);
            for secret in ca.into_iter().chain(pull) {
                if wanted.secrets.iter().all(|known| known.name != secret.name) {
                    wanted.secrets.push(secret);
                }
            }
        }
        wanted
    }

    /// The Cluster as it is applied: nothing but the mirrors. With the `uid` of the Cluster that is there, because
    /// applying to one that is gone would make a new one.
    pub(super) fn patch(&self, live: &Value, version: ResourceVersion) -> Value {
        let mut patch = json!({
            "apiVersion": self.api_version,
            "kind": "Cluster",
            "metadata": { "name": self.name, "namespace": self.namespace, "uid": live["metadata"]["uid"] },
            "spec": { "nodeConfig": { "registryMirrors": self.mirrors } },
        });
        if version == ResourceVersion::AsRead {
            patch["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
        }
        patch
    }

    /// The mirrors as they take the place of all that stand there, whoever brought those
    /// ([merge patch](https://www.rfc-editor.org/rfc/rfc7396): a list is one value).
    pub(super) fn replacement(&self, live: &Value, version: ResourceVersion) -> Value {
        let mut patch = json!({ "spec": { "nodeConfig": { "registryMirrors": self.mirrors } } });
        if version == ResourceVersion::AsRead {
            patch["metadata"] = json!({ "resourceVersion": live["metadata"]["resourceVersion"] });
        }
        patch
    }

    /// Whether a Cluster says so already. No list and an empty one are the same.
    pub(super) fn is(&self, live: &Value) -> bool {
        match mirrors(live) {
            Value::Null => self.mirrors.is_empty(),
            there => there.as_array() == Some(&self.mirrors),
        }
    }
}

/// Which version of a Cluster may be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResourceVersion {
    /// Whichever there is: it is only tried.
    Any,
    /// Only the one that was read: it is changed only as it was shown.
    AsRead,
}

/// `spec.nodeConfig.registryMirrors` of a Cluster.
pub(super) fn mirrors(cluster: &Value) -> &Value {
    &cluster["spec"]["nodeConfig"]["registryMirrors"]
}

fn mirror(entry: &RegistryMirror, ca: Option<&Secret>, pull: Option<&Secret>, namespace: &str) -> Value {
    let mut mirror = json!({ "endpoint": entry.endpoint });
    // Whether `hosts` adds to gcr.io or takes its place is not documented, so gcr.io is named. Without `hosts` the field
    // stays away: releases before 1.11 do not know it.
    if !entry.hosts.is_empty() {
        mirror["hosts"] = entry.upstreams().into();
    }
    for (field, secret) in [("caCertSecretRef", ca), ("pullCredentialSecretRef", pull)] {
        if let Some(secret) = secret {
            mirror[field] = secret.reference(namespace);
        }
    }
    mirror
}
