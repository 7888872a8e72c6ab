//! The place of one token: where it comes from, and what it is while it lasts.

use reqwest::header::HeaderValue;

use super::challenge::Bearer;
use crate::clock::Instant;
use crate::registry::redact::LearnedSecret;

/// The token for some scopes. Its lock is held while one is fetched, so that the others wait for it.
#[derive(Default)]
pub(super) struct CachedToken {
    pub(super) bearer: Option<Bearer>,
    pub(super) token: Option<Token>,
}

pub(super) struct Token {
    pub(super) header: HeaderValue,
    pub(super) renew_at: Instant,
    /// That it is not shown to anybody while it is good for something.
    pub(super) _remembered: LearnedSecret,
}

impl CachedToken {
    /// The token, while it need not be renewed.
    pub(super) fn fresh(&self) -> Option<HeaderValue> {
        self.token.as_ref().filter(|token| Instant::now() < token.renew_at).map(|token| token.header.clone())
    }
}
