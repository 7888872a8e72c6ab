//! What the files of credentials say: Docker's `config.json`, podman's `auth.json`, Docker's `.dockercfg` of old. Pure.
//!
//! Entries are read as Docker and podman read them: an `auth` that is not empty counts, whatever stands beside it; what is
//! empty counts as not there; line feeds in the base64 and NULs behind the password are passed over.

use serde_json::{Map, Value};

use super::Proof;
use super::keys::normal;
use super::kubernetes::{self, decode};
use crate::oci::json::what_is_wrong;

/// A file of credentials.
#[derive(Default)]
pub(super) struct CredentialFile {
    auths: Map<String, Value>,
    /// Names of registries and the helper of each.
    helpers: Vec<(String, String)>,
    /// The helper for all others.
    store: Option<String>,
    /// Whether it has any place for credentials.
    pub(super) has_place: bool,
}

/// Reads a file.
///
/// # Errors
/// It is no such file: what it is instead. The error quotes nothing of it, because it may hold secrets.
pub(super) fn parse(bytes: &[u8]) -> Result<CredentialFile, String> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(CredentialFile::default());
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|error| {
        let at = || format!("line {} column {}", error.line(), error.column());
        kubernetes::in_yaml(bytes).unwrap_or_else(|| {
            format!("not a file of credentials, {}", what_is_wrong(bytes).unwrap_or_else(at))
        })
    })?;
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    let Some(object) = value.as_object() else { return Err("not a file of credentials".to_owned()) };
    if let Some(why) = kubernetes::in_json(&value) {
        return Err(why);
    }
    if text("type") == "service_account" && object.contains_key("private_key") {
        return Err(
            "the key of a Google service account: give it with --username _json_key_base64 and, as the \
                    password, the whole file in base64"
                .to_owned(),
        );
    }
    let helpers = strings(object.get("credHelpers"))?;
    let store = object.get("credsStore").and_then(Value::as_str).filter(|store| !store.is_empty());
    let auths = match object.get("auths") {
        None | Some(Value::Null) => None,
        Some(Value::Object(auths)) => Some(auths.clone()),
        Some(_) => return Err("not a file of credentials: its auths are no table".to_owned()),
    };
    let named = ["auths", "credHelpers", "credsStore"].iter().any(|key| object.contains_key(*key));
    // A .dockercfg is the table itself.
    let is_table = !named && !object.is_empty() && object.values().all(is_entry);
    Ok(CredentialFile {
        auths: auths.unwrap_or_else(|| if is_table { object.clone() } else { Map::new() }),
        helpers,
        store: store.map(str::to_owned),
        has_place: named || is_table,
    })
}

fn is_entry(value: &Value) -> bool {
    let keys = ["auth", "username", "password", "identitytoken"];
    value.as_object().is_some_and(|entry| keys.iter().any(|key| entry.contains_key(*key)))
}

fn strings(table: Option<&Value>) -> Result<Vec<(String, String)>, String> {
    match table {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Object(table)) => {
            let named = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
            Ok(table.iter().filter_map(named).collect())
        }
        Some(_) => Err("not a file of credentials: its credHelpers are no table".to_owned()),
    }
}

impl CredentialFile {
    /// The helper that is named for one of these names, with the name it is filed under.
    pub(super) fn helper(&self, keys: &[String]) -> Option<(&str, &str)> {
        let named = self.helpers.iter().filter(|(_, helper)| !helper.is_empty());
        let found = best(keys, &named.map(|(name, helper)| (name.as_str(), helper)));
        found.map(|(name, helper)| (name, helper.as_str()))
    }

    /// The helper that has all credentials that have none of their own.
    pub(super) fn store(&self) -> Option<&str> {
        self.store.as_deref()
    }

    /// The name of the entry for one of these names, empty or not.
    pub(super) fn entry_name(&self, keys: &[String]) -> Option<&str> {
        best(keys, &self.auths.iter().map(|(name, entry)| (name.as_str(), entry))).map(|(name, _)| name)
    }

    /// What the best entry that is not empty says.
    ///
    /// # Errors
    /// The entry is damaged.
    pub(super) fn entry(&self, keys: &[String]) -> Result<Option<(&str, Proof)>, String> {
        let mut names = keys.iter().filter_map(|key| self.entry_name(std::slice::from_ref(key)));
        names
            .find_map(|name| match proof(&self.auths[name]) {
                Ok(None) => None,
                Ok(Some(proof)) => Some(Ok((name, proof))),
                Err(why) => Some(Err(format!("the entry for {name}: {why}"))),
            })
            .transpose()
    }

    /// The names of all entries.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.auths.keys().map(String::as_str)
    }
}

/// What is filed under the best of some names: as it stands before with a scheme or a path around it.
fn best<'a, T>(
    keys: &[String],
    filed: &(impl Iterator<Item = (&'a str, T)> + Clone),
) -> Option<(&'a str, T)> {
    keys.iter().find_map(|key| {
        let exact = filed.clone().find(|(name, _)| name == key);
        exact.or_else(|| filed.clone().find(|(name, _)| normal(name) == *key))
    })
}

/// What one entry says, if anything.
fn proof(entry: &Value) -> Result<Option<Proof>, String> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Proof::IdentityToken(token.into())));
    }
    let (user, password) = if let Some(auth) = text("auth") {
        let decoded = decode(auth).ok_or("its auth is not base64")?;
        let decoded = String::from_utf8(decoded).map_err(|_| "its auth is not UTF-8 text")?;
        let (user, password) = decoded.split_once(':').ok_or("its auth holds no user and password")?;
        (user.to_owned(), password.trim_matches('\0').to_owned())
    } else {
        let (Some(user), Some(password)) = (text("username"), text("password")) else {
            if text("registrytoken").is_some() {
                return Err("it holds a registrytoken, which Docker writes for itself alone".to_owned());
            }
            // An empty one says only that somebody logged in once.
            return Ok(None);
        };
        (user.to_owned(), password.to_owned())
    };
    Ok(match (user.as_str(), password.as_str()) {
        ("", "") => None,
        ("<token>", _) => Some(Proof::IdentityToken(password.into())),
        _ => Some(Proof::Password { user, password: password.into() }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret as _;
    use serde_json::json;

    fn said(text: &str, keys: &[&str]) -> Result<Option<String>, String> {
        let document = parse(text.as_bytes())?;
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        let found = document.entry(&keys)?.map(|(_, proof)| match proof {
            Proof::Password { user, password } => format!("{user}:{}", password.expose_secret()),
            Proof::IdentityToken(token) => format!("token {}", token.expose_secret()),
        });
        Ok(found)
    }

    #[test]
    fn entries_in_all_their_forms() {
        let entry = |value: Value| said(&json!({"auths": {"r": value}}).to_string(), &["r"]);
        let some = |text: &str| Ok(Some(text.to_owned()));
        // `dTpw` is `u:p`.
        for (value, expected) in [
            (json!({"auth": "dTpw"}), some("u:p")),
            (json!({"auth": "dTpw", "username": "", "password": ""}), some("u:p")),
            (json!({"auth": "dTpw", "username": "u", "password": "old", "email": "x@y"}), some("u:p")),
            (json!({"auth": "", "username": "u", "password": "p:q"}), some("u:p:q")),
            (json!({"auth": null, "username": "u", "password": "p"}), some("u:p")),
            (json!({"auth": "dTpw", "identitytoken": ""}), some("u:p")),
            (json!({"auth": "dTpw", "identitytoken": "t"}), some("token t")),
            (json!({"auth": "dT\npw\r\n"}), some("u:p")),
            (json!({"auth": "dTpwAAA="}), some("u:p")),
            (json!({"auth": "dTpwAAA"}), some("u:p")),
            (json!({"auth": "dTpxOnI="}), some("u:q:r")),
            (json!({"username": "<token>", "password": "t"}), some("token t")),
            (json!({"auth": "Og=="}), Ok(None)),
            (json!({}), Ok(None)),
            (json!({"email": "x@y"}), Ok(None)),
            (json!(null), Ok(None)),
        ] {
            assert_eq!(entry(value.clone()), expected, "{value}");
        }
        for value in [json!({"auth": "%%"}), json!({"auth": "dQ=="}), json!({"registrytoken": "t"})] {
            assert!(entry(value.clone()).is_err(), "{value}");
        }
    }

    #[test]
    fn the_best_entry_that_is_not_empty_counts() {
        let text = r#"{"auths":{"r":{"auth":"dTpw"},"r/a":{},"https://r/v1/":{"auth":"djpx"},"r/a/b":{"auth":"djpx"}}}"#;
        assert_eq!(said(text, &["r/a/b", "r/a", "r"]).unwrap().as_deref(), Some("v:q"));
        assert_eq!(said(text, &["r/a", "r"]).unwrap().as_deref(), Some("u:p"), "as it stands before others");
        assert_eq!(said(text, &["s"]).unwrap(), None);
    }

    #[test]
    fn the_file_of_old_is_the_table_itself() {
        assert_eq!(said(r#"{"r":{"auth":"dTpw"}}"#, &["r"]).unwrap().as_deref(), Some("u:p"));
        let marked = "\u{feff}{\"auths\":{\"r\":{\"auth\":\"dTpw\"}}}";
        assert_eq!(said(marked, &["r"]).unwrap().as_deref(), Some("u:p"));
    }

    #[test]
    fn what_is_something_else_is_named_and_never_quoted() {
        for (text, expected) in [
            ("text with hunter2", "line 1"),
            ("[]", "not a file of credentials"),
            (r#"{"auths":["hunter2"]}"#, "auths are no table"),
            (r#"{"type":"service_account","private_key":"hunter2"}"#, "_json_key_base64"),
            ("apiVersion: v1\nkind: Config\nclusters: []\n", "kubeconfig"),
            (r#"{"kind":"Secret","data":{".dockerconfigjson":"hunter2"}}"#, "a Secret of Kubernetes"),
            ("apiVersion: v1\nkind: Secret\ndata:\n  .dockerconfigjson: hunter2\n", "base64 -d"),
            ("\u{feff}{\"auths\": {", "it was cut"),
            (r#"{"kind":"SealedSecret"}"#, "SealedSecret"),
            (r#"{"kind":"ConfigMap"}"#, "kind ConfigMap"),
        ] {
            let error = said(text, &["r"]).unwrap_err();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}, not {expected}");
        }
    }
}
