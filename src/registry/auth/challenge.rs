//! `WWW-Authenticate` ([RFC 9110, 11.6.1](https://www.rfc-editor.org/rfc/rfc9110#section-11.6.1)): what a registry wants. Pure.
//!
//! Read as leniently as other clients read it, because what stands there is what registries and the proxies before them
//! really send: several challenges in one header, any number of blanks, values without quotes that have blanks or commas in
//! them, a realm that is not ASCII, a quote that is never closed.

use url::Url;

/// An authentication scheme.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token from a server.
    Bearer(Bearer),
}

/// The token server, and what to ask it for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::registry) struct Bearer {
    pub(super) realm: Url,
    pub(super) service: Option<String>,
    pub(super) scope: Option<String>,
}

/// Picks a supported challenge of an answer: tokens before passwords.
pub(in crate::registry) fn choose(values: &[String]) -> Option<Challenge> {
    let mut basic = None;
    for Parsed { scheme, params } in values.iter().flat_map(|value| parse(value)) {
        if scheme.eq_ignore_ascii_case("bearer") {
            if let Some(bearer) = bearer(&params) {
                return Some(Challenge::Bearer(bearer));
            }
        } else if scheme.eq_ignore_ascii_case("basic") {
            basic = Some(Challenge::Basic);
        }
    }
    basic
}

/// Why none of the challenges of an answer is supported.
pub(in crate::registry) fn why_none(values: &[String]) -> String {
    let all: Vec<Parsed<'_>> = values.iter().flat_map(|value| parse(value)).collect();
    let Some(bearer) = all.iter().find(|it| it.scheme.eq_ignore_ascii_case("bearer")) else {
        let schemes: Vec<&str> = all.iter().map(|it| it.scheme).take(4).collect();
        return if schemes.is_empty() {
            "it does not say how to log in (it has no WWW-Authenticate)".to_owned()
        } else {
            format!("it asks for a login by {}, and Basic and Bearer are known here", schemes.join(", "))
        };
    };
    match bearer.params.iter().find(|(key, _)| key.eq_ignore_ascii_case("realm")) {
        Some((_, realm)) if !realm.trim().is_empty() => {
            format!("its challenge names the token server {realm:?}, which is no address")
        }
        _ => "its challenge names no token server (it has no realm)".to_owned(),
    }
}

fn bearer(params: &[(String, String)]) -> Option<Bearer> {
    let get = |name: &str| {
        let found = params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.trim().to_owned()).filter(|value| !value.is_empty())
    };
    let realm = Url::parse(&get("realm")?).ok()?;
    Some(Bearer { realm, service: get("service"), scope: get("scope") })
}

/// One challenge of a header.
struct Parsed<'a> {
    scheme: &'a str,
    params: Vec<(String, String)>,
}

fn parse(text: &str) -> Vec<Parsed<'_>> {
    let mut found: Vec<Parsed<'_>> = Vec::new();
    let mut rest = text;
    // Whether a word alone may belong to the list of actions before it: `scope=repository:a:pull,push`.
    let mut in_scope = false;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == ',');
        let Some(first) = rest.chars().next() else { return found };
        let (word, behind) = rest.split_at(rest.find(ends_word).unwrap_or(rest.len()));
        if word.is_empty() {
            // A stray quote or sign.
            rest = &rest[first.len_utf8()..];
            continue;
        }
        rest = behind;
        let Some(challenge) = found.last_mut() else {
            found.push(Parsed { scheme: word, params: Vec::new() });
            continue;
        };
        if let Some(value) = behind.trim_start().strip_prefix('=') {
            let value = value.trim_start();
            in_scope = word.eq_ignore_ascii_case("scope") && !value.starts_with('"');
            let (value, left) = value_of(value);
            challenge.params.push((word.to_owned(), value));
            rest = left;
        } else if in_scope && matches!(word, "pull" | "push" | "delete" | "*") {
            if let Some((_, scope)) = challenge.params.last_mut() {
                scope.extend([",", word]);
            }
        } else {
            found.push(Parsed { scheme: word, params: Vec::new() });
            in_scope = false;
        }
    }
}

fn ends_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, ',' | '=' | '"')
}

/// A value, and the text behind it.
fn value_of(text: &str) -> (String, &str) {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut value = String::new();
        let mut chars = quoted.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => return (value, &quoted[at + 1..]),
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                other => value.push(other),
            }
        }
        return (value, "");
    }
    let whole = &text[..text.find(',').unwrap_or(text.len())];
    // A blank belongs to the value, unless the next parameter follows it.
    let blanks = whole.char_indices().filter(|(_, c)| c.is_whitespace());
    let end = blanks.map(|(at, _)| at).find(|&at| begins_parameter(&whole[at..])).unwrap_or(whole.len());
    (whole[..end].trim_end().to_owned(), &text[end..])
}

fn begins_parameter(text: &str) -> bool {
    let text = text.trim_start();
    let name = text.find(|c: char| !c.is_ascii_alphabetic() && c != '_' && c != '-').unwrap_or(text.len());
    name > 0 && text[name..].starts_with('=')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn chosen(values: &[&str]) -> Option<Challenge> {
        choose(&values.iter().map(|&v| v.to_owned()).collect::<Vec<_>>())
    }

    fn token_at(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer(Bearer {
            realm: realm.parse().unwrap(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        })
    }

    #[test]
    fn challenges_in_all_their_forms() {
        let full = r#"Bearer realm="https://auth.r/token",service="r",scope="repository:a/b:pull,push",error="invalid_token""#;
        let expected = Some(token_at("https://auth.r/token", Some("r"), Some("repository:a/b:pull,push")));
        assert_eq!(chosen(&[full]), expected);
        assert_eq!(chosen(&["Basic realm=\"x\"", full]), expected);
        assert_eq!(chosen(&[&format!("Negotiate, Basic realm=\"x\", {full}")]), expected);
        assert_eq!(chosen(&[&format!("Negotiate YIIabc==, {full}, Basic realm=x")]), expected);
        assert_eq!(chosen(&["bEARER Realm=\"https://r/t\""]), Some(token_at("https://r/t", None, None)));
        assert_eq!(chosen(&["basic realm=\"say \\\"hi\\\"\""]), Some(Challenge::Basic));
        assert_eq!(chosen(&["Bearer service=\"r\"", "Basic realm=x"]), Some(Challenge::Basic));
        assert_eq!(chosen(&["Basic"]), Some(Challenge::Basic));
        assert_eq!(chosen(&["Bearer realm=\"no url\""]), None);
        assert_eq!(chosen(&["", "?!", "Digest realm=\"x\""]), None);
    }

    #[test]
    fn a_challenge_that_cannot_be_met_is_named() {
        for (values, expected) in [
            (&["Negotiate", "NTLM"][..], "Negotiate, NTLM"),
            (&[], "no WWW-Authenticate"),
            (&["Bearer service=\"r\""], "no realm"),
            (&["Bearer realm=\"/token\""], "\"/token\", which is no address"),
        ] {
            let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
            assert_eq!(choose(&values), None);
            assert!(why_none(&values).contains(expected), "{}", why_none(&values));
        }
    }

    #[test]
    fn what_is_not_by_the_book_is_understood_all_the_same() {
        let expected = Some(token_at("https://r/t", Some("my registry"), Some("repository:a/b:pull,push")));
        for text in [
            "Bearer   realm = \"https://r/t\" ,  service=\"my registry\",scope=\"repository:a/b:pull,push\"",
            "Bearer\trealm=https://r/t, service=my registry, scope=repository:a/b:pull,push",
            "Bearer realm=https://r/t service=my registry scope=repository:a/b:pull,push",
            "Bearer realm=\"https://r/t\" service=\"my registry\" scope=\"repository:a/b:pull,push\"",
            "Basic realm=Our Registry, Bearer realm=\" https://r/t\",service=\"my registry\",scope=repository:a/b:pull,push",
            "Basic realm=\"Größe\", Bearer realm=\"https://r/t\",service=\"my registry\",scope=\"repository:a/b:pull,push\"",
            ",, Bearer realm=\"https://r/t\",,service=\"my registry\",scope=\"repository:a/b:pull,push",
        ] {
            assert_eq!(chosen(&[text]), expected, "{text}");
        }
        assert_eq!(chosen(&["Basic realm=Our Registry with = and \"quotes\""]), Some(Challenge::Basic));
        assert_eq!(chosen(&["Basic realm=\"Über uns"]), Some(Challenge::Basic));
    }

    proptest! {
        #[test]
        fn no_challenge_panics(value in ".{0,80}|(Bearer|Basic|,| |realm=|\"|https://r/|scope|=|\\\\|ü|push){0,12}") {
            let _ = choose(&[value]);
        }
    }
}
