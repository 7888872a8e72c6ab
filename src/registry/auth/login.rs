//! The login at one registry: the challenge of the registry, the `Authorization` of each request, and what follows from a
//! refusal. Tokens are cached here until shortly before they expire. One request fetches a token (`token`), and all others that
//! need it wait for that.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base64::Engine as _;
use reqwest::Method;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};

use super::account::{Account, Accounts, LoginAttempt, MAX_REFUSALS};
use super::challenge::{Bearer, Challenge, choose, why_none};
use super::slot::CachedToken;
use super::{Credential, Proof, Scopes};
use crate::locks::Mutex;
use crate::registry::ClientOptions;
use crate::registry::client::{ApiClient, ApiRequest};
use crate::registry::error::{Cause, RegistryError};
use crate::registry::redact::SecretWords;

/// Tokens that are kept; there is one for each repository.
const MAX_SLOTS: usize = 1024;

/// The login at one registry, and its tokens.
pub(in crate::registry) struct Auth {
    pub(super) credential: Mutex<Option<Credential>>,
    /// Whether the source of the credential was read again.
    was_read_again: tokio::sync::Mutex<bool>,
    pub(super) realms: Vec<String>,
    pub(super) accounts: Arc<Accounts>,
    pub(super) secrets: Arc<SecretWords>,
    known: Mutex<Option<Challenge>>,
    /// The login that is part of each request, where the registry wants that.
    login: Mutex<Option<(HeaderValue, Arc<Account>)>>,
    /// Whether the ping (`GET /v2/`) needs that login, so that it shows whether the login is right. None before the first ping.
    ping_needs_login: Mutex<Option<bool>>,
    /// Held by the request that finds out whether a login is still right.
    verdict: tokio::sync::Mutex<()>,
    slots: Mutex<HashMap<Scopes, Arc<tokio::sync::Mutex<CachedToken>>>>,
    pub(super) is_proven: AtomicBool,
    /// Whether the registry has accepted a token.
    takes_tokens: AtomicBool,
}

/// The `Authorization` of a request.
pub(in crate::registry) struct Proven {
    header: HeaderValue,
    /// The login itself, where it is not a token.
    login: Option<LoginAttempt>,
}

impl Proven {
    pub(in crate::registry) fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// A request with this was refused, and is not sent with another login.
    pub(in crate::registry) fn failed(self, error: &RegistryError) {
        if let Some(login) = self.login
            && error.status() == Some(401)
            && !is_about_rights(error)
        {
            login.refused();
        }
    }
}

impl From<HeaderValue> for Proven {
    fn from(token: HeaderValue) -> Self {
        Self { header: token, login: None }
    }
}

impl Auth {
    pub(in crate::registry) fn new(options: &ClientOptions) -> Self {
        options.credential.iter().for_each(|credential| remember(&options.secrets, credential));
        Self {
            credential: Mutex::new(options.credential.clone()),
            was_read_again: tokio::sync::Mutex::default(),
            realms: options.auth_realms.clone(),
            accounts: Arc::clone(&options.accounts),
            secrets: Arc::clone(&options.secrets),
            known: Mutex::default(),
            login: Mutex::default(),
            ping_needs_login: Mutex::default(),
            verdict: tokio::sync::Mutex::default(),
            slots: Mutex::default(),
            is_proven: AtomicBool::new(false),
            takes_tokens: AtomicBool::new(false),
        }
    }

    pub(in crate::registry) fn has_credential(&self) -> bool {
        self.credential.lock().is_some()
    }

    /// Takes in what another account has learned from the ping.
    pub(super) fn expects_as(&self, other: &Self) {
        let known = other.known.lock().clone();
        *self.known.lock() = known;
        let ping_needs_login = *other.ping_needs_login.lock();
        *self.ping_needs_login.lock() = ping_needs_login;
    }

    /// Takes in the challenge of the registry, before any other request.
    pub(super) fn expect(&self, challenge: Challenge) {
        *self.known.lock() = Some(challenge);
    }

    /// Takes in the challenge to the ping, and shows credentials, if there are any, once.
    pub(in crate::registry) async fn learn(
        &self,
        client: &ApiClient,
        refused: RegistryError,
    ) -> Result<(), RegistryError> {
        let Some(challenge) = choose_from(&refused) else {
            return Err(without_challenge(refused));
        };
        *self.known.lock() = Some(challenge.clone());
        match challenge {
            Challenge::Bearer(_) if self.credential.lock().is_none() => Ok(()),
            Challenge::Bearer(bearer) => {
                let slot = self.slot(&Scopes::default());
                let mut slot = slot.lock().await;
                self.fetch(client, &Scopes::default(), &bearer, &mut slot).await.map(drop)
            }
            Challenge::Basic => {
                *self.ping_needs_login.lock() = Some(true);
                let mut proven = self.basic(client).await?;
                loop {
                    match self.show(client, Some(&proven.header)).await {
                        Ok(()) => {
                            self.accepted(Some(proven));
                            return Ok(());
                        }
                        Err(error) if error.status() == Some(401) => {
                            proven = self.after_refusal(client, proven, error).await?;
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
        }
    }

    /// Pings the registry, with a login or without.
    async fn show(&self, client: &ApiClient, login: Option<&HeaderValue>) -> Result<(), RegistryError> {
        let ping = ApiRequest::new(Method::GET, client.endpoint.url("")?);
        client.exchange(&ping, login).await.map(drop)
    }

    /// The `Authorization` for these scopes, if the registry is known to want one.
    pub(in crate::registry) async fn authorization(
        &self,
        client: &ApiClient,
        scopes: &Scopes,
    ) -> Result<Option<Proven>, RegistryError> {
        let known = self.known.lock().clone();
        match known {
            None => Ok(None),
            Some(Challenge::Basic) => self.basic(client).await.map(Some),
            Some(Challenge::Bearer(default)) => {
                let slot = self.slot(scopes);
                let mut slot = slot.lock().await;
                if let Some(header) = slot.fresh() {
                    return Ok(Some(header.into()));
                }
                let bearer = slot.bearer.clone().unwrap_or(Bearer { scope: None, ..default });
                self.fetch(client, scopes, &bearer, &mut slot).await.map(|token| Some(token.into()))
            }
        }
    }

    /// The `Authorization` to try after a 401, which is `refused`: a token that another request got meanwhile, or a new one.
    pub(in crate::registry) async fn renewed(
        &self,
        client: &ApiClient,
        scopes: &Scopes,
        used: Option<Proven>,
        refused: RegistryError,
    ) -> Result<Proven, RegistryError> {
        let known = self.known.lock().clone();
        // Some registries challenge in their answer to the ping only.
        let Some(challenge) = choose_from(&refused).or(known) else {
            return Err(without_challenge(refused));
        };
        self.known.lock().get_or_insert_with(|| challenge.clone());
        match challenge {
            Challenge::Basic => match used {
                Some(used) if self.is_current(&used.header) => {
                    let again = self.after_refusal(client, used, refused).await;
                    again.map_err(|error| self.blame(error))
                }
                used => {
                    used.and_then(|used| used.login).into_iter().for_each(LoginAttempt::refused);
                    self.basic(client).await
                }
            },
            Challenge::Bearer(bearer) => {
                let slot = self.slot(scopes);
                let mut slot = slot.lock().await;
                let used = used.map(|used| used.header);
                match &slot.token {
                    Some(token) if used.as_ref() != Some(&token.header) => Ok(token.header.clone().into()),
                    _ => self.fetch(client, scopes, &bearer, &mut slot).await.map(Proven::from),
                }
            }
        }
    }

    /// The registry accepted the login or token.
    pub(in crate::registry) fn accepted(&self, used: Option<Proven>) {
        let Some(used) = used else { return };
        self.is_proven.store(true, Ordering::Relaxed);
        if used.login.is_none() {
            self.takes_tokens.store(true, Ordering::Relaxed);
        }
        if let Some(login) = used.login.filter(|login| login.account().is_in_doubt()) {
            login.taken();
        }
    }

    fn is_current(&self, header: &HeaderValue) -> bool {
        self.login.lock().as_ref().is_some_and(|(current, _)| current == header)
    }

    /// The same error, with whom the registry refused in it.
    pub(in crate::registry) fn blame(&self, error: RegistryError) -> RegistryError {
        match (error.status(), &*self.credential.lock()) {
            (Some(401 | 403), Some(credential)) => error.of_account(credential.who()),
            _ => error,
        }
    }

    /// The same for a fresh token.
    pub(in crate::registry) fn blame_for(&self, fresh: &Proven, error: RegistryError) -> RegistryError {
        match &*self.credential.lock() {
            Some(credential)
                if fresh.login.is_none() && error.status() == Some(401) && !is_about_rights(&error) =>
            {
                return error.of_fresh_token(credential.who());
            }
            _ => {}
        }
        self.blame(error)
    }

    /// Whether a registry that has accepted other tokens refused a fresh one.
    pub(in crate::registry) fn may_take_another(&self, fresh: &Proven, refused: &RegistryError) -> bool {
        fresh.login.is_none()
            && refused.status() == Some(401)
            && !is_about_rights(refused)
            && self.takes_tokens.load(Ordering::Relaxed)
    }

    fn slot(&self, scopes: &Scopes) -> Arc<tokio::sync::Mutex<CachedToken>> {
        let mut slots = self.slots.lock();
        if slots.len() >= MAX_SLOTS && !slots.contains_key(scopes) {
            // Repositories of mirrors that are done: what somebody still wants is fetched again.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(scopes.clone()).or_default())
    }

    /// The login that is part of each request.
    async fn basic(&self, client: &ApiClient) -> Result<Proven, RegistryError> {
        let credential = self.credential.lock().clone();
        let Some(credential) = credential else {
            let why = "the registry wants credentials, and none were given".to_owned();
            return Err(Cause::Credentials(why).into());
        };
        let (header, account) = {
            let mut login = self.login.lock();
            if let Some((header, account)) = &*login {
                (header.clone(), Arc::clone(account))
            } else {
                let Proof::Password { user, password } = credential.proof() else {
                    let why = "the registry wants a password, and there is only an identity token";
                    return Err(Cause::Credentials(why.to_owned()).into());
                };
                let account = self.accounts.of(&client.endpoint.authority(), &credential);
                let header = basic_header(user, password)?;
                *login = Some((header.clone(), Arc::clone(&account)));
                (header, account)
            }
        };
        let login = account.go_along().await.ok_or_else(|| blocked(&credential))?;
        Ok(Proven { header, login: Some(login) })
    }

    /// The login to try after that of a request was refused: the one of its source, if that has changed. A refusal may
    /// be about rights and not about the identity, which the ping shows.
    async fn after_refusal(
        &self,
        client: &ApiClient,
        used: Proven,
        refused: RegistryError,
    ) -> Result<Proven, RegistryError> {
        let credential = self.credential.lock().clone();
        let (Some(credential), Some(login)) = (credential, used.login) else { return Err(refused) };
        if is_about_rights(&refused) {
            return Err(refused);
        }
        let is_wrong = {
            let _verdict = self.verdict.lock().await;
            self.is_wrong(client, &used.header, login.account()).await
        };
        if is_wrong == Some(false) {
            return Err(refused);
        }
        login.refused();
        if self.read_again(&credential).await.is_some() {
            return self.basic(client).await;
        }
        let is_wrong = is_wrong.unwrap_or(!self.is_proven.load(Ordering::Relaxed));
        Err(if is_wrong { login_refused(&credential, &refused) } else { refused })
    }

    /// Whether a login that was accepted once is refused now. None where that cannot be found out, and where the login is known to
    /// be in doubt: each request may be one more refusal.
    async fn is_wrong(
        &self,
        client: &ApiClient,
        header: &HeaderValue,
        account: &Arc<Account>,
    ) -> Option<bool> {
        if account.is_in_doubt() || !self.ping_needs_login(client).await? {
            return None;
        }
        let login = account.try_log_in()?;
        match self.show(client, Some(header)).await {
            Ok(()) => {
                login.taken();
                Some(false)
            }
            Err(error) if error.status() == Some(401) => {
                login.refused();
                Some(true)
            }
            Err(_) => None,
        }
    }

    /// Whether the ping needs a login. None where that cannot be found out.
    async fn ping_needs_login(&self, client: &ApiClient) -> Option<bool> {
        let known = *self.ping_needs_login.lock();
        if known.is_some() {
            return known;
        }
        let asks = match self.show(client, None).await {
            Ok(()) => false,
            Err(error) if error.status() == Some(401) => true,
            Err(_) => return None,
        };
        *self.ping_needs_login.lock() = Some(asks);
        Some(asks)
    }

    /// The credential that the source of a refused one has now, if it is another one. Each source is read once.
    pub(super) async fn read_again(&self, refused: &Credential) -> Option<Credential> {
        let mut was_read = self.was_read_again.lock().await;
        let current = self.credential.lock().clone()?;
        if *was_read {
            return (!current.is_same(refused)).then_some(current);
        }
        *was_read = true;
        let source = refused.clone();
        let found = tokio::task::spawn_blocking(move || source.read_again()).await.ok().flatten()?;
        tracing::info!("{} is tried now", found.who());
        remember(&self.secrets, &found);
        *self.credential.lock() = Some(found.clone());
        *self.login.lock() = None;
        Some(found)
    }
}

/// The secret, and the header with it.
fn remember(secrets: &SecretWords, credential: &Credential) {
    secrets.remember(credential.secret());
    if let Proof::Password { user, password } = credential.proof() {
        secrets.remember(&format!("{user}:{}", password.expose_secret()).into());
    }
}

/// The same, with what the registry asks for in it, which nobody can give here.
fn without_challenge(refused: RegistryError) -> RegistryError {
    let why = refused.answer().map(|answer| why_none(&answer.challenges));
    match why {
        Some(why) => refused.of_challenge(why),
        None => refused,
    }
}

fn choose_from(refused: &RegistryError) -> Option<Challenge> {
    choose(&refused.answer()?.challenges)
}

/// Whether a refusal is about rights, and not about the identity.
pub(super) fn is_about_rights(error: &RegistryError) -> bool {
    error.answer().is_some_and(|answer| {
        let mut challenges = answer.challenges.iter();
        answer.status == 403
            || answer.has_code("DENIED")
            || challenges.any(|challenge| challenge.contains("insufficient_scope"))
    })
}

/// The same error, as one about who we are whatever the code in it.
pub(super) fn login_refused(credential: &Credential, error: &RegistryError) -> RegistryError {
    Cause::LoginRefused { who: credential.who(), why: error.to_string() }.into()
}

pub(super) fn blocked(credential: &Credential) -> RegistryError {
    let why = format!("{MAX_REFUSALS} logins in a row; it is not asked again, because accounts get locked");
    Cause::LoginRefused { who: credential.who(), why }.into()
}

pub(super) fn basic_header(user: &str, password: &SecretString) -> Result<HeaderValue, RegistryError> {
    let pair = format!("{user}:{}", password.expose_secret());
    secret_header(&format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
}

pub(super) fn secret_header(text: &str) -> Result<HeaderValue, RegistryError> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Cause::Protocol("the token server gave a token with control characters".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::auth::CredentialSource;

    #[test]
    fn secrets_do_not_show() {
        let header = basic_header("user", &"hunter2".into()).unwrap();
        assert_eq!(header.to_str().unwrap(), "Basic dXNlcjpodW50ZXIy");
        assert_eq!(format!("{header:?}"), "Sensitive");
        let credential = Credential::password("user", "hunter2".into(), CredentialSource::fixed("a test"));
        assert!(!format!("{credential:?}").contains("hunter2"));
        assert!(secret_header("Bearer a\nb").is_err());
    }
}
