//! Names that a place and the rest of an image's name come to. The library puts the two together and reads the result; what it
//! cannot read ends the pull before anybody is asked, the upstream included (`rewriteReference`, `reference.ParseNamed`).

use crate::node::hosts::split_port;

/// Whether a text is a host with or without a port.
pub(super) fn is_host(text: &str) -> bool {
    let (host, _) = split_port(text);
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return !address.is_empty() && address.chars().all(|c| c.is_ascii_hexdigit() || ":.".contains(c));
    }
    let is_label = |label: &str| {
        let is_inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty() && label.chars().all(is_inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    !text.ends_with(':') && host.split('.').all(is_label)
}

/// Whether a text is a part of a repository's name: words of small letters and digits with a dot, one or two underscores or
/// hyphens between them.
fn is_part(text: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_between = |run: &str| matches!(run, "." | "_" | "__") || run.chars().all(|c| c == '-');
    text.starts_with(is_word) && text.ends_with(is_word) && text.split(is_word).all(is_between)
}

/// Whether a name ends in a tag or a digest, as prefixes may.
pub(super) fn has_tag(name: &str) -> bool {
    name.contains('@') || name.split('/').skip(1).last().is_some_and(|last| last.contains(':'))
}

/// Why what follows a place can never be the name of an image. `one_part` says that what follows may be a single word;
/// `whole`, that nothing need follow, because the prefix is one image.
pub(super) fn fault(location: &str, one_part: bool, whole: bool) -> Option<String> {
    let (host, path) = location.split_once('/').map_or((location, None), |(host, path)| (host, Some(path)));
    let is_registry =
        host.contains(['.', ':']) || host == "localhost" || host.chars().any(char::is_uppercase);
    if !is_registry {
        return Some(format!("{host} is not the name of a registry, and is read as docker.io/{host}"));
    }
    if !is_host(host) {
        return Some(format!("{host} is not a host"));
    }
    if host == "index.docker.io" {
        return Some("index.docker.io is another word for docker.io".to_owned());
    }
    if host == "docker.io" && path.is_none() && one_part {
        return Some("docker.io/NAME is read as docker.io/library/NAME".to_owned());
    }
    let mut parts = path.map(|path| path.split('/')).into_iter().flatten();
    let name = |part: &str| part.split(['@', ':']).next().unwrap_or_default().to_owned();
    parts.find_map(|part| match part {
        _ if is_part(part) => None,
        _ if part.contains(['@', ':']) && whole => None,
        _ if part.contains(['@', ':']) => Some(format!(
            "the tag or digest of {part} stands before the rest of the name (write {})",
            name(part)
        )),
        _ if is_part(&part.to_lowercase()) => Some(format!("{part} has capital letters")),
        "" => Some("two slashes follow each other".to_owned()),
        _ => Some(format!("{part} is not a part of a repository's name")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As skopeo 1.9.3 takes and refuses mirrors of a registry.
    #[test]
    fn places_are_names_that_the_library_reads_with_what_follows() {
        for location in [
            "m.example",
            "m.example:5000/a_b/c__d/e--f",
            "localhost/b",
            "[::1]:5000/b",
            "docker.io",
            "Upper.example/b",
        ] {
            assert_eq!(fault(location, false, false), None, "{location}");
        }
        for (location, why) in [
            ("nexus/hub", "docker.io/nexus"),
            ("my_reg:5000", "not a host"),
            ("m.example:port", "not a host"),
            ("m.example:", "not a host"),
            ("*.corp.example", "not a host"),
            ("index.docker.io", "another word"),
            ("m.example/hub:latest", "tag"),
            ("m.example/hub@sha256", "tag"),
            ("m.example/Hub", "capital"),
            ("m.example//hub", "slashes"),
            ("m.example/a___b", "not a part"),
            ("m.example/-b", "not a part"),
            ("m.example/b?x=1", "not a part"),
        ] {
            assert!(fault(location, false, false).is_some_and(|found| found.contains(why)), "{location}");
        }
        assert!(
            fault("docker.io", true, false).is_some() && fault("docker.io/library", true, false).is_none()
        );
        // A prefix may be one image, and then nothing follows.
        assert!(has_tag("m.example:5000/a:1") && !has_tag("m.example:5000/a"));
        assert_eq!(fault("m.example/a:1", true, true), None);
    }
}
