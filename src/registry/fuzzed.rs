//! What a registry says in its headers, for `fuzz/`: each function panics where a promise is broken.

use url::Url;

use super::auth::challenge;
use super::endpoint::Target;
use super::location;
use super::upload::offset;

/// The challenges of a 401.
pub fn challenge(value: &str) {
    let values = [value.to_owned()];
    if challenge::choose(&values).is_none() {
        let _ = challenge::why_none(&values);
    }
}

/// Where an upload or a redirect leads: never away from TLS, and an upload never to another host.
///
/// # Panics
/// It leads elsewhere.
pub fn location(text: &str) {
    let Ok(base) = Url::parse("https://registry.example/v2/a/blobs/uploads/") else { return };
    let Ok(Target { endpoint, .. }) = "registry.example".parse::<Target>() else { return };
    if let Ok(url) = location::upload(&base, text, &endpoint, &[]) {
        assert!(endpoint.is_host_of(&url) && url.scheme() == "https", "{text:?} leads to {url}");
    }
    if let Ok(url) = location::redirect(&base, text, &endpoint) {
        assert_eq!(url.scheme(), "https", "{text:?} leads to {url}");
    }
}

/// What a session says it has: an upload goes on only within what was sent.
///
/// # Panics
/// It goes on elsewhere.
pub fn range(text: &str) {
    let window = 100..=200;
    if let Some(reported) = offset::reported_bytes(Some(text))
        && let Some(offset) = offset::resume_at(&window, reported, None)
    {
        assert!(window.contains(&offset), "{text:?} goes on at {offset}");
    }
}
