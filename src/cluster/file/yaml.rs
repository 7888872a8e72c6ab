//! YAML with places: text becomes documents of [`Node`]s that know their line and their bytes.
//!
//! The only file that knows the YAML library. In: text of at most [`MAX_BYTES`]. Out: trees, or the line of the fault.
//! Everything is bounded before it is built: depth, and the memory that aliases unfold to. Duplicate keys are faults, as
//! they are for every strict reader. Scalars stay text: what type they have is for the reader of a field to say.

use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, StructureStyle};

/// Cluster files have some hundred lines.
pub(crate) const MAX_BYTES: u64 = 4 << 20;
/// Collections inside collections, aliases unfolded.
const MAX_DEPTH: usize = 64;
/// What all nodes of a file may cost: its text, and the aliases unfolded.
const MAX_COST_BYTES: usize = 32 << 20;
/// What a node costs beside its text.
const NODE_BYTES: usize = 96;

/// One document.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    pub(crate) root: Node,
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// From 1.
    pub(crate) line: usize,
    /// Of the text; of a collection, from its first to its last value.
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

/// A scalar as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    pub(crate) style: Style,
}

/// How a scalar is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Without quotes: it may mean a number, a boolean or nothing.
    Plain,
    /// In quotes.
    Quoted,
    /// After `|` or `>`.
    Block,
}

/// A mapping, in the order of the file.
#[derive(Debug, Clone)]
pub(crate) struct Mapping {
    /// Whether it is written in braces.
    pub(crate) flow: bool,
    pub(crate) entries: Vec<Entry>,
}

/// One line of a mapping.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) value: Node,
}

/// A key and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub(crate) name: String,
    /// From 1.
    pub(crate) line: usize,
    /// From 0.
    pub(crate) column: usize,
    pub(crate) span: Range<usize>,
}

/// What is wrong with a text as YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) line: usize,
    pub(crate) message: String,
    pub(crate) fix: String,
}

impl Node {
    /// What stands under a key.
    pub(crate) fn get(&self, name: &str) -> Option<&Node> {
        self.entry(name).map(|entry| &entry.value)
    }

    /// The same with its key.
    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries()?.iter().find(|entry| entry.key.name == name)
    }

    /// What stands at the end of a path of keys.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Node> {
        path.iter().try_fold(self, |node, name| node.get(name))
    }

    pub(crate) fn entries(&self) -> Option<&[Entry]> {
        match &self.value {
            Value::Mapping(mapping) => Some(&mapping.entries),
            _ => None,
        }
    }

    pub(crate) fn items(&self) -> Option<&[Node]> {
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

    /// The text of a scalar that means text, not a number or nothing.
    pub(crate) fn text(&self) -> Option<&str> {
        self.scalar().filter(|scalar| scalar.is_text()).map(|scalar| scalar.text.as_str())
    }

    pub(crate) fn is_null(&self) -> bool {
        self.scalar().is_some_and(Scalar::is_null)
    }

    /// Whether both say the same, wherever they stand and however they are written.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        match (&self.value, &other.value) {
            (Value::Scalar(a), Value::Scalar(b)) => a.text == b.text && a.is_text() == b.is_text(),
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

    /// What it costs to have it, and how deep it is.
    fn measure(&self) -> (usize, usize) {
        let (cost, depth) = match &self.value {
            Value::Scalar(scalar) => return (NODE_BYTES + scalar.text.len(), 0),
            Value::Sequence(items) => sum(items.iter().map(|item| (0, item))),
            Value::Mapping(mapping) => {
                sum(mapping.entries.iter().map(|entry| (NODE_BYTES + entry.key.name.len(), &entry.value)))
            }
        };
        (cost + NODE_BYTES, depth + 1)
    }
}

fn sum<'a>(parts: impl Iterator<Item = (usize, &'a Node)>) -> (usize, usize) {
    parts.fold((0, 0), |(cost, depth), (more, node)| {
        let (node_cost, node_depth) = node.measure();
        (cost + more + node_cost, depth.max(node_depth))
    })
}

impl Scalar {
    pub(crate) fn is_null(&self) -> bool {
        self.style == Style::Plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }

    /// The boolean it means, by the words of YAML 1.1, which the readers of Kubernetes still know.
    pub(crate) fn boolean(&self) -> Option<bool> {
        if self.style != Style::Plain {
            return None;
        }
        match self.text.as_str() {
            "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
            "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
            _ => None,
        }
    }

    /// Whether it means a number.
    pub(crate) fn is_number(&self) -> bool {
        let digits = self.text.trim_start_matches(['+', '-', '.']);
        let radix = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0o"));
        let is_radix = radix.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_hexdigit()));
        self.style == Style::Plain
            && digits.starts_with(|c: char| c.is_ascii_digit())
            && (is_radix || self.text.parse::<f64>().is_ok())
    }

    fn is_text(&self) -> bool {
        !self.is_null() && self.boolean().is_none() && !self.is_number()
    }
}

/// All documents of a text that are not empty.
pub(crate) fn read(text: &str) -> Result<Vec<Document>, Fault> {
    if text.len() as u64 > MAX_BYTES {
        let message = format!("it is longer than the {} MiB that are read", MAX_BYTES >> 20);
        return Err(Fault { line: 1, message, fix: "give the cluster's own file".to_owned() });
    }
    let options = granit_parser::options! {
        emit_comments: false,
        block_nesting_limit: MAX_DEPTH,
        flow_nesting_limit: MAX_DEPTH,
    };
    let mut builder = Builder {
        parser: Parser::new_from_str_with_options(text, options),
        anchors: HashMap::new(),
        cost_left: MAX_COST_BYTES,
    };
    builder.documents()
}

/// Makes trees of events.
struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    anchors: HashMap<usize, Node>,
    cost_left: usize,
}

impl<'a> Builder<'a> {
    fn documents(&mut self) -> Result<Vec<Document>, Fault> {
        let mut documents = Vec::new();
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => return Ok(documents),
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) => {
                    self.anchors.clear();
                    let root = self.node(0)?;
                    if !root.is_null() {
                        documents.push(Document { root });
                    }
                }
                _ => return Err(unexpected(span)),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Fault> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(not_yaml(&error)),
            None => Err(Fault {
                line: 1,
                message: "the file ends in the middle".to_owned(),
                fix: "complete it".to_owned(),
            }),
        }
    }

    fn node(&mut self, depth: usize) -> Result<Node, Fault> {
        let (event, span) = self.next()?;
        self.node_of(event, span, depth)
    }

    fn node_of(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Fault> {
        let line = span.start.line();
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, _) => {
                self.pay(NODE_BYTES + text.len(), line)?;
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                };
                // The library says ~ where nothing is written.
                let is_nothing = style == Style::Plain && bytes(span).is_empty();
                let text = if is_nothing { String::new() } else { text.into_owned() };
                let value = Value::Scalar(Scalar { text, style });
                (anchor, Node { line, span: bytes(span), value })
            }
            Event::SequenceStart(_, anchor, _) => (anchor, self.sequence(span, depth + 1)?),
            Event::MappingStart(style, anchor, _) => {
                (anchor, self.mapping(span, style == StructureStyle::Flow, depth + 1)?)
            }
            Event::Alias(anchor) => return self.unfold(anchor, span, depth),
            _ => return Err(unexpected(span)),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn sequence(&mut self, span: Span, depth: usize) -> Result<Node, Fault> {
        self.pay(NODE_BYTES, span.start.line())?;
        let mut whole = bytes(span);
        let mut items = Vec::new();
        loop {
            let (event, end) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                whole.end = items.last().map_or(whole.end, |item: &Node| item.span.end).max(token_end(end));
                return Ok(Node { line: span.start.line(), span: whole, value: Value::Sequence(items) });
            }
            items.push(self.node_of(event, end, depth)?);
        }
    }

    fn mapping(&mut self, span: Span, flow: bool, depth: usize) -> Result<Node, Fault> {
        self.pay(NODE_BYTES, span.start.line())?;
        let mut whole = bytes(span);
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, place) = self.next()?;
            let line = place.start.line();
            let name = match event {
                Event::MappingEnd => {
                    whole.end =
                        entries.last().map_or(whole.end, |entry| entry.value.span.end).max(token_end(place));
                    let value = Value::Mapping(Mapping { flow, entries });
                    return Ok(Node { line: span.start.line(), span: whole, value });
                }
                Event::Scalar(name, ..) => name.into_owned(),
                _ => {
                    let message = "a key that is not a word".to_owned();
                    return Err(Fault {
                        line,
                        message,
                        fix: "keys of these files are plain words".to_owned(),
                    });
                }
            };
            self.pay(NODE_BYTES + name.len(), line)?;
            if let Some(first) = lines.insert(name.clone(), line) {
                let message = format!("{name} stands here for the second time (first on line {first})");
                return Err(Fault { line, message, fix: "remove one of the two".to_owned() });
            }
            let key = Key { name, line, column: place.start.col(), span: bytes(place) };
            let value = self.node(depth)?;
            entries.push(Entry { key, value });
        }
    }

    /// An alias says what its anchor says, at the alias' own place.
    fn unfold(&mut self, anchor: usize, span: Span, depth: usize) -> Result<Node, Fault> {
        let line = span.start.line();
        let Some(node) = self.anchors.get(&anchor) else {
            let message = "an alias of something that is not complete yet".to_owned();
            return Err(Fault { line, message, fix: "write out what is meant".to_owned() });
        };
        let (cost, height) = node.measure();
        if depth + height > MAX_DEPTH {
            return Err(too_deep(line));
        }
        let node = Node { line, span: bytes(span), value: node.value.clone() };
        self.pay(cost, line)?;
        Ok(node)
    }

    fn pay(&mut self, cost: usize, line: usize) -> Result<(), Fault> {
        let left = self.cost_left.checked_sub(cost);
        self.cost_left = left.ok_or_else(|| Fault {
            line,
            message: "its aliases unfold to more than is read".to_owned(),
            fix: "write out what is meant".to_owned(),
        })?;
        Ok(())
    }
}

fn bytes(span: Span) -> Range<usize> {
    span.byte_range().unwrap_or_default()
}

/// The end of a closing bracket; block collections close with nothing, somewhere behind their last value.
fn token_end(span: Span) -> usize {
    let range = bytes(span);
    if range.len() == 1 { range.end } else { 0 }
}

fn too_deep(line: usize) -> Fault {
    let message = format!("more than {MAX_DEPTH} collections inside each other");
    Fault { line, message, fix: "no configuration of a cluster is that deep".to_owned() }
}

fn unexpected(span: Span) -> Fault {
    let message = "nothing that could stand here".to_owned();
    Fault { line: span.start.line(), message, fix: "look at the lines above".to_owned() }
}

fn not_yaml(error: &ScanError) -> Fault {
    let line = error.marker().line();
    let message = format!("not YAML: {} (column {})", error.info(), error.marker().col() + 1);
    Fault { line, message, fix: "look at the indentation of this line and of the one above".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        let mut documents = read(text).unwrap();
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0).root
    }

    fn slice<'a>(text: &'a str, node: &Node) -> &'a str {
        &text[node.span.clone()]
    }

    #[test]
    fn nodes_know_where_they_stand() {
        let text = "\u{feff}# é\na: ü # x\nb:\n- c: 'd e'\n  f: [1, {g: h}]\n  i:\n";
        let root = one(text);
        assert_eq!(slice(text, root.get("a").unwrap()), "ü");
        let item = &root.get("b").unwrap().items().unwrap()[0];
        assert_eq!(item.line, 4);
        assert_eq!(slice(text, item.get("c").unwrap()), "'d e'");
        assert_eq!(slice(text, item.get("f").unwrap()), "[1, {g: h}]");
        assert_eq!(item.entry("f").unwrap().key.column, 2);
        assert_eq!(&text[item.entry("i").unwrap().key.span.clone()], "i");
        assert!(item.get("i").unwrap().is_null());
    }

    #[test]
    fn empty_documents_are_left_out() {
        let documents = read("# head\n---\na: 1\n---\n# nothing\n---\nb: 2\n...\n").unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[1].root.line, 7);
        assert_eq!(read("").unwrap().len(), 0);
    }

    #[test]
    fn scalars_say_what_they_mean() {
        let root = one("a: yes\nb: 'yes'\nc: 1.8\nd: 1.8.0\ne: ~\nf: 0x1f\ng: 172.18.0.20:5000\nh: .5\n");
        assert_eq!(root.get("a").unwrap().scalar().unwrap().boolean(), Some(true));
        let texts: Vec<_> =
            root.entries().unwrap().iter().filter(|entry| entry.value.text().is_some()).collect();
        let names: Vec<_> = texts.iter().map(|entry| entry.key.name.as_str()).collect();
        assert_eq!(names, ["b", "d", "g"]);
        assert!(root.get("f").unwrap().scalar().unwrap().is_number());
    }

    #[test]
    fn hostile_texts_cost_little() {
        let laughs = (1..40).fold("a0: &a0 [x, x]\n".to_owned(), |text, n| {
            format!("{text}a{n}: &a{n} [{}]\n", format!("*a{},", n - 1).repeat(9))
        });
        assert!(read(&laughs).unwrap_err().message.contains("unfold"));
        let ladder = (1..1000)
            .fold("a0: &a0 [x]\n".to_owned(), |text, n| format!("{text}a{n}: &a{n} [*a{}]\n", n - 1));
        assert!(read(&ladder).unwrap_err().message.contains("inside each other"));
        let big = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), "*a,".repeat(1 << 16));
        assert!(read(&big).unwrap_err().message.contains("unfold"));
        for deep in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000)] {
            read(&deep).unwrap_err();
        }
        assert!(read(&"x".repeat(5 << 20)).unwrap_err().message.contains("MiB"));
        assert!(read("a: &a [*a]\n").is_err());
    }

    #[test]
    fn doubles_are_faults_with_both_lines() {
        let fault = read("a: 1\nb: 2\na: 3\n").unwrap_err();
        assert_eq!(fault.line, 3);
        assert!(fault.message.contains("line 1"), "{fault:?}");
        assert_eq!(read("a:\n\t- b\n").unwrap_err().line, 2);
        assert!(read("[a]: b\n").unwrap_err().message.contains("key"));
    }

    #[test]
    fn aliases_say_what_their_anchors_say() {
        let root = one("a: &x {b: c}\nd: *x\n");
        assert!(root.get("a").unwrap().says_the_same(root.get("d").unwrap()));
        assert!(!one("a: 1").says_the_same(&one("a: '1'")));
        assert!(one("a: {b: c}").says_the_same(&one("a:\n  b: c\n")));
    }
}
