//! Which secrets of ours nothing points at any more. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

use super::secret::Secret;

/// A secret that can go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Old {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
}

/// Of the secrets that carry our labels, those that are not wanted, and whose name stands nowhere in the clusters of the
/// namespace: an object may point at it that another program wrote.
pub(super) fn old(secrets: &Value, wanted: &[Secret], clusters: &[&Value]) -> Vec<Old> {
    let mut named = BTreeSet::new();
    for cluster in clusters {
        words(cluster, &mut named);
    }
    let word = |value: &Value| value.as_str().map(str::to_owned);
    let items = secrets["items"].as_array().map_or(&[][..], Vec::as_slice);
    items
        .iter()
        .map(|item| &item["metadata"])
        // The selector was the server's to follow; a deletion is worth a second look.
        .filter(|metadata| metadata["labels"][super::secret::OURS.0] == super::secret::OURS.1)
        .filter_map(|metadata| {
            Some(Old {
                name: word(&metadata["name"])?,
                uid: word(&metadata["uid"])?,
                resource_version: word(&metadata["resourceVersion"])?,
            })
        })
        .filter(|old| {
            !named.contains(old.name.as_str()) && wanted.iter().all(|secret| secret.name != old.name)
        })
        .collect()
}

/// Every text in a spec.
fn words<'a>(value: &'a Value, out: &mut BTreeSet<&'a str>) {
    match value {
        Value::String(text) => {
            out.insert(text);
        }
        Value::Array(items) => items.iter().for_each(|item| words(item, out)),
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| *name != "managedFields")
            .for_each(|(_, value)| words(value, out)),
        _ => {}
    }
}
