//! One tree for TOML, YAML and JSON, in which every value knows its line. Only this file knows the two parsers.

use granit_parser::{Event, Parser, ScalarStyle};
use toml::de::{DeTable, DeValue};

/// Collections inside collections.
const MAX_DEPTH: usize = 32;

/// A value.
#[derive(Debug, Clone)]
pub(super) struct Node {
    /// From 1.
    pub(super) line: usize,
    pub(super) value: Value,
}

/// What stands there.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    Boolean(bool),
    /// Numbers, dates, nothing.
    Other,
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// Why a text cannot be read.
#[derive(Debug, Clone)]
pub(super) struct Fault {
    pub(super) line: Option<usize>,
    pub(super) why: String,
}

impl Node {
    pub(super) fn entries(&self) -> &[(String, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    pub(super) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|(name, _)| name == key).map(|(_, node)| node)
    }

    pub(super) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter().try_fold(self, |node, key| node.get(key))
    }

    pub(super) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn is_true(&self) -> bool {
        matches!(self.value, Value::Boolean(true))
    }

    /// The texts of a list, or the one that stands alone.
    pub(super) fn texts(&self) -> Vec<(&str, usize)> {
        let alone = std::slice::from_ref(self);
        let nodes = if matches!(self.value, Value::List(_)) { self.items() } else { alone };
        nodes.iter().filter_map(|node| Some((node.text()?, node.line))).collect()
    }
}

/// Reads TOML.
pub(super) fn toml(text: &str) -> Result<Node, Fault> {
    let line = |at: usize| 1 + text.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count();
    let document = DeTable::parse(text).map_err(|error| Fault {
        line: error.span().map(|span| line(span.start)),
        why: error.message().to_owned(),
    })?;
    Ok(Node { line: 1, value: table(document.get_ref(), &line, 0)? })
}

fn table(table: &DeTable<'_>, line: &impl Fn(usize) -> usize, depth: usize) -> Result<Value, Fault> {
    let mut entries = Vec::new();
    for (key, value) in table {
        let at = key.span().start;
        entries.push((at, key.get_ref().to_string(), node(value.get_ref(), line(at), line, depth + 1)?));
    }
    entries.sort_by_key(|(at, ..)| *at);
    Ok(Value::Map(entries.into_iter().map(|(_, key, node)| (key, node)).collect()))
}

fn node(value: &DeValue<'_>, at: usize, line: &impl Fn(usize) -> usize, depth: usize) -> Result<Node, Fault> {
    if depth > MAX_DEPTH {
        return Err(Fault { line: Some(at), why: "too deep".to_owned() });
    }
    let value = match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Array(items) => {
            let items =
                items.iter().map(|item| node(item.get_ref(), line(item.span().start), line, depth + 1));
            Value::List(items.collect::<Result<_, _>>()?)
        }
        DeValue::Table(inner) => table(inner, line, depth)?,
        _ => Value::Other,
    };
    Ok(Node { line: at, value })
}

/// Reads one YAML document; of several, the first.
pub(super) fn yaml(text: &str) -> Result<Node, Fault> {
    let mut events = Parser::new_from_str(text);
    loop {
        match next(&mut events)? {
            (Event::DocumentStart(..) | Event::StreamStart, _) => {}
            (Event::StreamEnd | Event::DocumentEnd, line) => {
                return Ok(Node { line, value: Value::Map(Vec::new()) });
            }
            (event, line) if is_value(&event) => return value(&mut events, event, line, 0),
            _ => {}
        }
    }
}

type Events<'a> = Parser<'a, granit_parser::StrInput<'a>>;

fn next<'a>(events: &mut Events<'a>) -> Result<(Event<'a>, usize), Fault> {
    match events.next_event() {
        Some(Ok((event, span))) => Ok((event, span.start.line())),
        Some(Err(error)) => Err(Fault { line: Some(error.marker().line()), why: error.info().clone() }),
        None => Ok((Event::StreamEnd, 1)),
    }
}

/// Whether the event begins a value; comments and the like do not.
fn is_value(event: &Event<'_>) -> bool {
    matches!(event, Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(..))
}

fn value<'a>(events: &mut Events<'a>, event: Event<'a>, line: usize, depth: usize) -> Result<Node, Fault> {
    let fault = |line: usize, why: &str| Fault { line: Some(line), why: why.to_owned() };
    if depth > MAX_DEPTH {
        return Err(fault(line, "too deep"));
    }
    let value = match event {
        Event::Scalar(text, style, ..) => match (style, text.as_ref()) {
            (ScalarStyle::Plain, "true" | "True" | "TRUE" | "yes" | "on") => Value::Boolean(true),
            (ScalarStyle::Plain, "false" | "False" | "FALSE" | "no" | "off") => Value::Boolean(false),
            (ScalarStyle::Plain, "" | "~" | "null" | "Null" | "NULL") => Value::Other,
            (ScalarStyle::Plain, text) if text.parse::<f64>().is_ok() => Value::Other,
            _ => Value::Text(text.into_owned()),
        },
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            loop {
                match next(events)? {
                    (Event::SequenceEnd | Event::StreamEnd, _) => break Value::List(items),
                    (event, line) if is_value(&event) => items.push(value(events, event, line, depth + 1)?),
                    _ => {}
                }
            }
        }
        Event::MappingStart(..) => map(events, depth)?,
        // What an alias stands for is elsewhere in the file and is read there.
        _ => Value::Other,
    };
    Ok(Node { line, value })
}

fn map(events: &mut Events<'_>, depth: usize) -> Result<Value, Fault> {
    let fault = |line: usize, why: String| Fault { line: Some(line), why };
    let mut entries: Vec<(String, Node)> = Vec::new();
    loop {
        let (key, line) = match next(events)? {
            (Event::MappingEnd | Event::StreamEnd, _) => return Ok(Value::Map(entries)),
            (Event::Scalar(key, ..), line) => (key.into_owned(), line),
            (event, line) if is_value(&event) => {
                return Err(fault(line, "a key that is not a text".to_owned()));
            }
            _ => continue,
        };
        if entries.iter().any(|(known, _)| *known == key) {
            return Err(fault(line, format!("the key {key:?} stands twice")));
        }
        let node = loop {
            match next(events)? {
                (Event::MappingEnd | Event::StreamEnd, _) => return Ok(Value::Map(entries)),
                (event, _) if is_value(&event) => break value(events, event, line, depth + 1)?,
                _ => {}
            }
        };
        entries.push((key, Node { line, ..node }));
    }
}
