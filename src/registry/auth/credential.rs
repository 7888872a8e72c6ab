//! A credential for a registry, and its source, which can be read again.

use std::fmt;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};

/// A credential for a registry.
#[derive(Clone)]
pub struct Credential {
    proof: Proof,
    origin: CredentialSource,
}

/// The secret of a credential.
#[derive(Clone)]
pub(crate) enum Proof {
    /// A user and a password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: SecretString,
    },
    /// A token that is traded for access tokens (`identitytoken` of Docker's configuration).
    IdentityToken(SecretString),
}

/// Where a credential was found.
#[derive(Clone)]
pub(crate) struct CredentialSource {
    words: String,
    again: Option<Arc<Rereader>>,
}

/// Reads the credential from its source again. Blocks.
type Rereader = dyn Fn() -> Option<Credential> + Send + Sync;

impl CredentialSource {
    /// A source that does not change, as a flag.
    pub(crate) fn fixed(words: impl Into<String>) -> Self {
        Self { words: words.into(), again: None }
    }

    /// A source that may change, as a file or a program.
    pub(crate) fn again(words: impl Into<String>, again: Arc<Rereader>) -> Self {
        Self { words: words.into(), again: Some(again) }
    }
}

impl Credential {
    pub(crate) fn new(proof: Proof, origin: CredentialSource) -> Self {
        Self { proof, origin }
    }

    /// A user and a password.
    pub(crate) fn password(
        user: impl Into<String>,
        password: SecretString,
        origin: CredentialSource,
    ) -> Self {
        Self::new(Proof::Password { user: user.into(), password }, origin)
    }

    pub(crate) fn proof(&self) -> &Proof {
        &self.proof
    }

    /// The user, unless it is a token.
    pub(super) fn user(&self) -> Option<&str> {
        match &self.proof {
            Proof::Password { user, .. } => Some(user),
            Proof::IdentityToken(_) => None,
        }
    }

    /// The secrets to redact.
    pub(super) fn secret(&self) -> &SecretString {
        match &self.proof {
            Proof::Password { password, .. } | Proof::IdentityToken(password) => password,
        }
    }

    /// The user and the source, for people: `user pusher (from --username)`.
    pub(crate) fn who(&self) -> String {
        match self.user() {
            Some(user) => format!("user {user} (from {})", self.origin.words),
            None => format!("the identity token (from {})", self.origin.words),
        }
    }

    /// The credential that its source has now, if it is another one. Blocks.
    pub(crate) fn read_again(&self) -> Option<Self> {
        let found = self.origin.again.as_ref()?()?;
        (!found.is_same(self)).then_some(found)
    }

    /// A fingerprint, which is equal for equal credentials of any source and does not reveal them.
    pub(in crate::registry) fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for part in [self.user().unwrap_or_default(), self.secret().expose_secret()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.update([u8::from(self.user().is_some())]);
        hash.finalize().into()
    }

    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.user() == other.user() && self.secret().expose_secret() == other.secret().expose_secret()
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({})", self.who())
    }
}
