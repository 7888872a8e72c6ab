//! `rewrite:`: patterns and replacements as Go's `regexp` takes them.

use regex::Regex;

use crate::document::{Entry, Node, Position};
use crate::node::lint::{FileFindings, url};

pub(super) fn check(findings: &mut FileFindings<'_>, rewrite: &Node, endpoints: &[(&str, Position)]) {
    for Entry { key, value: replacement } in rewrite.entries() {
        let pattern = &key.name;
        let Some(text) = replacement.scalar().map(|scalar| scalar.text.as_str()) else { continue };
        let at = key.at;
        match Regex::new(pattern) {
            Ok(pattern) => groups(findings, at, &pattern, text),
            Err(error) => {
                let why = error.to_string().lines().last().unwrap_or_default().to_owned();
                let words = [
                    format!("{pattern:?} is not a regular expression: {why}"),
                    "the node's k3s or RKE2 does not start".to_owned(),
                    "correct the pattern".to_owned(),
                ];
                findings.error("bad-rewrite", at, words);
            }
        }
        if text.contains("\\1") {
            let words = [
                format!("\\1 in {text:?} stands for nothing"),
                "the name is rewritten to one that is not on the mirror, and the upstream is asked"
                    .to_owned(),
                format!("write {:?}", text.replace("\\1", "$1")),
            ];
            findings.error("bad-rewrite", at, words);
        }
        if text.starts_with('/') || text.split('/').any(|part| part == "v2") {
            let right = text.trim_start_matches('/').trim_start_matches("v2/");
            let words = [
                format!("the rewrite to {text:?} is not the name of a repository"),
                "the mirror is asked for a name that it does not have, and then the upstream".to_owned(),
                format!("write {right:?}"),
            ];
            findings.error("bad-rewrite", at, words);
        }
        twice(findings, at, text, endpoints);
    }
}

/// `$1` where the pattern has no group, and `$1x`, which is the group of the name `1x`.
fn groups(findings: &mut FileFindings<'_>, at: Position, pattern: &Regex, text: &str) {
    let is_group = |name: &str| match name.parse::<usize>() {
        Ok(number) => number < pattern.captures_len(),
        Err(_) => pattern.capture_names().flatten().any(|known| known == name),
    };
    for name in referenced(text).into_iter().filter(|name| !is_group(name)) {
        let digits = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
        let fix = if digits > 0 && digits < name.len() {
            format!("write ${{{}}}{}", &name[..digits], &name[digits..])
        } else {
            format!(
                "put what ${name} stands for into parentheses, as in \"^{}(.*)\"",
                pattern.as_str().trim_start_matches('^')
            )
        };
        let words = [
            format!("${name} in {text:?} stands for nothing: {:?} has no such group", pattern.as_str()),
            "a part of the name is lost, and the mirror is asked for one that it does not have".to_owned(),
            fix,
        ];
        findings.error("bad-rewrite", at, words);
    }
}

/// The groups that a replacement names, as `Expand` of Go's `regexp` finds them.
fn referenced(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('{').and_then(|braced| braced.split_once('}')) {
            found.push(name);
            rest = after;
        } else {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            found.extend((end > 0).then_some(&rest[..end]));
            rest = &rest[end..];
        }
    }
    found
}

/// A namespace that stands both in an endpoint and in the rewrite: both are put in front of the name.
fn twice(findings: &mut FileFindings<'_>, at: Position, text: &str, endpoints: &[(&str, Position)]) {
    let first = text.split('/').next().unwrap_or_default();
    let is_same = |endpoint: &str| {
        let namespace = url::parts(endpoint).namespace();
        !first.is_empty() && namespace.rsplit('/').next() == Some(first)
    };
    if let Some((endpoint, endpoint_at)) = endpoints.iter().find(|(endpoint, _)| is_same(endpoint)) {
        let words = [
            format!(
                "{first} stands in the rewrite and in the endpoint {} (line {})",
                url::parts(endpoint).shown(),
                endpoint_at.line
            ),
            format!("both are put in front of the name: the mirror is asked for {first}/{first}/…"),
            "keep one of them, unless the mirror has it twice".to_owned(),
        ];
        findings.warning("rewrite-and-path", at, words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_as_go_finds_them() {
        for (text, found) in [
            ("a/$1", &["1"][..]),
            ("$1x/${2}y/$$3", &["1x", "2"]),
            ("$", &[]),
            ("${open", &[]),
            ("$a_b-c", &["a_b"]),
        ] {
            assert_eq!(referenced(text), found, "{text}");
        }
    }
}
