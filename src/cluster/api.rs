//! Telling a cluster of its mirrors: objects of Kubernetes, brought in by server-side apply.
//!
//! In: what a cluster's file says ([`DesiredState`]) or rendered objects ([`manifest`]). Out: requests to the cluster's API server
//! and what became of them. What is asked, and what an answer means, is decided by pure code; only `server` has a
//! connection, and `cluster` and `apply` say in which order things are asked. It owns what it writes under the field
//! manager [`MANAGER`], sends nothing of a file but what is named here, and deletes nothing that it did not make.

pub(crate) mod apply;
pub(crate) mod cluster;
mod diff;
mod failure;
pub(crate) mod manifest;
mod old;
mod owners;
mod patience;
mod ready;
mod request;
mod secret;
mod server;
mod status;
#[cfg(test)]
mod tests;
mod wanted;

pub(crate) use diff::FieldChange;
pub(crate) use failure::{ApiFailure, PartialChange};
pub(crate) use server::ApiServer;
pub(crate) use status::FieldOwner;
pub(crate) use wanted::DesiredState;

/// The name under which the API server remembers which fields are ours
/// ([field management](https://kubernetes.io/docs/reference/using-api/server-side-apply/#managers)).
pub(crate) const MANAGER: &str = "layercast";

/// How a change is made.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct How {
    /// Take fields over from whoever owns them.
    pub force: bool,
    /// The server does everything but keep it.
    pub dry_run: bool,
}
