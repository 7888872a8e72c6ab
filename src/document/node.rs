//! The tree: values, the keys before them, and their positions.

use std::ops::Range;

/// Where something stands in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
}

impl Position {
    /// The first character of a text.
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Of its first character; of a TOML table, of the key that begins it.
    pub(crate) at: Position,
    /// The bytes of the text; of a collection, from its first to its last value.
    pub(crate) span: Range<usize>,
    pub(crate) value: Value,
}

/// What stands there.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Mapping),
}

/// A scalar: its text, and what that means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) style: Style,
    pub(crate) meaning: Meaning,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Without quotes.
    Plain,
    /// In quotes.
    Quoted,
    /// After `|` or `>`.
    Block,
}

/// What the text of a scalar means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    Text,
    Boolean(bool),
    Number,
    /// A date or a time, which only TOML has.
    Date,
    Null,
}

/// A mapping, in the order of the file.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    /// Whether it is written in braces.
    pub(crate) flow: bool,
    pub(crate) entries: Vec<Entry>,
}

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) value: Node,
}

/// A key and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) at: Position,
    pub(crate) span: Range<usize>,
}

/// Why a text cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ParseError {
    pub(crate) at: Position,
    /// What is wrong.
    pub(crate) message: String,
    /// The correction.
    pub(crate) fix: String,
}

impl Node {
    /// What stands under a key.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.entry(name).map(|entry| &entry.value)
    }

    /// The same with its key.
    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key.name == name)
    }

    /// What stands at the end of a path of keys.
    pub(crate) fn at_path(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, name| node.get(name))
    }

    /// The mapping, where it is one.
    pub(crate) fn mapping(&self) -> Option<&Mapping> {
        match &self.value {
            Value::Mapping(mapping) => Some(mapping),
            _ => None,
        }
    }

    /// The sequence, where it is one.
    pub(crate) fn sequence(&self) -> Option<&[Node]> {
        match &self.value {
            Value::Sequence(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        match &self.value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The entries of a mapping; none of anything else.
    pub(crate) fn entries(&self) -> &[Entry] {
        self.mapping().map_or(&[], |mapping| &mapping.entries)
    }

    /// The items of a sequence; none of anything else.
    pub(crate) fn items(&self) -> &[Node] {
        self.sequence().unwrap_or_default()
    }

    /// The texts of a sequence, or the one text that stands alone.
    pub(crate) fn texts(&self) -> Vec<(&str, Position)> {
        let nodes = self.sequence().unwrap_or(std::slice::from_ref(self));
        nodes.iter().filter_map(|node| Some((node.text()?, node.at))).collect()
    }

    /// The text of a scalar that means text, not a number or nothing.
    pub(crate) fn text(&self) -> Option<&str> {
        self.scalar().filter(|scalar| scalar.meaning == Meaning::Text).map(|scalar| scalar.text.as_str())
    }

    pub(crate) fn is_true(&self) -> bool {
        self.scalar().is_some_and(|scalar| scalar.meaning == Meaning::Boolean(true))
    }

    pub(crate) fn is_null(&self) -> bool {
        self.scalar().is_some_and(Scalar::is_null)
    }

    /// Whether both say the same, wherever they stand and however they are written.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Scalar(a), Value::Scalar(b)) => {
                a.text == b.text && (a.meaning == Meaning::Text) == (b.meaning == Meaning::Text)
            }
            (Value::Sequence(a), Value::Sequence(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.says_the_same(b))
            }
            (Value::Mapping(a), Value::Mapping(b)) => {
                let pairs = a.entries.iter().zip(&b.entries);
                a.entries.len() == b.entries.len()
                    && pairs
                        .into_iter()
                        .all(|(a, b)| a.key.name == b.key.name && a.value.says_the_same(&b.value))
            }
            _ => false,
        }
    }
}

impl Scalar {
    /// Text in quotes.
    pub(crate) fn quoted(text: String) -> Self {
        Self { text, style: Style::Quoted, meaning: Meaning::Text }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.meaning == Meaning::Null
    }
}

/// Turns places in a text into positions.
#[derive(Debug)]
pub(super) struct LineIndex<'a> {
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> LineIndex<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let feeds = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { text, starts: std::iter::once(0).chain(feeds).collect() }
    }

    /// The position of a byte.
    pub(super) fn position(&self, at: usize) -> Position {
        let line = self.starts.partition_point(|start| *start <= at);
        let before = self.text.get(self.starts[line - 1]..at).unwrap_or_default();
        Position { line, column: before.chars().count() + 1 }
    }
}
