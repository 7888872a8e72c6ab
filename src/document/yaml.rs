//! YAML with positions. The only file that knows the YAML library.
//!
//! Everything is bounded before it is built: the length of the text, depth, and the memory that aliases unfold to.
//! Duplicate keys are faults, as they are for every strict reader.

use std::collections::HashMap;
use std::ops::Range;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, StrInput, StructureStyle};

use super::{Entry, Key, MAX_BYTES, Mapping, Meaning, Node, ParseError, Position, Scalar, Style, Value};

/// Collections inside collections, aliases unfolded.
const MAX_DEPTH: usize = 64;
/// What all nodes of a file may cost: its text, and the aliases unfolded.
const MAX_COST_BYTES: usize = 32 << 20;
/// What a node costs beside its text.
const NODE_BYTES: usize = 96;

impl Scalar {
    /// A text without quotes, as YAML understands it.
    pub(crate) fn plain(text: String) -> Self {
        let meaning = meaning(&text);
        Self { text, style: Style::Plain, meaning }
    }
}

/// What a text without quotes means: by the words of YAML 1.1, which the readers of Kubernetes still know.
fn meaning(text: &str) -> Meaning {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Meaning::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Meaning::Boolean(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Meaning::Boolean(false),
        _ if is_number(text) => Meaning::Number,
        _ => Meaning::Text,
    }
}

fn is_number(text: &str) -> bool {
    let digits = text.trim_start_matches(['+', '-', '.']);
    let radix = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0o"));
    let is_radix = radix.is_some_and(|rest| rest.chars().all(|c| c.is_ascii_hexdigit()));
    digits.starts_with(|c: char| c.is_ascii_digit()) && (is_radix || text.parse::<f64>().is_ok())
}

/// What it costs to have a node, and how deep it is.
fn measure(node: &Node) -> (usize, usize) {
    let (cost, depth) = match &node.value {
        Value::Scalar(scalar) => return (NODE_BYTES + scalar.text.len(), 0),
        Value::Sequence(items) => sum(items.iter().map(|item| (0, item))),
        Value::Mapping(mapping) => {
            sum(mapping.entries.iter().map(|entry| (NODE_BYTES + entry.key.name.len(), &entry.value)))
        }
    };
    (cost + NODE_BYTES, depth + 1)
}

fn sum<'a>(parts: impl Iterator<Item = (usize, &'a Node)>) -> (usize, usize) {
    parts.fold((0, 0), |(cost, depth), (more, node)| {
        let (node_cost, node_depth) = measure(node);
        (cost + more + node_cost, depth.max(node_depth))
    })
}

/// All documents of a text that are not empty.
pub(crate) fn read(text: &str) -> Result<Vec<Node>, ParseError> {
    if text.len() as u64 > MAX_BYTES {
        let message = format!("it is longer than the {} MiB that are read", MAX_BYTES >> 20);
        return Err(ParseError {
            at: Position::START,
            message,
            fix: "give the configuration file itself".to_owned(),
        });
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
    fn documents(&mut self) -> Result<Vec<Node>, ParseError> {
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
                        documents.push(root);
                    }
                }
                _ => return Err(unexpected(span)),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), ParseError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(not_yaml(&error)),
            None => Err(ParseError {
                at: Position::START,
                message: "the file ends in the middle".to_owned(),
                fix: "complete it".to_owned(),
            }),
        }
    }

    fn node(&mut self, depth: usize) -> Result<Node, ParseError> {
        let (event, span) = self.next()?;
        self.node_of(event, span, depth)
    }

    fn node_of(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, ParseError> {
        let at = position(span);
        let (anchor, node) = match event {
            Event::Scalar(text, style, anchor, _) => {
                self.pay(NODE_BYTES + text.len(), at)?;
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => Style::Quoted,
                    ScalarStyle::Literal | ScalarStyle::Folded => Style::Block,
                };
                // The library says ~ where nothing is written.
                let is_nothing = style == Style::Plain && bytes(span).is_empty();
                let text = if is_nothing { String::new() } else { text.into_owned() };
                let meaning = if style == Style::Plain { meaning(&text) } else { Meaning::Text };
                let value = Value::Scalar(Scalar { text, style, meaning });
                (anchor, Node { at, span: bytes(span), value })
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

    fn sequence(&mut self, span: Span, depth: usize) -> Result<Node, ParseError> {
        self.pay(NODE_BYTES, position(span))?;
        let mut whole = bytes(span);
        let mut items = Vec::new();
        loop {
            let (event, end) = self.next()?;
            if matches!(event, Event::SequenceEnd) {
                whole.end = items.last().map_or(whole.end, |item: &Node| item.span.end).max(token_end(end));
                return Ok(Node { at: position(span), span: whole, value: Value::Sequence(items) });
            }
            items.push(self.node_of(event, end, depth)?);
        }
    }

    fn mapping(&mut self, span: Span, flow: bool, depth: usize) -> Result<Node, ParseError> {
        self.pay(NODE_BYTES, position(span))?;
        let mut whole = bytes(span);
        let mut entries: Vec<Entry> = Vec::new();
        let mut lines: HashMap<String, usize> = HashMap::new();
        loop {
            let (event, place) = self.next()?;
            let at = position(place);
            let name = match event {
                Event::MappingEnd => {
                    whole.end =
                        entries.last().map_or(whole.end, |entry| entry.value.span.end).max(token_end(place));
                    let value = Value::Mapping(Mapping { flow, entries });
                    return Ok(Node { at: position(span), span: whole, value });
                }
                Event::Scalar(name, ..) => name.into_owned(),
                _ => {
                    let message = "a key that is not a word".to_owned();
                    return Err(ParseError {
                        at,
                        message,
                        fix: "keys of configuration files are plain words".to_owned(),
                    });
                }
            };
            self.pay(NODE_BYTES + name.len(), at)?;
            if let Some(first) = lines.insert(name.clone(), at.line) {
                let message = format!("{name} stands here for the second time (first on line {first})");
                return Err(ParseError { at, message, fix: "remove one of the two".to_owned() });
            }
            let key = Key { name, at, span: bytes(place) };
            let value = self.node(depth)?;
            entries.push(Entry { key, value });
        }
    }

    /// An alias says what its anchor says, at the alias' own place.
    fn unfold(&mut self, anchor: usize, span: Span, depth: usize) -> Result<Node, ParseError> {
        let at = position(span);
        let Some(node) = self.anchors.get(&anchor) else {
            let message = "an alias of something that is not complete yet".to_owned();
            return Err(ParseError { at, message, fix: "write out what is meant".to_owned() });
        };
        let (cost, height) = measure(node);
        if depth + height > MAX_DEPTH {
            return Err(too_deep(at));
        }
        let node = Node { at, span: bytes(span), value: node.value.clone() };
        self.pay(cost, at)?;
        Ok(node)
    }

    fn pay(&mut self, cost: usize, at: Position) -> Result<(), ParseError> {
        let left = self.cost_left.checked_sub(cost);
        self.cost_left = left.ok_or_else(|| ParseError {
            at,
            message: "its aliases unfold to more than is read".to_owned(),
            fix: "write out what is meant".to_owned(),
        })?;
        Ok(())
    }
}

fn position(span: Span) -> Position {
    Position { line: span.start.line(), column: span.start.col() + 1 }
}

fn bytes(span: Span) -> Range<usize> {
    span.byte_range().unwrap_or_default()
}

/// The end of a closing bracket; block collections close with nothing, somewhere behind their last value.
fn token_end(span: Span) -> usize {
    let range = bytes(span);
    if range.len() == 1 { range.end } else { 0 }
}

fn too_deep(at: Position) -> ParseError {
    let message = format!("more than {MAX_DEPTH} collections inside each other");
    ParseError { at, message, fix: "no configuration is that deep".to_owned() }
}

fn unexpected(span: Span) -> ParseError {
    let message = "nothing that could stand here".to_owned();
    ParseError { at: position(span), message, fix: "look at the lines above".to_owned() }
}

fn not_yaml(error: &ScanError) -> ParseError {
    let at = Position { line: error.marker().line(), column: error.marker().col() + 1 };
    let message = format!("not YAML: {} (column {})", error.info(), at.column);
    ParseError { at, message, fix: "look at the indentation of this line and of the one above".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Node {
        let mut documents = read(text).unwrap();
        assert_eq!(documents.len(), 1, "{text}");
        documents.remove(0)
    }

    fn slice<'a>(text: &'a str, node: &Node) -> &'a str {
        &text[node.span.clone()]
    }

    #[test]
    fn nodes_know_where_they_stand() {
        let text = "\u{feff}# é\na: ü # x\nb:\n- c: 'd e'\n  f: [1, {g: h}]\n  i:\n";
        let root = one(text);
        assert_eq!(slice(text, root.get("a").unwrap()), "ü");
        let item = &root.get("b").unwrap().items()[0];
        assert_eq!(item.at.line, 4);
        assert_eq!(slice(text, item.get("c").unwrap()), "'d e'");
        assert_eq!(slice(text, item.get("f").unwrap()), "[1, {g: h}]");
        assert_eq!(item.entry("f").unwrap().key.at.column, 3);
        assert_eq!(&text[item.entry("i").unwrap().key.span.clone()], "i");
        assert!(item.get("i").unwrap().is_null());
    }

    #[test]
    fn empty_documents_are_left_out() {
        let documents = read("# head\n---\na: 1\n---\n# nothing\n---\nb: 2\n...\n").unwrap();
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[1].at.line, 7);
        assert_eq!(read("").unwrap().len(), 0);
    }

    #[test]
    fn scalars_say_what_they_mean() {
        let root = one("a: yes\nb: 'yes'\nc: 1.8\nd: 1.8.0\ne: ~\nf: 0x1f\ng: 172.18.0.20:5000\nh: .5\n");
        assert_eq!(root.get("a").unwrap().scalar().unwrap().meaning, Meaning::Boolean(true));
        let texts: Vec<_> = root.entries().iter().filter(|entry| entry.value.text().is_some()).collect();
        let names: Vec<_> = texts.iter().map(|entry| entry.key.name.as_str()).collect();
        assert_eq!(names, ["b", "d", "g"]);
        assert!(root.get("f").unwrap().scalar().unwrap().meaning == Meaning::Number);
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
        assert_eq!(fault.at.line, 3);
        assert!(fault.message.contains("line 1"), "{fault:?}");
        assert_eq!(read("a:\n\t- b\n").unwrap_err().at.line, 2);
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
