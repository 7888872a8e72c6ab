//! Credentials of other tools: which files are read, and in which order their entries are tried.
//!
//! A source that fails is noted, and the next one is tried: a helper that is not installed any more must not hide an entry
//! that is right.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::document::{self, CredentialFile};
use super::keys::{is_near, keys, normal, server_name};
use super::{Credential, CredentialSource, helper};
use crate::oci::Repository;
use crate::registry::error::{Cause, RegistryError};
use crate::small_file;

const MAX_FILE_BYTES: u64 = 4 << 20;

/// The credentials that were found, and the sources that failed.
#[derive(Debug, Default)]
pub(crate) struct FoundCredential {
    /// The credential for the registry.
    pub(crate) credential: Option<Credential>,
    /// Credentials for namespaces and repositories that have entries of their own.
    pub(crate) below: Vec<(Repository, Credential)>,
    /// Sources that failed, each with its file and what can be done.
    pub(crate) troubles: Vec<String>,
    /// Entries for another namespace of the registry, or for another port: perhaps one of them was meant.
    pub(crate) near: Vec<String>,
}

impl FoundCredential {
    /// Whether there is a credential for anything on the registry.
    fn is_anybody(&self) -> bool {
        self.credential.is_some() || !self.below.is_empty()
    }

    /// All that were found, each with the path that it is for; `host[:port][/path]` is what was looked for.
    pub(crate) fn named<'a>(&'a self, host: &'a str) -> impl Iterator<Item = (String, &'a Credential)> {
        let authority = host.split('/').next().unwrap_or(host);
        let below = self.below.iter().map(move |(path, who)| (format!("{authority}/{path}"), who));
        self.credential.iter().map(move |who| (host.to_owned(), who)).chain(below)
    }
}

/// The variable that Docker reads before its file, and in which GitLab's runners have one.
const IN_ENVIRONMENT: &str = "DOCKER_AUTH_CONFIG";

/// The credentials for `host[:port][/path]` in the environment, then in the files of Docker and podman. Blocks, as a helper
/// program may have to be asked.
pub(crate) fn find(host: &str) -> FoundCredential {
    let first = env::var(IN_ENVIRONMENT).map(|text| find_in_text(&text, host)).unwrap_or_default();
    if first.is_anybody() {
        return first;
    }
    let found = find_in_files(host);
    let troubles = first.troubles.into_iter().chain(found.troubles).collect();
    let near = first.near.into_iter().chain(found.near).collect();
    FoundCredential { troubles, near, ..found }
}

/// What the text of that variable has.
fn find_in_text(text: &str, host: &str) -> FoundCredential {
    if text.trim().is_empty() {
        return FoundCredential::default();
    }
    match document::parse(text.as_bytes()) {
        Ok(document) => look_up(&document, Path::new(IN_ENVIRONMENT), host),
        Err(why) => {
            let troubles = vec![format!("{IN_ENVIRONMENT}: {why}")];
            FoundCredential { troubles, ..FoundCredential::default() }
        }
    }
}

fn find_in_files(host: &str) -> FoundCredential {
    find_in(&files(|name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)), host)
}

/// The credentials for `host[:port][/path]` in one file. Blocks, as [`find`] does.
///
/// # Errors
/// The file cannot be read, or is no file of credentials.
pub(crate) fn from_file(path: &Path, host: &str) -> Result<FoundCredential, RegistryError> {
    let document = read(path).map_err(|why| bad(path, why))?;
    Ok(look_up(&document, path, host))
}

/// The credential of the program `docker-credential-NAME` for `host[:port][/path]`. Blocks, as [`find`] does.
///
/// # Errors
/// Why it did not answer, with the end of its output.
pub(crate) fn from_helper(name: &str, host: &str) -> Result<Option<Credential>, String> {
    let words = helper::label(name);
    let proof = helper::ask(name, server_name(host)).map_err(|why| format!("{words}: {why}"))?;
    let (name, host) = (name.to_owned(), host.to_owned());
    let again = Arc::new(move || from_helper(&name, &host).ok().flatten());
    Ok(proof.map(|proof| Credential::new(proof, CredentialSource::again(words, again))))
}

/// Whether one file has an entry for `host[:port][/path]`. No helper program is run: an entry for one counts.
///
/// # Errors
/// The file cannot be read, is no file of credentials, or its entry is invalid.
pub(crate) fn has_entry(path: &Path, host: &str) -> Result<bool, RegistryError> {
    let document = read(path).map_err(|why| bad(path, why))?;
    if !document.has_place {
        let why = "not a file of credentials: it has neither auths nor credsStore nor credHelpers";
        return Err(bad(path, why.to_owned()));
    }
    let keys = keys(host);
    let helped = document.store().is_some() || document.helper(&keys).is_some();
    Ok(helped || document.entry(&keys).map_err(|why| bad(path, why))?.is_some())
}

fn find_in(files: &[PathBuf], host: &str) -> FoundCredential {
    let mut all = FoundCredential::default();
    for path in files.iter().filter(|path| path.exists()) {
        match read(path) {
            Ok(document) => {
                let found = look_up(&document, path, host);
                all.troubles.extend(found.troubles);
                all.near.extend(found.near);
                all.credential = found.credential;
                all.below = found.below;
            }
            Err(why) => all.troubles.push(format!("{}: {why}", path.display())),
        }
        if all.is_anybody() {
            break;
        }
    }
    all
}

/// Where to look, in this order: what the environment names for this, then Docker's file, then podman's, then Docker's of
/// old.
fn files(variable: impl Fn(&str) -> Option<PathBuf>) -> Vec<PathBuf> {
    let home = variable("HOME");
    let docker = variable("DOCKER_CONFIG").or_else(|| Some(home.as_ref()?.join(".docker")));
    let podman = ["XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"].map(&variable);
    let config = home.as_ref().map(|home| home.join(".config"));
    variable("REGISTRY_AUTH_FILE")
        .into_iter()
        .chain(docker.map(|folder| folder.join("config.json")))
        .chain(podman.into_iter().flatten().chain(config).map(|folder| folder.join("containers/auth.json")))
        .chain(home.map(|home| home.join(".dockercfg")))
        .collect()
}

fn bad(path: &Path, why: String) -> RegistryError {
    Cause::BadFile { path: path.display().to_string(), why }.into()
}

fn read(path: &Path) -> Result<CredentialFile, String> {
    let bytes = small_file::read(path, MAX_FILE_BYTES).map_err(|error| error.to_string())?;
    document::parse(&bytes)
}

/// Docker's order: the host's own helper, the store of all, what stands in the file.
fn look_up(document: &CredentialFile, path: &Path, host: &str) -> FoundCredential {
    let keys = keys(host);
    let mut found = FoundCredential { below: below(document, path, host), ..FoundCredential::default() };
    let origin = |words: String| {
        let (path, host) = (path.to_owned(), host.to_owned());
        CredentialSource::again(words, Arc::new(move || from_file(&path, &host).ok()?.credential))
    };
    let entry_name = document.entry_name(&keys);
    let own = document.helper(&keys).map(|(name, helper)| ("credHelpers", helper, name));
    let store = document
        .store()
        .map(|helper| ("credsStore", helper, entry_name.unwrap_or_else(|| server_name(host))));
    for (field, helper, name) in own.into_iter().chain(store) {
        let label = helper::label(helper);
        match helper::ask(helper, name) {
            Ok(None) => {}
            Ok(Some(proof)) => {
                let origin = origin(format!("{label}, which {} names", path.display()));
                return FoundCredential { credential: Some(Credential::new(proof, origin)), ..found };
            }
            Err(why) => found.troubles.push(format!(
                "{}: {field} names {label}: {why} (install it, take {field} out of the file, or give another one with \
                 --credential-file)",
                path.display()
            )),
        }
    }
    match document.entry(&keys) {
        Ok(Some((_, proof))) => {
            found.credential = Some(Credential::new(proof, origin(path.display().to_string())));
        }
        Ok(None) => {
            let is_meant = |name: &str| keys.contains(&normal(name)) || path_below(name, host).is_some();
            let near = document.names().filter(|name| is_near(name, host) && !is_meant(name));
            found.near = near.map(|name| format!("{name} in {}", path.display())).collect();
        }
        Err(why) => found.troubles.push(format!("{}: {why}", path.display())),
    }
    found
}

/// The entries for repositories below `host[:port][/path]`. Those that are empty or damaged say nothing; the damaged entry
/// that counts is named where it is looked up by itself.
fn below(document: &CredentialFile, path: &Path, host: &str) -> Vec<(Repository, Credential)> {
    let entry = |name: &str| {
        let repository = path_below(name, host)?;
        let (_, proof) = document.entry(&[normal(name)]).ok()??;
        let (file, name) = (path.to_owned(), normal(name));
        let words = path.display().to_string();
        let again =
            CredentialSource::again(words, Arc::new(move || from_file(&file, &name).ok()?.credential));
        Some((repository, Credential::new(proof, again)))
    };
    document.names().filter_map(entry).collect()
}

/// The repository that a key names, with all its namespaces, if it lies below `host[:port][/path]`.
fn path_below(key: &str, host: &str) -> Option<Repository> {
    let (key, host) = (normal(key), normal(host));
    let path = host.split_once('/').map_or("", |(_, path)| path);
    let (authority, repository) = key.split_once('/')?;
    let is_of_host = super::keys::keys(authority).contains(&host.split('/').next()?.to_owned());
    let rest =
        if path.is_empty() { Some(repository) } else { repository.strip_prefix(path)?.strip_prefix('/') };
    rest.filter(|_| is_of_host).and_then(|_| repository.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::auth::Proof;
    use secrecy::ExposeSecret;
    use serde_json::json;
    use std::fs;

    fn look(text: &str, host: &str) -> FoundCredential {
        look_up(&document::parse(text.as_bytes()).unwrap(), Path::new("config.json"), host)
    }

    fn found(text: &str, host: &str) -> Option<String> {
        look(text, host).credential.map(|credential| match credential.proof() {
            Proof::Password { user, password } => format!("{user}:{}", password.expose_secret()),
            Proof::IdentityToken(token) => format!("token {}", token.expose_secret()),
        })
    }

    #[test]
    fn the_variable_of_docker_and_gitlab_is_read_as_a_file_is() {
        let text = json!({"auths": {"r.example": {"auth": "dTpw"}}}).to_string();
        let found = find_in_text(&text, "r.example");
        assert_eq!(found.credential.unwrap().who(), "user u (from DOCKER_AUTH_CONFIG)");
        assert!(!find_in_text(&text, "other.example").is_anybody());
        assert!(find_in_text(" ", "r.example").troubles.is_empty());
        let broken = find_in_text("{hunter2", "r.example").troubles.join("");
        assert!(broken.starts_with("DOCKER_AUTH_CONFIG: ") && !broken.contains("hunter2"), "{broken}");
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
    fn the_longest_path_wins_and_what_is_near_is_named() {
        let text = r#"{"auths":{"r":{"auth":"dTpw"},"r/a/b":{"auth":"djpx"}}}"#;
        assert_eq!(found(text, "r/a/b/c").as_deref(), Some("v:q"));
        assert_eq!(found(text, "r/a").as_deref(), Some("u:p"));
        let text = r#"{"auths":{"r/team":{"auth":"dTpw"},"r:5000":{"auth":"dTpw"},"s":{"auth":"dTpw"}}}"#;
        assert_eq!(look(text, "r").near, ["r:5000 in config.json"]);
        assert_eq!(look(text, "r/other").near, ["r/team in config.json", "r:5000 in config.json"]);
    }

    #[test]
    fn entries_for_repositories_below_are_found_with_their_paths() {
        let text = r#"{"auths":{"r:443/team":{"auth":"dTpw"},"r/team/app":{"auth":"djpx"},"r/team/empty":{},"r/x":{"auth":"djpx"},
            "https://r/v2/":{"auth":"dTpw"},"s/team/app":{"auth":"djpx"}}}"#;
        let below = |host: &str| {
            let mut below: Vec<String> = look(text, host)
                .below
                .iter()
                .map(|(path, who)| format!("{path} {}", who.user().unwrap()))
                .collect();
            below.sort();
            below
        };
        assert_eq!(below("r"), ["team u", "team/app v", "x v"]);
        assert_eq!(below("r:443/team"), ["team/app v"]);
        assert_eq!(below("r/team/app"), [""; 0]);
        assert_eq!(below("r/te"), [""; 0]);
    }

    #[test]
    fn a_helper_that_fails_is_named_and_the_entry_counts() {
        let text =
            r#"{"auths":{"r":{"auth":"dTpw"}},"credHelpers":{"r":"../evil","s":"x"},"credsStore":"no-such"}"#;
        let looked = look(text, "r");
        assert!(looked.credential.unwrap().who().contains("user u (from config.json)"));
        let expected = [
            "credHelpers names docker-credential-../evil: that is not the name",
            "credsStore names docker-credential-no-such: it is not installed",
        ];
        for (trouble, expected) in looked.troubles.iter().zip(expected) {
            assert!(trouble.starts_with("config.json: ") && trouble.contains(expected), "{trouble}");
        }
        assert_eq!(looked.troubles.len(), 2);
    }

    #[test]
    fn the_first_file_that_has_something_counts_and_a_damaged_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b, c] = ["a", "b", "c"].map(|name| folder.path().join(name));
        fs::write(&a, "").unwrap();
        fs::write(&b, r#"{"auths":"secret"#).unwrap();
        fs::write(&c, r#"{"auths":{"r":{"auth":"dTpw"}}}"#).unwrap();
        let files = [folder.path().join("missing"), a, b, c];
        let found = find_in(&files, "r");
        assert!(found.credential.is_some());
        let [trouble] = &found.troubles[..] else { panic!("{found:?}") };
        assert!(
            trouble.contains("/b: ") && trouble.contains("it was cut") && !trouble.contains("secret"),
            "{trouble}"
        );
        assert!(find_in(&files, "s").credential.is_none());
        assert!(from_file(&files[0], "r").is_err());
        assert!(from_file(&files[2], "r").is_err());
    }

    #[test]
    fn a_file_that_changed_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        fs::write(&path, r#"{"auths":{"r":{"auth":"dTpw"}}}"#).unwrap();
        let credential = from_file(&path, "r").unwrap().credential.unwrap();
        assert!(credential.read_again().is_none(), "the same is nothing new");
        fs::write(&path, r#"{"auths":{"r":{"auth":"djpx"}}}"#).unwrap();
        assert!(credential.read_again().unwrap().who().contains("user v"));
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
        assert_eq!(
            set(&[("HOME", "/h")]),
            ["/h/.docker/config.json", "/h/.config/containers/auth.json", "/h/.dockercfg"]
        );
        assert_eq!(
            set(&[("DOCKER_CONFIG", "/d"), ("REGISTRY_AUTH_FILE", "/f"), ("XDG_RUNTIME_DIR", "/x")]),
            ["/f", "/d/config.json", "/x/containers/auth.json"]
        );
        assert!(set(&[]).is_empty());
    }
}
