//! Why a cluster was not changed, and what to do next.

use std::fmt::Write as _;

use serde_json::Value;

use super::status::{ApiRefusal, FieldOwner, UNTYPED};
use crate::exit::Exit;
use crate::report::Class;

/// Why a cluster was not changed, or not wholly.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum ApiFailure {
    /// This program cannot speak to clusters.
    #[cfg_attr(feature = "kube", expect(dead_code, reason = "the other build has it"))]
    #[error("this layercast was built without the feature `kube`, which speaks to clusters")]
    NotBuilt,
    /// The file that says where the cluster is.
    #[cfg_attr(not(feature = "kube"), expect(dead_code, reason = "the other build has it"))]
    #[error("kubeconfig {0}")]
    Kubeconfig(String),
    /// There was no answer.
    #[error("no answer from the cluster's API server: {0}")]
    Unreachable(String),
    /// An answer that no API server gives.
    #[error("the answer to {0} is not that of an API server: {1}")]
    Garbled(String, String),
    /// 401.
    #[error("the cluster does not know who asks: {0}")]
    Unauthorized(String),
    /// 403.
    #[error("the cluster does not allow it: {0}")]
    Forbidden(String),
    /// The server has no such kind.
    #[error("the cluster has no kind {kind} in {api_version}{}", others(.served))]
    NoKind {
        /// The kind.
        kind: String,
        /// Where it was looked for.
        api_version: String,
        /// Versions of the group that the server has.
        served: Vec<String>,
    },
    /// The namespace is not there.
    #[error("the cluster has no namespace {0}")]
    NoNamespace(String),
    /// The namespace of an object to apply is not there.
    #[error("{what}: the cluster has no namespace {namespace}")]
    NoPlace {
        /// The object.
        what: String,
        /// Where it was to be.
        namespace: String,
    },
    /// The object is not there.
    #[error("the namespace {namespace} has no Cluster {name}")]
    NoCluster {
        /// Its name.
        name: String,
        /// Where it was looked for.
        namespace: String,
    },
    /// Others own what is to be changed.
    #[error("{what}: {}", owned(.owners))]
    Owned {
        /// The object.
        what: String,
        /// Who owns which field.
        owners: Vec<FieldOwner>,
    },
    /// It is not what was shown any more.
    #[error("{0} was changed by somebody else meanwhile")]
    Changed(String),
    /// It was deleted, though finalizers may keep it for a while.
    #[error("{0} was deleted, or is being deleted")]
    Ending(String),
    /// The server refused for a reason of its own.
    #[error("{what}: the cluster refused with {code}: {message}")]
    Refused {
        /// The object.
        what: String,
        /// HTTP's number.
        code: u16,
        /// Its words.
        message: String,
    },
    /// Pods are not ready in time.
    #[error("{what} is not ready after {seconds} s: {progress}")]
    NotReady {
        /// The object.
        what: String,
        /// How long it had.
        seconds: u64,
        /// How far it is.
        progress: String,
    },
}

/// A change that ended half-way.
#[derive(Debug, Clone)]
pub(crate) struct PartialChange {
    /// What stopped it.
    pub failure: ApiFailure,
    /// Objects that are in already, as `Secret a`.
    pub in_already: Vec<String>,
}

impl PartialChange {
    /// What the cluster has now.
    pub(crate) fn state(&self) -> Option<String> {
        match (self.in_already.as_slice(), &self.failure) {
            // The answer may have been lost, and not the request.
            ([], ApiFailure::Unreachable(_) | ApiFailure::Garbled(..)) => None,
            ([], _) => Some("nothing was changed".to_owned()),
            (objects, _) => Some(format!("already in: {}", objects.join(", "))),
        }
    }
}

fn others(served: &[String]) -> String {
    if served.is_empty() { String::new() } else { format!(" (it has {})", served.join(", ")) }
}

fn owned(owners: &[FieldOwner]) -> String {
    let mut text = String::new();
    for (number, FieldOwner { manager, field }) in owners.iter().enumerate() {
        let _ = write!(text, "{}{field} is owned by {manager:?}", if number == 0 { "" } else { ", " });
    }
    text
}

/// What is being deleted is there, but not for long.
pub(super) fn check_stays(live: Option<&Value>, what: &str) -> Result<(), ApiFailure> {
    match live {
        Some(live) if !live["metadata"]["deletionTimestamp"].is_null() => {
            Err(ApiFailure::Ending(what.to_owned()))
        }
        _ => Ok(()),
    }
}

impl ApiFailure {
    /// What a refusal means for an object.
    pub(super) fn of(refusal: ApiRefusal, what: &str) -> Self {
        let what = what.to_owned();
        match refusal {
            ApiRefusal::Unauthorized(message) => Self::Unauthorized(message),
            ApiRefusal::Forbidden(message) => Self::Forbidden(message),
            ApiRefusal::Owned(owners) => Self::Owned { what, owners },
            ApiRefusal::Changed(_) => Self::Changed(what),
            ApiRefusal::Missing(message) => Self::Refused { what, code: 404, message },
            ApiRefusal::Other(code, message) => Self::Refused { what, code, message },
        }
    }

    /// One word for programs that read the log.
    pub(crate) fn class(&self) -> Class {
        match self {
            Self::NotBuilt | Self::Kubeconfig(_) => Class::Usage,
            Self::Unreachable(_) | Self::Garbled(..) => Class::Unreachable,
            Self::Unauthorized(_) | Self::Forbidden(_) => Class::Auth,
            Self::NoKind { .. } | Self::NoNamespace(_) | Self::NoPlace { .. } | Self::NoCluster { .. } => {
                Class::NotFound
            }
            Self::Owned { .. } | Self::Changed(_) | Self::Ending(_) => Class::Conflict,
            Self::Refused { .. } => Class::Refused,
            Self::NotReady { .. } => Class::Timeout,
        }
    }

    /// How a command ends by it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::NotBuilt
            | Self::Kubeconfig(_)
            | Self::NoKind { .. }
            | Self::NoNamespace(_)
            | Self::NoPlace { .. }
            | Self::NoCluster { .. } => Exit::Usage,
            Self::Unreachable(_) | Self::Garbled(..) => Exit::Unreachable,
            Self::Unauthorized(_) | Self::Forbidden(_) => Exit::Credentials,
            Self::Owned { .. }
            | Self::Changed(_)
            | Self::Ending(_)
            | Self::Refused { .. }
            | Self::NotReady { .. } => Exit::Incomplete,
        }
    }

    /// What to do next.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::NotBuilt => "take a release, or build with: cargo build --release --features kube",
            Self::Kubeconfig(_) => {
                "give the cluster's kubeconfig with --kubeconfig FILE; files and programs that it names have to be here"
            }
            Self::Unreachable(_) => "is `server` in the kubeconfig right, and reachable from here?",
            Self::Garbled(..) => "is `server` in the kubeconfig an API server, without a proxy before it?",
            Self::Unauthorized(_) => "the kubeconfig's certificate or token may have expired",
            Self::Forbidden(_) => "use a kubeconfig that may read and write what is named here",
            Self::NoKind { kind, .. } if kind != "Cluster" => {
                "is apiVersion right, and is it the right cluster's kubeconfig? A custom resource has to be installed there \
                 first"
            }
            Self::NoKind { .. } => {
                "the custom resource is not installed there: is it the right cluster's kubeconfig? For a user cluster, \
                 give that of its admin cluster"
            }
            Self::NoNamespace(_) | Self::NoCluster { .. } => {
                "is it the right cluster's kubeconfig? For a user cluster, give that of its admin cluster"
            }
            Self::NoPlace { .. } => {
                "put its Namespace before it in the file, or create it with kubectl create namespace; is it the right \
                 cluster's kubeconfig?"
            }
            Self::Owned { .. } => "--force-conflicts takes the fields over from their owners",
            Self::Changed(_) => "run it again, and look at what it shows",
            Self::Ending(_) => "run it again when it is gone, if it should be there",
            Self::NotReady { .. } => "look at its pods: kubectl describe, kubectl logs",
            Self::Refused { message, .. } if message.starts_with(UNTYPED) => {
                "this release of the cluster does not know that field"
            }
            Self::Refused { .. } => return None,
        })
    }
}
