//! TOML with positions. The only file that builds trees with the TOML library.

use toml::de::{DeTable, DeValue};

use super::node::LineIndex;
use super::{Entry, Key, MAX_BYTES, Mapping, Meaning, Node, ParseError, Position, Scalar, Style, Value};

/// Collections inside collections.
const MAX_DEPTH: usize = 64;

/// Reads a document.
///
/// # Errors
/// It is not TOML, or it is too deep or too long.
pub(crate) fn read(text: &str) -> Result<Node, ParseError> {
    if text.len() as u64 > MAX_BYTES {
        return Err(too_much(
            Position::START,
            format!("it is longer than the {} MiB that are read", MAX_BYTES >> 20),
        ));
    }
    let reader = TomlReader { text, lines: LineIndex::new(text) };
    let document = DeTable::parse(text).map_err(|error| ParseError {
        at: error.span().map_or(Position::START, |span| reader.lines.position(span.start)),
        message: format!("not TOML: {}", error.message()),
        fix: "correct the line".to_owned(),
    })?;
    let root = reader.table(document.get_ref(), false, 0)?;
    Ok(Node { at: Position::START, span: 0..text.len(), value: root })
}

struct TomlReader<'a> {
    text: &'a str,
    lines: LineIndex<'a>,
}

impl TomlReader<'_> {
    fn table(&self, table: &DeTable<'_>, flow: bool, depth: usize) -> Result<Value, ParseError> {
        let mut entries = Vec::new();
        for (key, value) in table {
            let at = self.lines.position(key.span().start);
            let mut value = self.node(value, depth + 1)?;
            if value.mapping().is_some_and(|mapping| !mapping.flow) {
                value.at = at;
            }
            entries.push(Entry { key: Key { name: key.get_ref().to_string(), at, span: key.span() }, value });
        }
        entries.sort_by_key(|entry| entry.key.span.start);
        Ok(Value::Mapping(Mapping { flow, entries }))
    }

    fn node(&self, value: &toml::Spanned<DeValue<'_>>, depth: usize) -> Result<Node, ParseError> {
        let span = value.span();
        let at = self.lines.position(span.start);
        if depth > MAX_DEPTH {
            return Err(too_much(at, format!("more than {MAX_DEPTH} tables and lists inside each other")));
        }
        let scalar = |text: String, style, meaning| Value::Scalar(Scalar { text, style, meaning });
        let value = match value.get_ref() {
            DeValue::String(text) => scalar(text.to_string(), Style::Quoted, Meaning::Text),
            DeValue::Boolean(truth) => scalar(truth.to_string(), Style::Plain, Meaning::Boolean(*truth)),
            DeValue::Integer(number) => scalar(number.as_str().to_owned(), Style::Plain, Meaning::Number),
            DeValue::Float(number) => scalar(number.as_str().to_owned(), Style::Plain, Meaning::Number),
            DeValue::Datetime(date) => scalar(date.to_string(), Style::Plain, Meaning::Date),
            DeValue::Array(items) => Value::Sequence(
                items.iter().map(|item| self.node(item, depth + 1)).collect::<Result<_, _>>()?,
            ),
            DeValue::Table(inner) => {
                let flow = self.text[span.clone()].starts_with('{');
                self.table(inner, flow, depth)?
            }
        };
        Ok(Node { at, span, value })
    }
}

fn too_much(at: Position, message: String) -> ParseError {
    ParseError { at, message, fix: "give the configuration file itself".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_positions_and_meanings() {
        let text =
            "a = 1\nb = { c = 'x' } # é\n[d.\"e.f\"]\n  g = [true, \"ü\"]\n[[h]]\ni = 1979-05-27\n[[h]]\n";
        let root = read(text).unwrap();
        let at = |path: &[&str]| root.at_path(path).unwrap().at;
        assert_eq!(at(&["b", "c"]), Position { line: 2, column: 11 });
        assert_eq!(at(&["d", "e.f"]), Position { line: 3, column: 4 });
        assert!(
            root.get("b").unwrap().mapping().unwrap().flow && !root.get("d").unwrap().mapping().unwrap().flow
        );
        let list = root.at_path(&["d", "e.f", "g"]).unwrap().items();
        assert!(list[0].is_true() && list[1].text() == Some("ü"));
        let tables = root.get("h").unwrap().items();
        assert_eq!(tables.iter().map(|table| table.at.line).collect::<Vec<_>>(), [5, 7]);
        assert_eq!(tables[0].get("i").unwrap().text(), None);
        assert_eq!(root.get("a").unwrap().scalar().unwrap().text, "1");
        let names: Vec<_> = root.entries().iter().map(|entry| entry.key.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "d", "h"]);
    }

    #[test]
    fn faults_have_positions() {
        let error = read("a = 1\nb = [\n").unwrap_err();
        assert!(error.at.line >= 2 && error.message.starts_with("not TOML: "), "{error:?}");
        assert!(read(&format!("a = {}", "[".repeat(5000))).is_err());
        assert!(read(&" ".repeat(5 << 20)).unwrap_err().message.contains("MiB"));
    }
}
