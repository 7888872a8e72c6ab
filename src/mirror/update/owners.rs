//! Who else owns entries of a Cluster's mirrors, where its kind merges the list by endpoint: `managedFields`
//! ([field management](https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management)). Pure.

use serde_json::{Map, Value};

use super::MANAGER;
use super::status::Owner;
use super::wanted::mirrors;
use crate::error::printable;

const LIST: &str = ".spec.nodeConfig.registryMirrors";

/// Owners of what stays in `after`, which was applied, and would not if the list stood `alone`.
pub(super) fn owners(after: &Value, alone: &Value) -> Vec<Owner> {
    let entries = after["metadata"]["managedFields"].as_array().map_or(&[][..], Vec::as_slice);
    let others: Vec<(&str, &Map<String, Value>)> = entries
        .iter()
        .filter_map(|entry| {
            let tree = &entry["fieldsV1"]["f:spec"]["f:nodeConfig"]["f:registryMirrors"];
            Some((entry["manager"].as_str()?, tree.as_object()?))
        })
        .filter(|(manager, _)| *manager != MANAGER)
        .collect();
    let mut found = Vec::new();
    let mut note = |manager: &str, field: String| {
        let owner = Owner { manager: printable(manager), field };
        if !found.contains(&owner) {
            found.push(owner);
        }
    };
    for item in items(after) {
        let endpoint = &item["endpoint"];
        let place = || format!("{LIST}[{}]", printable(&endpoint.to_string()));
        let twin = items(alone).iter().find(|other| other["endpoint"] == *endpoint);
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
    // A list with other keys, or with none.
    for (manager, _) in others.iter().filter(|(_, tree)| !tree.keys().any(|key| key.starts_with("k:"))) {
        note(manager, LIST.to_owned());
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
