//! Who else owns entries of a Cluster's mirrors, where its kind merges the list by endpoint: `managedFields`
//! ([field management](https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management)). Pure.

use serde_json::{Map, Value};

use super::MANAGER;
use super::status::FieldOwner;
use super::wanted::mirrors;
use crate::error::printable;

const LIST: &str = ".spec.nodeConfig.registryMirrors";

/// Owners of what stays in `after`, which was applied, and would not if the list stood `alone`.
pub(super) fn owners(after: &Value, alone: &Value) -> Vec<FieldOwner> {
    let entries = after["metadata"]["managedFields"].as_array().map_or(&[][..], Vec::as_slice);
    let (ours, others): (Vec<_>, Vec<_>) = entries
        .iter()
        .filter_map(|entry| {
            let tree = &entry["fieldsV1"]["f:spec"]["f:nodeConfig"]["f:registryMirrors"];
            Some((entry["manager"].as_str()?, tree.as_object()?))
        })
        .partition::<Vec<(&str, &Map<String, Value>)>, _>(|(manager, _)| *manager == MANAGER);
    let mut found = Vec::new();
    // Whether something stays in an entry that nobody owns by itself.
    let mut unexplained = items(after).is_empty();
    let mut note = |manager: &str, field: String| {
        let owner = FieldOwner { manager: printable(manager), field };
        if !found.contains(&owner) {
            found.push(owner);
        }
    };
    for item in items(after) {
        let endpoint = &item["endpoint"];
        let place = || format!("{LIST}[{}]", printable(&endpoint.to_string()));
        let owned =
            ours.iter().chain(&others).any(|(_, tree)| tree.keys().any(|key| is_key_of(key, endpoint)));
        let twin = items(alone).iter().find(|other| other["endpoint"] == *endpoint);
        unexplained |= !owned && twin != Some(item);
        for (manager, tree) in &others {
            let Some((_, fields)) = tree.iter().find(|(key, _)| is_key_of(key, endpoint)) else { continue };
            let Some(twin) = twin else {
                note(manager, place());
                continue;
            };
            for (name, value) in item.as_object().into_iter().flatten() {
                if twin[name] != *value && !fields[format!("f:{name}")].is_null() {
                    note(manager, format!("{}.{}", place(), printable(name)));
                }
            }
        }
    }
    // A list with other keys. One without any is the trace of who made it, unless nobody else owns what stays.
    for (manager, tree) in &others {
        let mut keys = tree.keys().filter(|key| *key != ".");
        if keys.clone().any(|key| !key.starts_with("k:")) || unexplained && keys.next().is_none() {
            note(manager, LIST.to_owned());
        }
    }
    found
}

fn items(cluster: &Value) -> &[Value] {
    mirrors(cluster).as_array().map_or(&[], Vec::as_slice)
}

/// Whether `k:{"endpoint":"https://a"}` is about that endpoint.
fn is_key_of(key: &str, endpoint: &Value) -> bool {
    let keys = key.strip_prefix("k:").and_then(|json| serde_json::from_str::<Value>(json).ok());
    keys.is_some_and(|keys| keys["endpoint"] == *endpoint)
}
