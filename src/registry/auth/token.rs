//! Tokens: fetched once however many requests wait for one, kept until shortly before they end
//! ([token specification](https://distribution.github.io/distribution/spec/auth/token/)).

use crate::clock::Instant;
use crate::sync::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::form_urlencoded::Serializer;

use super::challenge::{Bearer, Challenge, check_realm, choose};
use super::{Credential, Scopes};
use crate::registry::client::{Client, Request, Want};
use crate::registry::error::{Cause, RegistryError};
use crate::registry::host::locked;
use crate::registry::retry::Replay;
use crate::registry::transport::Payload;

const MAX_TOKEN_BYTES: u64 = 1 << 20;
/// What a token lasts if its server does not say.
const DEFAULT_TTL: Duration = Duration::from_secs(60);
/// Refused logins before we stop asking: accounts get locked.
const MAX_REFUSALS: u32 = 3;

/// Who we are to one registry, and the tokens it gave us.
pub(in crate::registry) struct Auth {
    credential: Option<Credential>,
    realms: Vec<String>,
    known: Mutex<Option<Challenge>>,
    slots: Mutex<HashMap<Scopes, Arc<tokio::sync::Mutex<Slot>>>>,
    refusals: AtomicU32,
    is_proven: AtomicBool,
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
}

impl Auth {
    pub(in crate::registry) fn new(credential: Option<Credential>, realms: Vec<String>) -> Self {
        Self {
            credential,
            realms,
            known: Mutex::default(),
            slots: Mutex::default(),
            refusals: AtomicU32::new(0),
            is_proven: AtomicBool::new(false),
        }
    }

    /// Takes in what the registry asks for on its front door, and shows credentials, if there are any, once.
    pub(in crate::registry) async fn learn(
        &self,
        client: &Client,
        refused: RegistryError,
    ) -> Result<(), RegistryError> {
        let Some(challenge) = choose_from(&refused) else {
            return Err(refused);
        };
        *locked(&self.known) = Some(challenge.clone());
        match challenge {
            Challenge::Bearer(_) if self.credential.is_none() => Ok(()),
            Challenge::Bearer(bearer) => {
                let slot = self.slot(&Scopes::default());
                let mut slot = slot.lock().await;
                self.fetch(client, &Scopes::default(), &bearer, &mut slot).await.map(drop)
            }
            Challenge::Basic => {
                let header = self.basic()?;
                let front_door = Request::new(Method::GET, client.endpoint.url("")?);
                match client.exchange(&front_door, Some(&header)).await {
                    Ok(_) => {
                        self.accepted(Some(&header));
                        Ok(())
                    }
                    Err(error) if error.status() == Some(401) => Err(refused_login(&error)),
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// What goes into `Authorization` for these scopes, if the registry is known to want something.
    pub(in crate::registry) async fn authorization(
        &self,
        client: &Client,
        scopes: &Scopes,
    ) -> Result<Option<HeaderValue>, RegistryError> {
        let known = locked(&self.known).clone();
        match known {
            None => Ok(None),
            Some(Challenge::Basic) => self.basic().map(Some),
            Some(Challenge::Bearer(default)) => {
                let slot = self.slot(scopes);
                let mut slot = slot.lock().await;
                if let Some(token) = slot.token.as_ref().filter(|token| Instant::now() < token.renew_at) {
                    return Ok(Some(token.header.clone()));
                }
                let bearer = slot.bearer.clone().unwrap_or(Bearer { scope: None, ..default });
                self.fetch(client, scopes, &bearer, &mut slot).await.map(Some)
            }
        }
    }

    /// What to try once more after a 401, which is `refused`: a token that somebody else got meanwhile, or a new one.
    pub(in crate::registry) async fn renewed(
        &self,
        client: &Client,
        scopes: &Scopes,
        used: Option<&HeaderValue>,
        refused: RegistryError,
    ) -> Result<HeaderValue, RegistryError> {
        let known = locked(&self.known).clone();
        // Some registries challenge on their front door only.
        let Some(challenge) = choose_from(&refused).or(known) else {
            return Err(refused);
        };
        locked(&self.known).get_or_insert_with(|| challenge.clone());
        match challenge {
            Challenge::Basic => {
                let header = self.basic()?;
                if used == Some(&header) {
                    self.count_refusal();
                    return Err(refused);
                }
                Ok(header)
            }
            Challenge::Bearer(bearer) => {
                let slot = self.slot(scopes);
                let mut slot = slot.lock().await;
                match &slot.token {
                    Some(token) if used != Some(&token.header) => Ok(token.header.clone()),
                    _ => self.fetch(client, scopes, &bearer, &mut slot).await,
                }
            }
        }
    }

    /// The registry took what we sent.
    pub(in crate::registry) fn accepted(&self, used: Option<&HeaderValue>) {
        if used.is_some() {
            self.is_proven.store(true, Ordering::Relaxed);
        }
    }

    fn slot(&self, scopes: &Scopes) -> Arc<tokio::sync::Mutex<Slot>> {
        Arc::clone(locked(&self.slots).entry(scopes.clone()).or_default())
    }

    /// A refusal counts only while the credentials have never worked: later ones are about rights, not about who we are.
    fn count_refusal(&self) {
        if !self.is_proven.load(Ordering::Relaxed) {
            self.refusals.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn check_lockout(&self) -> Result<(), RegistryError> {
        if self.credential.is_some() && self.refusals.load(Ordering::Relaxed) >= MAX_REFUSALS {
            return Err(Cause::Credentials(
                "credentials were refused too often; not asking again".to_owned(),
            )
            .into());
        }
        Ok(())
    }

    fn basic(&self) -> Result<HeaderValue, RegistryError> {
        self.check_lockout()?;
        match &self.credential {
            Some(Credential::Basic { user, password }) => basic_header(user, password),
            Some(Credential::IdentityToken(_)) => Err(Cause::Credentials(
                "the registry wants a password, and there is only an identity token".to_owned(),
            )
            .into()),
            None => {
                Err(Cause::Credentials("the registry wants credentials, and none were given".to_owned())
                    .into())
            }
        }
    }

    /// Fetches a token into its slot.
    async fn fetch(
        &self,
        client: &Client,
        scopes: &Scopes,
        bearer: &Bearer,
        slot: &mut Slot,
    ) -> Result<HeaderValue, RegistryError> {
        self.check_lockout()?;
        check_realm(&bearer.realm, &client.endpoint, &self.realms, self.credential.is_some())
            .map_err(|why| RegistryError::new("GET", &bearer.realm, Cause::Protocol(why)))?;
        let body = match self.ask(client, scopes, bearer).await {
            Err(error) if matches!(error.status(), Some(400 | 401 | 403)) && self.credential.is_some() => {
                self.count_refusal();
                return Err(if error.status() == Some(401) { refused_login(&error) } else { error });
            }
            asked => asked?,
        };
        let (secret, ttl) = read_token(&body).ok_or_else(|| {
            RegistryError::new("GET", &bearer.realm, Cause::Protocol("no token in the answer".to_owned()))
        })?;
        let header = secret_header(&format!("Bearer {}", secret.expose_secret()))?;
        self.accepted(self.credential.as_ref().map(|_| &header));
        slot.bearer = Some(bearer.clone());
        slot.token = Some(Token { header: header.clone(), renew_at: Instant::now() + ttl.mul_f64(0.85) });
        Ok(header)
    }

    async fn ask(&self, client: &Client, scopes: &Scopes, bearer: &Bearer) -> Result<Bytes, RegistryError> {
        let scopes = scopes.with(bearer.scope.as_deref());
        let (user, password) = match &self.credential {
            Some(Credential::IdentityToken(token)) => {
                match post(client, bearer, &scopes, token).await {
                    // Servers that know the older way only.
                    Err(error) if matches!(error.status(), Some(404 | 405)) => (Some("<token>"), Some(token)),
                    outcome => return outcome,
                }
            }
            Some(Credential::Basic { user, password }) => (Some(user.as_str()), Some(password)),
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
        let request =
            Request { follows: false, ..Request::new(Method::GET, url) }.want(Want::Whole(MAX_TOKEN_BYTES));
        Ok(client.exchange(&request, header.as_ref()).await?.body)
    }
}

/// Trades an identity token for an access token.
async fn post(
    client: &Client,
    bearer: &Bearer,
    scopes: &[String],
    token: &SecretString,
) -> Result<Bytes, RegistryError> {
    let request = Request::new(Method::POST, bearer.realm.clone())
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

fn choose_from(refused: &RegistryError) -> Option<Challenge> {
    choose(&refused.answer()?.challenges)
}

/// The same error, as one about who we are whatever the code in it.
fn refused_login(error: &RegistryError) -> RegistryError {
    Cause::Credentials(format!("the credentials were refused ({error})")).into()
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
        let credential = Credential::Basic { user: "user".into(), password: "hunter2".into() };
        assert!(!format!("{credential:?}").contains("hunter2"));
        assert!(secret_header("Bearer a\nb").is_err());
    }
}
