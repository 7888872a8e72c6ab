//! Logins that were refused, so that no account gets locked: servers lock one after a few wrong passwords in a row, and a
//! run has many requests under way when a password changes.
//!
//! An account is a token host (or a registry without one), a user and a secret, whatever mirrors of a run use it. Logins that
//! are under way and those that were refused are together never more than [`MAX_REFUSALS`].

use std::collections::HashMap;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Credential;
use crate::sync::Mutex;

/// Logins that may be refused one after the other.
pub(crate) const MAX_REFUSALS: usize = 3;

/// The accounts of a run.
#[derive(Debug, Default)]
pub struct Accounts(Mutex<HashMap<[u8; 32], Arc<Account>>>);

impl Accounts {
    /// The account of a credential at a host.
    pub(super) fn of(&self, host: &str, credential: &Credential) -> Arc<Account> {
        let user = credential.user().unwrap_or_default();
        let secret = credential.secret().expose_secret();
        let mut hash = Sha256::new();
        for part in [host, user, secret] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Arc::clone(self.0.lock().entry(hash.finalize().into()).or_default())
    }
}

/// One account.
#[derive(Debug)]
pub(super) struct Account {
    /// A place for each login that may still be refused.
    places: Arc<Semaphore>,
    refused: Mutex<usize>,
}

impl Default for Account {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_REFUSALS)), refused: Mutex::new(0) }
    }
}

/// A login that is under way.
#[derive(Debug)]
pub(super) struct LoginAttempt<'a> {
    account: &'a Account,
    place: OwnedSemaphorePermit,
}

impl Account {
    /// Waits until one more login may be tried; none may after too many refusals.
    pub(super) async fn log_in(&self) -> Option<LoginAttempt<'_>> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        Some(LoginAttempt { account: self, place })
    }

    /// A login was refused that went along with a request, and not before it.
    pub(super) fn was_refused(&self) {
        let mut refused = self.refused.lock();
        *refused += 1;
        if *refused >= MAX_REFUSALS {
            self.places.close();
        } else {
            self.places.forget_permits(1);
        }
    }

    /// A login was taken: the next one that is refused is the first in its row.
    pub(super) fn was_taken(&self) {
        let mut refused = self.refused.lock();
        self.places.add_permits(std::mem::take(&mut *refused));
    }

    /// Whether so many were refused that no other is tried.
    pub(super) fn is_blocked(&self) -> bool {
        self.places.is_closed()
    }
}

impl LoginAttempt<'_> {
    pub(super) fn taken(self) {
        drop(self.place);
        if *self.account.refused.lock() > 0 {
            self.account.was_taken();
        }
    }

    pub(super) fn refused(self) {
        // The place is used up, for as long as none is taken.
        self.place.forget();
        let mut refused = self.account.refused.lock();
        *refused += 1;
        if *refused >= MAX_REFUSALS {
            self.account.places.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::auth::CredentialSource;
    use std::time::Duration;

    fn credential(user: &str, secret: &str) -> Credential {
        Credential::password(user, secret.into(), CredentialSource::fixed("a test"))
    }

    #[tokio::test]
    async fn three_are_refused_whoever_asks_and_no_more_are_under_way() {
        let accounts = Accounts::default();
        let account = accounts.of("auth.example", &credential("u", "p"));
        let under_way: Vec<_> =
            [account.log_in().await, account.log_in().await, account.log_in().await].into();
        let fourth = tokio::time::timeout(Duration::from_millis(20), account.log_in()).await;
        assert!(fourth.is_err(), "it waits for the outcome of another");
        under_way.into_iter().flatten().for_each(LoginAttempt::refused);
        assert!(accounts.of("auth.example", &credential("u", "p")).log_in().await.is_none());
        assert!(account.is_blocked());
        for (host, user, secret) in [("b", "u", "p"), ("auth.example", "v", "p"), ("auth.example", "u", "q")]
        {
            assert!(accounts.of(host, &credential(user, secret)).log_in().await.is_some());
        }
    }

    #[tokio::test]
    async fn one_that_is_taken_ends_the_row() {
        let account = Account::default();
        for _ in 0..5 {
            account.log_in().await.unwrap().refused();
            account.log_in().await.unwrap().refused();
            account.log_in().await.unwrap().taken();
        }
        let all = [account.log_in().await, account.log_in().await, account.log_in().await];
        assert!(all.iter().all(Option::is_some));
        account.was_refused();
        account.was_refused();
        assert!(!account.is_blocked());
        account.was_refused();
        assert!(account.is_blocked());
    }
}
