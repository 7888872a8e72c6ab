//! Authentication: challenges, tokens that expire, and where secrets may go.
//!
//! Secrets live in types that do not show them; they go to the scheme, host and port they are for and to a token server
//! that passes the rule in `realm`, and to no other host. `credentials` finds them in files (`document`, `keys`) and asks helper
//! programs (`helper`); `account` keeps accounts from being locked.

mod account;
pub(super) mod challenge;
mod credential;
pub(crate) mod credentials;
mod document;
mod helper;
mod identities;
mod keys;
mod kubernetes;
mod login;
mod realm;
mod slot;
mod token;

pub(crate) use account::Accounts;
pub(crate) use credential::Credential;
pub(crate) use credential::{CredentialSource, Proof};
pub(super) use identities::Identities;
pub(super) use login::{Auth, Proven};

use crate::oci::Repository;

/// What is asked of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Reading only.
    Pull,
    /// Reading and writing. Registries want both for every step of an upload.
    #[default]
    PullPush,
}

/// The rights that a token must have, in the order of the request: some servers read only the first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Scopes(Vec<String>);

impl Scopes {
    pub(super) fn of(repository: &Repository, access: Access) -> Self {
        let actions = match access {
            Access::Pull => "pull",
            Access::PullPush => "pull,push",
        };
        Self(vec![format!("repository:{repository}:{actions}")])
    }

    /// To remove something of a repository, and to see what is left.
    pub(super) fn deleting(repository: &Repository) -> Self {
        Self(vec![format!("repository:{repository}:pull,delete")])
    }

    /// To read the list of repositories.
    pub(super) fn catalog() -> Self {
        Self(vec!["registry:catalog:*".to_owned()])
    }

    /// With reading another repository, to mount from it.
    pub(super) fn reading(mut self, from: &Repository) -> Self {
        self.0.push(format!("repository:{from}:pull"));
        self
    }

    /// With what a challenge names beyond it. What it names of the same repository is left out: it is less than we ask
    /// for, and some servers heed the last one only.
    fn with(&self, scope: Option<&str>) -> Vec<String> {
        fn resource(scope: &str) -> &str {
            scope.rsplit_once(':').map_or(scope, |(resource, _)| resource)
        }
        let is_new = |scope: &&str| !self.0.iter().any(|known| resource(known) == resource(scope));
        let more = scope.into_iter().flat_map(str::split_ascii_whitespace).filter(is_new);
        self.0.iter().map(String::as_str).chain(more).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests;
