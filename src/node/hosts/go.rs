//! The few functions of Go's library whose exact behaviour decides what containerd asks.

use std::time::Duration;

/// The parts of a URL that containerd keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GoUrl {
    pub(super) scheme: String,
    /// Host and port as written: nothing is lower-cased, no default port is dropped.
    pub(super) host: String,
    pub(super) path: String,
}

/// What [`url.Parse`](https://pkg.go.dev/net/url#Parse) makes of a text that begins with `http`.
pub(super) fn url(text: &str) -> Result<GoUrl, String> {
    if text.chars().any(|c| c.is_ascii_control()) {
        return Err("a control character in a URL".to_owned());
    }
    let text = text.split('#').next().unwrap_or(text);
    let text = text.split('?').next().unwrap_or(text);
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme, rest)) if scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) => {
            (scheme.to_ascii_lowercase(), rest)
        }
        Some((first, _)) if !first.contains('/') => {
            return Err("first path segment in URL cannot contain colon".to_owned());
        }
        _ => (String::new(), text),
    };
    let Some(rest) = rest.strip_prefix("//") else {
        // `httpd:5000` is a scheme and something opaque; `https` alone is a path. Neither has a host.
        let path = if scheme.is_empty() { rest.to_owned() } else { String::new() };
        return Ok(GoUrl { scheme, host: String::new(), path });
    };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    check_host(host)?;
    Ok(GoUrl { scheme, host: host.to_owned(), path: unescape(path)? })
}

fn check_host(host: &str) -> Result<(), String> {
    let port = if host.starts_with('[') {
        let end = host.rfind(']').ok_or("missing ']' in host")?;
        &host[end + 1..]
    } else {
        host.find(':').map_or("", |at| &host[at..])
    };
    let digits = port.strip_prefix(':').unwrap_or_default();
    if !(port.is_empty() || port.starts_with(':')) || !digits.chars().all(|c| c.is_ascii_digit()) {
        return Err(format!("invalid port {port:?} after host"));
    }
    if let Some(c) = host.chars().find(|&c| c == ' ' || "\"<>\\^`{|}%".contains(c)) {
        return Err(format!("invalid character {c:?} in host name"));
    }
    Ok(())
}

fn unescape(path: &str) -> Result<String, String> {
    let mut rest = path;
    while let Some(at) = rest.find('%') {
        let digits = rest.get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.chars().all(|c| c.is_ascii_hexdigit())) {
            return Err("invalid URL escape".to_owned());
        }
        rest = &rest[at + 3..];
    }
    Ok(percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned())
}

/// What [`path.Clean`](https://pkg.go.dev/path#Clean) makes of a path.
pub(super) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|&last| last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// What [`time.ParseDuration`](https://pkg.go.dev/time#ParseDuration) makes of a text; below zero counts as zero.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let bad = |why: &str| format!("time: {why} in duration {text:?}");
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(bad("nothing"));
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(|| bad("missing unit"))?;
        let number: f64 = rest[..end].parse().map_err(|_| bad("no number"))?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let seconds = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(bad("unknown unit")),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| bad("too large a number"))?;
        total = total.checked_add(part).ok_or_else(|| bad("too large a number"))?;
        rest = &rest[end..];
    }
    Ok(if negative { Duration::ZERO } else { total })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_as_go_takes_them_apart() {
        for (text, scheme, host, path) in [
            ("https://H:5000/v2/ns/", "https", "H:5000", "/v2/ns/"),
            ("http://user:pw@h", "http", "h", ""),
            ("https://h:443/a%2Fb?x#y", "https", "h:443", "/a/b"),
            ("https://[::1]:5000/v2", "https", "[::1]:5000", "/v2"),
            ("httpd:5000", "httpd", "", ""),
            ("https:///v2", "https", "", "/v2"),
        ] {
            let parts = GoUrl { scheme: scheme.into(), host: host.into(), path: path.into() };
            assert_eq!(url(text), Ok(parts), "{text}");
        }
        for text in ["https://h:port/", "https://[::1", "https://a b/", "https://h/%zz", "https://h/\u{7}"] {
            assert!(url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_are_cleaned() {
        for (path, clean_path) in [
            ("/v2/", "/v2"),
            ("/", "/"),
            ("//a/./b/../c", "/a/c"),
            ("/..", "/"),
            ("a/..", "."),
            ("../a", "../a"),
        ] {
            assert_eq!(clean(path), clean_path, "{path}");
        }
    }

    #[test]
    fn durations() {
        assert_eq!(duration("1m1.5s"), Ok(Duration::from_millis(61_500)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("-3s"), Ok(Duration::ZERO));
        for text in ["5", "", "s", "5 s", "1d", "9999999999999999999999h"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
