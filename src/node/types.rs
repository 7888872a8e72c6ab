//! What keys of configuration take. Go's readers of TOML convert nothing: a value of another type ends the reading of the file.

use crate::document::{Meaning, Node, Value};

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Text,
    Texts,
    Number,
    Boolean,
    Table,
    Tables,
}

impl Type {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Text => "a text",
            Self::Texts => "a list of texts",
            Self::Number => "a whole number",
            Self::Boolean => "true or false without quotes",
            Self::Table => "a table",
            Self::Tables => "a list of tables",
        }
    }

    /// Whether a value is of this type.
    pub(super) fn takes(self, node: &Node) -> bool {
        match (&node.value, self) {
            (Value::Mapping(_), _) => self == Self::Table,
            (Value::Sequence(items), Self::Texts) => items.iter().all(|item| item.text().is_some()),
            (Value::Sequence(items), Self::Tables) => items.iter().all(|item| item.mapping().is_some()),
            (Value::Sequence(_), _) => false,
            (Value::Scalar(scalar), _) => match scalar.meaning {
                Meaning::Text => self == Self::Text,
                Meaning::Boolean(_) => self == Self::Boolean,
                Meaning::Number => self == Self::Number && !scalar.text.contains(['.', 'e', 'E', 'n']),
                Meaning::Date | Meaning::Null => false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::toml;

    #[test]
    fn values_are_of_one_type() {
        let text = "a = \"x\"\nb = [\"x\"]\nc = 2\nd = true\ne = {}\nf = [{}]\n";
        let document = toml::read(text).unwrap();
        let types = [Type::Text, Type::Texts, Type::Number, Type::Boolean, Type::Table, Type::Tables];
        for (entry, own) in document.entries().iter().zip(types) {
            let taken: Vec<Type> = types.into_iter().filter(|wanted| wanted.takes(&entry.value)).collect();
            assert_eq!(taken, [own], "{}", entry.key.name);
        }
        let other = toml::read("a = 2.0\nb = [1]\nc = 1979-05-27\n").unwrap();
        assert!(
            other.entries().iter().all(|entry| !types.into_iter().any(|wanted| wanted.takes(&entry.value)))
        );
    }
}
