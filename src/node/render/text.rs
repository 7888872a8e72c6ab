//! Blocks of text in YAML.

use std::fmt::Write as _;

/// A text as a block (`|`): the lines, each behind `indent` blanks. For texts of our own, which are without odd characters.
pub(super) fn block(text: &str, indent: usize) -> String {
    let mut out = String::from("|\n");
    for line in text.lines() {
        let blanks = if line.is_empty() { 0 } else { indent };
        let _ = writeln!(out, "{:blanks$}{line}", "");
    }
    out
}
