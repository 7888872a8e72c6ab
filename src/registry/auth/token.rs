//! Tokens: fetched once however many requests wait for one, kept until shortly before they end
//! ([token specification](https://distribution.github.io/distribution/spec/auth/token/)).

use crate::clock::Instant;
use crate::sync::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::form_urlencoded::Serializer;

use super::account::{Account, Accounts, LoginAttempt, MAX_REFUSALS};
use super::challenge::{Bearer, Challenge, choose};
use super::realm::check_realm;
use super::{Credential, Proof, Scopes};
use crate::registry::ClientOptions;
use crate::registry::client::{ApiClient, ApiRequest, Want};
use crate::registry::error::{Cause, RegistryError};
use crate::registry::redact::{Remembered, SecretWords};
use crate::registry::retry::Replay;
use crate::registry::transport::Payload;

const MAX_TOKEN_BYTES: u64 = 1 << 20;
/// Tokens that are kept; there is one for each repository.
const MAX_SLOTS: usize = 1024;
/// What a token lasts if its server does not say.
const DEFAULT_TTL: Duration = Duration::from_secs(60);

/// Who we are to one registry, and the tokens it gave us.
pub(in crate::registry) struct Auth {
    credential: Mutex<Option<Credential>>,
    /// Whether the source of the credential was read again.
    was_read_again: tokio::sync::Mutex<bool>,
    realms: Vec<String>,
    accounts: Arc<Accounts>,
    secrets: Arc<SecretWords>,
    known: Mutex<Option<Challenge>>,
    /// The login that goes along with each request, where the registry wants that.
    login: Mutex<Option<(HeaderValue, Arc<Account>)>>,
    /// Whether the front door asks for that login, so that it says whether the login is right.
    door_asks: AtomicBool,
    /// Held by the one that finds out whether a login is still right.
    verdict: tokio::sync::Mutex<()>,
    slots: Mutex<HashMap<Scopes, Arc<tokio::sync::Mutex<Slot>>>>,
    is_proven: AtomicBool,
    /// Whether the registry has taken a token.
    takes_tokens: AtomicBool,
}

/// What goes along with a request to prove who asks.
pub(in crate::registry) struct Proven {
    header: HeaderValue,
    /// The login itself, where it is not a token.
    login: Option<LoginAttempt>,
}

impl Proven {
    pub(in crate::registry) fn header(&self) -> &HeaderValue {
        &self.header
    }

    /// What came of a request that this went along with, and that is not tried with another.
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

/// The token for some scopes. Its lock is held while one is fetched, so that the others wait for it.
#[derive(Default)]
struct Slot {
    bearer: Option<Bearer>,
    token: Option<Token>,
}

struct Token {
    header: HeaderValue,
    renew_at: Instant,
    /// That it is not shown to anybody while it is good for something.
    _remembered: Remembered,
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
            door_asks: AtomicBool::new(false),
            verdict: tokio::sync::Mutex::default(),
            slots: Mutex::default(),
            is_proven: AtomicBool::new(false),
            takes_tokens: AtomicBool::new(false),
        }
    }

    pub(super) fn has_credential(&self) -> bool {
        self.credential.lock().is_some()
    }

    /// Takes in what another one of us has learned on the front door.
    pub(super) fn expects_as(&self, other: &Self) {
        let known = other.known.lock().clone();
        *self.known.lock() = known;
        self.door_asks.store(other.door_asks.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Takes in what the registry asks for on its front door, and shows credentials, if there are any, once.
    pub(in crate::registry) async fn learn(
        &self,
        client: &ApiClient,
        refused: RegistryError,
    ) -> Result<(), RegistryError> {
        let Some(challenge) = choose_from(&refused) else {
            return Err(refused);
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
                self.door_asks.store(true, Ordering::Relaxed);
                let mut proven = self.basic(client).await?;
                loop {
                    match self.knock(client, &proven).await {
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

    /// Shows a login at the front door.
    async fn knock(&self, client: &ApiClient, proven: &Proven) -> Result<(), RegistryError> {
        let front_door = ApiRequest::new(Method::GET, client.endpoint.url("")?);
        client.exchange(&front_door, Some(&proven.header)).await.map(drop)
    }

    /// What goes into `Authorization` for these scopes, if the registry is known to want something.
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
                if let Some(token) = slot.token.as_ref().filter(|token| Instant::now() < token.renew_at) {
                    return Ok(Some(token.header.clone().into()));
                }
                let bearer = slot.bearer.clone().unwrap_or(Bearer { scope: None, ..default });
                self.fetch(client, scopes, &bearer, &mut slot).await.map(|token| Some(token.into()))
            }
        }
    }

    /// What to try once more after a 401, which is `refused`: a token that somebody else got meanwhile, or a new one.
    pub(in crate::registry) async fn renewed(
        &self,
        client: &ApiClient,
        scopes: &Scopes,
        used: Option<Proven>,
        refused: RegistryError,
    ) -> Result<Proven, RegistryError> {
        let known = self.known.lock().clone();
        // Some registries challenge on their front door only.
        let Some(challenge) = choose_from(&refused).or(known) else {
            return Err(refused);
        };
        self.known.lock().get_or_insert_with(|| challenge.clone());
        match challenge {
            Challenge::Basic => match used {
                Some(used) if self.is_current(&used.header) => {
                    self.after_refusal(client, used, refused).await
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

    /// The registry took what we sent.
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

    /// The same, where what went along was fresh.
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

    /// Whether a fresh token was refused by a registry that has taken others.
    pub(in crate::registry) fn may_take_another(&self, fresh: &Proven, refused: &RegistryError) -> bool {
        fresh.login.is_none()
            && refused.status() == Some(401)
            && !is_about_rights(refused)
            && self.takes_tokens.load(Ordering::Relaxed)
    }

    fn slot(&self, scopes: &Scopes) -> Arc<tokio::sync::Mutex<Slot>> {
        let mut slots = self.slots.lock();
        if slots.len() >= MAX_SLOTS && !slots.contains_key(scopes) {
            // Repositories of mirrors that are done: what somebody still wants is fetched again.
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(scopes.clone()).or_default())
    }

    /// The login that goes along with each request.
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

    /// What to try after a login that went along with a request was refused: that of a source which has changed. A refusal may
    /// be about rights and not about who we are, which the front door tells.
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

    /// Whether a login that was taken once is taken no more. None where nobody says it, and where it is known to be in doubt:
    /// each question may be one more refusal.
    async fn is_wrong(
        &self,
        client: &ApiClient,
        header: &HeaderValue,
        account: &Arc<Account>,
    ) -> Option<bool> {
        if account.is_in_doubt() || !self.door_asks.load(Ordering::Relaxed) {
            return None;
        }
        let login = account.try_log_in()?;
        match self.knock(client, &Proven { header: header.clone(), login: None }).await {
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

    /// What the source of a refused credential says now, if it says something else. Each source is asked once.
    async fn read_again(&self, refused: &Credential) -> Option<Credential> {
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

    /// Fetches a token into its slot.
    async fn fetch(
        &self,
        client: &ApiClient,
        scopes: &Scopes,
        bearer: &Bearer,
        slot: &mut Slot,
    ) -> Result<HeaderValue, RegistryError> {
        let mut credential = self.credential.lock().clone();
        let failed = |cause: Cause| client.transport.blanked(RegistryError::new("GET", &bearer.realm, cause));
        let is_trusted = check_realm(&bearer.realm, &client.endpoint, &self.realms, credential.is_some());
        is_trusted.map_err(|foreign| {
            let cause = Cause::ForeignRealm { why: foreign.why, allow: foreign.allow };
            client.transport.blanked(cause.into())
        })?;
        let body = loop {
            let Some(known) = credential else { break self.ask(client, scopes, bearer, None).await? };
            let account = self.accounts.of(&host_of(bearer), &known);
            let Some(login) = account.log_in().await else {
                // Another request may have found out what holds now.
                credential = Some(self.read_again(&known).await.ok_or_else(|| blocked(&known))?);
                continue;
            };
            match self.ask(client, scopes, bearer, Some(&known)).await {
                Ok(body) => {
                    login.taken();
                    break body;
                }
                Err(error) if self.is_refusal(&known, &error) => {
                    login.refused();
                    let Some(again) = self.read_again(&known).await else {
                        return Err(login_refused(&known, &error));
                    };
                    credential = Some(again);
                }
                Err(error) if matches!(error.status(), Some(300..=399)) => {
                    let why = format!(
                        "the token server {} leads elsewhere, where no password is sent",
                        host_of(bearer)
                    );
                    return Err(client.transport.blanked(Cause::ForeignRealm { why, allow: None }.into()));
                }
                Err(error) => return Err(error.of_account(known.who())),
            }
        };
        let (secret, ttl) =
            read_token(&body).ok_or_else(|| failed(Cause::Protocol("no token in the answer".to_owned())))?;
        let header = secret_header(&format!("Bearer {}", secret.expose_secret()))?;
        if self.credential.lock().is_some() {
            self.is_proven.store(true, Ordering::Relaxed);
        }
        slot.bearer = Some(bearer.clone());
        slot.token = Some(Token {
            header: header.clone(),
            renew_at: Instant::now() + ttl.mul_f64(0.85),
            _remembered: self.secrets.remember_while(&secret),
        });
        Ok(header)
    }

    /// Whether a token server says by its answer that it does not know us. What it refuses for rights is no wrong password,
    /// and locks no account.
    fn is_refusal(&self, credential: &Credential, error: &RegistryError) -> bool {
        let is_proven = self.is_proven.load(Ordering::Relaxed);
        match error.status() {
            Some(401) => !(is_proven && is_about_rights(error)),
            Some(400) => !is_proven || matches!(credential.proof(), Proof::IdentityToken(_)),
            _ => false,
        }
    }

    async fn ask(
        &self,
        client: &ApiClient,
        scopes: &Scopes,
        bearer: &Bearer,
        credential: Option<&Credential>,
    ) -> Result<Bytes, RegistryError> {
        let scopes = scopes.with(bearer.scope.as_deref());
        let (user, password) = match credential.map(Credential::proof) {
            Some(Proof::IdentityToken(token)) => {
                match post(client, bearer, &scopes, token).await {
                    // Servers that know the older way only.
                    Err(error) if matches!(error.status(), Some(404 | 405)) => (Some("<token>"), Some(token)),
                    outcome => return outcome,
                }
            }
            Some(Proof::Password { user, password }) => (Some(user.as_str()), Some(password)),
            None => (None, None),
        };
        let mut url = bearer.realm.clone();
        {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(bearer.service.iter().map(|service| ("service", service)));
            query.extend_pairs(scopes.iter().map(|scope| ("scope", scope)));
            query.append_pair("client_id", "layercast");
            query.extend_pairs(user.iter().map(|user| ("account", user)));
        }
        let header = match (user, password) {
            (Some(user), Some(password)) => Some(basic_header(user, password)?),
            _ => None,
        };
        let request = ApiRequest { follows: false, ..ApiRequest::new(Method::GET, url) }
            .want(Want::Whole(MAX_TOKEN_BYTES));
        Ok(client.exchange(&request, header.as_ref()).await?.body)
    }
}

/// Trades an identity token for an access token.
async fn post(
    client: &ApiClient,
    bearer: &Bearer,
    scopes: &[String],
    token: &SecretString,
) -> Result<Bytes, RegistryError> {
    let request = ApiRequest::new(Method::POST, bearer.realm.clone())
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .payload(Payload::Bytes(form(bearer, scopes, token).into()), Replay::Safe)
        .want(Want::Whole(MAX_TOKEN_BYTES));
    Ok(client.exchange(&request, None).await?.body)
}

fn form(bearer: &Bearer, scopes: &[String], token: &SecretString) -> String {
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token").append_pair("client_id", "layercast");
    form.extend_pairs(bearer.service.iter().map(|service| ("service", service)));
    if !scopes.is_empty() {
        form.append_pair("scope", &scopes.join(" "));
    }
    form.append_pair("refresh_token", token.expose_secret());
    form.finish()
}

/// The secret alone, and as it stands in a header.
fn remember(secrets: &SecretWords, credential: &Credential) {
    secrets.remember(credential.secret());
    if let Proof::Password { user, password } = credential.proof() {
        secrets.remember(&format!("{user}:{}", password.expose_secret()).into());
    }
}

fn host_of(bearer: &Bearer) -> String {
    let host = bearer.realm.host_str().unwrap_or_default();
    format!("{host}:{}", bearer.realm.port_or_known_default().unwrap_or_default())
}

fn choose_from(refused: &RegistryError) -> Option<Challenge> {
    choose(&refused.answer()?.challenges)
}

/// Whether a refusal is about what may be done, and not about who asks.
fn is_about_rights(error: &RegistryError) -> bool {
    error.answer().is_some_and(|answer| {
        let mut challenges = answer.challenges.iter();
        answer.status == 403
            || answer.has_code("DENIED")
            || challenges.any(|challenge| challenge.contains("insufficient_scope"))
    })
}

/// The same error, as one about who we are whatever the code in it.
fn login_refused(credential: &Credential, error: &RegistryError) -> RegistryError {
    Cause::LoginRefused { who: credential.who(), why: error.to_string() }.into()
}

fn blocked(credential: &Credential) -> RegistryError {
    let why = format!("{MAX_REFUSALS} logins in a row; it is not asked again, because accounts get locked");
    Cause::LoginRefused { who: credential.who(), why }.into()
}

fn basic_header(user: &str, password: &SecretString) -> Result<HeaderValue, RegistryError> {
    let pair = format!("{user}:{}", password.expose_secret());
    secret_header(&format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair)))
}

fn secret_header(text: &str) -> Result<HeaderValue, RegistryError> {
    let mut value = HeaderValue::from_str(text)
        .map_err(|_| Cause::Protocol("the token server gave a token with control characters".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The token in an answer and how long it lasts. The server's clock (`issued_at`) is left alone: only ours, which runs
/// evenly, counts.
fn read_token(body: &[u8]) -> Option<(SecretString, Duration)> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let text = |key: &str| answer.get(key)?.as_str().filter(|text| !text.is_empty());
    let token = text("token").or_else(|| text("access_token"))?;
    let seconds = answer.get("expires_in").and_then(|v| v.as_f64().or_else(|| v.as_str()?.parse().ok()));
    let ttl = seconds.filter(|s| *s >= 1.0).map_or(DEFAULT_TTL, |s| Duration::from_secs_f64(s.min(86_400.0)));
    Some((token.into(), ttl))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::auth::CredentialSource;

    #[test]
    fn tokens_are_read_whatever_the_server_calls_them() {
        for (body, token, seconds) in [
            (r#"{"token":"a","expires_in":300,"issued_at":"2001-01-01T00:00:00Z"}"#, "a", 300),
            (r#"{"access_token":"b"}"#, "b", 60),
            (r#"{"token":"","access_token":"c","expires_in":"10"}"#, "c", 10),
            (r#"{"token":"d","expires_in":0}"#, "d", 60),
            (r#"{"token":"e","expires_in":-7}"#, "e", 60),
            (r#"{"token":"f","expires_in":1e99}"#, "f", 86_400),
        ] {
            let (found, ttl) = read_token(body.as_bytes()).unwrap();
            assert_eq!((found.expose_secret(), ttl.as_secs()), (token, seconds), "{body}");
        }
        for body in ["", "{}", "[]", r#"{"token":3}"#] {
            assert!(read_token(body.as_bytes()).is_none(), "{body}");
        }
    }

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
