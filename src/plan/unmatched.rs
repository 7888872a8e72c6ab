//! Patterns of the user that match no image: which names may have been meant.

use std::fmt::Write as _;

/// Names that are shown.
const MAX_SHOWN: usize = 3;
/// How alike a pattern and a name are at least, from 0 to 1.
const ALIKE: f64 = 0.5;
/// How much less alike than the best one others may be.
const NEAR_THE_BEST: f64 = 0.2;

/// The hint for a pattern of `--rewrite`, a regular expression that matches `HOST/PATH` whole.
pub(super) fn rewrite(rule: &str, pattern: &str, names: &[String]) -> String {
    let hint = "the pattern must match HOST/PATH whole";
    told(&format!("no image matches --rewrite '{rule}'"), &literals_of_regex(pattern), names, hint)
}

/// The hint for a glob of `--include` or `--exclude`, which matches the whole name.
pub(super) fn glob(flag: &str, pattern: &str, names: &[String]) -> String {
    let literals = pattern.split(['*', '?', '[', '{', ']', '}']).map(str::to_owned).collect::<Vec<_>>();
    let hint = "the pattern must match the whole name, host and tag included";
    told(&format!("no image matches {flag} '{pattern}'"), &literals, names, hint)
}

fn told(what: &str, literals: &[String], names: &[String], hint: &str) -> String {
    let mut out = what.to_owned();
    let near = nearest(literals, names);
    if !near.is_empty() {
        let _ = write!(
            out,
            ": {hint}; nearest {} {}",
            if near.len() == 1 { "is" } else { "are" },
            near.join(", ")
        );
    }
    out
}

/// The names that are most like a pattern, the best first.
fn nearest<'n>(literals: &[String], names: &'n [String]) -> Vec<&'n str> {
    let Some(longest) = literals.iter().max_by_key(|literal| literal.len()).filter(|it| !it.is_empty())
    else {
        return Vec::new();
    };
    let begins_with = literals.first().map_or("", String::as_str);
    let mut rated: Vec<(f64, &str)> = Vec::new();
    for name in names.iter().map(String::as_str).filter(|name| !name.is_empty()) {
        let rate = similarity(begins_with, longest, name);
        if rate >= ALIKE && !rated.iter().any(|(_, known)| *known == name) {
            rated.push((rate, name));
        }
    }
    rated.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = rated.first().map_or(0.0, |(rate, _)| *rate);
    let near = rated.into_iter().filter(|(rate, _)| *rate >= best - NEAR_THE_BEST);
    near.take(MAX_SHOWN).map(|(_, name)| name).collect()
}

/// How much a name looks like what a pattern says literally: at its beginning, or in one word of it.
fn similarity(begins_with: &str, longest: &str, name: &str) -> f64 {
    let beginning: String = name.chars().take(begins_with.chars().count()).collect();
    let at_beginning = if begins_with.is_empty() {
        0.0
    } else {
        strsim::normalized_damerau_levenshtein(begins_with, &beginning)
    };
    let longest = longest.trim_matches(['/', ':']);
    let words = name.split(['/', ':', '@']).filter(|word| !word.is_empty());
    let rate = |word| strsim::normalized_damerau_levenshtein(longest, word);
    words.map(rate).fold(at_beginning, f64::max)
}

/// What a regular expression says literally, in pieces. A dot that repeats nothing is one that was meant so.
fn literals_of_regex(pattern: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        let repeats = matches!(chars.peek(), Some('*' | '+' | '?' | '{'));
        let literal = match c {
            '\\' => chars.next().filter(|next| !next.is_ascii_alphanumeric()),
            '.' if repeats => None,
            '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '^' | '$' => None,
            _ => Some(c),
        };
        match (literal, pieces.last_mut()) {
            (Some(literal), Some(piece)) => piece.push(literal),
            _ => pieces.push(String::new()),
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_names_are_named() {
        let names = ["quay.io/team/app", "quay.io/team/db", "gcr.io/x/nautilus"].map(str::to_owned);
        let said = rewrite("quya.io/(.*)=q/$1", "quya.io/(.*)", &names);
        assert!(said.ends_with("nearest are quay.io/team/app, quay.io/team/db"), "{said}");
        let said = rewrite("quay\\.io=q", "quay\\.io", &names);
        assert!(said.contains("match HOST/PATH whole; nearest are quay.io/team/app"), "{said}");
        let said = rewrite(".*/nautlius=n", ".*/nautlius", &names);
        assert!(said.ends_with("nearest is gcr.io/x/nautilus"), "{said}");
        let said = glob("--include", "*nautlius*", &names);
        assert!(said.ends_with("nearest is gcr.io/x/nautilus"), "{said}");
        assert_eq!(glob("--exclude", "zzz*", &names), "no image matches --exclude 'zzz*'");
        assert_eq!(rewrite("(.*)=x", "(.*)", &[]), "no image matches --rewrite '(.*)=x'");
    }
}
