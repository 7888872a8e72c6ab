//! Tells a web page from the answer of a registry, and extracts the text that a reader would see. Pure.

use reqwest::header::{HeaderMap, HeaderName};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const MAX_TITLE_CHARS: usize = 80;

/// What answers in a registry's place, if a web page does. The media type says little: some registries call everything
/// `text/html`.
pub(super) fn in_place_of_registry(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    if headers.contains_key(API_VERSION) || !is_markup(body) {
        return None;
    }
    Some(match title(body) {
        Some(title) => format!("a web page answers, titled {title:?}"),
        None => "a web page answers".to_owned(),
    })
}

/// The words of a page without its markup; other text as it is.
pub(super) fn words(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if !is_markup(body) {
        return text.trim().to_owned();
    }
    let mut words = String::new();
    let mut rest: &str = &text;
    while let Some(start) = rest.find('<') {
        words.push_str(&rest[..start]);
        words.push(' ');
        rest = &rest[start..];
        let end = ["script", "style"].iter().find_map(|name| {
            let is_one = rest.get(1..=name.len()).is_some_and(|tag| tag.eq_ignore_ascii_case(name));
            is_one.then(|| rest.find(&format!("</{name}")).unwrap_or(rest.len()))
        });
        let end = end.or_else(|| rest.find('>').map(|end| end + 1)).unwrap_or(rest.len());
        rest = &rest[end..];
    }
    words.push_str(rest);
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_markup(body: &[u8]) -> bool {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    body.trim_ascii_start().starts_with(b"<")
}

fn title(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let lower = text.to_ascii_lowercase();
    let start = lower.find("<title")?;
    let start = start + lower[start..].find('>')? + 1;
    let end = start + lower[start..].find('<')?;
    let title: String = text[start..end].split_whitespace().collect::<Vec<_>>().join(" ");
    (!title.is_empty()).then(|| title.chars().take(MAX_TITLE_CHARS).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_told_from_registries() {
        let told = |body: &str| in_place_of_registry(&HeaderMap::new(), body.as_bytes());
        for body in ["", "{}", "true", "\"ok\"", "OK"] {
            assert_eq!(told(body), None, "{body}");
        }
        for body in ["<html>welcome</html>", "\u{feff}\n <!DOCTYPE html>", "<?xml version='1.0'?><Error/>"] {
            assert_eq!(told(body).as_deref(), Some("a web page answers"), "{body}");
        }
        let page = "<!doctype html><head><TITLE lang=en>\n Sign in –\tContoso </title>";
        assert_eq!(told(page).unwrap(), "a web page answers, titled \"Sign in – Contoso\"");
        let named = HeaderMap::from_iter([(API_VERSION, "registry/2.0".parse().unwrap())]);
        assert_eq!(in_place_of_registry(&named, page.as_bytes()), None);
    }

    #[test]
    fn the_words_of_a_page_are_kept() {
        for (page, expected) in [
            (
                "<html><style>p { color: red }</style><h1>502</h1>\n<p>Bad Gateway</p></html>",
                "502 Bad Gateway",
            ),
            ("<script>if (a < b) {}</script>x", "x"),
            ("<p", ""),
            ("<title>", ""),
            ("plain <b> text", "plain <b> text"),
            (" {\"a\":1} ", "{\"a\":1}"),
        ] {
            assert_eq!(words(page.as_bytes()), expected, "{page}");
        }
    }
}
