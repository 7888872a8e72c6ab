//! What differs between two objects, value by value. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

/// One value that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldChange {
    /// As `spec.nodeConfig.registryMirrors[0].endpoint`.
    pub path: String,
    /// As JSON.
    pub before: Option<String>,
    /// As JSON.
    pub after: Option<String>,
}

/// What changes below a path.
pub(super) fn changes(path: &str, before: &Value, after: &Value) -> Vec<FieldChange> {
    let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
    leaves(path, before, &mut old);
    leaves(path, after, &mut new);
    let mut paths: Vec<&String> = old.keys().chain(new.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    let change = |path: &String| {
        let (before, after) = (old.get(path).cloned(), new.get(path).cloned());
        (before != after).then(|| FieldChange { path: path.clone(), before, after })
    };
    paths.into_iter().filter_map(change).collect()
}

/// The same for whole objects, without what the server writes by itself; what is in secrets is not shown.
pub(super) fn object_changes(before: &Value, after: &Value) -> Vec<FieldChange> {
    let hides = after["kind"] == "Secret" || before["kind"] == "Secret";
    let mut found = changes("", &stripped(before), &stripped(after));
    for change in &mut found {
        if hides && (change.path.starts_with("data.") || change.path.starts_with("data[")) {
            for side in [&mut change.before, &mut change.after].into_iter().flatten() {
                "(not shown)".clone_into(side);
            }
        }
    }
    found
}

/// Annotations in which controllers and servers count.
const COUNTERS: [&str; 2] = ["deprecated.daemonset.template.generation", "deployment.kubernetes.io/revision"];

fn stripped(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for name in ["managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink"]
        {
            metadata.remove(name);
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.retain(|name, _| !COUNTERS.contains(&name.as_str()));
            if annotations.is_empty() {
                metadata.remove("annotations");
            }
        }
    }
    object
}

fn leaves(path: &str, value: &Value, out: &mut BTreeMap<String, String>) {
    match value {
        Value::Null => {}
        Value::Object(fields) if !fields.is_empty() => {
            for (name, value) in fields {
                // A name with dots of its own would read as a path.
                let plain = !name.is_empty() && !name.contains(['.', '[', '/']);
                let step = match (plain, path.is_empty()) {
                    (true, true) => name.clone(),
                    (true, false) => format!("{path}.{name}"),
                    (false, _) => format!("{path}[{}]", Value::from(name.as_str())),
                };
                leaves(&step, value, out);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (number, value) in items.iter().enumerate() {
                leaves(&format!("{path}[{number}]"), value, out);
            }
        }
        leaf => {
            out.insert(path.to_owned(), leaf.to_string());
        }
    }
}
