//! What a cluster's file says of mirrors, as `mirror targets --json` prints it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ClusterMirrors, NamedFile};
use crate::report::document::SchemaVersion;

/// Where the nodes of a cluster pull from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct TargetsDocument {
    schema_version: SchemaVersion,
    cluster: String,
    namespace: String,
    /// Whether nodes can fall back to gcr.io.
    fallback: bool,
    mirrors: Vec<MirrorTarget>,
}

/// Where nodes pull from, and what a bundle is pushed to for that.
#[derive(Debug, Serialize, Deserialize)]
struct MirrorTarget {
    endpoint: String,
    target: String,
    upstreams: Vec<String>,
    ca_cert_path: Option<PathBuf>,
    pull_credential_config_path: Option<PathBuf>,
}

impl TargetsDocument {
    /// Of the file as it was read.
    pub(crate) fn of(cluster: &ClusterMirrors) -> Self {
        let path = |file: &Option<NamedFile>| file.as_ref().map(|file| file.path.clone());
        let mirrors = cluster.mirrors.iter().map(|mirror| MirrorTarget {
            endpoint: mirror.endpoint.clone(),
            target: mirror.target.to_string(),
            upstreams: mirror.upstreams(),
            ca_cert_path: path(&mirror.ca_cert_path),
            pull_credential_config_path: path(&mirror.pull_credential_config_path),
        });
        Self {
            schema_version: SchemaVersion::One,
            cluster: cluster.name.clone(),
            namespace: cluster.namespace.clone(),
            fallback: cluster.gcr_key_path.is_some(),
            mirrors: mirrors.collect(),
        }
    }
}
