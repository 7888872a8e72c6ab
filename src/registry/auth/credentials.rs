//! Credentials that other tools left behind: Docker's `config.json`, podman's `auth.json`, and their helper programs.
//!
//! `docker_credential` reads entries and speaks to helpers. What it does not do is here: which file, which entry, helpers
//! before stored passwords as Docker does it, entries for a path, and a limit on how long a helper may take.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;
use std::{env, fs, io};

use docker_credential::{CredentialRetrievalError as Failure, DockerCredential};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Credential;
use crate::error::printable;
use crate::registry::error::{Cause, RegistryError};

const HELPER_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_FILE_BYTES: u64 = 4 << 20;
/// The key under which Docker keeps the credentials of Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Config {
    auths: Option<BTreeMap<String, Value>>,
    creds_store: Option<String>,
    cred_helpers: Option<BTreeMap<String, String>>,
}

/// The credentials for `host[:port][/path]` in the files of Docker and podman, if there are any. Blocks, as a helper
/// program may have to be asked.
///
/// # Errors
/// A file that is there but cannot be read, and a helper that fails in another way than having nothing.
pub(crate) fn find(host: &str) -> Result<Option<Credential>, RegistryError> {
    find_in(&files(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)), host)
}

/// The credentials for `host[:port][/path]` in one file, if it has any. Blocks, as [`find`] does.
///
/// # Errors
/// The file cannot be read, or a helper fails.
pub(crate) fn from_file(path: &Path, host: &str) -> Result<Option<Credential>, RegistryError> {
    let config = read(path).map_err(|e| bad(path, &e))?;
    look_up(&config, host).map_err(|why| bad(path, &why))
}

/// Whether one file has an entry for `host[:port][/path]`. No helper program is asked: what one may have counts as there.
///
/// # Errors
/// The file cannot be read, is no file of credentials, or its entry is none.
pub(crate) fn has_entry(path: &Path, host: &str) -> Result<bool, RegistryError> {
    let config = read(path).map_err(|e| bad(path, &e))?;
    if config.auths.is_none() && config.creds_store.is_none() && config.cred_helpers.is_none() {
        let why = "not a file of credentials: it has neither auths nor credsStore nor credHelpers";
        return Err(bad(path, &why));
    }
    let keys = keys(host);
    let helped = config.creds_store.as_ref().is_some_and(|store| !store.is_empty())
        || config.cred_helpers.iter().flatten().any(|(name, _)| keys.contains(&normal(name)));
    let written = Config { auths: config.auths, ..Config::default() };
    Ok(helped || look_up(&written, host).map_err(|why| bad(path, &why))?.is_some())
}

fn find_in(files: &[PathBuf], host: &str) -> Result<Option<Credential>, RegistryError> {
    for path in files.iter().filter(|path| path.is_file()) {
        if let Some(credential) = from_file(path, host)? {
            return Ok(Some(credential));
        }
    }
    Ok(None)
}

/// Where to look, in this order: what the environment names for this, then Docker's file, then podman's.
fn files(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(variable("HOME")?.join(".docker")));
    let podman = ["XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"].map(&variable);
    let home = variable("HOME").map(|home| home.join(".config"));
    variable("REGISTRY_AUTH_FILE")
        .into_iter()
        .chain(docker.map(|folder| folder.join("config.json")))
        .chain(podman.into_iter().flatten().chain(home).map(|folder| folder.join("containers/auth.json")))
        .collect()
}

fn bad(path: &Path, why: &dyn std::fmt::Display) -> RegistryError {
    Cause::BadFile { path: path.display().to_string(), why: why.to_string() }.into()
}

fn read(path: &Path) -> io::Result<Config> {
    let length = fs::metadata(path)?.len();
    if length > MAX_FILE_BYTES {
        return Err(io::Error::other("too long for a file of credentials"));
    }
    let text = fs::read(path)?;
    if text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Config::default());
    }
    // The message of the parser may quote what it read; the place alone says enough.
    serde_json::from_slice(&text).map_err(|e| {
        io::Error::other(format!("not a file of credentials, line {} column {}", e.line(), e.column()))
    })
}

/// Docker's order: the host's own helper, the store of all, what stands in the file.
fn look_up(config: &Config, host: &str) -> Result<Option<Credential>, String> {
    let keys = keys(host);
    let helpers = config.cred_helpers.iter().flatten();
    let own = keys
        .iter()
        .find_map(|key| helpers.clone().find(|(name, helper)| normal(name) == *key && !helper.is_empty()));
    if let Some((name, helper)) = own {
        return ask_helper(helper, name);
    }
    let entries = config.auths.iter().flatten();
    let entry = keys.iter().find_map(|key| entries.clone().find(|(name, _)| normal(name) == *key));
    if let Some(store) = config.creds_store.as_ref().filter(|store| !store.is_empty()) {
        // The store knows it by the name under which it was put there.
        let fallback =
            if keys.iter().any(|key| key == "index.docker.io") { DOCKER_HUB } else { authority(host) };
        if let Some(found) = ask_helper(store, entry.map_or(fallback, |(name, _)| name))? {
            return Ok(Some(found));
        }
    }
    let Some((name, value)) = entry else { return Ok(None) };
    let one = json!({ "auths": { name: value } }).to_string();
    match docker_credential::get_credential_from_reader(one.as_bytes(), name) {
        Ok(found) => Ok(Some(convert(found))),
        // An empty entry says only that somebody logged in once.
        Err(Failure::NoCredentialConfigured) => Ok(None),
        Err(failure) => Err(format!("the entry for {name}: {}", said(&failure))),
    }
}

/// The names a registry may be filed under, best first: with more and more of its path, with and without the port that
/// goes without saying.
fn keys(host: &str) -> Vec<String> {
    let host = normal(host);
    let (authority, path) = host.split_once('/').unwrap_or((host.as_str(), ""));
    let twin = match authority.strip_suffix(":443") {
        Some(name) => name.to_owned(),
        None if authority.contains(':') => authority.to_owned(),
        None => format!("{authority}:443"),
    };
    let mut paths = vec![path];
    while let Some((shorter, _)) = paths.last().and_then(|path| path.rsplit_once('/')) {
        paths.push(shorter);
    }
    if !path.is_empty() {
        paths.push("");
    }
    let join = |authority: &str, path: &str| normal(format!("{authority}/{path}").trim_end_matches('/'));
    let mut keys: Vec<String> =
        paths.iter().flat_map(|path| [join(authority, path), join(&twin, path)]).collect();
    keys.dedup();
    keys
}

/// A key as it is compared: no scheme, no `/v1/` of old, one name for Docker Hub.
fn normal(key: &str) -> String {
    let bare = key.split_once("://").map_or(key, |(_, rest)| rest).trim_end_matches('/');
    let bare = bare.strip_suffix("/v1").or_else(|| bare.strip_suffix("/v2")).unwrap_or(bare);
    let (authority, path) = bare.split_once('/').map_or((bare, None), |(a, p)| (a, Some(p)));
    let authority = authority.to_ascii_lowercase();
    let authority = match authority.as_str() {
        "docker.io" | "registry-1.docker.io" => "index.docker.io",
        other => other,
    };
    path.map_or_else(|| authority.to_owned(), |path| format!("{authority}/{path}"))
}

fn authority(host: &str) -> &str {
    let bare = host.split_once("://").map_or(host, |(_, rest)| rest);
    bare.split('/').next().unwrap_or(bare)
}

/// Asks `docker-credential-<helper>`; `None` if it has nothing.
fn ask_helper(helper: &str, name: &str) -> Result<Option<Credential>, String> {
    if helper.contains(['/', '\\']) {
        return Err(format!("{helper:?} is not the name of a credential helper"));
    }
    let one = json!({ "credHelpers": { name: helper } }).to_string();
    let (sender, receiver) = mpsc::channel();
    let server = name.to_owned();
    // The library waits as long as the helper likes, so it waits elsewhere.
    std::thread::spawn(move || {
        let _ = sender.send(docker_credential::get_credential_from_reader(one.as_bytes(), &server));
    });
    let label = format!("docker-credential-{helper}");
    match receiver.recv_timeout(HELPER_TIMEOUT) {
        Err(_) => Err(format!("{label} did not answer within {} s", HELPER_TIMEOUT.as_secs())),
        Ok(Ok(DockerCredential::UsernamePassword(user, secret))) if user.is_empty() && secret.is_empty() => {
            Ok(None)
        }
        Ok(Ok(found)) => Ok(Some(convert(found))),
        Ok(Err(Failure::HelperFailure { stdout, .. })) if stdout.contains("credentials not found") => {
            Ok(None)
        }
        Ok(Err(Failure::HelperCommunicationError)) => Err(format!("{label} cannot be run")),
        Ok(Err(failure)) => Err(format!("{label}: {}", said(&failure))),
    }
}

fn convert(found: DockerCredential) -> Credential {
    match found {
        DockerCredential::IdentityToken(token) => Credential::IdentityToken(token.into()),
        DockerCredential::UsernamePassword(user, token) if user == "<token>" => {
            Credential::IdentityToken(token.into())
        }
        DockerCredential::UsernamePassword(user, password) => {
            Credential::Basic { user, password: password.into() }
        }
    }
}

/// What went wrong, without the output of a helper beyond its first words.
fn said(failure: &Failure) -> String {
    match failure {
        Failure::HelperFailure { stdout, .. } => {
            printable(&stdout.trim().chars().take(200).collect::<String>())
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    fn config(text: &str) -> Config {
        serde_json::from_str(text).unwrap()
    }

    fn found(text: &str, host: &str) -> Option<String> {
        look_up(&config(text), host).unwrap().map(|credential| match credential {
            Credential::Basic { user, password } => format!("{user}:{}", password.expose_secret()),
            Credential::IdentityToken(token) => format!("token {}", token.expose_secret()),
        })
    }

    #[test]
    fn entries_are_found_by_all_their_names() {
        // The value is `u:p` in base64.
        for (key, host, is_found) in [
            ("r.example", "r.example", true),
            ("https://r.example", "r.example", true),
            ("https://r.example/v1/", "r.example:443", true),
            ("https://r.example/v2/", "R.example", true),
            ("r.example:443", "r.example", true),
            ("r.example:5000", "r.example", false),
            ("r.example", "r.example:5000", false),
            ("https://index.docker.io/v1/", "docker.io", true),
            ("docker.io", "registry-1.docker.io", true),
            ("r.example/a", "r.example/a/b", true),
            ("r.example/a/b", "r.example/a", false),
            ("r.example/ab", "r.example/a", false),
        ] {
            let text = json!({ "auths": { key: { "auth": "dTpw" } } }).to_string();
            assert_eq!(found(&text, host).is_some(), is_found, "{key} for {host}");
        }
    }

    #[test]
    fn the_longest_path_wins() {
        let text = r#"{"auths":{"r":{"auth":"dTpw"},"r/a/b":{"auth":"djpx"}}}"#;
        assert_eq!(found(text, "r/a/b/c").as_deref(), Some("v:q"));
        assert_eq!(found(text, "r/a").as_deref(), Some("u:p"));
    }

    #[test]
    fn entries_in_all_their_forms() {
        let entry = |value: &str| found(&format!(r#"{{"auths":{{"r":{value}}}}}"#), "r");
        assert_eq!(entry(r#"{"auth":"dTpw"}"#).as_deref(), Some("u:p"));
        assert_eq!(entry(r#"{"username":"u","password":"p:q"}"#).as_deref(), Some("u:p:q"));
        assert_eq!(entry(r#"{"auth":"dTpw","identitytoken":"t"}"#).as_deref(), Some("token t"));
        assert_eq!(entry(r#"{"username":"<token>","password":"t"}"#).as_deref(), Some("token t"));
        assert_eq!(entry("{}"), None);
        assert!(look_up(&config(r#"{"auths":{"r":{"auth":"%%"}}}"#), "r").is_err());
    }

    #[test]
    fn helpers_come_first_and_must_be_names() {
        let text = r#"{"auths":{"r":{"auth":"dTpw"}},"credHelpers":{"r":"../evil"}}"#;
        assert!(look_up(&config(text), "r").unwrap_err().contains("not the name"));
        let text = r#"{"auths":{"r":{"auth":"dTpw"}},"credsStore":"no-such-helper"}"#;
        assert!(look_up(&config(text), "r").unwrap_err().contains("cannot be run"));
    }

    #[test]
    fn the_first_file_that_has_something() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        fs::write(&a, "").unwrap();
        fs::write(&b, r#"{"auths":{"r":{"auth":"dTpw"}}}"#).unwrap();
        let files = [folder.path().join("missing"), a, b.clone()];
        assert!(find_in(&files, "r").unwrap().is_some());
        assert!(find_in(&files, "s").unwrap().is_none());
        fs::write(&b, r#"{"auths":"secret"#).unwrap();
        let error = find_in(&files, "r").unwrap_err().to_string();
        assert!(error.contains("line 1") && !error.contains("secret"), "{error}");
        assert!(from_file(&files[0], "r").is_err());
    }

    #[test]
    fn whether_a_file_has_an_entry_is_told_without_a_helper() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        let has = |text: &str| {
            fs::write(&path, text).unwrap();
            has_entry(&path, "r:5000")
        };
        assert!(has(r#"{"auths":{"r:5000":{"auth":"dTpw"}}}"#).unwrap());
        assert!(!has(r#"{"auths":{"r":{"auth":"dTpw"},"r:5000":{}}}"#).unwrap());
        assert!(has(r#"{"credsStore":"no-such-helper"}"#).unwrap());
        assert!(has(r#"{"credHelpers":{"r:5000":"no-such-helper"}}"#).unwrap());
        assert!(!has(r#"{"credHelpers":{"s":"no-such-helper"}}"#).unwrap());
        for text in
            ["", "{}", "[]", "text", r#"{"type":"service_account"}"#, r#"{"auths":{"r:5000":{"auth":"%"}}}"#]
        {
            assert!(has(text).is_err(), "{text}");
        }
    }

    #[test]
    fn where_to_look() {
        let set = |pairs: &'static [(&'static str, &'static str)]| {
            files(move |name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value))
            })
            .iter()
            .map(|path| path.display().to_string())
            .collect::<Vec<_>>()
        };
        assert_eq!(set(&[("HOME", "/h")]), ["/h/.docker/config.json", "/h/.config/containers/auth.json"]);
        assert_eq!(
            set(&[("DOCKER_CONFIG", "/d"), ("REGISTRY_AUTH_FILE", "/f"), ("XDG_RUNTIME_DIR", "/x")]),
            ["/f", "/d/config.json", "/x/containers/auth.json"]
        );
        assert!(set(&[]).is_empty());
    }
}
