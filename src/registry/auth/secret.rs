//! Secrets of Kubernetes that hold a file of credentials: `kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg`, as
//! `kubectl get secret -o yaml` or `-o json` writes them, alone or in a list. Pure.

use serde_json::Value;

use super::base64::decode;
use crate::document::{Node, yaml};

/// Where a Secret keeps such a file.
const KEYS: [&str; 2] = [".dockerconfigjson", ".dockercfg"];

/// A file of credentials as a Secret keeps it.
pub(super) struct Held {
    pub(super) key: &'static str,
    pub(super) bytes: Vec<u8>,
}

/// The files of credentials in objects of Kubernetes written in YAML; none where it is no such object.
///
/// # Errors
/// No Secret among them holds credentials, with what they are instead. Nothing of them is quoted.
pub(super) fn in_yaml(bytes: &[u8]) -> Result<Option<Vec<Held>>, String> {
    let text = String::from_utf8_lossy(bytes);
    let Ok(documents) = yaml::read(&text) else { return Ok(None) };
    let mut objects = Vec::new();
    for document in &documents {
        match document.get("items").map(Node::items) {
            Some(items) => objects.extend(items),
            None => objects.push(document),
        }
    }
    let kind = |object: &&Node| Some(object.get("kind")?.text()?.to_owned());
    let Some(first) = documents.iter().find_map(|document| kind(&document)) else { return Ok(None) };
    let secrets = objects.iter().filter(|object| kind(object).as_deref() == Some("Secret"));
    let held = secrets.flat_map(|secret| {
        KEYS.into_iter().filter_map(|key| {
            let text = |table: &str| secret.at_path(&[table, key])?.text().map(str::to_owned);
            held(text("data"), text("stringData"), key)
        })
    });
    some(held.collect(), &first).map(Some)
}

/// The same for an object in JSON.
pub(super) fn in_json(value: &Value) -> Result<Vec<Held>, String> {
    let kind = |object: &Value| object["kind"].as_str().unwrap_or_default().to_owned();
    let objects = value["items"].as_array().map_or_else(|| vec![value], |items| items.iter().collect());
    let secrets = objects.into_iter().filter(|object| kind(object) == "Secret");
    let held = secrets.flat_map(|secret| {
        KEYS.into_iter().filter_map(|key| {
            let text = |table: &str| secret[table][key].as_str().map(str::to_owned);
            held(text("data"), text("stringData"), key)
        })
    });
    some(held.collect(), &kind(value))
}

/// What a Secret keeps under a key: in base64, or as it is.
fn held(
    data: Option<String>,
    string_data: Option<String>,
    key: &'static str,
) -> Option<Result<Held, String>> {
    if let Some(plain) = string_data {
        return Some(Ok(Held { key, bytes: plain.into_bytes() }));
    }
    let decoded =
        decode(&data?).ok_or_else(|| format!("the {key} of a Secret of Kubernetes: it is no base64"));
    Some(decoded.map(|bytes| Held { key, bytes }))
}

fn some(held: Vec<Result<Held, String>>, kind: &str) -> Result<Vec<Held>, String> {
    if held.is_empty() { Err(no_credentials(kind)) } else { held.into_iter().collect() }
}

/// What is said of an object of Kubernetes without credentials.
fn no_credentials(kind: &str) -> String {
    match kind {
        "Secret" | "List" | "SecretList" => {
            format!(
                "a Secret of Kubernetes without {}: it holds no credentials for registries",
                KEYS.join(" or ")
            )
        }
        "SealedSecret" => "a SealedSecret, which only its cluster can open".to_owned(),
        "Config" => "a kubeconfig, which says how to reach a cluster and nothing of registries".to_owned(),
        other => {
            let kind: String = other.chars().take(60).collect();
            format!("an object of Kubernetes of kind {kind}, which holds no credentials")
        }
    }
}
