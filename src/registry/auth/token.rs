//! Fetching tokens
//! ([token specification](https://distribution.github.io/distribution/spec/auth/token/)).

use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::Method;
use reqwest::header::{CONTENT_TYPE, HeaderValue, LOCATION};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;

use super::challenge::Bearer;
use super::login::{Auth, basic_header, blocked, is_about_rights, login_refused, secret_header};
use super::realm::check_realm;
use super::slot::{CachedToken, Token};
use super::{Credential, Proof, Scopes};
use crate::clock::Instant;
use crate::registry::client::{ApiClient, ApiRequest, Reply, Want};
use crate::registry::error::{Cause, RegistryError};
use crate::registry::redact::redacted;
use crate::registry::retry::Replay;
use crate::registry::transport::Payload;
use crate::registry::{headers, webpage};

const MAX_TOKEN_BYTES: u64 = 1 << 20;
/// The lifetime of a token if its server names none.
const DEFAULT_TTL: Duration = Duration::from_secs(60);
/// How often a token server may redirect, as to a path with a slash at its end.
const MAX_REDIRECTS: u32 = 3;
const REDIRECTS: &[u16] = &[301, 302, 303, 307, 308];

impl Auth {
    /// Fetches a token into its cache.
    pub(super) async fn fetch(
        &self,
        client: &ApiClient,
        scopes: &Scopes,
        bearer: &Bearer,
        slot: &mut CachedToken,
    ) -> Result<HeaderValue, RegistryError> {
        let mut credential = self.credential.lock().clone();
        let is_trusted = check_realm(&bearer.realm, &client.endpoint, &self.realms, credential.is_some());
        is_trusted.map_err(|foreign| {
            let cause = Cause::ForeignRealm { why: foreign.why, allow: foreign.allow };
            client.transport.blanked(cause.into())
        })?;
        let answer = loop {
            let Some(known) = credential else { break self.ask(client, scopes, bearer, None).await? };
            let account = self.accounts.of(&host_of(bearer), &known);
            let Some(login) = account.log_in().await else {
                // Another request may have found out what holds now.
                credential = Some(self.read_again(&known).await.ok_or_else(|| blocked(&known))?);
                continue;
            };
            match self.ask(client, scopes, bearer, Some(&known)).await {
                Ok(answer) => {
                    login.taken();
                    break answer;
                }
                Err(error) if self.is_refusal(&known, &error) => {
                    login.refused();
                    let Some(again) = self.read_again(&known).await else {
                        return Err(login_refused(&known, &error));
                    };
                    credential = Some(again);
                }
                Err(error) => return Err(error.of_account(known.who())),
            }
        };
        let (secret, ttl) = read_token(&answer.body).ok_or_else(|| {
            let page = webpage::in_place_of_registry(&answer.headers, &answer.body);
            let why = format!(
                "the token server gives no token: {}",
                page.as_deref().unwrap_or("there is none in its answer")
            );
            let error = RegistryError::new("GET", &bearer.realm, Cause::Protocol(why)).of_token_server();
            client.transport.blanked(error)
        })?;
        let header = secret_header(&format!("Bearer {}", secret.expose_secret()))?;
        if self.credential.lock().is_some() {
            self.is_proven.store(true, Ordering::Relaxed);
        }
        slot.bearer = Some(bearer.clone());
        slot.token = Some(Token {
            header: header.clone(),
            renew_at: Instant::now() + ttl.mul_f64(0.85),
            _remembered: self.secrets.remember_beyond(&secret),
        });
        Ok(header)
    }

    /// Whether a token server refused the login. A refusal for lack of rights is no wrong password, and locks no account.
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
    ) -> Result<Reply, RegistryError> {
        let scopes = scopes.with(bearer.scope.as_deref());
        let (user, password) = match credential.map(Credential::proof) {
            Some(Proof::IdentityToken(token)) => {
                match post(client, bearer, &scopes, token).await {
                    // Servers that support only GET.
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
        exchange(client, url, header.as_ref(), |url| ApiRequest::new(Method::GET, url)).await
    }
}

/// Trades an identity token for an access token.
async fn post(
    client: &ApiClient,
    bearer: &Bearer,
    scopes: &[String],
    token: &SecretString,
) -> Result<Reply, RegistryError> {
    exchange(client, bearer.realm.clone(), None, |url| {
        ApiRequest::new(Method::POST, url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .payload(Payload::Bytes(form(bearer, scopes, token).into()), Replay::Safe)
    })
    .await
}

/// Sends a request to a token server, and follows redirects to other paths of the same server.
async fn exchange<'a>(
    client: &ApiClient,
    mut url: Url,
    header: Option<&HeaderValue>,
    request: impl Fn(Url) -> ApiRequest<'a>,
) -> Result<Reply, RegistryError> {
    for _ in 0..=MAX_REDIRECTS {
        let asked = request(url.clone()).want(Want::Whole(MAX_TOKEN_BYTES)).also(REDIRECTS);
        let asked = ApiRequest { follows: false, ..asked };
        let reply = client.exchange(&asked, header).await.map_err(RegistryError::of_token_server)?;
        if !REDIRECTS.contains(&reply.status) {
            return Ok(reply);
        }
        let location = headers::text(&reply.headers, LOCATION).unwrap_or_default();
        url = own_path(&url, location).map_err(|target| {
            let why = format!(
                "the token server {} leads to {target}, where no password is sent",
                url.host_str().unwrap_or_default()
            );
            client.transport.blanked(Cause::ForeignRealm { why, allow: None }.into())
        })?;
    }
    let why = format!("the token server leads on more than {MAX_REDIRECTS} times");
    Err(client.transport.blanked(RegistryError::new("GET", &url, Cause::Protocol(why)).of_token_server()))
}

/// The target of a token server's redirect, if it has the same scheme, host and port. The query of the request is kept.
///
/// # Errors
/// The other place.
fn own_path(asked: &Url, location: &str) -> Result<Url, String> {
    let mut target = asked.join(location).map_err(|_| "what is no address".to_owned())?;
    let names_user = !target.username().is_empty() || target.password().is_some();
    if target.origin() != asked.origin() || names_user {
        return Err(redacted(&target));
    }
    if target.query().is_none() {
        target.set_query(asked.query());
    }
    target.set_fragment(None);
    Ok(target)
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

fn host_of(bearer: &Bearer) -> String {
    let host = bearer.realm.host_str().unwrap_or_default();
    format!("{host}:{}", bearer.realm.port_or_known_default().unwrap_or_default())
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
    fn a_token_server_leads_to_itself_alone() {
        let asked = Url::parse("https://auth.r/token?service=r").unwrap();
        for (location, expected) in [
            ("/token/", "https://auth.r/token/?service=r"),
            ("/token/?service=r", "https://auth.r/token/?service=r"),
            ("https://auth.r:443/v2/token?a=b", "https://auth.r/v2/token?a=b"),
        ] {
            assert_eq!(own_path(&asked, location).unwrap().as_str(), expected);
        }
        for location in
            ["https://evil.r/token", "http://auth.r/token", "https://auth.r:444/", "https://u:p@auth.r/"]
        {
            assert!(own_path(&asked, location).is_err(), "{location}");
        }
    }
}
