//! Headers whose text needs reading: `Retry-After`, `Link`, `Warning`, lengths. Pure, and lenient where servers are.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_RANGE, DATE, HeaderMap, HeaderName, LINK, RETRY_AFTER, WARNING,
};
use url::Url;

use crate::oci::Digest;

/// The bounds of `Retry-After`: a shorter pause does not help, and no request waits for a longer one.
const RETRY_AFTER_RANGE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(7 * 86_400));

/// A header as text, if it is there and is text.
pub(super) fn text(headers: &HeaderMap, name: impl Into<HeaderName>) -> Option<&str> {
    headers.get(name.into())?.to_str().ok().map(str::trim)
}

/// `Date`: the time of the server.
pub(super) fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let date = text(headers, DATE)?;
    jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(date).ok()
}

/// `Retry-After`, as seconds or as a date, clamped. A date counts by the clock that wrote it (`Date`), and without one by `ours`.
pub(super) fn retry_after(headers: &HeaderMap, ours: Timestamp) -> Option<Duration> {
    let (text, now) = (text(headers, RETRY_AFTER)?, date(headers).unwrap_or(ours));
    let asked = if text.bytes().all(|c| c.is_ascii_digit()) && !text.is_empty() {
        Duration::from_secs(text.parse().unwrap_or(u64::MAX))
    } else {
        let at =
            jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_timestamp(text).ok()?;
        // A date has whole seconds: not before all of the present one has passed.
        Duration::try_from(at.duration_since(now)).map_or(Duration::ZERO, whole_seconds)
    };
    Some(asked.clamp(RETRY_AFTER_RANGE.0, RETRY_AFTER_RANGE.1))
}

fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0))
}

/// The texts of `Warning: 299 - "text"`, which registries send to say something to people
/// ([distribution-spec, warnings](https://github.com/opencontainers/distribution-spec/blob/v1.1.1/spec.md#warnings)).
pub(super) fn warnings(headers: &HeaderMap) -> Vec<String> {
    let read = |value: &str| {
        let quoted = value.strip_prefix("299 - \"")?.strip_suffix('"')?;
        Some(quoted.replace("\\\"", "\"").replace("\\\\", "\\").chars().take(256).collect())
    };
    headers
        .get_all(WARNING)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .filter_map(|v| read(v.trim()))
        .take(4)
        .collect()
}

/// `Link: <…>; rel="next"`: where the next page of a list is
/// ([RFC 8288](https://www.rfc-editor.org/rfc/rfc8288#section-3)): among several links, in one header or in several.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    links.into_iter().find_map(next_of)
}

/// The address of the next page after `url`; none where there is none. A proxy may not know its own address, and nobody else is
/// asked: of what the registry names, path and query alone count.
///
/// # Errors
/// What it names is no address.
pub(super) fn next_url(url: &Url, headers: &HeaderMap) -> Result<Option<Url>, String> {
    let Some(next) = next_page(headers) else { return Ok(None) };
    let named = url.join(&next).map_err(|_| "its list goes on at what is no address".to_owned())?;
    let mut next = url.clone();
    next.set_path(named.path());
    next.set_query(named.query());
    Ok(Some(next))
}

fn next_of(mut links: &str) -> Option<String> {
    while let Some((_, rest)) = links.split_once('<') {
        let (target, rest) = rest.split_once('>')?;
        // The parameters of this link end where the next one begins.
        let end = rest.find(",<").or_else(|| rest.find(", <")).unwrap_or(rest.len());
        let mut parameters = rest[..end].split(';').filter_map(|parameter| parameter.split_once('='));
        let is_next = parameters.any(|(name, value)| {
            let mut relations = value.trim_matches([' ', '"', ',']).split_whitespace();
            name.trim().eq_ignore_ascii_case("rel") && relations.any(|it| it.eq_ignore_ascii_case("next"))
        });
        if is_next {
            return Some(target.to_owned());
        }
        links = &rest[end..];
    }
    None
}

/// The program and version that a server names, if it does (`Server`).
pub(super) fn server(headers: &HeaderMap) -> String {
    let said = ["server", "x-jfrog-version"];
    let said = said.into_iter().filter_map(|name| text(headers, HeaderName::from_static(name)));
    said.collect::<Vec<_>>().join("; ").chars().filter(|c| !c.is_control()).take(200).collect()
}

/// `Docker-Content-Digest`: the digest that a registry says its content has.
pub(super) fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    text(headers, HeaderName::from_static("docker-content-digest"))?.parse().ok()
}

/// The same where it says that the content is not what it was asked about. A registry may call content by the digest of another
/// algorithm, which says nothing.
pub(super) fn other_digest(headers: &HeaderMap, asked: &Digest) -> Option<Digest> {
    content_digest(headers).filter(|told| told.algorithm() == asked.algorithm() && told != asked)
}

/// The smallest chunk that a registry takes, except for the last one.
pub(super) fn least_chunk(headers: &HeaderMap) -> Option<u64> {
    text(headers, HeaderName::from_static("oci-chunk-min-length"))?.parse().ok()
}

/// Whether a registry says of an upload session that it keeps every byte that arrives, also where the connection breaks.
/// `layercast serve` does.
pub(super) fn keeps_bytes(headers: &HeaderMap) -> bool {
    text(headers, HeaderName::from_static("layercast-upload-keeps")) == Some("bytes")
}

/// `Content-Length`. For a HEAD it is the length of the body of a GET.
pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    text(headers, CONTENT_LENGTH)?.parse().ok()
}

/// The whole length in `Content-Range: bytes 0-0/1234`.
pub(super) fn whole_length(headers: &HeaderMap) -> Option<u64> {
    text(headers, CONTENT_RANGE)?.rsplit_once('/')?.1.trim().parse().ok()
}

/// The first byte in `Content-Range: bytes 100-1233/1234`.
pub(super) fn first_byte(headers: &HeaderMap) -> Option<u64> {
    text(headers, CONTENT_RANGE)?.strip_prefix("bytes ")?.split_once('-')?.0.trim().parse().ok()
}

/// The media type without its parameters.
pub(super) fn media_type(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use reqwest::header::HeaderValue;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_clamped() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().unwrap();
        for (value, seconds) in [
            ("3", Some(3)),
            ("0", Some(1)),
            ("86400", Some(86_400)),
            ("99999999999999999999999", Some(7 * 86_400)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 08:49:03 GMT", Some(3)),
            ("Mon, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(1)),
            ("soon", None),
            ("", None),
            ("-1", None),
        ] {
            let found = retry_after(&with(RETRY_AFTER, value), now);
            assert_eq!(found, seconds.map(Duration::from_secs), "{value}");
        }
        let late = "1994-11-06T08:49:00.3Z".parse().unwrap();
        let date = with(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:03 GMT");
        assert_eq!(retry_after(&date, late), Some(Duration::from_secs(3)), "and not 2");
        // Our clock is behind, or ahead.
        let mut dates = date.clone();
        dates.insert(DATE, "Sun, 06 Nov 1994 08:48:58 GMT".parse().unwrap());
        for ours in ["1994-11-06T08:00:00Z", "2001-01-01T00:00:00Z"] {
            assert_eq!(retry_after(&dates, ours.parse().unwrap()), Some(Duration::from_secs(5)), "{ours}");
        }
    }

    #[test]
    fn warnings_for_people() {
        assert_eq!(warnings(&with(WARNING, "299 - \"disk \\\"A\\\" is full\"")), ["disk \"A\" is full"]);
        assert!(warnings(&with(WARNING, "110 anderson/1.3.37 \"Response is stale\"")).is_empty());
    }

    #[test]
    fn lengths() {
        assert_eq!(whole_length(&with(CONTENT_RANGE, "bytes 0-0/1234")), Some(1234));
        assert_eq!(whole_length(&with(CONTENT_RANGE, "bytes 0-0/*")), None);
    }

    #[test]
    fn the_next_page_is_where_the_link_says() {
        let next = |links: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for link in links {
                headers.append(LINK, HeaderValue::from_static(link));
            }
            next_page(&headers)
        };
        let page = Some("/v2/app/tags/list?last=5".to_owned());
        assert_eq!(next(&[r#"</v2/app/tags/list?last=5>; rel="next""#]), page);
        assert_eq!(next(&["</v2/app/tags/list?last=5>;rel=next"]), page);
        assert_eq!(
            next(&[r#"</v2/>; rel="prev", </v2/app/tags/list?last=5>; title="a"; REL="last next""#]),
            page
        );
        assert_eq!(next(&[r#"</v2/>; rel="prev""#, "</v2/app/tags/list?last=5>; rel=next"]), page);
        assert_eq!(next(&[r#"</v2/>; rel="prev""#]), None);
        assert_eq!(next(&["</v2/"]), None);
    }
}
