//! Writing values into YAML so that they are read as what they are, whatever they hold.

use std::fmt::{self, Write as _};

/// A YAML string in double quotes (<https://yaml.org/spec/1.2.2/#732-double-quoted-style>), which is also JSON.
#[derive(Debug, Clone, Copy)]
pub(super) struct Yaml<'a>(pub(super) &'a str);

impl fmt::Display for Yaml<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                '\r' => f.write_str("\\r")?,
                // Line ends of YAML 1.1, the byte order mark, and what may not stand in a YAML file at all.
                c if c.is_control()
                    || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') =>
                {
                    write!(f, "\\u{:04x}", u32::from(c))?;
                }
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

/// A text as a block (`|`): the lines, each behind `indent` blanks. For texts of our own, which are without odd characters.
pub(super) fn block(text: &str, indent: usize) -> String {
    let mut out = String::from("|\n");
    for line in text.lines() {
        let blanks = if line.is_empty() { 0 } else { indent };
        let _ = writeln!(out, "{:blanks$}{line}", "");
    }
    out
}
