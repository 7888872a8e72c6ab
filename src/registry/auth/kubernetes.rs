//! Objects of Kubernetes that are given as a file of credentials: what they are, and how to get the file out of them. Pure.
//! Nothing of what they hold is quoted.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

/// Padding is left out by some tools.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The keys below which a Secret has a file of credentials, the usual ones first.
const FILE_KEYS: [&str; 5] =
    [".dockerconfigjson", ".dockercfg", "config.json", "auth.json", "dockerconfig.json"];

/// One object, as far as it matters.
#[derive(Debug, Default)]
struct SecretManifest {
    kind: String,
    secret_type: String,
    /// The keys below `data`, in base64, and what stands there.
    data: Vec<(String, String)>,
    /// The keys below `stringData`, in plain text.
    string_data: Vec<String>,
}

/// What is said of a document in JSON, where it is an object of Kubernetes or a list of some.
pub(super) fn in_json(value: &Value) -> Option<String> {
    let kind = value["kind"].as_str().filter(|kind| !kind.is_empty())?;
    let objects = match value["items"].as_array() {
        Some(items) => items.iter().map(SecretManifest::of_json).collect(),
        None => vec![SecretManifest::of_json(value)],
    };
    let list = || SecretManifest { kind: kind.to_owned(), ..SecretManifest::default() };
    Some(of_all(&objects).unwrap_or_else(|| list().in_words()))
}

/// The same of one or more documents in YAML.
pub(super) fn in_yaml(bytes: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(bytes);
    let mut objects = vec![SecretManifest::default()];
    // The table that the lines are in, and how far its keys are indented.
    let (mut table, mut depth) = (String::new(), None);
    for line in text.lines() {
        let (bare, content) = (line.trim_end(), line.trim());
        if bare == "---" || bare.starts_with("--- ") {
            objects.push(SecretManifest::default());
            table.clear();
            continue;
        }
        let Some(object) = objects.last_mut() else { continue };
        let Some((key, value)) = content.split_once(':').filter(|_| !content.starts_with('#')) else {
            continue;
        };
        let (key, value) = (unquoted(key), unquoted(value));
        let indent = line.len() - line.trim_start().len();
        if indent == 0 {
            match key {
                "kind" => value.clone_into(&mut object.kind),
                "type" => value.clone_into(&mut object.secret_type),
                _ => {}
            }
            (table, depth) = (key.to_owned(), None);
        } else if indent == *depth.get_or_insert(indent) {
            match table.as_str() {
                "data" => object.data.push((key.to_owned(), value.to_owned())),
                "stringData" => object.string_data.push(key.to_owned()),
                _ => {}
            }
        }
    }
    objects.retain(|object| !object.kind.is_empty());
    of_all(&objects)
}

fn unquoted(text: &str) -> &str {
    text.trim().trim_matches(['"', '\''])
}

/// A Secret among several objects is what was meant.
fn of_all(objects: &[SecretManifest]) -> Option<String> {
    let secret = objects.iter().find(|object| object.file_key().is_some());
    let secret = secret.or_else(|| objects.iter().find(|object| object.kind == "Secret"));
    secret.or_else(|| objects.first()).map(SecretManifest::in_words)
}

impl SecretManifest {
    fn of_json(value: &Value) -> Self {
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let table = |key: &str| value[key].as_object().into_iter().flatten();
        let data = table("data");
        Self {
            kind: text("kind"),
            secret_type: text("type"),
            data: data.map(|(key, it)| (key.clone(), it.as_str().unwrap_or_default().to_owned())).collect(),
            string_data: table("stringData").map(|(key, _)| key.clone()).collect(),
        }
    }

    /// The key below which there is a file, and how it is to be got.
    fn file_key(&self) -> Option<String> {
        FILE_KEYS.iter().find_map(|&key| {
            if self.string_data.iter().any(|it| it == key) {
                return Some(format!("write what is at .stringData.\"{key}\", which is no base64,"));
            }
            let (_, value) = self.data.iter().find(|(it, _)| it == key)?;
            let twice = decode(value).and_then(|once| decode(std::str::from_utf8(&once).ok()?));
            let twice = twice.is_some_and(|inner| inner.trim_ascii_start().starts_with(b"{"));
            let how = if twice { "through base64 -d, twice," } else { "through base64 -d" };
            Some(format!("write what is at .data.\"{key}\" {how}"))
        })
    }

    fn has(&self, key: &str) -> bool {
        self.data.iter().any(|(it, _)| it == key) || self.string_data.iter().any(|it| it == key)
    }

    fn in_words(&self) -> String {
        match self.kind.as_str() {
            "Secret" => self.secret_in_words(),
            "List" | "SecretList" => "a list of objects of Kubernetes without a Secret in it".to_owned(),
            "SealedSecret" => "a SealedSecret, which only its cluster can open".to_owned(),
            "Config" => {
                "a kubeconfig, which says how to reach a cluster and nothing of registries".to_owned()
            }
            other => {
                let kind: String = other.chars().take(60).collect();
                format!("an object of Kubernetes of kind {kind}, which holds no credentials")
            }
        }
    }

    fn secret_in_words(&self) -> String {
        if let Some(how) = self.file_key() {
            return format!(
                "a Secret of Kubernetes, and not the file in it: {how} into a file of its own, and give that"
            );
        }
        if self.has("username") && self.has("password") || self.secret_type == "kubernetes.io/basic-auth" {
            return "a Secret of Kubernetes with a user and a password (kubernetes.io/basic-auth), and no file: give \
                    .data.username as --username and .data.password in a --password-file, each through base64 -d"
                .to_owned();
        }
        let keys: Vec<&str> =
            self.data.iter().map(|(key, _)| key).chain(&self.string_data).map(String::as_str).collect();
        if keys.is_empty() {
            return "a Secret of Kubernetes without its data: get it from the cluster with `kubectl get secret NAME -o json`"
                .to_owned();
        }
        let shown: Vec<String> = keys.iter().take(5).map(|key| key.chars().take(60).collect()).collect();
        format!(
            "a Secret of Kubernetes in which no file of credentials is found; it has {}",
            shown.join(", ")
        )
    }
}

pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    let text: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    BASE64.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;
    use serde_json::json;

    const FILE: &str = r#"{"auths":{"r":{"auth":"dTpw"}}}"#;

    #[test]
    fn the_keys_that_are_there_are_named() {
        let once = STANDARD.encode(FILE);
        let twice = STANDARD.encode(&once);
        for (fields, expected) in [
            (
                json!({"data": {".dockerconfigjson": once}}),
                ".data.\".dockerconfigjson\" through base64 -d into",
            ),
            (json!({"data": {".dockerconfigjson": twice}}), "base64 -d, twice, into"),
            (json!({"data": {".dockercfg": once}}), ".data.\".dockercfg\""),
            (
                json!({"stringData": {".dockerconfigjson": FILE}}),
                ".stringData.\".dockerconfigjson\", which is no base64",
            ),
            (json!({"type": "Opaque", "data": {"config.json": once}}), ".data.\"config.json\""),
            (json!({"data": {"username": "dQ==", "password": "cA=="}}), "--password-file"),
            (json!({"type": "kubernetes.io/basic-auth"}), "basic-auth"),
            (json!({}), "without its data"),
            (json!({"data": {"tls.crt": "", "tls.key": ""}}), "it has tls.crt, tls.key"),
        ] {
            let mut object = fields.clone();
            object["kind"] = "Secret".into();
            let told = in_json(&object).unwrap();
            assert!(
                told.starts_with("a Secret of Kubernetes") && told.contains(expected),
                "{told}, not {expected}"
            );
            let list = json!({"kind": "List", "items": [{"kind": "Namespace"}, object]});
            assert!(in_json(&list).unwrap().contains(expected));
        }
        assert_eq!(in_json(&json!({"auths": {}})), None);
    }

    #[test]
    fn every_document_of_a_yaml_file_is_looked_at() {
        let secret =
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: x\ntype: kubernetes.io/dockerconfigjson\n";
        for (text, expected) in [
            (
                format!("---\nkind: Namespace\n---\n{secret}data:\n  .dockerconfigjson: aHVudGVyMg==\n"),
                ".dockerconfigjson",
            ),
            (format!("{secret}stringData:\n  '.dockerconfigjson': |\n    {{}}\n"), "which is no base64"),
            (format!("{secret}data:\r\n  username: dQ==\r\n  password: cA==\r\n"), "--password-file"),
            (secret.to_owned(), "without its data"),
        ] {
            let told = in_yaml(text.as_bytes()).unwrap();
            assert!(told.contains(expected), "{told}, not {expected}");
        }
        assert_eq!(in_yaml(b"no: kind"), None);
    }
}
