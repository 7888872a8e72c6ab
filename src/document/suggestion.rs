//! "Did you mean": the known word that is nearest to an unknown one.

/// How alike two words are at least (Jaro-Winkler, from 0 to 1): `endpoints` and `endpoint` are at 0.98, `server` and
/// `header` at 0.67.
const ALIKE: f64 = 0.84;
/// A word that is part of the other says as much, from this length on: `timeout` for `dial_timeout`.
const MIN_PART_CHARS: usize = 4;
/// No key is longer; what is compared costs the product of both lengths.
const MAX_CHARS: usize = 64;

/// The one of `known` that somebody who wrote `word` may have meant. Case, hyphens and underscores do not count.
pub(crate) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word = plain(word);
    let rated = known.iter().map(|known| (alike(&word, &plain(known)), *known));
    rated.filter(|(alike, _)| *alike >= ALIKE).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

fn alike(a: &str, b: &str) -> f64 {
    let is_part = a.len().min(b.len()) >= MIN_PART_CHARS && (a.contains(b) || b.contains(a));
    strsim::jaro_winkler(a, b).max(if is_part { ALIKE } else { 0.0 })
}

fn plain(word: &str) -> String {
    let kept = word.chars().filter(|c| !matches!(c, '-' | '_')).take(MAX_CHARS);
    kept.flat_map(char::to_lowercase).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_named_and_no_far_one() {
        let known =
            ["capabilities", "ca", "client", "skip_verify", "header", "override_path", "dial_timeout"];
        for (word, meant) in [
            ("capability", Some("capabilities")),
            ("overridePath", Some("override_path")),
            ("override-path", Some("override_path")),
            ("skip_verfiy", Some("skip_verify")),
            ("timeout", Some("dial_timeout")),
            ("headers", Some("header")),
            ("server", None),
            ("password", None),
            ("", None),
            (&"x".repeat(1 << 20), None),
        ] {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
    }
}
