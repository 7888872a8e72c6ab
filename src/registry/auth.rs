//! Credentials: what a registry asks for, tokens that last a while, and where secrets may go.
//!
//! Secrets live in types that do not show them; they go to the scheme, host and port they are for and to a token server
//! that passes the rule in `challenge`, never elsewhere.

pub(super) mod challenge;
pub(crate) mod credentials;
mod token;

use std::fmt;

use secrecy::SecretString;

pub(super) use token::Auth;

use crate::oci::Repository;

/// Who we are to a registry.
#[derive(Clone)]
pub enum Credential {
    /// A user and a password.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: SecretString,
    },
    /// A token that is traded for access tokens (`identitytoken` of Docker's configuration).
    IdentityToken(SecretString),
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Basic { .. } => f.write_str("Basic(…)"),
            Self::IdentityToken(_) => f.write_str("IdentityToken(…)"),
        }
    }
}

/// What is asked of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// Reading only.
    Pull,
    /// Reading and writing. Registries want both for every step of an upload.
    #[default]
    PullPush,
}

/// What a token must allow, in the order in which it is asked for: some servers heed the first only.
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
