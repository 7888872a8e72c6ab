//! Writing text into YAML, TOML and JSON so that it is read as what it is, whatever it holds.

use std::fmt::{self, Write as _};

/// A string in double quotes that YAML (<https://yaml.org/spec/1.2.2/#732-double-quoted-style>), TOML
/// (<https://toml.io/en/v1.0.0#string>, every version of go-toml) and JSON read as the same text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quoted<'a>(pub(crate) &'a str);

impl fmt::Display for Quoted<'_> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::document::{Node, toml, yaml};

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was(text in "\\PC{0,20}|.{0,20}") {
            let quoted = Quoted(&text).to_string();
            let as_json = serde_json::from_str::<String>(&quoted).unwrap();
            prop_assert_eq!(&as_json, &text, "{}", quoted);
            let as_yaml = yaml::read(&quoted).unwrap();
            prop_assert_eq!(as_yaml[0].text(), Some(text.as_str()), "{}", quoted);
            let as_toml = toml::read(&format!("key = {quoted}")).unwrap();
            prop_assert_eq!(as_toml.get("key").and_then(Node::text), Some(text.as_str()), "{}", quoted);
        }
    }
}
