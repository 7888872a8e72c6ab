//! JSON with positions.

use super::{Node, ParseError, Position, yaml};

/// Reads a document. Only what JSON takes: no comments, no comma at the end of a list.
///
/// # Errors
/// It is not JSON, it is too deep or too long, or a key stands twice.
pub(crate) fn read(text: &str) -> Result<Node, ParseError> {
    if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
        let at = Position { line: error.line().max(1), column: error.column().max(1) };
        let whole = error.to_string();
        let why = whole.rsplit_once(" at line ").map_or(whole.as_str(), |(why, _)| why);
        let fix = "correct the line; JSON has no comments and no comma at the end of a list".to_owned();
        return Err(ParseError { at, message: format!("not JSON: {why}"), fix });
    }
    // What is JSON is YAML too, but for tabs, which may indent JSON and not YAML.
    let mut documents = yaml::read(&text.replace('\t', " "))?;
    if documents.is_empty() {
        let fix = "write {} for a document that says nothing".to_owned();
        return Err(ParseError { at: Position::START, message: "nothing stands there".to_owned(), fix });
    }
    Ok(documents.remove(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_positions() {
        let text = "{\n\t\"a\": [\"b\\tc\"],\n\t\"url\": \"http:\\/\\/h\"\n}\n";
        let root = read(text).unwrap();
        assert_eq!(root.entry("url").unwrap().key.at, Position { line: 3, column: 2 });
        assert_eq!(root.get("url").unwrap().text(), Some("http://h"));
        assert_eq!(root.get("a").unwrap().items()[0].text(), Some("b\tc"));
    }

    #[test]
    fn what_only_yaml_takes_is_refused() {
        for (text, line) in [("{\"a\": 1,}", 1), ("{a: 1}", 1), ("{\n# x\n}", 2), ("", 1)] {
            assert_eq!(read(text).unwrap_err().at.line, line, "{text}");
        }
    }
}
