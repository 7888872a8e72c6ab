//! Which secrets of ours nothing points at any more. Pure.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::secret::Secret;

/// A secret that no cluster names may have been made by another run for the change that it is about to make. None takes
/// that long.
const RUN_IS_OVER: SignedDuration = SignedDuration::from_hours(1);

/// A secret that can go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Old {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) resource_version: String,
}

impl Old {
    /// From the metadata of a secret.
    pub(super) fn of(metadata: &Value) -> Option<Self> {
        let word = |value: &Value| value.as_str().map(str::to_owned);
        Some(Self {
            name: word(&metadata["name"])?,
            uid: word(&metadata["uid"])?,
            resource_version: word(&metadata["resourceVersion"])?,
        })
    }
}

/// Of the secrets that carry our labels, those that are not wanted, and whose name stands nowhere in the clusters of the
/// namespace: an object may point at it that another program wrote. Of these only such that the mirrors named `before`
/// this run changed them, or that are too old to be `now` part of another run's work.
pub(super) fn old(
    secrets: &Value,
    wanted: &[Secret],
    clusters: &[&Value],
    before: &Value,
    now: Timestamp,
) -> Vec<Old> {
    let (named, named_before) = (names_in(clusters), names_in(&[before]));
    let items = secrets["items"].as_array().map_or(&[][..], Vec::as_slice);
    items
        .iter()
        .map(|item| &item["metadata"])
        // The selector was the server's to follow; a deletion is worth a second look.
        .filter(|metadata| metadata["labels"][super::secret::OURS.0] == super::secret::OURS.1)
        // It goes already, once whoever holds it lets go.
        .filter(|metadata| metadata["deletionTimestamp"].is_null())
        .filter_map(|metadata| Some((Old::of(metadata)?, age(metadata, now))))
        .filter(|(old, age)| {
            named_before.contains(old.name.as_str()) || age.is_some_and(|age| age > RUN_IS_OVER)
        })
        .map(|(old, _)| old)
        .filter(|old| {
            !named.contains(old.name.as_str()) && wanted.iter().all(|secret| secret.name != old.name)
        })
        .collect()
}

fn age(metadata: &Value, now: Timestamp) -> Option<SignedDuration> {
    let created: Timestamp = metadata["creationTimestamp"].as_str()?.parse().ok()?;
    Some(now.duration_since(created))
}

/// Every text in objects: whatever field a name stands in, it is named.
pub(super) fn names_in<'a>(objects: &[&'a Value]) -> BTreeSet<&'a str> {
    let mut names = BTreeSet::new();
    for object in objects {
        words(object, &mut names);
    }
    names
}

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
