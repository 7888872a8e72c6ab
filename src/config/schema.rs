//! The schema of the file for editors, made from the types of its sections.
//!
//! `config/layercast.schema.json` is what this makes: `UPDATE_SCHEMA=1 cargo test schema` writes it.

use std::borrow::Cow;
use std::path::Path;

use clap::ValueEnum;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::keys::{At, NamedSections, OrNone};
use super::values::{
    Bytes, FilePath, Glob, IfRunning, Listen, Namespace, Number, RegistryAddress, RegistryPlace,
    RepositoryName, TimeSpan, WaveMembers,
};
use super::written::SitesFile;
use crate::bundle::Acceptable;
use crate::compress::Method;
use crate::document::{self, Meaning, Node};
use crate::engine::Verification;
use crate::hook::notify::Notify;
use crate::plan::naming::GivenName;
use crate::plan::{OnConflict, Rewrite};
use crate::schedule::{Days, Hours, Zone};
use crate::units::Rate;

impl<T: JsonSchema> JsonSchema for At<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<T: JsonSchema> JsonSchema for NamedSections<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Named{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "additionalProperties": generator.subschema_for::<T>()})
    }
}

impl<T: JsonSchema> JsonSchema for OrNone<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("OrNone{}", T::schema_name()).into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [{"const": "none"}, generator.subschema_for::<T>()]})
    }
}

impl<const LEAST: u32, const MOST: u32> JsonSchema for Number<LEAST, MOST> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        format!("Number{LEAST}To{MOST}").into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": LEAST, "maximum": MOST})
    }
}

macro_rules! schemas {
    ($($type:ty = $schema:tt,)*) => {$(
        impl JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    )*};
}

schemas! {
    FilePath = {"type": "string", "minLength": 1},
    TimeSpan = {"type": "string", "pattern": "^[0-9]"},
    Bytes = {"type": ["string", "integer"], "pattern": "^[0-9]+ ?([kKmMgGtT]?[bB]?|[kKmMgGtT][iI][bB])$"},
    Rate = {"type": "string", "pattern": "^[0-9]+ ?(([kMG]?bit)|([kKmMgG]?[iI]?[bB]))/s$"},
    Days = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
    Notify = {"type": "string", "minLength": 1},
    Listen = {"type": ["string", "integer"], "pattern": ":?[0-9]+$"},
    Hours = {"type": "string", "pattern": "^[0-9]{1,2}:[0-9]{2} ?- ?[0-9]{1,2}:[0-9]{2}$"},
    Zone = {"type": "string", "minLength": 1},
    Rewrite = {"type": "string", "pattern": "="},
    GivenName = {"type": "string", "minLength": 1},
    Glob = {"type": "string", "minLength": 1},
    RegistryAddress = {"type": "string", "minLength": 1},
    RegistryPlace = {"type": "string", "pattern": "^registry:"},
    Namespace = {"type": "string", "pattern": "^[a-z0-9]"},
    RepositoryName = {"type": "string", "minLength": 1},
    WaveMembers = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
}

/// A choice lists its words, with what each means.
macro_rules! choices {
    ($($type:ty),*) => {$(
        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                let choices = <$type>::value_variants().iter().filter_map(ValueEnum::to_possible_value);
                let choices = choices.map(|choice| {
                    let help = choice.get_help().map(ToString::to_string);
                    json!({"type": "string", "const": choice.get_name(), "description": help})
                });
                json_schema!({"oneOf": choices.collect::<Vec<_>>()})
            }
        }
    )*};
}

choices!(Acceptable, IfRunning, Method, OnConflict, Verification);

/// The schema. Draft 7 is what the language servers of YAML know best.
fn schema() -> Value {
    let schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<SitesFile>();
    let mut schema = schema.to_value();
    without_nothing(&mut schema);
    schema
}

/// A key without a value is a fault, and all keys of a section are known.
fn without_nothing(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if let Some(closed) = object.remove("unevaluatedProperties") {
                object.insert("additionalProperties".to_owned(), closed);
            }
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = &types[..] {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
                choices.retain(|choice| choice["type"] != "null");
                if let [only] = &choices[..] {
                    let only = only.clone();
                    object.remove("anyOf");
                    object.extend(only.as_object().cloned().unwrap_or_default());
                }
            }
            object.values_mut().for_each(without_nothing);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nothing),
        _ => {}
    }
}

/// A document of YAML as JSON, as a language server sees it.
fn json(node: &Node) -> Value {
    if let Some(items) = node.sequence() {
        return items.iter().map(json).collect();
    }
    if let Some(mapping) = node.mapping() {
        return mapping.entries.iter().map(|entry| (entry.key.name.clone(), json(&entry.value))).collect();
    }
    let Some(scalar) = node.scalar() else { return Value::Null };
    match scalar.meaning {
        Meaning::Null => Value::Null,
        Meaning::Boolean(value) => value.into(),
        Meaning::Number => serde_json::from_str(&scalar.text).unwrap(),
        Meaning::Text | Meaning::Date => scalar.text.as_str().into(),
    }
}

/// What the schema has against a file; none if it has nothing.
pub(super) fn faults(text: &str) -> Vec<String> {
    let documents = document::yaml::read(text).unwrap();
    let schema = schema();
    let mut faults = Vec::new();
    hold(&json(&documents[0]), &schema, &schema, "", &mut faults);
    faults
}

/// Holds a value against a part of the schema. Of JSON Schema it knows what this schema uses, and fails at anything else.
fn hold(value: &Value, part: &Value, root: &Value, at: &str, faults: &mut Vec<String>) {
    let mut refuse = |why: String| faults.push(format!("{at}: {why}"));
    let part = part.as_object().unwrap();
    let number = |limit: &Value| (value.as_f64(), limit.as_f64().unwrap());
    let length =
        |limit: &Value| (value.as_str().map(|text| text.chars().count() as u64), limit.as_u64().unwrap());
    let mut inner = Vec::new();
    for (keyword, wanted) in part {
        match keyword.as_str() {
            "$ref" => {
                let place = wanted.as_str().unwrap().strip_prefix('#').unwrap();
                inner.push((value, root.pointer(place).unwrap(), at.to_owned()));
            }
            "type" => {
                let is = |kind: &Value| match kind.as_str().unwrap() {
                    "object" => value.is_object(),
                    "array" => value.is_array(),
                    "string" => value.is_string(),
                    "integer" => value.is_i64() || value.is_u64(),
                    "boolean" => value.is_boolean(),
                    kind => panic!("type {kind}"),
                };
                if !wanted.as_array().map_or_else(|| is(wanted), |kinds| kinds.iter().any(is)) {
                    refuse(format!("{value} is not {wanted}"));
                }
            }
            "const" if value != wanted => refuse(format!("{value} is not {wanted}")),
            "enum" if !wanted.as_array().unwrap().contains(value) => {
                refuse(format!("{value} is none of {wanted}"));
            }
            "minimum" if number(wanted).0.is_some_and(|it| it < number(wanted).1) => {
                refuse(format!("< {wanted}"));
            }
            "maximum" if number(wanted).0.is_some_and(|it| it > number(wanted).1) => {
                refuse(format!("> {wanted}"));
            }
            "minLength" if length(wanted).0.is_some_and(|it| it < length(wanted).1) => {
                refuse("too short".into());
            }
            "pattern" => {
                let pattern = regex::Regex::new(wanted.as_str().unwrap()).unwrap();
                if value.as_str().is_some_and(|text| !pattern.is_match(text)) {
                    refuse(format!("{value} does not match {wanted}"));
                }
            }
            "anyOf" | "oneOf" => {
                let fits = |choice: &&Value| {
                    let mut faults = Vec::new();
                    hold(value, choice, root, at, &mut faults);
                    faults.is_empty()
                };
                let fitting = wanted.as_array().unwrap().iter().filter(fits).count();
                if fitting == 0 || (keyword == "oneOf" && fitting > 1) {
                    refuse(format!("{value} fits {fitting} of {wanted}"));
                }
            }
            "allOf" => {
                inner.extend(wanted.as_array().unwrap().iter().map(|part| (value, part, at.to_owned())));
            }
            "items" => {
                let items = value.as_array().into_iter().flatten().enumerate();
                inner.extend(items.map(|(number, item)| (item, wanted, format!("{at}/{number}"))));
            }
            "properties" | "additionalProperties" => {
                let known = part.get("properties").and_then(Value::as_object);
                for (key, value) in value.as_object().into_iter().flatten() {
                    let own = known.and_then(|known| known.get(key));
                    match (keyword.as_str(), own, wanted) {
                        ("properties", Some(own), _) => inner.push((value, own, format!("{at}/{key}"))),
                        ("properties", None, _) | (_, Some(_), _) => {}
                        (_, None, Value::Bool(false)) => refuse(format!("{key} is no key")),
                        (_, None, wanted) => inner.push((value, wanted, format!("{at}/{key}"))),
                    }
                }
            }
            "required" => {
                let missing = wanted
                    .as_array()
                    .unwrap()
                    .iter()
                    .filter(|key| value.get(key.as_str().unwrap()).is_none());
                missing.for_each(|key| refuse(format!("{key} is missing")));
            }
            "$schema" | "title" | "description" | "definitions" | "const" | "enum" | "minimum"
            | "maximum" | "minLength" => {}
            keyword => panic!("{keyword} is not known here"),
        }
    }
    for (value, part, at) in inner {
        hold(value, part, root, &at, faults);
    }
}

#[test]
fn the_schema_is_that_of_the_types() {
    let path = Path::new("config/layercast.schema.json"); // tests run in the root of the repository
    let text = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    if std::env::var_os("UPDATE_SCHEMA").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap_or_default();
    assert!(written == text, "the types have changed: UPDATE_SCHEMA=1 cargo test schema");
}

#[test]
fn the_schema_refuses_what_the_reader_refuses() {
    let fine = "version: 1\nbundles: [{path: b.tar}]\nsites: [{name: a, registry: r.example, window: none, threads: 4}]\n";
    assert_eq!(faults(fine), Vec::<String>::new());
    for (from, to) in [
        ("version: 1", "version: 2"),
        ("path: b.tar", "pat: b.tar"),
        ("path: b.tar", "path: b.tar, newest: maybe"),
        ("window: none", "window: {days: mon}"),
        ("threads: 4", "threads: many"),
        ("threads: 4", "threads: 0"),
        ("threads: 4", "bandwidth: fast"),
        ("threads: 4", "verify: often"),
        ("name: a, ", ""),
    ] {
        assert!(fine.contains(from) && !faults(&fine.replace(from, to)).is_empty(), "{to}");
        assert!(!super::tests::wrong(&fine.replace(from, to)).is_empty(), "{to}");
    }
}
