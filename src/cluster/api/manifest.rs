//! Objects of Kubernetes in a YAML file, as they are applied. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Number, Value};

use crate::document::{self, Entry, Meaning, Node, Position, Scalar, yaml};

/// An object to apply.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Object {
    /// `apiVersion`.
    pub api_version: String,
    /// `kind`.
    pub kind: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: Option<String>,
    /// All of it.
    pub(super) value: Value,
}

/// Why a file holds no objects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {message}")]
pub(crate) struct ManifestError {
    /// From 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ", self.kind)?;
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}/")?;
        }
        f.write_str(&self.name)
    }
}

/// Reads all objects of a file.
///
/// # Errors
/// It is not YAML, or a document is no object of Kubernetes.
pub(crate) fn parse(text: &str) -> Result<Vec<Object>, ManifestError> {
    let documents =
        yaml::read(text).map_err(|error| ManifestError { line: error.at.line, message: error.message })?;
    documents.iter().map(object).collect()
}

fn object(root: &Node) -> Result<Object, ManifestError> {
    let word = |path: &[&str]| root.at_path(path).and_then(Node::text).map(str::to_owned);
    let need = |path: &[&str]| {
        let message = format!("an object without {}", path.join("."));
        word(path).filter(|text| !text.is_empty()).ok_or(ManifestError { line: root.at.line, message })
    };
    let (api_version, kind) = (need(&["apiVersion"])?, need(&["kind"])?);
    if kind.ends_with("List") && root.at_path(&["items"]).is_some() {
        let message =
            format!("a {kind} is no object: write each of its items as a document, with --- between them");
        return Err(ManifestError { line: root.at.line, message });
    }
    let name = need(&["metadata", "name"])?;
    let mut value = json(root)?;
    if kind == "Secret" {
        encode_string_data(&mut value);
    }
    Ok(Object { api_version, kind, name, namespace: word(&["metadata", "namespace"]), value })
}

/// `stringData` is a help for people that the server does not keep: under server-side apply a key left out later would
/// never go from `data`.
fn encode_string_data(secret: &mut Value) {
    let Some(fields) = secret.as_object_mut() else { return };
    let Some(Value::Object(plain)) = fields.remove("stringData") else { return };
    let data = fields.entry("data").or_insert_with(|| Value::Object(Map::new()));
    if let Some(data) = data.as_object_mut() {
        let encoded = plain
            .into_iter()
            .map(|(name, text)| (name, STANDARD.encode(text.as_str().unwrap_or_default()).into()));
        data.extend(encoded);
    }
}

fn json(node: &Node) -> Result<Value, ManifestError> {
    match &node.value {
        document::Value::Scalar(word) => scalar(word, node.at),
        document::Value::Sequence(items) => items.iter().map(json).collect(),
        document::Value::Mapping(mapping) => {
            let pair = |entry: &Entry| Ok((entry.key.name.clone(), json(&entry.value)?));
            mapping.entries.iter().map(pair).collect::<Result<Map<_, _>, _>>().map(Value::Object)
        }
    }
}

/// What a word without quotes means.
fn scalar(word: &Scalar, at: Position) -> Result<Value, ManifestError> {
    match word.meaning {
        Meaning::Null => return Ok(Value::Null),
        Meaning::Boolean(truth) => return Ok(Value::Bool(truth)),
        Meaning::Text | Meaning::Date => return Ok(Value::String(word.text.clone())),
        Meaning::Number => {}
    }
    let text = word.text.as_str();
    // Readers of YAML 1.1 take 0644 for an octal number, and those of 1.2 do not.
    let digits = text.trim_start_matches(['+', '-']);
    if digits.len() > 1 && digits.starts_with('0') && !digits.contains('.') {
        let message = format!(
            "{text} is one number to some readers and another to others: write it in decimal, or in quotes"
        );
        return Err(ManifestError { line: at.line, message });
    }
    let number = text.parse::<i64>().map(Number::from).ok();
    let number = number.or_else(|| Number::from_f64(text.parse().ok()?));
    number
        .map(Value::Number)
        .ok_or_else(|| ManifestError { line: at.line, message: format!("{text} is no number that JSON has") })
}

#[cfg(test)]
mod tests;
