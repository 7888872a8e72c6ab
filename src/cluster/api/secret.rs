//! Secrets of a cluster whose names follow from what is in them: a new authority or password is a new secret, and what
//! points at the old one keeps working until it points at the new one.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::node::render::MirrorLogin;
use crate::tls::Authorities;

/// Says that a secret is ours, so that it may be removed when nothing points at it any more.
pub(super) const OURS: (&str, &str) = ("app.kubernetes.io/managed-by", super::MANAGER);
const PART: (&str, &str) = ("app.kubernetes.io/component", "registry-mirror");
/// Lets the cluster's controller hand the secret on to where it is used
/// (`nodeConfig.privateRegistries` in the
/// [reference](https://docs.cloud.google.com/kubernetes-engine/distributed-cloud/bare-metal/docs/reference/cluster-config-ref)).
const MARK_SOURCE: &str = "baremetal.cluster.gke.io/mark-source";

/// The selector of [`OURS`] and [`PART`].
pub(super) fn selector() -> String {
    format!("{}={},{}={}", OURS.0, OURS.1, PART.0, PART.1)
}

/// A secret.
#[derive(Debug, Clone)]
pub(crate) struct Secret {
    /// Follows from the content.
    pub name: String,
    kind: &'static str,
    key: &'static str,
    /// In base64, as the API has it.
    data: SecretString,
}

impl Secret {
    pub(super) fn authorities(authorities: &Authorities) -> Self {
        Self::new("ca", "Opaque", "ca.crt", &authorities.pem())
    }

    /// Only what the registry itself wants to know: a file may hold the passwords of others too.
    pub(super) fn pull_credentials(registry: &str, credentials: &MirrorLogin) -> Self {
        let password = credentials.password.expose_secret();
        let auth = STANDARD.encode(format!("{}:{password}", credentials.username));
        let config = json!({ "auths": { registry: { "auth": auth } } }).to_string();
        Self::new("pull-creds", "kubernetes.io/dockerconfigjson", ".dockerconfigjson", &config)
    }

    fn new(prefix: &str, kind: &'static str, key: &'static str, content: &str) -> Self {
        let digest = Sha256::digest(format!("{kind}\0{content}"));
        let name = digest.iter().take(16).fold(format!("{prefix}-"), |mut name, byte| {
            let _ = write!(name, "{byte:02x}");
            name
        });
        Self { name, kind, key, data: STANDARD.encode(content).into() }
    }

    /// The object as it is applied.
    pub(super) fn object(&self, namespace: &str) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self.name,
                "namespace": namespace,
                "labels": { OURS.0: OURS.1, PART.0: PART.1 },
                "annotations": { MARK_SOURCE: "true" },
            },
            "type": self.kind,
            "data": { self.key: self.data.expose_secret() },
        })
    }

    /// Whether an object of the cluster says all of that already.
    pub(super) fn is(&self, live: &Value) -> bool {
        let wanted = self.object("");
        let holds = |field: &str| {
            let all = wanted["metadata"][field].as_object();
            all.is_some_and(|all| all.iter().all(|(name, value)| live["metadata"][field][name] == *value))
        };
        live["type"] == wanted["type"]
            // Keys of others beside ours do no harm, and would come back.
            && live["data"][self.key] == wanted["data"][self.key]
            && holds("labels")
            && holds("annotations")
    }

    /// How a Cluster points at it.
    pub(super) fn reference(&self, namespace: &str) -> Value {
        json!({ "name": self.name, "namespace": namespace })
    }
}
