//! Shapes that yaml.v2 puts into the types of wharfie, and those that it refuses.

use crate::document::{Entry, Mapping, Meaning, Node, Value};

/// The key whose mappings are merged into the one that it stands in.
const MERGE: &str = "<<";

/// A document with its merge keys resolved: what stands there itself counts before what is merged.
pub(super) fn merged(node: &Node) -> Node {
    let value = match &node.value {
        Value::Scalar(scalar) => Value::Scalar(scalar.clone()),
        Value::Sequence(items) => Value::Sequence(items.iter().map(merged).collect()),
        Value::Mapping(mapping) => {
            let own = mapping.entries.iter().filter(|entry| entry.key.name != MERGE);
            let mut entries: Vec<Entry> =
                own.map(|entry| Entry { key: entry.key.clone(), value: merged(&entry.value) }).collect();
            for entry in mapping.entries.iter().filter(|entry| entry.key.name == MERGE) {
                let sources = entry.value.sequence().unwrap_or(std::slice::from_ref(&entry.value));
                for more in sources.iter().map(merged).flat_map(|source| source.entries().to_vec()) {
                    if !entries.iter().any(|known| known.key.name == more.key.name) {
                        entries.push(more);
                    }
                }
            }
            Value::Mapping(Mapping { flow: mapping.flow, entries })
        }
    };
    Node { at: node.at, span: node.span.clone(), value }
}

/// Whether a text takes it: anything that stands alone.
pub(super) fn is_text(node: &Node) -> bool {
    node.scalar().is_some()
}

/// Whether a truth takes it: the words of YAML 1.1, without quotes.
pub(super) fn is_boolean(node: &Node) -> bool {
    let scalar = node.scalar();
    scalar.is_some_and(|scalar| matches!(scalar.meaning, Meaning::Boolean(_) | Meaning::Null))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::yaml;

    #[test]
    fn merge_keys_count_where_nothing_else_is_said() {
        let text = "a: &a {x: 1, y: 1}\nb: &b {z: 2}\nc:\n  <<: [*a, *b]\n  x: 3\nd:\n  <<: *a\n";
        let document = merged(&yaml::read(text).unwrap()[0]);
        let text =
            |path: &[&str]| document.at_path(path).and_then(Node::scalar).map(|scalar| scalar.text.as_str());
        assert_eq!(
            [text(&["c", "x"]), text(&["c", "y"]), text(&["c", "z"])],
            [Some("3"), Some("1"), Some("2")]
        );
        assert_eq!((text(&["d", "y"]), text(&["d", "<<"])), (Some("1"), None));
    }
}
