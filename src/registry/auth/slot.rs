//! The cache of one token: its challenge, and the token until it expires.

use reqwest::header::HeaderValue;

use super::challenge::Bearer;
use crate::clock::Instant;
use crate::registry::redact::LearnedSecret;

/// The token for some scopes. Its lock is held while a token is fetched, so that other requests wait for it.
#[derive(Default)]
pub(super) struct CachedToken {
    pub(super) bearer: Option<Bearer>,
    pub(super) token: Option<Token>,
}

pub(super) struct Token {
    pub(super) header: HeaderValue,
    pub(super) renew_at: Instant,
    /// Redacts the token from all output as long as it is valid, and for some time after.
    pub(super) _remembered: LearnedSecret,
}

impl CachedToken {
    /// The token, while it need not be renewed.
    pub(super) fn fresh(&self) -> Option<HeaderValue> {
        self.token.as_ref().filter(|token| Instant::now() < token.renew_at).map(|token| token.header.clone())
    }
}
