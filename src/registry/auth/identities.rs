//! The credential for each repository of one registry. Files of credentials may have entries for namespaces and repositories;
//! the longest that matches counts.

use super::challenge::{Challenge, choose};
use super::{Auth, Credential};
use crate::oci::Repository;
use crate::registry::ClientOptions;
use crate::registry::client::ApiClient;
use crate::registry::error::RegistryError;

/// All credentials for one registry.
pub(in crate::registry) struct Identities {
    /// Used where no other matches.
    general: Auth,
    /// The longest path first.
    below: Vec<(Repository, Auth)>,
}

impl Identities {
    pub(in crate::registry) fn new(options: &ClientOptions) -> Self {
        let own = |credential: &Credential| {
            Auth::new(&ClientOptions { credential: Some(credential.clone()), ..options.clone() })
        };
        let mut below: Vec<(Repository, Auth)> = options
            .credentials_below
            .iter()
            .map(|(path, credential)| (path.clone(), own(credential)))
            .collect();
        below.sort_by_key(|(path, _)| std::cmp::Reverse(path.as_str().len()));
        Self { general: Auth::new(options), below }
    }

    /// The login for a repository.
    pub(in crate::registry) fn of(&self, repository: &Repository) -> &Auth {
        let name = repository.as_str();
        let is_below =
            |path: &str| name.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let own = self.below.iter().find(|(path, _)| is_below(path.as_str()));
        own.map_or(&self.general, |(_, auth)| auth)
    }

    /// Takes in the challenge of a refusal. Returns whether it asks for a token, or none if the challenge is not supported.
    pub(in crate::registry) fn expect(&self, refused: &RegistryError) -> Option<bool> {
        let challenge = choose(&refused.answer()?.challenges)?;
        self.all().for_each(|auth| auth.expect(challenge.clone()));
        Some(matches!(challenge, Challenge::Bearer(_)))
    }

    fn all(&self) -> impl Iterator<Item = &Auth> {
        std::iter::once(&self.general).chain(self.below.iter().map(|(_, auth)| auth))
    }

    /// Takes in the challenge to the ping. One credential is shown there. If it is refused, the next one is: it turns out later
    /// which of them the run needs, and an old entry for the whole host must not hide those for its repositories.
    pub(in crate::registry) async fn learn(
        &self,
        client: &ApiClient,
        refused: RegistryError,
    ) -> Result<(), RegistryError> {
        let mut first_refusal = None;
        for auth in self.all().filter(|auth| auth.has_credential()) {
            match auth.learn(client, refused.clone()).await {
                Ok(()) => {
                    self.all().for_each(|other| other.expects_as(auth));
                    return Ok(());
                }
                Err(error) if error.is_about_login() => {
                    first_refusal.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = first_refusal {
            return Err(error);
        }
        self.general.learn(client, refused).await?;
        self.all().for_each(|other| other.expects_as(&self.general));
        Ok(())
    }
}
