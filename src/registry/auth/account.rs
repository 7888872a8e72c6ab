//! Counts refused logins, so that no account gets locked: servers lock an account after a few wrong passwords in a row, and
//! a run has many requests under way when a password changes.
//!
//! An account is a token host (or a registry without one), a user and a secret, whatever mirrors of a run use it. Logins that
//! are under way and those that were refused are together never more than [`MAX_REFUSALS`]. A login that is part of
//! each request is not counted once the server has accepted it, until a request is refused. Requests that are under way at that
//! moment may be refused as well.

use std::collections::HashMap;
use std::sync::Arc;

use secrecy::ExposeSecret as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Credential;
use crate::locks::Mutex;

/// The number of logins in a row that may be refused.
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
    /// A permit for each login that may still be refused.
    places: Arc<Semaphore>,
    streak: Mutex<Streak>,
}

/// How the last logins ended.
#[derive(Debug, Default)]
struct Streak {
    refused: usize,
    /// The number of all refused logins.
    ever_refused: u64,
    was_taken: bool,
    /// Permits that refused logins have used up.
    used_up: usize,
    /// Permits that are still to be used up: none was free.
    owed: usize,
}

impl Default for Account {
    fn default() -> Self {
        Self { places: Arc::new(Semaphore::new(MAX_REFUSALS)), streak: Mutex::default() }
    }
}

/// A login that is under way. One that is dropped without an outcome does not count.
#[derive(Debug)]
pub(super) struct LoginAttempt {
    account: Arc<Account>,
    /// None for a login that is part of a request and is not in doubt.
    place: Option<OwnedSemaphorePermit>,
    /// The number of all refused logins when it began. Its success says nothing of those that were refused since.
    refused_before: u64,
}

impl Account {
    /// Waits until one more login may be tried. Returns none after too many refusals.
    pub(super) async fn log_in(self: &Arc<Self>) -> Option<LoginAttempt> {
        let place = Arc::clone(&self.places).acquire_owned().await.ok()?;
        Some(LoginAttempt::new(self, Some(place)))
    }

    /// The same, without waiting.
    pub(super) fn try_log_in(self: &Arc<Self>) -> Option<LoginAttempt> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(LoginAttempt::new(self, Some(place)))
    }

    /// The same for a login that is part of every request: any number of them, as long as the last one was accepted.
    pub(super) async fn go_along(self: &Arc<Self>) -> Option<LoginAttempt> {
        if self.is_in_doubt() {
            return self.log_in().await;
        }
        Some(LoginAttempt::new(self, None))
    }

    /// Whether no login was accepted yet, or one was refused since.
    pub(super) fn is_in_doubt(&self) -> bool {
        let streak = self.streak.lock();
        !streak.was_taken || streak.refused > 0
    }
}

impl LoginAttempt {
    fn new(account: &Arc<Account>, place: Option<OwnedSemaphorePermit>) -> Self {
        let refused_before = account.streak.lock().ever_refused;
        Self { account: Arc::clone(account), place, refused_before }
    }

    /// Refusals from before it began count no more.
    pub(super) fn taken(self) {
        let mut streak = self.account.streak.lock();
        let since = usize::try_from(streak.ever_refused - self.refused_before).unwrap_or(usize::MAX);
        let forgiven = streak.refused.saturating_sub(since);
        let free = streak.used_up.min(forgiven);
        streak.was_taken = true;
        streak.refused -= forgiven;
        streak.used_up -= free;
        streak.owed = streak.owed.min(streak.refused);
        self.account.places.add_permits(free);
    }

    pub(super) fn refused(mut self) {
        let mut streak = self.account.streak.lock();
        streak.refused += 1;
        streak.ever_refused += 1;
        // The permit is used up, until a login is accepted.
        let used_up = match self.place.take() {
            Some(place) => {
                place.forget();
                1
            }
            None => self.account.places.forget_permits(1),
        };
        streak.used_up += used_up;
        streak.owed += 1 - used_up;
        if streak.refused >= MAX_REFUSALS {
            self.account.places.close();
        }
    }

    pub(super) fn account(&self) -> &Arc<Account> {
        &self.account
    }
}

impl Drop for LoginAttempt {
    fn drop(&mut self) {
        let Some(place) = self.place.take() else { return };
        let mut streak = self.account.streak.lock();
        if streak.owed > 0 {
            streak.owed -= 1;
            streak.used_up += 1;
            place.forget();
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
        assert!(account.places.is_closed());
        for (host, user, secret) in [("b", "u", "p"), ("auth.example", "v", "p"), ("auth.example", "u", "q")]
        {
            assert!(accounts.of(host, &credential(user, secret)).log_in().await.is_some());
        }
    }

    #[tokio::test]
    async fn one_that_is_taken_ends_the_row() {
        let account = Arc::new(Account::default());
        for _ in 0..5 {
            account.log_in().await.unwrap().refused();
            account.log_in().await.unwrap().refused();
            account.log_in().await.unwrap().taken();
        }
        let all = [account.log_in().await, account.log_in().await, account.log_in().await];
        assert!(all.iter().all(Option::is_some));
    }

    #[tokio::test]
    async fn one_that_is_refused_while_no_place_is_free_uses_up_the_next_and_adds_none() {
        let account = Arc::new(Account::default());
        account.log_in().await.unwrap().taken();
        let along = account.go_along().await.unwrap();
        let [one, other, last] =
            [account.log_in().await, account.log_in().await, account.log_in().await].map(Option::unwrap);
        along.refused();
        drop(one);
        assert!(account.try_log_in().is_none(), "two are under way, and one was refused");
        other.taken();
        drop(last);
        let mut all: Vec<_> = std::iter::from_fn(|| account.try_log_in()).collect();
        assert_eq!(all.len(), MAX_REFUSALS - 1, "what was taken began before the refusal");
        all.pop().unwrap().taken();
        all.clear();
        let all: Vec<_> = std::iter::from_fn(|| account.try_log_in()).collect();
        assert_eq!(all.len(), MAX_REFUSALS);
    }

    #[tokio::test]
    async fn a_login_that_goes_along_is_free_while_it_is_not_in_doubt() {
        let account = Arc::new(Account::default());
        let first = account.go_along().await.unwrap();
        let _others = (account.go_along().await, account.go_along().await);
        let fourth = tokio::time::timeout(Duration::from_millis(20), account.go_along()).await;
        assert!(fourth.is_err(), "nothing is known of it yet");
        first.taken();
        let mut many = Vec::new();
        for _ in 0..50 {
            many.push(account.go_along().await.unwrap());
        }
        many.pop().unwrap().refused();
        assert!(account.is_in_doubt() && !account.places.is_closed());
        // What was under way then comes to the same end.
        many.into_iter().for_each(LoginAttempt::refused);
        assert!(account.go_along().await.is_none());
    }
}
